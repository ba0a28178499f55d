"""From a suspicion to what may be said: the history suspects, interleaved runs decide.

Two things besides the code can move a series: the machine, which the canary tells of, and the
environment, which its hash tells of. Interleaved runs of the last good and the new, on the same
nodes in the same hour, have both in common; so what they confirm is the difference between the two,
and what they do not find was the machine's or the environment's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from reports.comparable import Difference
from reports.compare import Change, Comparison, Verdict
from reports.suspicion import Kind, State, Suspicion
from results.pairs import Design


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What interleaved runs of last-good (A) against new (B) said of a suspicion's metric.
    ``differences``: what answered differently on the two sides, the thing under test among it."""

    series: str
    night: date
    change: Change
    design: Design
    a_runs: tuple[str, ...]
    b_runs: tuple[str, ...]
    differences: tuple[Difference, ...] = ()


def confirmation_of(suspicion: Suspicion, comparison: Comparison, night: date) -> Confirmation:
    """Raises ValueError when the comparison did not judge the suspicion's metric."""
    for change in comparison.changes:
        if (change.metric, change.statistic) == (suspicion.metric, suspicion.statistic):
            return Confirmation(
                series=suspicion.series,
                night=night,
                change=change,
                design=comparison.design,
                a_runs=comparison.a_runs,
                b_runs=comparison.b_runs,
                differences=comparison.differences,
            )
    raise ValueError(f"the comparison did not judge {suspicion.metric} {suspicion.statistic}")


class Finding(StrEnum):
    """What a suspicion has become. Only the first is a regression."""

    REGRESSION = "regression confirmed"
    IMPROVEMENT = "improvement confirmed"
    ENVIRONMENT = "environment"  # the machine or its software moved, the code did not
    NOT_CONFIRMED = "not confirmed"  # looked for, and not there
    SUSPECTED = "suspected"  # nobody has looked yet, or could not see
    WATCHED = "watched"  # one night alone, not looked at
    KNOWN = "known"  # acknowledged or expected


class Cause(StrEnum):
    CODE = "code"
    ENVIRONMENT = "environment"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``why`` in a sentence. ``differences``: of the environment before and after the step, or of
    the two sides that were confirmed."""

    suspicion: Suspicion
    finding: Finding
    cause: Cause
    why: str
    differences: tuple[Difference, ...] = ()
    confirmation: Confirmation | None = None


# The settings that a spec gives its engine or its training: they are in the environment's hash,
# because they decide how fast it is and not what is computed.
ASKED = "resolved.asked."

# A canary that moved within so many nights of the series' range moved with it.
TOGETHER = timedelta(days=1)


def canary_moved(suspicion: Suspicion, others: Sequence[Suspicion]) -> Suspicion | None:
    """The canary of the same pool whose first new night may be this one's, the surest first."""
    found = [
        c
        for c in others
        if c.canary
        and c.pool == suspicion.pool
        and c.series != suspicion.series
        and c.earliest <= suspicion.latest + TOGETHER
        and suspicion.earliest <= c.latest + TOGETHER
    ]
    return min(found, key=lambda c: (c.kind is not Kind.STEP, c.p_value or 1.0), default=None)


def decide(
    suspicion: Suspicion,
    *,
    confirmation: Confirmation | None = None,
    canary: Suspicion | None = None,
    differences: Sequence[Difference] = (),
) -> Decision:
    """Pure. ``canary``: the one that moved with it, if one did (``canary_moved``); ``differences``:
    of the environments of the last night before and the first after, as far as they are known."""
    environment = _environment(suspicion, canary, differences)
    if suspicion.state is not State.OPEN:
        cause = Cause.ENVIRONMENT if environment else Cause.UNKNOWN
        why = f"{suspicion.state.value}: {suspicion.said}"
        return _decision(suspicion, Finding.KNOWN, cause, why, differences, confirmation)
    if suspicion.canary:
        why = "the canary moved, in which nothing was changed"
        return _decision(
            suspicion, Finding.ENVIRONMENT, Cause.ENVIRONMENT, why, differences, confirmation
        )
    if confirmation is not None:
        return _confirmed(suspicion, confirmation, environment, differences)
    if environment:
        return _decision(
            suspicion, Finding.ENVIRONMENT, Cause.ENVIRONMENT, environment, differences, None
        )
    if suspicion.kind is Kind.JUMP:
        why = "one night alone; a confirmation or more nights will tell"
        return _decision(suspicion, Finding.WATCHED, Cause.UNKNOWN, why, differences, None)
    why = "not confirmed yet: no interleaved runs of before and after"
    return _decision(suspicion, Finding.SUSPECTED, Cause.UNKNOWN, why, differences, None)


def _confirmed(
    suspicion: Suspicion,
    confirmation: Confirmation,
    environment: str,
    differences: Sequence[Difference],
) -> Decision:
    verdict = confirmation.change.verdict
    beside = f"; besides, {environment}" if environment else ""
    same_way = {
        Verdict.REGRESSED: suspicion.worse,
        Verdict.IMPROVED: not suspicion.worse,
    }
    if confirmation.design is not Design.BLOCKED and verdict in same_way:
        finding = Finding.REGRESSION if verdict is Verdict.REGRESSED else Finding.IMPROVEMENT
        why = f"interleaved runs of before and after differ{beside}"
        if not same_way[verdict]:
            why = f"interleaved runs of before and after differ, the other way round{beside}"
        shown = confirmation.differences or tuple(differences)
        return _decision(suspicion, finding, Cause.CODE, why, shown, confirmation)
    if confirmation.design is not Design.BLOCKED and verdict is Verdict.UNCHANGED:
        if environment:
            why = f"interleaved runs of before and after are alike, and {environment}"
            cause, finding = Cause.ENVIRONMENT, Finding.ENVIRONMENT
        else:
            why = "interleaved runs of before and after are alike: drift, or chance"
            cause, finding = Cause.UNKNOWN, Finding.NOT_CONFIRMED
        return _decision(suspicion, finding, cause, why, differences, confirmation)
    reason = confirmation.change.reason or "the interleaved runs could not tell"
    if environment:
        why = f"{environment}; {reason}"
        return _decision(
            suspicion, Finding.ENVIRONMENT, Cause.ENVIRONMENT, why, differences, confirmation
        )
    return _decision(suspicion, Finding.SUSPECTED, Cause.UNKNOWN, reason, differences, confirmation)


def _environment(
    suspicion: Suspicion, canary: Suspicion | None, differences: Sequence[Difference]
) -> str:
    """What else moved, in words; "" where nothing did."""
    said = []
    if canary is not None:
        said.append(f"the canary ({canary.name}) moved as well")
    # What resolves otherwise because it was asked otherwise is the suite's doing, no environment.
    asked = any(d.key.startswith(ASKED) for d in differences)
    if suspicion.environment_changed and not asked:
        named = ", ".join(f"{d.key}: {d.a} → {d.b}" for d in differences[:3])
        said.append(f"the environment changed{f' ({named})' if named else ''}")
    return " and ".join(said)


def _decision(
    suspicion: Suspicion,
    finding: Finding,
    cause: Cause,
    why: str,
    differences: Sequence[Difference],
    confirmation: Confirmation | None,
) -> Decision:
    return Decision(
        suspicion=suspicion,
        finding=finding,
        cause=cause,
        why=why,
        differences=tuple(differences),
        confirmation=confirmation,
    )
