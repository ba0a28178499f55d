"""What a training script says of its steps, read from a line: of its log, or of JSON. Pure.

A pattern is a regular expression whose named groups say what is meant; every group but ``step`` may
be missing:

=====================  ==========================================================================
``step``               the step's number, as the script counts
``loss``               cross-entropy in nats
``step_time_s``        duration of the step; ``step_time_ms`` in milliseconds
``tokens``             tokens of this rank in the step; ``job_tokens`` those of all ranks
``tokens_per_s``       tokens per second of this rank, ``job_tokens_per_s`` of all ranks
``data_wait_s``        the part of the step spent waiting for input
``memory_gib``         peak memory of the rank; ``memory_bytes`` in bytes
=====================  ==========================================================================

Numbers may have thousands separators. JSON lines have the same names as keys; keys that are not
known are passed over. Colours are taken out of a log line before it is looked at.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from workloads.errors import LaunchRefused

GIB = 1 << 30

GROUPS = (
    "step",
    "loss",
    "step_time_s",
    "step_time_ms",
    "tokens",
    "job_tokens",
    "tokens_per_s",
    "job_tokens_per_s",
    "data_wait_s",
    "memory_gib",
    "memory_bytes",
)

_NUMBER = r"[-+]?(?:\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?|nan|inf)"

# The lines of three programs that many train with. tests/workloads/test_step_lines.py holds real
# ones, with where each was printed.
PRESETS: Mapping[str, str] = {
    # tps is tokens per second of one device (torchtitan/components/metrics.py); log_freq must be 1.
    "torchtitan": r"(?<!validate )step:\s*(?P<step>\d+)\s+loss:\s*(?P<loss>" + _NUMBER + r")"
    r"(?:.*?memory:\s*(?P<memory_gib>[\d.]+)GiB)?(?:.*?tps:\s*(?P<tokens_per_s>[\d,.]+))?",
    # total_weights are the tokens of the whole batch that count (MaxText's metric_logger.py).
    "maxtext": r"completed step:\s*(?P<step>\d+), seconds:\s*(?P<step_time_s>[\d.]+)"
    r"(?:.*?total_weights:\s*(?P<job_tokens>\d+))?(?:.*?[ ,]loss:\s*(?P<loss>" + _NUMBER + r"))?",
    # train.py prints no tokens: give tokens_per_step. log_interval must be 1.
    "nanogpt": r"iter (?P<step>\d+): loss (?P<loss>" + _NUMBER + r"), "
    r"time (?P<step_time_ms>[\d.]+)ms",
}

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One line about one step. None: the line does not say. ``at_s``: the script's own reading of
    the host's monotonic clock at the step's end. ``is_own_number``: the script says which step it
    is; else the callback has counted its calls."""

    step: int
    loss: float | None = None
    step_time_s: float | None = None
    tokens: float | None = None
    job_tokens: float | None = None
    tokens_per_s: float | None = None
    job_tokens_per_s: float | None = None
    data_wait_s: float | None = None
    memory_bytes: int | None = None
    at_s: float | None = None
    is_own_number: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The callback was imported: the script's own code runs."""

    at_s: float


class NotReadable(ValueError):
    """A line that should be about a step and is not; the message says why."""


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern of a preset's name, or the expression itself. Raises LaunchRefused."""
    try:
        made = re.compile(PRESETS.get(pattern, pattern))
    except re.error as error:
        raise LaunchRefused(
            f"{pattern!r} is no regular expression: {error}; presets: {', '.join(PRESETS)}"
        ) from None
    unknown = sorted(set(made.groupindex) - set(GROUPS))
    if unknown or "step" not in made.groupindex:
        raise LaunchRefused(
            f"{pattern!r} has the groups "
            f"{', '.join(made.groupindex) or '(none)'}; it must name (?P<step>…) and may name "
            f"{', '.join(GROUPS[1:])}; presets: {', '.join(PRESETS)}"
        )
    return made


def read_log_line(pattern: re.Pattern[str], line: str) -> Said | None:
    """None for a line about anything else. Raises NotReadable."""
    found = pattern.search(_COLOUR.sub("", line))
    if found is None:
        return None
    return _said({name: text for name, text in found.groupdict().items() if text is not None})


def read_json_line(line: str) -> Said | Imported | None:
    """None for JSON without a step. Raises NotReadable."""
    try:
        values = json.loads(line)
    except ValueError:
        raise NotReadable(f"no JSON: {line[:200]}") from None
    if not isinstance(values, dict):
        raise NotReadable(f"no JSON object: {line[:200]}")
    if values.get("imported"):
        return Imported(at_s=float(values["at_s"]))
    if "step" not in values:
        return None
    said = _said({name: v for name, v in values.items() if v is not None})
    return replace(said, is_own_number=bool(values.get("numbered", True)))


def _said(values: Mapping[str, Any]) -> Said:
    names = (name for name in (*GROUPS, "at_s") if name in values)
    numbers: dict[str, Any] = {name: _number(name, values[name]) for name in names}
    step = numbers.pop("step")
    if not step.is_integer():
        raise NotReadable(f"step is {step}, no whole number")
    if (ms := numbers.pop("step_time_ms", None)) is not None:
        numbers["step_time_s"] = ms / 1000.0
    if (gib := numbers.pop("memory_gib", None)) is not None:
        numbers["memory_bytes"] = gib * GIB
    memory = numbers.pop("memory_bytes", None)
    held = None if memory is None else round(memory)
    return Said(step=int(step), memory_bytes=held, **numbers)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value.replace(",", "")) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        raise NotReadable(f"{name} is {value!r}, no number") from None
    if name != "loss" and not (math.isfinite(number) and number >= 0):
        raise NotReadable(f"{name} is {number}")
    return number
