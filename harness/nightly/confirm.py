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
from results.record import Failed

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
    again. Ends when ``decided``, after ``max_pairs``, when a run failed, or when the budget is
    spent, which the journal then says."""
    confirm = night.suite.spec.confirm
    made = {run.slot: run for run in night.made if run.suspect == duel.name}
    most = f"{confirm.pairs} to {confirm.max_pairs}"
    for pair in range(confirm.max_pairs):
        if pair >= confirm.pairs and decided(tuple(made.values())):
            return
        for role in _turn(pair):
            slot = Slot(
                name=f"{duel.name}/{pair + 1}-{role}",
                role=role,
                series=duel.series,
                round_index=pair,
            )
            if slot.name in made:
                continue
            if why := night.over_budget():
                night.leave_out(f"{duel.name} (confirming)", why)
                return
            side = duel.good if role is NightRole.GOOD else duel.new
            night.context.progress.phase(
                "confirm", f"{duel.name}: pair {pair + 1} of {most}, {role}"
            )
            run = night.one(side.spec, slot, side.version, suspect=duel.name)
            made[slot.name] = run
            yield run
            if isinstance(run.record.outcome, Failed):
                why = f"the {role} run failed: {run.record.outcome.message}"
                night.leave_out(f"{duel.name} (confirming)", why)
                return


def _turn(pair: int) -> tuple[NightRole, NightRole]:
    """ABBA: who goes first changes with every pair."""
    first_good = (NightRole.GOOD, NightRole.NEW)
    return first_good if pair % 2 == 0 else first_good[::-1]


def _asked(side: Side) -> object:
    spec = replace(side.spec, tags=without_night(side.spec.tags), num_repeats=1, redeploy=True)
    return spec_to_mapping(spec), side.version
