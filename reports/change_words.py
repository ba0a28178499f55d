"""A change in words: the same ones in a page, a terminal and a chat."""

from __future__ import annotations

from collections.abc import Sequence

from reports.compare import Change, Comparison, Scale, Verdict
from reports.model import Tone
from results.metrics import Direction, Unit, metric
from results.pairs import Design
from results.units import counted, format_change, format_value, metric_label

TONES: dict[Verdict, Tone] = {
    Verdict.REGRESSED: "bad",
    Verdict.IMPROVED: "good",
    Verdict.UNCHANGED: "plain",
    Verdict.INCONCLUSIVE: "warn",
    Verdict.NOT_MEASURED: "muted",
}
_MOST_NAMED = 3


def change_text(change: Change) -> str:
    """``+12.3 %`` or, of a difference, ``+0.4 points`` of a share or the unit's own."""
    return _amount(change.change, change)


def interval_text(change: Change) -> str:
    if change.low is None or change.high is None:
        return ""
    return f"{_amount(change.low, change)} to {_amount(change.high, change)}"


def value_text(value: float | None, change: Change) -> str:
    return format_value(value, metric(change.metric).unit)


def verdict_text(change: Change) -> str:
    """The verdict with its X or Y: what a reader must not have to work out."""
    bound = _amount(change.bound, change)
    match change.verdict:
        case Verdict.UNCHANGED:
            return f"no change larger than {bound.lstrip('+−')}"
        case Verdict.INCONCLUSIVE if change.bound is not None:
            return f"inconclusive (could be as large as {bound})"
        case _:
            return change.verdict.value


def label(change: Change) -> str:
    return metric_label(change.metric, change.statistic)


def comparison_sentence(comparison: Comparison) -> str:
    """The answer, gravest first."""
    parts = []
    for verdict in (Verdict.REGRESSED, Verdict.IMPROVED):
        found = comparison.with_verdict(verdict)
        if found:
            parts.append(f"{len(found)} {verdict.value}: {_named(found)}")
    unchanged = comparison.with_verdict(Verdict.UNCHANGED)
    if unchanged:
        parts.append(f"{len(unchanged)} unchanged within {100 * comparison.margin:g} %")
    unclear = comparison.with_verdict(Verdict.INCONCLUSIVE)
    if unclear:
        parts.append(f"{len(unclear)} inconclusive")
    missing = comparison.with_verdict(Verdict.NOT_MEASURED)
    if missing:
        parts.append(f"{len(missing)} not measured")
    return f"{comparison.b} against {comparison.a}: {'; '.join(parts)}."


def _named(changes: Sequence[Change]) -> str:
    ordered = sorted(changes, key=lambda c: -abs(c.change or 0.0))
    told = [f"{label(c)} {change_text(c)} ({interval_text(c)})" for c in ordered[:_MOST_NAMED]]
    more = f" and {len(ordered) - _MOST_NAMED} more" if len(ordered) > _MOST_NAMED else ""
    return ", ".join(told) + more


def design_text(comparison: Comparison) -> str:
    """How the runs lay in time, and what that is good for."""
    match comparison.design:
        case Design.PAIRED:
            return (
                f"{counted(comparison.num_pairs, 'pair')} of neighbouring runs, one of each side: "
                "drift is in both and falls out."
            )
        case Design.CYCLES:
            return (
                f"{counted(comparison.num_pairs, 'pair')} of alternating blocks of runs; each "
                "block counts once."
            )
        case Design.BLOCKED:
            return (
                "All runs of one side, then all of the other: a drift between the two looks like a "
                "change. Under drift such comparisons find one where there is none in 39 % of "
                "cases. Interleave the runs (ABBA) for a verdict."
            )


def better_text(direction: Direction) -> str:
    return "" if direction is Direction.NEITHER else f"{direction.value} is better"


def _amount(value: float | None, change: Change) -> str:
    if change.scale is Scale.RATIO or value is None:
        return format_change(value)
    unit = metric(change.metric).unit
    sign = "+" if value > 0 else "−" if value < 0 else ""
    if unit is Unit.RATIO:
        return f"{sign}{100 * abs(value):.2g} points"
    return f"{sign}{format_value(abs(value), unit)}"
