"""What XLA's operations did in a traced step, by the names that its program gives them. Pure.

The profiler knows an operation by its name alone (``fusion.12``); what it is stands in the text of
the compiled program.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from workloads.exposed import Intervals, Span, exposed_s, union

# Of the time of the traced steps, what the operations must fill: else the trace is not of them.
MIN_COVERED = 0.5
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*? ([a-z][a-z\-]*)\(", re.MULTILINE)
_COLLECTIVE = re.compile(
    r"(ragged-)?all-(reduce|gather|to-all)|reduce-scatter|collective-(permute|broadcast)"
)
_HOLDS_OTHERS = ("while", "call", "conditional")  # what is in them is traced by itself


class Op(NamedTuple):
    """One run of an operation on one device."""

    device: str
    name: str
    span: Span


def opcodes(program: str) -> dict[str, str]:
    """By name of an instruction: what it is. ``program``: HLO as text."""
    return dict(_INSTRUCTION.findall(program))


def exposed_per_step(
    ops: Iterable[Op], steps: Sequence[Span], opcode_of: Mapping[str, str]
) -> float | str:
    """Seconds of a step in which a device communicated and computed nothing, mean over steps and
    devices; or why that is not known. ``steps``: when each was under way, on the ops' clock."""
    if not steps:
        return "the trace has no step"
    by_device: dict[str, list[Op]] = {}
    for op in ops:
        if opcode_of.get(op.name, "") not in _HOLDS_OTHERS:
            by_device.setdefault(op.device, []).append(op)
    if not by_device:
        return "the trace has no operation of the step's program"
    asked_s = sum(step.end_s - step.start_s for step in steps)
    total_s = 0.0
    for device, found in by_device.items():
        covered_s = _length(union(clipped([op.span for op in found], steps)))
        if covered_s < MIN_COVERED * asked_s:
            return f"the trace tells of {covered_s / asked_s:.0%} of the steps' time on {device}"
        sent = [op.span for op in found if _communicates(op.name, opcode_of)]
        computed = [op.span for op in found if not _communicates(op.name, opcode_of)]
        if not sent:
            return f"the trace has no collective on {device}, and the model is split"
        total_s += exposed_s(clipped(sent, steps), clipped(computed, steps))
    return total_s / len(by_device) / len(steps)


def clipped(spans: Iterable[Span], steps: Sequence[Span]) -> list[Span]:
    """What of the spans lies within the steps."""
    return [
        Span(max(span.start_s, step.start_s), min(span.end_s, step.end_s))
        for span in spans
        for step in steps
        if span.start_s < step.end_s and span.end_s > step.start_s
    ]


def _communicates(name: str, opcode_of: Mapping[str, str]) -> bool:
    """An asynchronous collective has the opcode of what starts it or waits for it, and a name that
    says what it is."""
    return bool(_COLLECTIVE.match(opcode_of.get(name, "")) or _COLLECTIVE.match(name))


def _length(intervals: Intervals) -> float:
    return sum(end - start for start, end in intervals)
