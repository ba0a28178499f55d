"""The files that traffic is made of: which, and what is in them.

A load is the same where its files have the same content, whatever they are called and wherever they
lie; and another where somebody changed them. So their digests stand for their paths in what is
hashed.
"""

from __future__ import annotations

from collections.abc import Mapping

from workloads.traffic.files import digest_of
from workloads.traffic.spec import FilePrompts, TraceReplay, Traffic
from workloads.traffic.tokenizer import tokenizer_file

Field = tuple[str, ...]  # of the traffic: ("arrivals", "path")


def files_of(traffic: Traffic) -> Mapping[Field, str]:
    """The path of every file that the traffic names, by the field that names it."""
    found: dict[Field, str] = {}
    if isinstance(traffic.arrivals, TraceReplay):
        found["arrivals", "path"] = traffic.arrivals.path
    if isinstance(traffic.prompts, FilePrompts):
        found["prompts", "path"] = traffic.prompts.path
    if traffic.tokenizer:
        found["tokenizer",] = tokenizer_file(traffic.tokenizer)
    return found


def digests_of(traffic: Traffic) -> Mapping[Field, str]:
    """``sha256:…`` of every file; empty for traffic without. Raises TrafficFileUnusable, with the
    file's name."""
    return {field: digest_of(path) for field, path in files_of(traffic).items()}
