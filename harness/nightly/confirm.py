"""Good against new, side by side: the only thing that turns a suspicion into a regression.

The history only suspects. Here the run of the last good night and the run of tonight are made in
pairs on the same pools, in turn (ABBA), with the same requests, until the pairs decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.nightly.night import Night, without_night
from harness.nightly.order import Slot
from harness.nightly.subject import Version
from harness.nightly.suite import Series
from harness.spec import RunSpec
from harness.specfile import spec_from_mapping, spec_to_mapping
from results.nights import NightRole, NightRun
from results.record import Failed, Succeeded

# Says of the runs so far whether they decide; more pairs are made while they do not.
Decided = Callable[[Sequence[NightRun]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two: what to run, and as which version of the subject."""

    spec: RunSpec
    version: Version | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """``name``: of the suspicion; the runs are tagged with it."""

    name: str
    series: Series
    good: Side
    new: Side

    @property
    def is_same(self) -> bool:
        """Nothing differs that could be put back: what moved lies outside the suite."""
        return _asked(self.good) == _asked(self.new)


def duel_of(night: Night, name: str, series: Series, good: NightRun) -> Duel:
    """Between the run of a good night and the same series as it is tonight. Raises SpecError when
    the good night's version cannot be had any more."""
    version = night.subjects.version(good.subject) if good.subject else None
    then = spec_from_mapping(good.record.spec)
    return Duel(
        name=name,
        series=series,
        good=Side(spec=night.subjects.at(then, version), version=version),
        new=Side(spec=night.subjects.at(series.spec, night.version), version=night.version),
    )


def fight(night: Night, duel: Duel, decided: Decided) -> Iterator[NightRun]:
    """Yield each run of the pairs once it is sealed; those of an earlier sitting are not made
    again. A pair with an invalid run is no evidence, so it counts for none and another is made.
    Ends when ``decided``, after ``max_pairs`` that count or ``most_pairs`` at all, when a run
    failed, or when the budget is spent, which the journal then says."""
    confirm = night.suite.spec.confirm
    made = {run.slot: run for run in night.made if run.suspect == duel.name}
    counted = 0
    for pair in range(confirm.most_pairs):
        enough = counted >= confirm.pairs and decided(tuple(made.values()))
        if enough or counted >= confirm.max_pairs:
            return
        slots = [
            Slot(name=f"{duel.name}/{pair + 1}-{role}", role=role, series=duel.series,
                 round_index=pair)
            for role in _turn(pair)
        ]  # fmt: skip
        for slot in slots:
            if slot.name in made:
                continue
            if why := night.over_budget():
                night.leave_out(f"{duel.name} (confirming)", why)
                return
            run = _one(night, duel, slot, counted)
            made[slot.name] = run
            yield run
            if isinstance(run.record.outcome, Failed):
                why = f"the {slot.role} run failed: {run.record.outcome.message}"
                night.leave_out(f"{duel.name} (confirming)", why)
                return
        counted += all(isinstance(made[s.name].record.outcome, Succeeded) for s in slots)


def _one(night: Night, duel: Duel, slot: Slot, counted: int) -> NightRun:
    confirm, invalid = night.suite.spec.confirm, slot.round_index - counted
    beside = f", {invalid} invalid" if invalid else ""
    night.context.progress.phase(
        "confirm",
        f"{duel.name}: pair {counted + 1} of {confirm.pairs} to {confirm.max_pairs}, "
        f"{slot.role}{beside}",
    )
    side = duel.good if slot.role is NightRole.GOOD else duel.new
    return night.one(side.spec, slot, side.version, suspect=duel.name)


def _turn(pair: int) -> tuple[NightRole, NightRole]:
    """ABBA: who goes first changes with every pair."""
    first_good = (NightRole.GOOD, NightRole.NEW)
    return first_good if pair % 2 == 0 else first_good[::-1]


def _asked(side: Side) -> object:
    spec = replace(side.spec, tags=without_night(side.spec.tags), num_repeats=1, redeploy=True)
    return spec_to_mapping(spec), side.version
