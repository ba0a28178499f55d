"""The lookup once more, plainly: one profile after the other, no columns, nothing kept.

What is said of it is in ``results.lookup``'s docstrings; written from those, as a judge of the
fast one. Of an answer it says which load points come in which order, and how many would do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from results.recommendation.profile import Profile
from results.recommendation.question import Objective, Question, Target

INF = math.inf


@dataclass(frozen=True, kw_only=True)
class Row:
    profile: Profile
    replicas: float
    cost: float
    chips: float
    e2e_s: float
    per_chip: float
    paid: float = INF  # the cost, or the chips where nothing has a price


def expected(
    profiles: Sequence[Profile], question: Question, usd_per_chip_hour: dict[str, float]
) -> tuple[list[tuple[str, int, int]], int, int]:
    """[(profile id, replicas, Pareto rank)] best first; configurations considered; feasible."""
    fitting = [p for p in profiles if _fits(p, question)]
    rows = [row for p in fitting if (row := _feasible(p, question, usd_per_chip_hour))]
    considered = len({p.configuration_id for p in fitting})
    num_feasible = len({r.profile.configuration_id for r in rows})
    if not rows:
        return [], considered, 0
    unpriced = all(math.isinf(row.cost) for row in rows)
    rows = [replace(row, paid=row.chips if unpriced else row.cost) for row in rows]
    if question.objective is Objective.PARETO:
        chosen = _peel(rows, question.limit)
    else:
        best: dict[str, Row] = {}
        for row in rows:  # the first of equals stays
            held = best.get(row.profile.configuration_id)
            if held is None or _key(row, question) < _key(held, question):
                best[row.profile.configuration_id] = row
        rows = list(best.values())
        chosen = sorted(rows, key=lambda row: _key(row, question))[: question.limit]
    ranks = [1 + sum(_dominates(other, row) for other in rows) for row in chosen]
    return (
        [
            (row.profile.profile_id, int(row.replicas), rank)
            for row, rank in zip(chosen, ranks, strict=True)
        ],
        considered,
        num_feasible,
    )


def _single(value: float) -> float:
    """As a column holds it."""
    return float(np.float32(value))


def _fits(p: Profile, question: Question) -> bool:
    if p.configuration.model != question.model:
        return False
    if question.accelerators and p.machine.accelerator not in question.accelerators:
        return False
    if question.model_server_version not in ("", p.configuration.model_server_version):
        return False
    for asked, measured in zip(
        question.lengths, (p.load.input_tokens, p.load.output_tokens), strict=True
    ):
        assert measured is not None
        if asked is not None and not asked / 1.1 <= measured <= asked * 2.0:
            return False
    return p.evidence.repeats >= question.min_repeats


def _feasible(p: Profile, question: Question, usd: dict[str, float]) -> Row | None:
    measured = p.load.input_tokens, p.load.output_tokens
    assert measured[0] is not None and measured[1] is not None and p.load.rate_rps is not None
    used = [m if a is None else a for m, a in zip(measured, question.lengths, strict=True)]
    shorter = measured[0] > used[0] * 1.1 or measured[1] > used[1] * 1.1
    rate = _single(p.load.rate_rps)
    output = rate * used[1] if shorter else _single(_of(p, "output_throughput", "value"))
    inputs = rate * used[0] if shorter else _single(_of(p, "prompt_throughput", "value"))
    wanted = 0.0
    if question.rate_rps is not None:
        wanted = question.rate_rps / rate
    if question.min_throughput is not None:
        wanted = max(wanted, question.min_throughput / output)
    replicas = max(math.ceil(wanted * (1.0 - 1e-6)), 1)
    if not all(_kept(p, target) for target in question.targets):
        return None
    if question.probability is not None and question.targets:
        missed = sum(1.0 - _chance(p, target) for target in question.targets)
        if max(1.0 - missed, 0.0) < question.probability * (1.0 - 1e-6):
            return None
    chips = p.machine.num_chips * replicas
    if question.max_accelerators is not None and chips > question.max_accelerators:
        return None
    each = usd.get(p.machine.accelerator, math.nan) * p.machine.num_chips
    if question.max_cost_usd_per_hour is not None and not (
        each * replicas <= question.max_cost_usd_per_hour * (1.0 + 1e-6)
    ):
        return None
    has_load = question.rate_rps is not None or question.min_throughput is not None
    cost = each * replicas
    if not has_load:
        cost = each / 3600.0 / (inputs / question.output_input_cost_ratio + output) * 1e6
    return Row(
        profile=p,
        replicas=replicas,
        cost=INF if math.isnan(cost) else cost,
        chips=chips,
        e2e_s=_single(_of(p, "ttft_s", "p50"))
        + _single(_of(p, "tpot_s", "p50")) * max(used[1] - 1.0, 0.0),
        per_chip=output / p.machine.num_chips,
    )


def _of(p: Profile, metric: str, statistic: str) -> float:
    found = p.statistic(metric, statistic)
    return math.nan if found is None or found.value is None else found.value


def _name(p: Profile, target: Target) -> str:
    if target.percentile is None:
        return "p50"
    names = ("p50", "p90", "p95", "p99", "p99.9")
    fits = [s for s in names if float(s[1:]) >= target.percentile]
    return next((s for s in fits if p.statistic(target.metric, s)), "none")


def _kept(p: Profile, target: Target) -> bool:
    value = _single(_of(p, target.metric, _name(p, target)))
    return value <= float(np.float64(target.limit_s * (1.0 + 1e-6)))


def _chance(p: Profile, target: Target) -> float:
    found = p.statistic(target.metric, _name(p, target))
    assert found is not None and found.log_mean is not None and found.log_spread is not None
    scale = max(_single(found.log_spread), 0.005) * math.sqrt(1.0 + 1.0 / found.num_runs)
    z = (math.log(target.limit_s) - _single(found.log_mean)) / scale
    return float(stats.t.cdf(z, found.num_runs - 1))


def _key(row: Row, question: Question) -> tuple[float, ...]:
    match question.objective:
        case Objective.FASTEST:
            return row.e2e_s, row.cost, -row.per_chip
        case Objective.THROUGHPUT:
            return -row.per_chip, row.e2e_s, row.cost
    has_load = question.rate_rps is not None or question.min_throughput is not None
    return row.cost, row.chips if has_load else -row.per_chip, row.e2e_s


def _point(row: Row) -> tuple[float, float, float]:
    return row.paid, row.e2e_s, -row.per_chip


def _dominates(one: Row, other: Row) -> bool:
    a, b = _point(one), _point(other)
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def _peel(rows: Sequence[Row], limit: int) -> list[Row]:
    left, chosen = list(rows), []
    while left and len(chosen) < limit:
        front = [row for row in left if not any(_dominates(other, row) for other in left)]
        chosen += sorted(front, key=_point)
        left = [row for row in left if all(row is not one for one in front)]
    return chosen[:limit]
