"""A ``--pools`` file: pools to pretend on this machine, read as strictly as a spec."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.on_ray.virtual import wrong_with
from harness.pools import VirtualCluster
from harness.spec_errors import Problem
from harness.specfile import read_yaml_as


def read_pools(path: str | Path) -> VirtualCluster:
    """The pools of a YAML file with the one key ``pools``. Raises SpecError, which lists everything
    wrong with its file and line, dotted path, what was found and what is accepted."""
    return read_yaml_as(str(path), VirtualCluster, lambda cluster: tuple(_problems(cluster)))


def _problems(cluster: VirtualCluster) -> Iterator[Problem]:
    for path, message in wrong_with(cluster):
        yield Problem(path=path, message=message)
