"""Profiles of our database as the GKE Inference Quickstart's, a page or a curve at a time.

There a profile has no configuration, only hardware: of all that was measured on one hardware the
best is given, the one with the most output tokens per second per chip that keeps the targets. The
benchmarking data has every configuration by itself, with all its load points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from results.api.giq_names import accelerator_name, capacity_of
from results.api.giq_pages import page_size, place_of, token_of
from results.api.giq_wire import (
    DEFAULT_OUTPUT_INPUT_RATIO,
    DEFAULT_PRICING,
    FetchBenchmarkingData,
    FetchProfiles,
    ModelServerInfo,
    PerformanceRequirements,
    amount,
    milliseconds,
    whole,
)
from results.api.problems import Problem, Refused
from results.api.turns import Steps
from results.cost import DEFAULT_RATIO, cost_of
from results.lookup.by_hardware import best_of_each_hardware
from results.lookup.row import Facts, key_of
from results.lookup.snapshot import Labels
from results.lookup.table import TableLookup
from results.recommendation.lookup import Lookup, ProfileFilter
from results.recommendation.profile import Cost, Machine
from results.recommendation.question import MAX_LIMIT, Objective, Question, Target

MAX_LOAD_POINTS: Final = 5000
_MODELS_A_PAGE: Final = 64  # looked through for one page; the next one goes on there
_LAST: Final = "\U0010ffff"  # sorts after every key
_TYPICAL: Final = ("p50", "mean", "unstated")


def fetched_profiles(
    lookup: TableLookup, asked: FetchProfiles, now: datetime
) -> Steps[dict[str, Any]]:
    """``FetchProfilesResponse``, a model at a time. Raises Refused for a page token that is not of
    this question."""
    question = _digestible(asked)
    after = place_of(asked.page_token or "", question, 2)
    size = page_size(asked.page_size)
    names = [asked.model] if asked.model else sorted(m.model for m in lookup.models())
    found: list[tuple[str, str, int]] = []
    comments: list[str] = []
    following, last = "", ("", "")
    for looked_at, model in enumerate(n for n in names if not after or n >= after[0]):
        if looked_at == _MODELS_A_PAGE:
            following = token_of(question, last)
            break
        wanted = question_of(asked, model)
        best = {_hardware(lookup, row): row for row in best_of_each_hardware(lookup, wanted, now)}
        if not best and asked.model:
            none = lookup.answer(wanted, now, written=True).no_answer
            comments.append(none.words if none else "")
        passed = after[1] if after and model == after[0] else ""
        found += [(model, key, row) for key, row in sorted(best.items()) if key > passed]
        last = (model, _LAST)
        if len(found) > size:
            found = found[:size]
            following = token_of(question, found[-1][:2])
            break
        yield
    profiles = []
    for _, _, row in found:
        profiles.append(_profile(lookup, row, asked.performance_requirements))
        yield
    if profiles:
        comments.append(_WHAT_IS_SHOWN)
    return {
        "profile": profiles,
        "performanceRange": performance_range(profiles),
        "comments": " ".join(comments),
        "nextPageToken": following,
    }


_WHAT_IS_SHOWN: Final = (
    "Latencies are typical values (the median, else the mean) at the load point with the most "
    "output tokens per second per chip that keeps the targets; POST /v1/recommendations has "
    "percentiles, intervals, configurations and the evidence behind them."
)


def question_of(asked: FetchProfiles, model: str) -> Question:
    """The same question to our own lookup. Raises InvalidQuestion never: the wire checked it."""
    wanted = asked.performance_requirements or PerformanceRequirements()
    ratio = _ratio(wanted)
    return Question(
        model=model,
        model_server=asked.model_server,
        model_server_version=asked.model_server_version,
        targets=targets_of(wanted),
        capacity=capacity_of(_pricing(wanted)),
        output_input_cost_ratio=ratio,
        max_cost_usd_per_million_output_tokens=_cost_limit(wanted, ratio),
        objective=Objective.THROUGHPUT,
        limit=MAX_LIMIT,
    )


def targets_of(wanted: PerformanceRequirements) -> tuple[Target, ...]:
    limits = {
        "ntpot_s": wanted.target_ntpot_milliseconds,
        "ttft_s": wanted.target_ttft_milliseconds,
        "itl_s": wanted.target_itl_milliseconds,
    }
    return tuple(
        Target(metric=metric, limit_s=ms / 1e3) for metric, ms in limits.items() if ms is not None
    )


def _cost_limit(wanted: PerformanceRequirements, ratio: float) -> float | None:
    """Per million output tokens: an input token costs 1/ratio of an output token. An amount of 0 is
    what protocol buffers send for one that was not given."""
    if wanted.target_cost is None:
        return None
    limits = []
    if wanted.target_cost.cost_per_million_output_tokens is not None:
        limits.append(wanted.target_cost.cost_per_million_output_tokens.usd)
    if wanted.target_cost.cost_per_million_input_tokens is not None:
        limits.append(wanted.target_cost.cost_per_million_input_tokens.usd * ratio)
    above = [limit for limit in limits if limit > 0]
    return min(above) if above else None


def _pricing(wanted: PerformanceRequirements | None) -> str:
    cost = wanted.target_cost if wanted else None
    return (cost.pricing_model if cost else "") or DEFAULT_PRICING


def _ratio(wanted: PerformanceRequirements | None) -> float:
    cost = wanted.target_cost if wanted else None
    return (cost.output_input_cost_ratio if cost else None) or DEFAULT_OUTPUT_INPUT_RATIO


def _digestible(asked: FetchProfiles) -> tuple[Any, ...]:
    """The question without page size and token."""
    return (
        asked.model,
        asked.model_server,
        asked.model_server_version,
        asked.performance_requirements,
    )


def _hardware(lookup: TableLookup, row: int) -> str:
    what = lookup.labels(row)
    where = what.machine
    parts = (
        what.model_server,
        what.model_server_version,
        where.accelerator,
        f"{where.num_chips:06d}",
        where.topology,
        where.machine_type,
    )
    return "\0".join(parts)


def _profile(
    lookup: TableLookup, row: int, wanted: PerformanceRequirements | None
) -> dict[str, Any]:
    pricing = _pricing(wanted)
    labels, facts = lookup.labels(row), lookup.facts(row)
    cost = _cost_of(lookup, labels.machine, facts, pricing, _ratio(wanted))
    return {**_of_hardware(labels), "performanceStats": [stats(facts, cost, pricing)]}


def _cost_of(
    lookup: TableLookup, machine: Machine, facts: Facts, pricing: str, ratio: float
) -> Cost:
    """Of one replica at the load point; what its start costs is not shown."""
    price = lookup.price(machine, capacity_of(pricing), "")
    return cost_of(price, tokens_per_s=facts.tokens_per_s, ratio=ratio)


def _of_hardware(labels: Labels) -> dict[str, Any]:
    where = labels.machine
    return {
        "modelServerInfo": {
            "model": labels.model,
            "modelServer": labels.model_server,
            "modelServerVersion": labels.model_server_version,
        },
        "acceleratorType": accelerator_name(where.accelerator),
        "tpuTopology": where.topology,
        "instanceType": where.machine_type,
        "resourcesUsed": {"acceleratorCount": where.num_chips},
    }


def stats(facts: Facts, cost: Cost, pricing: str) -> dict[str, Any]:
    """``PerformanceStats``; a figure that is not known is left out, which there means 0."""
    found: dict[str, Any] = {}
    if facts.rate_rps is not None:
        found["queriesPerSecond"] = facts.rate_rps
    for metric, name, written in (
        ("output_throughput", "outputTokensPerSecond", whole),
        ("ntpot_s", "ntpotMilliseconds", milliseconds),
        ("ttft_s", "ttftMilliseconds", milliseconds),
    ):
        value = typical(facts, metric)
        if value is not None:
            found[name] = written(value)
    found["cost"] = _cost(cost, pricing)
    return found


def typical(facts: Facts, metric: str) -> float | None:
    for name in ("value", *_TYPICAL):
        known = facts.stated.get(key_of(metric, name))
        if known is not None:
            return known.value
    return None


def _cost(cost: Cost, pricing: str) -> list[dict[str, Any]]:
    output, input_ = cost.usd_per_million_output_tokens, cost.usd_per_million_input_tokens
    if output is None or input_ is None:
        return []
    return [
        {
            "costPerMillionOutputTokens": amount(output),
            "costPerMillionInputTokens": amount(input_),
            "pricingModel": pricing,
            "outputInputCostRatio": cost.output_input_cost_ratio,
        }
    ]


def performance_range(profiles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over all figures of these profiles; what none of them has is left out."""
    points = [point for profile in profiles for point in profile["performanceStats"]]
    found: dict[str, Any] = {}
    for name, field in (
        ("throughputOutputRange", "outputTokensPerSecond"),
        ("ttftRange", "ttftMilliseconds"),
        ("ntpotRange", "ntpotMilliseconds"),
    ):
        values = [point[field] for point in points if field in point]
        if values:
            found[name] = {"min": min(values), "max": max(values)}
    return found


def benchmarking_data(lookup: TableLookup, asked: FetchBenchmarkingData) -> Steps[dict[str, Any]]:
    """``FetchBenchmarkingDataResponse``, a load point at a time. Raises Refused where that would be
    too many."""
    pricing = asked.pricing_model or DEFAULT_PRICING
    info = asked.model_server_info
    wanted = ProfileFilter(
        model=info.model,
        model_server=info.model_server,
        model_server_version=info.model_server_version or latest_version(lookup, info),
        machine_types=(asked.instance_type,) if asked.instance_type else (),
    )
    rows = lookup.rows(wanted)
    if len(rows) > MAX_LOAD_POINTS:
        raise Refused(_too_many(len(rows)))
    made: list[dict[str, Any]] = []
    last = -1
    for row in rows:
        labels, facts = lookup.labels(row), lookup.facts(row)
        if labels.configuration != last:  # those of one stand together
            made.append({**_of_hardware(labels), "performanceStats": []})
            last = labels.configuration
        cost = _cost_of(lookup, labels.machine, facts, pricing, DEFAULT_RATIO)
        made[-1]["performanceStats"].append(stats(facts, cost, pricing))
        yield
    for entry in made:
        entry["performanceStats"].sort(key=lambda point: point.get("queriesPerSecond", 0.0))
    return {"profile": made}


def latest_version(lookup: Lookup, info: ModelServerInfo) -> str:
    """The newest version that is known by name; empty where none is."""
    for model in lookup.models():
        if model.model == info.model:
            for server in model.servers:
                if server.model_server == info.model_server:
                    return next((v for v in server.versions if v), "")
    return ""


def _too_many(total: int) -> Problem:
    return Problem(
        kind="too-many",
        status=HTTPStatus.BAD_REQUEST,
        asked="all load points of this model server",
        found=f"there are {total:,}; at most {MAX_LOAD_POINTS:,} fit into one answer",
        what_to_do="Name an instanceType, or ask /v1/recommendations",
    )
