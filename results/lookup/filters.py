"""From all rows to those that could answer, filter by filter, counting what each leaves. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from results.lookup.columns import ESTIMATES, KINDS, STALE, TIME_COLUMN, Bools
from results.lookup.part import Indices, Part
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
_LENGTHS = ("input_tokens", "output_tokens")
_OVERHEAD_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """``positions`` in the model's part of the snapshot, ascending. ``narrowing``: the filters in
    force, in their order; ``before``: what was left before the last of them."""

    part: Part
    positions: Indices
    before: Indices
    narrowing: tuple[Narrowing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the filters that few questions differ in leave. ``by_shape``: the positions sorted by
    their shape; those of shape i are [``starts``[i], ``starts``[i + 1])."""

    positions: Indices
    before: Indices
    narrowing: tuple[Narrowing, ...]
    by_shape: Indices
    starts: Indices

    @property
    def num_bytes(self) -> int:
        columns = (self.positions, self.before, self.by_shape, self.starts)
        return sum(column.nbytes for column in columns) + _OVERHEAD_BYTES

    def of_shapes(self, fits: Bools) -> Indices:
        """The positions whose shapes fit, ascending."""
        found = [self.by_shape[self.starts[i] : self.starts[i + 1]] for i in np.flatnonzero(fits)]
        if len(found) == len(fits):
            return self.positions
        if len(found) == 1:
            return found[0]
        # Runs that ascend already: a stable sort merges them.
        return np.sort(np.concatenate(found), kind="stable") if found else self.positions[:0]


def filtered(snapshot: Snapshot, question: Question, now: datetime) -> Filtered:
    """The question's model must be one of the snapshot's, or empty."""
    part = snapshot.part(question.model)
    kept = _kept(snapshot, question, part, now)
    if not len(kept.positions):
        return Filtered(
            part=part, positions=kept.positions, before=kept.before, narrowing=kept.narrowing
        )
    return _of_lengths(part, kept, question.lengths)


def _kept(snapshot: Snapshot, question: Question, part: Part, now: datetime) -> Kept:
    """Found once for all questions with the same filters; lengths and ages are told apart by too
    many."""
    if question.max_age_days is not None:
        return _filtered(snapshot, question, part, now)
    key = tuple([getattr(question, name) for name in _FEW])
    kept = snapshot.kept.get(key)
    if kept is None:
        kept = _filtered(snapshot, question, part, now)
        named = sum(map(len, (*question.accelerators, *question.machine_types)))
        snapshot.kept.put(key, kept, kept.num_bytes + named)
    return kept


# Of a question: all that ``_masks`` looks at but the age.
_FEW = (
    "model", "with_simulated", "accelerators", "machine_types", "topology", "model_server",
    "model_server_version", "measured_only", "min_repeats", "fresh_only", "allow",
)  # fmt: skip


def _filtered(snapshot: Snapshot, question: Question, part: Part, now: datetime) -> Kept:
    keep = before = np.ones(len(part), dtype=bool)
    steps = [Narrowing(filter="model", num_left=len(part))]
    for name, mask in _masks(snapshot, question, part, now):
        before, keep = keep, keep & mask()
        num_left = int(np.count_nonzero(keep))
        steps.append(Narrowing(filter=name, num_left=num_left))
        if not num_left:
            break
    positions = np.flatnonzero(keep)
    shapes = part.shapes.which[positions]
    starts = np.zeros(len(part.shapes) + 1, np.intp)
    np.cumsum(np.bincount(shapes, minlength=len(part.shapes)), out=starts[1:])
    return Kept(
        positions=positions,
        # Only a filter that leaves nothing is asked what it began with.
        before=positions if len(positions) else np.flatnonzero(before),
        narrowing=tuple(steps),
        by_shape=positions[np.argsort(shapes, kind="stable")],
        starts=starts,
    )


def _of_lengths(part: Part, kept: Kept, lengths: tuple[float | None, float | None]) -> Filtered:
    """Whether a row fits is its shape's, so the few shapes are asked."""
    num_of_shape = np.diff(kept.starts)
    fits = before = np.ones(len(part.shapes), dtype=bool)
    steps = list(kept.narrowing)
    for name, asked, measured in zip(_LENGTHS, lengths, part.shapes.lengths, strict=True):
        if asked is None:
            continue
        # As the columns are: a length on the edge is inside.
        low, high = np.float32(asked / SAME_LENGTH), np.float32(asked * MOST_SHORTER)
        before, fits = fits, fits & (measured >= low) & (measured <= high)
        num_left = int(num_of_shape[fits].sum())
        steps.append(Narrowing(filter=name, num_left=num_left))
        if not num_left:
            break
    positions = kept.of_shapes(fits & (num_of_shape > 0))
    return Filtered(
        part=part,
        positions=positions,
        before=positions if len(positions) else kept.of_shapes(before),
        narrowing=tuple(steps),
    )


def _masks(
    snapshot: Snapshot, question: Question, part: Part, now: datetime
) -> Iterator[tuple[str, Callable[[], Bools]]]:
    """Cheap and telling ones first: where nothing is left, the last one is to blame."""
    ints = part.ints
    if not question.with_simulated:
        yield "not_simulated", lambda: part.not_simulated
    refused = [kind for kind in ESTIMATES if KINDS[kind].value not in question.allow]
    if snapshot.about.num_estimates and refused:
        yield "not_estimated", lambda: ~np.isin(ints("kind"), refused)
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
