"""From all rows to those that could answer, filter by filter, counting what each leaves. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from results.lookup.columns import KINDS, SIMULATED, STALE, SUPERSEDED, TIME_COLUMN, Bools, Ints
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """``rows`` of the snapshot, ascending. ``narrowing``: the filters in force, in their order;
    ``rows_before``: those before the last of them."""

    rows: Ints
    rows_before: Ints
    narrowing: tuple[Narrowing, ...]


def filtered(snapshot: Snapshot, question: Question, now: datetime) -> Filtered:
    """The question's model must be one of the snapshot's, or empty."""
    first, end = snapshot.rows_of_model(question.model)
    part = slice(first, end)
    keep = np.ones(end - first, dtype=bool)
    before = keep
    steps = [Narrowing(filter="model", num_left=end - first)]
    for name, mask in _masks(snapshot, question, part, now):
        before, keep = keep, keep & mask()
        steps.append(Narrowing(filter=name, num_left=int(np.count_nonzero(keep))))
        if not steps[-1].num_left:
            break
    return Filtered(
        rows=(np.flatnonzero(keep) + first).astype(np.int32),
        rows_before=(np.flatnonzero(before) + first).astype(np.int32),
        narrowing=tuple(steps),
    )


def _masks(
    snapshot: Snapshot, question: Question, part: slice, now: datetime
) -> Iterator[tuple[str, Callable[[], Bools]]]:
    """Cheap and telling ones first: where nothing is left, the last one is to blame."""
    ints = snapshot.ints
    bits = ints("bits")[part]
    if not question.with_simulated:
        yield "not_simulated", lambda: (bits & SIMULATED) == 0
    hardware = ints("hardware")[part]
    if not snapshot.is_known.all():
        yield "hardware_known", lambda: snapshot.is_known[hardware]
    if question.accelerators or question.machine_types or question.topology:
        named = {plain_name(name) for name in question.accelerators}
        asked = np.array(
            [_is_asked(m, question, named) for m in snapshot.about.hardware], dtype=bool
        )
        yield "hardware", lambda: asked[hardware]
    if question.model_server:
        server = _index(snapshot.about.names.server, question.model_server)
        yield "model_server", lambda: ints("server")[part] == server
    if question.model_server_version:
        version = _index(snapshot.about.names.version, question.model_server_version)
        yield "model_server_version", lambda: ints("version")[part] == version
    else:
        yield "not_superseded", lambda: (bits & SUPERSEDED) == 0
    if question.measured_only:
        measured = KINDS.index(EvidenceKind.MEASURED)
        yield "measured_only", lambda: ints("kind")[part] == measured
    if question.min_repeats > 1:
        yield "min_repeats", lambda: ints("repeats")[part] >= question.min_repeats
    if question.max_age_days is not None:
        oldest = now.timestamp() - question.max_age_days * _DAY_S
        yield "max_age_days", lambda: ints(TIME_COLUMN)[part] >= oldest
    if question.fresh_only:
        yield "fresh_only", lambda: (bits & STALE) == 0
    yield from _lengths(snapshot, question, part)


def _index(names: tuple[str, ...], wanted: str) -> int:
    return names.index(wanted) if wanted in names else -1


def _is_asked(machine: Machine, question: Question, named: Container[str]) -> bool:
    if question.accelerators and plain_name(machine.accelerator) not in named:
        return False
    if question.machine_types and machine.machine_type not in question.machine_types:
        return False
    return not question.topology or machine.topology == question.topology


def _lengths(
    snapshot: Snapshot, question: Question, part: slice
) -> Iterator[tuple[str, Callable[[], Bools]]]:
    for name, asked in zip(("input_tokens", "output_tokens"), question.lengths, strict=True):
        if asked is None:
            continue
        column = snapshot.floats(name)
        if column is None:
            yield name, lambda: np.zeros(part.stop - part.start, dtype=bool)
        else:
            yield name, _within(column[part], asked)


def _within(
    measured: np.ndarray[tuple[int], np.dtype[np.float32]], asked: float
) -> Callable[[], Bools]:
    def mask() -> Bools:
        return (measured >= asked / SAME_LENGTH) & (measured <= asked * MOST_SHORTER)

    return mask
