"""From all rows to those that could answer, filter by filter, counting what each leaves. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from results.lookup.columns import KINDS, STALE, TIME_COLUMN, Bools
from results.lookup.part import Part
from results.lookup.snapshot import Snapshot
from results.prices import plain_name
from results.recommendation.answer import Narrowing
from results.recommendation.profile import EvidenceKind, Machine
from results.recommendation.question import Question

# Lengths this near to the measured ones are the measured ones; up to MOST_SHORTER times shorter
# they are extrapolated to, because less work per request at the same rate is never slower; longer
# ones are not.
SAME_LENGTH = 1.1
MOST_SHORTER = 2.0

_DAY_S = 86400.0

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """``positions`` in the model's part of the snapshot, ascending. ``narrowing``: the filters in
    force, in their order; ``before``: what was left before the last of them."""

    part: Part
    positions: Indices
    before: Bools
    narrowing: tuple[Narrowing, ...]


def filtered(snapshot: Snapshot, question: Question, now: datetime) -> Filtered:
    """The question's model must be one of the snapshot's, or empty."""
    part = snapshot.part(question.model)
    keep = before = np.ones(len(part), dtype=bool)
    steps = [Narrowing(filter="model", num_left=len(part))]
    for name, mask in _masks(snapshot, question, part, now):
        before, keep = keep, keep & mask()
        num_left = int(np.count_nonzero(keep))
        steps.append(Narrowing(filter=name, num_left=num_left))
        if not num_left:
            break
    return Filtered(
        part=part, positions=np.flatnonzero(keep), before=before, narrowing=tuple(steps)
    )


def _masks(
    snapshot: Snapshot, question: Question, part: Part, now: datetime
) -> Iterator[tuple[str, Callable[[], Bools]]]:
    """Cheap and telling ones first: where nothing is left, the last one is to blame."""
    ints = part.ints
    if not question.with_simulated:
        yield "not_simulated", lambda: part.not_simulated
    if not snapshot.all_known:
        yield "hardware_known", lambda: snapshot.is_known.take(part.hardware)
    if question.accelerators or question.machine_types or question.topology:
        yield "hardware", lambda: _asked(snapshot, question).take(part.hardware)
    if question.model_server:
        server = _index(snapshot.about.names.server, question.model_server)
        yield "model_server", lambda: ints("server") == server
    if question.model_server_version:
        version = _index(snapshot.about.names.version, question.model_server_version)
        yield "model_server_version", lambda: ints("version") == version
    else:
        yield "not_superseded", lambda: part.not_superseded
    if question.measured_only:
        measured = KINDS.index(EvidenceKind.MEASURED)
        yield "measured_only", lambda: ints("kind") == measured
    if question.min_repeats > 1:
        yield "min_repeats", lambda: ints("repeats") >= question.min_repeats
    if question.max_age_days is not None:
        oldest = now.timestamp() - question.max_age_days * _DAY_S
        yield "max_age_days", lambda: ints(TIME_COLUMN) >= oldest
    if question.fresh_only:
        yield "fresh_only", lambda: (ints("bits") & STALE) == 0
    yield from _lengths(question, part)


def _index(names: tuple[str, ...], wanted: str) -> int:
    return names.index(wanted) if wanted in names else -1


def _asked(snapshot: Snapshot, question: Question) -> Bools:
    """By the snapshot's hardware."""
    named = {plain_name(name) for name in question.accelerators}
    fits = (_is_asked(m, question, named) for m in snapshot.about.hardware)
    return np.fromiter(fits, bool, len(snapshot.about.hardware))


def _is_asked(machine: Machine, question: Question, named: Container[str]) -> bool:
    if question.accelerators and plain_name(machine.accelerator) not in named:
        return False
    if question.machine_types and machine.machine_type not in question.machine_types:
        return False
    return not question.topology or machine.topology == question.topology


def _lengths(question: Question, part: Part) -> Iterator[tuple[str, Callable[[], Bools]]]:
    for name, asked in zip(("input_tokens", "output_tokens"), question.lengths, strict=True):
        if asked is not None:
            yield name, _within(part, name, asked)


def _within(part: Part, name: str, asked: float) -> Callable[[], Bools]:
    def mask() -> Bools:
        measured, which = part.lengths(name)
        # As the columns are: a length on the edge is inside.
        low, high = np.float32(asked / SAME_LENGTH), np.float32(asked * MOST_SHORTER)
        return ((measured >= low) & (measured <= high)).take(which)

    return mask
