"""What a night has to tell: its series, what is suspected, what pairs said of it, what it means.

Pure, and from records and events alone: a page can be made again of any night at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from reports.comparable import Difference, differences_of
from reports.compare import Comparison, Verdict, compare
from reports.confirm import Confirmation, Decision, Finding, canary_moved, confirmation_of, decide
from reports.history import read_history
from reports.series import Series, series_of
from reports.suspicion import History, Kind, Standing, State, Suspicion
from results.errors import NotComparable
from results.events import Event
from results.measurement import one_statistic
from results.nights import NightRole, NightRun
from results.record import Failed

# An open suspicion of an earlier night is told again for so long.
RECENT = timedelta(days=14)
_SIDES = (NightRole.GOOD, NightRole.NEW)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A series, or the confirming of one, that was not measured, or not as often as asked."""

    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NightTold:
    """``history`` is None while no series has a value. ``decisions``: of tonight's suspicions and
    of the open ones of the nights before, the gravest first. ``runs`` are this night's, all of
    them; ``comparisons`` by the name of the pairs."""

    suite: str
    night_id: str
    date: date
    runs: tuple[NightRun, ...]
    series: tuple[Series, ...]
    history: History | None
    decisions: tuple[Decision, ...]
    comparisons: Mapping[str, Comparison]
    left_out: tuple[LeftOut, ...] = ()
    num_torn: int = 0

    def found(self, *findings: Finding) -> tuple[Decision, ...]:
        return tuple(d for d in self.decisions if d.finding in findings)

    @property
    def num_failed(self) -> int:
        return sum(isinstance(run.record.outcome, Failed) for run in self.runs)

    def standing(self, *standings: Standing) -> int:
        states = self.history.states if self.history else ()
        return sum(state.standing in standings for state in states)


def night_told(
    nights: Mapping[str, Sequence[NightRun]],
    night_id: str,
    events: Sequence[Event] = (),
    *,
    left_out: Sequence[LeftOut] = (),
    num_torn: int = 0,
    on: date | None = None,
    suite: str = "",
) -> NightTold:
    """``nights``: all of the suite, as ``results.nights.night_runs`` gives them; what came after
    ``night_id`` is not looked at. ``on`` and ``suite`` are needed where the night has no run."""
    mine = tuple(nights.get(night_id, ()))
    on = mine[0].date if mine else on
    if on is None:
        raise ValueError(f"night {night_id} has no run, and nobody said its date")
    until = [run for runs in nights.values() for run in runs if run.date <= on]
    series = series_of_nights(until)
    history = read_history(series, events, until=on) if series else None
    if history is not None and history.night != on:
        history = None  # nothing of tonight has a value
    comparisons = {
        (night, suspect): made
        for night, runs in nights.items()
        if any(run.date <= on for run in runs)
        for suspect, made in compared(runs).items()
    }
    dates = {night: runs[0].date for night, runs in nights.items() if runs}
    before = _jumps_before(series, events, comparisons, dates, on) if history else ()
    return NightTold(
        suite=mine[0].suite if mine else suite,
        night_id=night_id,
        date=on,
        runs=mine,
        series=series,
        history=history,
        decisions=_decisions(history, before, until, comparisons, dates) if history else (),
        comparisons={
            suspect: c for (night, suspect), c in comparisons.items() if night == night_id
        },
        left_out=tuple(left_out),
        num_torn=num_torn,
    )


def series_of_nights(runs: Sequence[NightRun]) -> tuple[Series, ...]:
    """The suite's and the canaries' statistics over the nights, those that each run asks for."""
    counted = [run for run in runs if run.role not in _SIDES]
    of_record = {run.record.run_id: run for run in counted}
    wanted: dict[str, set[tuple[str, str]]] = {}
    for run in counted:
        wanted.setdefault(run.series, set()).update(one_statistic(m) for m in run.metrics)
    found = series_of(
        [run.record for run in counted],
        night_of=lambda record: of_record[record.run_id].date,
        canaries={run.series for run in counted if run.role is NightRole.CANARY},
        metrics=sorted(set().union(*wanted.values())) if wanted else (),
    )
    return tuple(s for s in found if (s.metric, s.statistic) in wanted.get(s.name, set()))


def compared(runs: Sequence[NightRun]) -> dict[str, Comparison]:
    """Good against new, by suspicion, as far as the pairs of one night go."""
    found = {}
    for suspect in dict.fromkeys(run.suspect for run in runs if run.suspect):
        mine = [run for run in runs if run.suspect == suspect]
        made = comparison_of(mine)
        if made is not None:
            found[suspect] = made
    return found


def comparison_of(
    runs: Sequence[NightRun], a: str = "last good", b: str = "tonight"
) -> Comparison | None:
    """None while a side has no run, or they were asked different things."""
    good, new = ([run.record for run in runs if run.role is role] for role in _SIDES)
    if not good or not new:
        return None
    metrics = tuple(one_statistic(m) for m in runs[0].metrics)
    try:
        return compare(good, new, a=a, b=b, metrics=metrics)
    except NotComparable:
        return None


def undecided(comparison: Comparison | None, suspicions: Sequence[Suspicion]) -> bool:
    """Whether more pairs are needed to tell what the suspicions are."""
    if comparison is None:
        return True
    wanted = {(s.metric, s.statistic) for s in suspicions}
    return any(
        change.verdict is Verdict.INCONCLUSIVE
        for change in comparison.changes
        if (change.metric, change.statistic) in wanted
    )


def pair_name(suspicion: Suspicion) -> str:
    """One set of pairs serves every metric of a series."""
    return f"{suspicion.pool}/{suspicion.name}"


# ---- what it means ----

_GRAVITY = (
    Finding.REGRESSION,
    Finding.SUSPECTED,
    Finding.ENVIRONMENT,
    Finding.IMPROVEMENT,
    Finding.WATCHED,
    Finding.NOT_CONFIRMED,
    Finding.KNOWN,
)


def _jumps_before(
    series: Sequence[Series],
    events: Sequence[Event],
    comparisons: Mapping[tuple[str, str], Comparison],
    dates: Mapping[str, date],
    on: date,
) -> tuple[Suspicion, ...]:
    """What earlier nights suspected for themselves alone and had confirmed: the history of tonight
    knows of steps only, and a step takes three nights to be one."""
    days = {dates[night] for night, _ in comparisons if on - RECENT <= dates[night] < on}
    found: list[Suspicion] = []
    for day in sorted(days):
        then = read_history(series, events, until=day)
        found += [s for s in then.suspicions if s.found == day and s.kind is Kind.JUMP]
    return tuple(found)


def _decisions(
    history: History,
    before: Sequence[Suspicion],
    runs: Sequence[NightRun],
    comparisons: Mapping[tuple[str, str], Comparison],
    dates: Mapping[str, date],
) -> tuple[Decision, ...]:
    recent = [
        s
        for s in (*history.suspicions, *before)
        if s.found == history.night
        or (s.found >= history.night - RECENT and s.state is not State.EXPECTED)
    ]
    decided = [
        decide(
            s,
            confirmation=_confirmation(s, comparisons, dates),
            canary=canary_moved(s, recent),
            differences=_differences(s, runs),
        )
        for s in recent
        if not _became_a_step(s, recent)
    ]
    # What one night alone looked like and nobody confirmed was that night's to tell.
    told = [d for d in decided if d.finding is not Finding.WATCHED or _is_of(d, history.night)]
    return tuple(
        sorted(
            told,
            key=lambda d: (
                _GRAVITY.index(d.finding),
                -abs(_impact(d)),
                d.suspicion.series,
                d.suspicion.found,
            ),
        )
    )


def _is_of(decision: Decision, night: date) -> bool:
    return decision.suspicion.found == night


def _became_a_step(one: Suspicion, others: Sequence[Suspicion]) -> bool:
    """A night alone that the nights after it made a step of: one event, told once."""
    return one.kind is Kind.JUMP and any(
        s.kind is Kind.STEP and s.series == one.series and s.earliest <= one.found <= s.found
        for s in others
    )


def _impact(decision: Decision) -> float:
    confirmation = decision.confirmation
    if confirmation is not None and confirmation.change.change is not None:
        return confirmation.change.change
    return decision.suspicion.change


def _confirmation(
    suspicion: Suspicion,
    comparisons: Mapping[tuple[str, str], Comparison],
    dates: Mapping[str, date],
) -> Confirmation | None:
    """Of the newest pairs made since the step may have been: those that confirmed a jump also
    answer for the step that the nights after make of it."""
    for (night, suspect), made in reversed(list(comparisons.items())):
        if suspect == pair_name(suspicion) and dates[night] >= suspicion.earliest:
            try:
                return confirmation_of(suspicion, made, dates[night])
            except ValueError:
                continue
    return None


def _differences(suspicion: Suspicion, runs: Sequence[NightRun]) -> tuple[Difference, ...]:
    mine = [
        run
        for run in runs
        if run.series == suspicion.name
        and run.pool == suspicion.pool
        and run.role not in _SIDES
        and run.record.environment is not None
    ]
    before = [run.record for run in mine if run.date < suspicion.earliest][-1:]
    after = [run.record for run in mine if run.date >= suspicion.latest][:1]
    return differences_of(before, after) if before and after else ()


def good_run(suspicions: Sequence[Suspicion], runs: Sequence[NightRun]) -> NightRun | None:
    """The newest run of the series that was certainly made before anything moved."""
    earliest = min(s.earliest for s in suspicions)
    one = suspicions[0]
    found = [
        run
        for run in runs
        if run.series == one.name
        and run.pool == one.pool
        and run.role is NightRole.RUN
        and run.date < earliest
        and not isinstance(run.record.outcome, Failed)
    ]
    return max(found, key=lambda run: run.record.run_id, default=None)


def to_confirm(told: NightTold, most: int) -> tuple[tuple[Suspicion, ...], ...]:
    """Tonight's suspicions that no pairs have answered yet, by series: what got worse first, then
    the largest; ``most`` series. Pairs that a kill cut short may not have told: they go on."""
    groups: dict[str, list[Suspicion]] = {}
    answered = {
        d.suspicion.series
        for d in told.decisions
        if d.confirmation is not None and d.confirmation.change.verdict is not Verdict.INCONCLUSIVE
    }
    for s in told.history.new if told.history else ():
        if not s.canary and s.series not in answered:
            groups.setdefault(pair_name(s), []).append(s)
    ordered = sorted(
        groups.values(),
        key=lambda g: (not any(s.worse for s in g), -max(abs(s.change) for s in g)),
    )
    return tuple(tuple(group) for group in ordered[:most])
