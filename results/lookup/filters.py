"""From all rows to those that could answer, filter by filter, counting what each leaves. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterator
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

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
_NONE: Indices = np.zeros(0, np.intp)


class Filtered(NamedTuple):
    """``positions`` in the model's part of the snapshot, in the order of the snapshot.
    ``narrowing``: the filters in force, in their order. ``shorter``: any of the positions was
    measured at lengths above those asked for.

    Where nothing is left, what was left before the last filter: ``shapes_before`` before a length,
    ``before``, positions, before any other.
    """

    part: Part
    positions: Indices
    narrowing: tuple[Narrowing, ...]
    shorter: bool = False
    before: Indices = _NONE
    shapes_before: Indices = _NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the filters that few questions differ in leave. ``positions`` ascend; those of shape i
    are [``starts``[i], ``starts``[i + 1])."""

    positions: Indices
    before: Indices
    narrowing: tuple[Narrowing, ...]
    starts: Indices
    num_of_shape: Indices

    @property
    def num_bytes(self) -> int:
        columns = (self.positions, self.before, self.starts, self.num_of_shape)
        return sum(column.nbytes for column in columns)

    def of_shapes(self, part: Part, shapes: Indices) -> Indices:
        """The positions of these, in the order of the snapshot."""
        if len(shapes) == 1:
            at = int(shapes[0])
            return self.positions[self.starts[at] : self.starts[at + 1]]
        if len(shapes) == len(self.num_of_shape):
            return part.in_order(self.positions)
        fits = np.zeros(len(self.num_of_shape), dtype=bool)
        fits[shapes] = True
        return part.in_order(self.positions[np.repeat(fits, self.num_of_shape)])


def filtered(snapshot: Snapshot, question: Question, now: datetime) -> Filtered:
    """The question's model must be one of the snapshot's, or empty. Found once for all questions
    with the same filters and the lengths of a use case, or none; other lengths, and ages, are told
    apart by too many."""
    part = snapshot.part(question.model)
    if question.max_age_days is not None:
        return _of_lengths(part, _filtered(snapshot, question, part, now), question.lengths)
    few = _few(question)
    if question.input_tokens is not None or question.output_tokens is not None:
        return _of_lengths(part, _kept(snapshot, question, part, now, few), question.lengths)
    key = (question.use_case, few)
    if (held := snapshot.kept.get(key)) is not None:
        return Filtered(part, *held)
    found = _of_lengths(part, _kept(snapshot, question, part, now, few), question.lengths)
    # A copy: as a part of another array it would keep all of that.
    positions = found.positions.copy()
    size = positions.nbytes + found.before.nbytes + found.shapes_before.nbytes
    snapshot.kept.put(key, (positions, *found[2:]), size + _size(question))
    return found


def _kept(
    snapshot: Snapshot, question: Question, part: Part, now: datetime, few: tuple[Hashable, ...]
) -> Kept:
    """Found once for all questions with the same filters, whatever their lengths."""
    kept: Kept | None = snapshot.kept.get(few)
    if kept is None:
        kept = _filtered(snapshot, question, part, now)
        snapshot.kept.put(few, kept, kept.num_bytes + _size(question))
    return kept


def _size(question: Question) -> int:
    """In bytes, of what is kept beside the columns."""
    return sum(map(len, (*question.accelerators, *question.machine_types))) + _OVERHEAD_BYTES


# Of a question: all that ``_masks`` looks at but the age.
_few = attrgetter(
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
    starts = np.searchsorted(positions, part.shapes.starts)
    return Kept(
        positions=positions,
        # Only a filter that leaves nothing is asked what it began with.
        before=_NONE if len(positions) else np.flatnonzero(before),
        narrowing=tuple(steps),
        starts=starts,
        num_of_shape=starts[1:] - starts[:-1],
    )


def _of_lengths(part: Part, kept: Kept, lengths: tuple[float | None, float | None]) -> Filtered:
    """Whether a row fits is its shape's, so the few shapes are asked."""
    if not len(kept.positions):
        return Filtered(part, kept.positions, kept.narrowing, before=kept.before)
    steps = list(kept.narrowing)
    left: Indices = np.flatnonzero(kept.num_of_shape)
    for name, asked, of_shapes in zip(_LENGTHS, lengths, part.shapes.lengths, strict=True):
        if asked is None:
            continue
        # As the columns are: a length on the edge is inside.
        low, high = np.float32(asked / SAME_LENGTH), np.float32(asked * MOST_SHORTER)
        measured = of_shapes.take(left)
        before, left = left, left[(measured >= low) & (measured <= high)]
        num_left = int(np.add.reduce(kept.num_of_shape.take(left)))
        steps.append(Narrowing(filter=name, num_left=num_left))
        if not num_left:
            return Filtered(part, left, tuple(steps), shapes_before=before)
    shorter = any(
        asked is not None and of_shapes.take(left).max() > asked * SAME_LENGTH
        for asked, of_shapes in zip(lengths, part.shapes.lengths, strict=True)
    )
    return Filtered(part, kept.of_shapes(part, left), tuple(steps), shorter)


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
