"""The answer of a sweep or a capacity search in a sentence: for pages and terminals alike."""

from __future__ import annotations

from collections.abc import Sequence

from reports.sweep_numbers import LoadSeen
from results.capacity import Capacity, CapacityKind, ConstraintJudged, Knee
from results.units import format_value


def capacity_sentence(capacity: Capacity) -> str:
    """The answer first, then why it is no better."""
    passed, failed = capacity.capacity_rps, capacity.failed_rps
    bound = f" First to fail: {capacity.binding}" if capacity.binding else ""
    if bound and capacity.binding_attainment is not None:
        bound += f", met by {format_value(capacity.binding_attainment, 'ratio')}"
    bound += "." if bound else ""
    guess = ""
    if capacity.estimate_rps is not None and capacity.kind not in (
        CapacityKind.FOUND,
        CapacityKind.BELOW,
    ):
        guess = f" The shares seen cross near {capacity.estimate_rps:g}/s; that is a guess."
    match capacity.kind:
        case CapacityKind.FOUND:
            return f"{passed:g} requests/s; {failed:g} fails.{bound}"
        case CapacityKind.BRACKETED:
            assert passed is not None and failed is not None
            return (
                f"Between {passed:g} and {failed:g} requests/s, {percent(failed / passed - 1.0)} "
                f"apart where {percent(capacity.tolerance)} was asked for: "
                f"{capacity.why}.{bound}{guess}"
            )
        case CapacityKind.AT_LEAST:
            return f"At least {passed:g} requests/s: {capacity.why}."
        case CapacityKind.BELOW:
            return f"Below {failed:g} requests/s: {capacity.why}.{bound}"
        case CapacityKind.CLIENT_LIMITED:
            return (
                f"Not known{_least(passed)}; the client's limit was reached at "
                f"{capacity.spoiled_rps:g}/s, give it a quieter or a larger machine: "
                f"{'; '.join(capacity.faults)}."
            )
        case CapacityKind.INVALID:
            return (
                f"Not known{_least(passed)}; at {capacity.spoiled_rps:g}/s the load was not the "
                f"one asked for: {'; '.join(capacity.faults)}."
            )
        case CapacityKind.UNDECIDED:
            known = []
            if passed is not None:
                known.append(f"{passed:g}/s passes")
            if failed is not None:
                known.append(f"{failed:g}/s fails")
            what = " and ".join(known) if known else "no rate was decided"
            return f"Undecided: {what}; {capacity.why}.{bound}{guess}"


def _least(passed: float | None) -> str:
    return f", at least {passed:g} requests/s" if passed is not None else ""


def knee_sentence(knee: Knee, loads: Sequence[LoadSeen]) -> str:
    """Where the curve bends, and what one gets there."""
    if knee.load is None:
        return f"No knee: {knee.why}."
    at = next((load for load in loads if load.load == knee.load), None)
    words = at.words if at is not None else f"{knee.load:g}"
    got = ""
    if at is not None:
        ttft, output = at.number("ttft_s", "p50"), at.number("output_throughput")
        got = f": {output.words('tokens/s')} of output, TTFT p50 {ttft.words('s')}"
    return f"Knee at {words}{got}. It is {knee.rule}."


def percent(share: float) -> str:
    """Three digits at most: ``5 %``, ``112 %``."""
    return f"{share * 100.0:.3g} %"


def limit_words(constraint: ConstraintJudged) -> str:
    return constraint.name if constraint.wanted else f"of these, {constraint.name} alone"
