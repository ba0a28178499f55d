"""From judged rates to the answer: which kind it is, what bound the server, what was odd. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from results.capacity import Capacity, CapacityKind, Point, RateJudged, Verdict


def answer(
    rates: tuple[RateJudged, ...],
    *,
    passed: float | None,
    failed: float | None,
    stray_passes: Sequence[float],
    points: Sequence[Point],
    estimate_rps: float | None,
    why: str,
    tolerance: float,
    confidence: float,
    max_rps: float | None,
    min_rps: float | None,
) -> Capacity:
    """``passed``: the highest rate that passed below ``failed``, the lowest that failed."""
    spoiled = spoiled_rate(points, failed)
    last = next((p for p in reversed(points) if p.rate_rps == spoiled), None)
    binding, attainment = binding_constraint(rates, failed)
    return Capacity(
        kind=_kind(passed, failed, tolerance, max_rps, min_rps, last if spoiled else None),
        capacity_rps=passed,
        failed_rps=failed,
        estimate_rps=estimate_rps,
        binding=binding,
        binding_attainment=attainment,
        why=why,
        tolerance=tolerance,
        confidence=confidence,
        rates=rates,
        violations=tuple(
            f"{rate:g}/s passed although the lower rate {failed:g}/s failed: the server changed "
            "while it was measured, or load is not all that it depends on"
            for rate in stray_passes
        ),
        num_points=len(points),
        spent_s=sum(p.took_s for p in points),
        spoiled_rps=spoiled,
        faults=last.faults if spoiled is not None and last is not None else (),
    )


def _kind(
    passed: float | None,
    failed: float | None,
    tolerance: float,
    max_rps: float | None,
    min_rps: float | None,
    spoiled: Point | None,
) -> CapacityKind:
    if passed is not None and failed is not None:
        near = failed / passed <= 1.0 + tolerance
        return CapacityKind.FOUND if near else CapacityKind.BRACKETED
    if passed is not None and passed == max_rps:
        return CapacityKind.AT_LEAST
    if spoiled is not None:
        return CapacityKind.CLIENT_LIMITED if spoiled.client_faults else CapacityKind.INVALID
    # Where no lowest rate was named it is the budget that goes no lower, and that decides nothing.
    if failed is not None and min_rps is not None and failed <= min_rps * (1 + 1e-9):
        return CapacityKind.BELOW
    return CapacityKind.UNDECIDED


def spoiled_rate(points: Sequence[Point], failed: float | None) -> float | None:
    """The lowest rate whose last two points both say nothing about the server; None: there is none,
    or none below a rate that failed."""
    by_rate: dict[float, list[bool]] = {}
    for p in points:
        if p.rate_rps is not None and (failed is None or p.rate_rps < failed):
            by_rate.setdefault(p.rate_rps, []).append(p.is_usable)
    return min((r for r, usable in by_rate.items() if usable[-2:] == [False] * 2), default=None)


def binding_constraint(
    rates: Sequence[RateJudged], failed: float | None
) -> tuple[str, float | None]:
    """(words, share seen) of what failed at the lowest rate that failed; ("", None): nothing did.

    Of a joint condition the limit that most requests missed is named with it.
    """
    for rate in rates:
        if rate.rate_rps != failed or rate.verdict is not Verdict.FAIL:
            continue
        missed = [c for c in rate.constraints if c.wanted > 0.0 and c.verdict is Verdict.FAIL]
        if not missed:
            return "the queue grows for as long as the load lasts", None
        first = missed[0]
        parts = [c for c in rate.constraints if c.wanted == 0.0 and c.name in first.name]
        # Sorted by how many requests missed them, the most first.
        name = parts[0].name if parts else first.name
        return name, (parts[0] if parts else first).attainment
    return "", None
