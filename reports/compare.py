"""Is B other than A? Records of two sides in, one verdict per metric out.

Three verdicts, never two: regressed or improved; no change larger than X %, which is a claim of its
own and needs its own evidence; inconclusive, which could be as large as Y %. Absence of evidence
is the third, never the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from reports.comparable import Difference, check_comparable, differences_of
from reports.wording import HEADLINES, find
from results.errors import NotComparable
from results.intervals import Interval
from results.measurement import of_group
from results.metrics import Area, Direction, Unit, metric
from results.pairs import (
    Design,
    Floats,
    Pairing,
    Shift,
    detectable,
    holm,
    pair_up,
    paired_shift,
    unpaired_shift,
)
from results.record import RunRecord, Succeeded

MIN_PAIRS = 5  # below it a pair that went astray decides alone
MARGIN = 0.03  # what is called no change, where nothing else is asked
# A share can be zero, so shares are subtracted; this many points of one are no change.
SHARE_MARGIN = 0.01
SIGNIFICANCE = 0.05


class Verdict(StrEnum):
    REGRESSED = "regressed"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURED = "not measured"


class Scale(StrEnum):
    RATIO = "ratio"  # change = B / A − 1
    DIFFERENCE = "difference"  # change = B − A, in the metric's unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One metric's statistic on both sides. ``a``/``b``: geometric mean of runs (ratio) or mean
    (difference). ``change`` and its 95 % interval as ``scale`` says, the sign as measured: whether
    it is good follows from ``direction`` and stands in ``verdict``.

    ``bound``: the X of "no change larger than X" and the Y of "could be as large as Y", with its
    sign. ``detectable``: what so many pairs find in four of five comparisons. ``p_value`` is
    two-sided and adjusted for all metrics judged beside it.
    """

    metric: str
    statistic: str
    direction: Direction
    scale: Scale
    verdict: Verdict
    num_pairs: int
    a: float | None = None
    b: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    detectable: float | None = None
    p_value: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    run_id: str
    side: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """``differences``: what is not equal in the environments of the two sides, by name."""

    a: str
    b: str
    a_runs: tuple[str, ...]
    b_runs: tuple[str, ...]
    workload_hash: str
    a_environments: tuple[str, ...]
    b_environments: tuple[str, ...]
    differences: tuple[Difference, ...]
    design: Design
    num_pairs: int
    margin: float
    changes: tuple[Change, ...]
    left_out: tuple[LeftOut, ...] = ()

    def with_verdict(self, verdict: Verdict) -> tuple[Change, ...]:
        return tuple(c for c in self.changes if c.verdict is verdict)

    @property
    def verdict(self) -> Verdict:
        """The gravest: a regression, then what could hide one."""
        order = (Verdict.REGRESSED, Verdict.INCONCLUSIVE, Verdict.IMPROVED, Verdict.UNCHANGED)
        found = {c.verdict for c in self.changes}
        return next((v for v in order if v in found), Verdict.INCONCLUSIVE)


def compare(
    a_runs: Sequence[RunRecord],
    b_runs: Sequence[RunRecord],
    *,
    a: str = "A",
    b: str = "B",
    metrics: Sequence[tuple[str, str]] = (),
    margin: float = MARGIN,
    trust_blocks: bool = False,
) -> Comparison:
    """``metrics``: (name, statistic) of what is judged; by default the headlines that both have.

    ``trust_blocks``: judge runs that were not interleaved as if nothing drifted between them.
    Raises NotComparable when the two were asked different things, or share a run.
    """
    check_comparable(a_runs, b_runs, a, b)
    runs = sorted(
        [(r, False) for r in a_runs] + [(r, True) for r in b_runs],
        key=lambda pair: (pair[0].started_at, pair[0].run_id),
    )
    pairing = pair_up([side for _, side in runs])
    records = [r for r, _ in runs]
    usable = [isinstance(r.outcome, Succeeded) for r in records]
    asked = tuple(metrics) or _headlines(records)
    if not asked:
        raise NotComparable(f"{a} and {b} have no metric in common that can be better or worse")
    drafts = [
        _measured(name, statistic, records, [s for _, s in runs], usable, pairing)
        for name, statistic in asked
    ]
    adjusted = holm([d.shift.p_value if d.shift is not None else 1.0 for d in drafts])
    trusted = pairing.design is not Design.BLOCKED or trust_blocks
    good = [
        p for p in pairing.pairs if any(usable[i] for i in p[0]) and any(usable[j] for j in p[1])
    ]
    return Comparison(
        a=a,
        b=b,
        a_runs=tuple(r.run_id for r, side in runs if not side),
        b_runs=tuple(r.run_id for r, side in runs if side),
        workload_hash=records[0].workload_hash,
        a_environments=_environments(a_runs),
        b_environments=_environments(b_runs),
        differences=differences_of(a_runs, b_runs),
        design=pairing.design,
        num_pairs=len(good),
        margin=margin,
        changes=tuple(
            _judged(d, p, margin, trusted) for d, p in zip(drafts, adjusted, strict=True)
        ),
        left_out=_left_out(runs, pairing, a, b),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    name: str
    statistic: str
    scale: Scale
    a: float | None
    b: float | None
    shift: Shift | None
    why_not: str = ""


def _headlines(records: Sequence[RunRecord]) -> tuple[tuple[str, str], ...]:
    return tuple(
        column
        for column in HEADLINES
        if metric(column[0]).direction is not Direction.NEITHER
        and any(find(r, *column) is not None for r in records)
    )


def judgeable(records: Sequence[RunRecord]) -> tuple[tuple[str, str], ...]:
    """All that was measured and has a better direction, but for what tells of our own client."""
    found = {
        (m.metric, m.statistic): None
        for r in records
        for m in of_group(r.measurements)
        if metric(m.metric).direction is not Direction.NEITHER
        and metric(m.metric).area is not Area.CLIENT
    }
    return tuple(found)


def _measured(
    name: str,
    statistic: str,
    records: Sequence[RunRecord],
    sides: Sequence[bool],
    usable: Sequence[bool],
    pairing: Pairing,
) -> _Draft:
    values = [
        m.value if ok and (m := find(r, name, statistic)) is not None else None
        for r, ok in zip(records, usable, strict=True)
    ]
    seen = [v for v in values if v is not None]
    scale = scale_of(name, seen)
    plain = np.array([np.nan if v is None else v for v in values])
    if scale is Scale.RATIO:
        plain = np.log(plain)
    side = np.array(sides)
    first, second = (plain[side == which] for which in (False, True))
    first, second = first[~np.isnan(first)], second[~np.isnan(second)]
    shift = _shift_of(plain, first, second, pairing)
    back = np.exp if scale is Scale.RATIO else np.asarray
    why = "" if shift is not None else _too_few(seen, len(first), len(second), pairing)
    return _Draft(
        name=name,
        statistic=statistic,
        scale=scale,
        a=float(back(first.mean())) if len(first) else None,
        b=float(back(second.mean())) if len(second) else None,
        shift=shift,
        why_not=why,
    )


def scale_of(name: str, values: Sequence[float]) -> Scale:
    """Ratios of what cannot be zero; differences of shares that can, and wherever a zero was."""
    declared = metric(name)
    if any(v <= 0.0 for v in values):
        return Scale.DIFFERENCE
    is_share = declared.unit is Unit.RATIO and declared.high == 1.0 and name.endswith("share")
    return Scale.DIFFERENCE if is_share else Scale.RATIO


def _shift_of(plain: Floats, first: Floats, second: Floats, pairing: Pairing) -> Shift | None:
    if pairing.design is Design.BLOCKED:
        return unpaired_shift(first, second)
    with_both = [
        (one, other)
        for a, b in pairing.pairs
        if len(one := _known(plain, a)) and len(other := _known(plain, b))
    ]
    return paired_shift(np.array([other.mean() - one.mean() for one, other in with_both]))


def _known(plain: Floats, rows: tuple[int, ...]) -> Floats:
    chosen = plain[list(rows)]
    known: Floats = chosen[~np.isnan(chosen)]
    return known


def _too_few(seen: Sequence[float], num_a: int, num_b: int, pairing: Pairing) -> str:
    if not seen:
        return "no run of either side has it"
    if pairing.design is Design.BLOCKED:
        return f"{num_a} runs against {num_b}; an interval over runs needs two of each"
    return f"{num_a} runs against {num_b}; an interval over pairs needs two pairs"


def _judged(draft: _Draft, p_value: float, margin: float, trusted: bool) -> Change:
    common = {
        "metric": draft.name,
        "statistic": draft.statistic,
        "direction": metric(draft.name).direction,
        "scale": draft.scale,
        "a": draft.a,
        "b": draft.b,
    }
    if draft.shift is None:
        known = draft.a is not None or draft.b is not None
        verdict = Verdict.INCONCLUSIVE if known else Verdict.NOT_MEASURED
        return Change(**common, verdict=verdict, num_pairs=0, reason=draft.why_not)  # type: ignore[arg-type]
    shift = draft.shift
    limit = _limit(draft, margin)
    direction = metric(draft.name).direction
    verdict, reason = verdict_of(shift, p_value, limit, direction, trusted)
    bounds = shift.equivalence if verdict is Verdict.UNCHANGED else shift.interval
    return Change(
        **common,  # type: ignore[arg-type]
        verdict=verdict,
        num_pairs=shift.num,
        change=_told(shift.mean, draft.scale),
        low=_told(shift.interval.low, draft.scale),
        high=_told(shift.interval.high, draft.scale),
        bound=_told(max(bounds.low, bounds.high, key=abs), draft.scale),
        detectable=_told(detectable(shift.spread, shift.num), draft.scale),
        p_value=p_value,
        reason=reason,
    )


def verdict_of(
    shift: Shift, p_value: float, limit: float, direction: Direction, trusted: bool = True
) -> tuple[Verdict, str]:
    """``limit``: what is no change, on the scale of ``shift``; ``p_value``: as adjusted."""
    if not trusted:
        return (
            Verdict.INCONCLUSIVE,
            "the runs were not interleaved: a drift between the two blocks looks the same",
        )
    if shift.num < MIN_PAIRS:
        return Verdict.INCONCLUSIVE, f"{shift.num} pairs; a verdict needs {MIN_PAIRS}"
    if within(shift.equivalence, limit):
        return Verdict.UNCHANGED, ""
    if p_value > SIGNIFICANCE:
        return Verdict.INCONCLUSIVE, ""
    better = (shift.mean > 0.0) == (direction is Direction.HIGHER)
    return (Verdict.IMPROVED if better else Verdict.REGRESSED), ""


def within(interval: Interval, limit: float) -> bool:
    return -limit <= interval.low and interval.high <= limit


def _limit(draft: _Draft, margin: float) -> float:
    """What is no change, on the scale that the shift is on."""
    if draft.scale is Scale.RATIO:
        return math.log1p(margin)
    size = max(abs(draft.a or 0.0), abs(draft.b or 0.0))
    is_share = metric(draft.name).unit is Unit.RATIO
    return max(margin * size, SHARE_MARGIN if is_share else 0.0)


def _told(value: float, scale: Scale) -> float:
    return math.expm1(value) if scale is Scale.RATIO else value


def _environments(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(r.environment_hash for r in runs if r.environment is not None))


def _left_out(
    runs: Sequence[tuple[RunRecord, bool]], pairing: Pairing, a: str, b: str
) -> tuple[LeftOut, ...]:
    found = []
    for i, (record, side) in enumerate(runs):
        if not isinstance(record.outcome, Succeeded):
            why = f"{record.outcome.kind}, and its partner with it"
        elif i in pairing.unpaired and pairing.design is not Design.BLOCKED:
            why = "has no partner next to it in time"
        else:
            continue
        found.append(LeftOut(run_id=record.run_id, side=b if side else a, why=why))
    return tuple(found)
