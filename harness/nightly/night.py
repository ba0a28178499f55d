"""Make the runs of a night that are not yet made, one record each, within its budget.

A night that was killed goes on: what is sealed is kept, what is not is made. A series that failed
twice is left alone for the night, and the night says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from harness.errors import PlanRefused
from harness.nightly.journal import Journal, Told
from harness.nightly.order import Slot
from harness.nightly.subject import Subjects, Version
from harness.nightly.suite import NightBudget, Suite
from harness.pools import Inventory
from harness.runner import RunContext, bind, run_spec
from harness.spec import RunSpec
from results.measurement import of_group
from results.nights import NightRole, NightRun, night_run, night_tags
from results.prices import PriceTable
from results.record import Failed, RunRecord

# The journal's events: ``what`` was left out, and ``why``; a run was made, and what it cost.
NOT_RUN, MADE = "not_run", "made"
MAX_FAILURES = 2  # of one series in one night
# A run that these ended says nothing of the series; it is made again, and is no failure of it.
_OURS = frozenset({"interrupted", "lost", "store"})


@dataclass(slots=True, kw_only=True)
class NightSpent:
    """What a night has cost, by run: chip-hours, and dollars where a price is known. Lanes learn
    of each other's runs from the journal."""

    begun_s: float = 0.0  # on the machine's monotonic clock
    by_run: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, record: RunRecord) -> None:
        numbers = {m.metric: m.value for m in of_group(record.measurements)}
        cost = numbers.get("chip_hours") or 0.0, numbers.get("cost_usd") or 0.0
        self.by_run[record.run_id] = cost

    def hear(self, told: Told) -> None:
        for made in told.all(MADE):
            self.by_run[made["run_id"]] = made["chip_hours"], made["usd"]

    @property
    def chip_hours(self) -> float:
        return sum(chip_hours for chip_hours, _ in self.by_run.values())

    @property
    def usd(self) -> float:
        return sum(usd for _, usd in self.by_run.values())

    def reached(self, budget: NightBudget, now_s: float) -> str:
        """Which limit is reached, in words, or ""."""
        for limit, value, unit in (
            (budget.wall_s, now_s - self.begun_s, "s"),
            (budget.chip_hours, self.chip_hours, "chip-hours"),
            (budget.usd, self.usd, "USD"),
        ):
            if limit and value >= limit:
                return f"the night's budget of {limit:g} {unit} is spent ({value:.4g})"
        return ""


@dataclass(slots=True, kw_only=True)
class Night:
    """One night at work. ``made`` has the records in order; ``journal`` is told what has none."""

    night_id: str
    date: date
    suite: Suite
    subjects: Subjects
    version: Version | None  # of the subject, tonight
    context: RunContext
    journal: Journal
    filed_under: str = ""  # another name than the suite's: these runs are no night of its history
    spent: NightSpent = field(default_factory=NightSpent)
    made: list[NightRun] = field(default_factory=list)

    def resume(self, runs: Sequence[NightRun]) -> None:
        """Go on after ``runs`` of this night. What our own interruption ended is made again."""
        for run in runs:
            self.spent.add(run.record)
            if not _is_ours(run.record):
                self.made.append(run)

    def run(self, slots: Sequence[Slot]) -> Iterator[NightRun]:
        """Yield each run once its record is sealed. Raises what ``run_spec`` raises."""
        have = {run.slot for run in self.made}
        todo = [slot for slot in slots if slot.name not in have]
        for place, slot in enumerate(todo):
            name = slot.series.name
            if self._given_up(name):
                continue
            if why := self.over_budget():
                left = dict.fromkeys(one.series.name for one in todo[place:])
                for one in left:
                    self.leave_out(one, why)
                return
            self.context.progress.phase("run", f"{slot.name} ({place + 1} of {len(todo)})")
            version = self.version if slot.role is NightRole.RUN else None
            spec = self.subjects.at(slot.series.spec, version)
            yield self.one(spec, slot, version)
            self._note_failure(slot)

    def over_budget(self) -> str:
        """Which limit of the night is reached, by this process and all others, or ""."""
        budget = self.suite.spec.budget
        if budget.chip_hours or budget.usd:
            self.spent.hear(self.journal.read())
        return self.spent.reached(budget, self.context.clock.monotonic_s())

    def one(
        self, spec: RunSpec, slot: Slot, version: Version | None, suspect: str = ""
    ) -> NightRun:
        """One run, tagged as this night's and kept."""
        tags = night_tags(
            night_id=self.night_id,
            on=self.date,
            suite=self.filed_under or self.suite.name,
            series=slot.series.name,
            role=slot.role,
            slot=slot.name,
            subject=version.name if version else "",
            suspect=suspect,
            metrics=slot.series.metrics,
        )
        asked = replace(
            spec, num_repeats=1, redeploy=True, tags={**without_night(spec.tags), **tags}
        )
        (record,) = run_spec(asked, self.context, experiment_id=self.night_id)
        run = night_run(record)
        assert run is not None, "the tags just given"
        self.spent.add(record)
        chip_hours, usd = self.spent.by_run[record.run_id]
        self.journal.append(
            self.context.clock.now_utc(),
            MADE,
            run_id=record.run_id,
            slot=slot.name,
            chip_hours=chip_hours,
            usd=usd,
        )
        self.made.append(run)
        return run

    def leave_out(self, what: str, why: str) -> None:
        """A series, or the confirming of one, that is not measured, or not as often as asked."""
        self.journal.append(self.context.clock.now_utc(), NOT_RUN, what=what, why=why)

    def _failures(self, series: str) -> list[Failed]:
        return [
            run.record.outcome
            for run in self.made
            if run.series == series and isinstance(run.record.outcome, Failed)
        ]

    def _given_up(self, series: str) -> bool:
        failed = self._failures(series)
        # What cannot be planned will not be planned an hour later.
        return len(failed) >= MAX_FAILURES or any(f.stage == "plan" for f in failed)

    def _note_failure(self, slot: Slot) -> None:
        failed = self._failures(slot.series.name)
        if self._given_up(slot.series.name):
            why = f"failed at {failed[-1].stage}: {failed[-1].message}"
            self.leave_out(slot.series.name, why)


def _is_ours(record: RunRecord) -> bool:
    return isinstance(record.outcome, Failed) and record.outcome.stage in _OURS


def without_night(tags: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in tags.items() if k != "night" and not k.startswith("night.")}


def pools_of(
    suite: Suite, inventory: Inventory, prices: PriceTable | None
) -> dict[str, frozenset[str]]:
    """For each series and canary the pools down its ladder; none where it cannot be placed, which
    its run will say."""
    found: dict[str, frozenset[str]] = {}
    for one in (*suite.series, *suite.canaries):
        try:
            plan = bind(one.spec, inventory, prices)
        except PlanRefused:
            found[one.name] = frozenset()
        else:
            found[one.name] = frozenset(rung.pool.name for rung in plan.rungs)
    return found
