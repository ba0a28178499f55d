"""Profiles of our database as the GKE Inference Quickstart's, a page or a curve at a time.

There a profile has no configuration, only hardware: of all that was measured on one hardware the
best is given, the one with the most output tokens per second per chip that keeps the targets. The
benchmarking data has every configuration by itself, with all its load points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from results.lookup.by_hardware import best_of_each_hardware
from results.lookup.table import TableLookup
from results.recommendation.lookup import Lookup, ProfileFilter
from results.recommendation.profile import Cost, Profile
from results.recommendation.question import MAX_LIMIT, Objective, Question, Target

MAX_LOAD_POINTS: Final = 5000
_MODELS_A_PAGE: Final = 64  # looked through for one page; the next one goes on there
_STEP: Final = 500
_LAST: Final = "\U0010ffff"  # sorts after every key
_TYPICAL: Final = ("p50", "mean", "unstated")


def fetched_profiles(lookup: Lookup, asked: FetchProfiles, now: datetime) -> dict[str, Any]:
    """``FetchProfilesResponse``. Raises Refused for a page token that is not of this question."""
    question = _digestible(asked)
    after = place_of(asked.page_token or "", question, 2)
    size = page_size(asked.page_size)
    names = [asked.model] if asked.model else sorted(m.model for m in lookup.models())
    found: list[tuple[str, str, Profile]] = []
    comments: list[str] = []
    following, last = "", ("", "")
    for looked_at, model in enumerate(n for n in names if not after or n >= after[0]):
        if looked_at == _MODELS_A_PAGE:
            following = token_of(question, last)
            break
        wanted = question_of(asked, model)
        best = {_hardware(one): one for one in _best(lookup, wanted, now)}
        if not best and asked.model:
            none = lookup.answer(wanted, now).no_answer
            comments.append(none.words if none else "")
        passed = after[1] if after and model == after[0] else ""
        found += [(model, key, one) for key, one in sorted(best.items()) if key > passed]
        last = (model, _LAST)
        if len(found) > size:
            found = found[:size]
            following = token_of(question, found[-1][:2])
            break
    profiles = [_profile(lookup, one, asked.performance_requirements) for _, _, one in found]
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


def _best(lookup: Lookup, question: Question, now: datetime) -> Sequence[Profile]:
    """One profile of each hardware; nothing else of an answer is shown."""
    if isinstance(lookup, TableLookup):
        return best_of_each_hardware(lookup, question, now)
    best: dict[str, Profile] = {}
    for one in lookup.answer(question, now).recommendations:  # best first
        best.setdefault(_hardware(one.profile), one.profile)
    return tuple(best.values())


def _hardware(profile: Profile) -> str:
    what, where = profile.configuration, profile.machine
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
    lookup: Lookup, profile: Profile, wanted: PerformanceRequirements | None
) -> dict[str, Any]:
    pricing = _pricing(wanted)
    cost = lookup.cost(
        profile, capacity=capacity_of(pricing), output_input_cost_ratio=_ratio(wanted)
    )
    return {**_of_hardware(profile), "performanceStats": [stats(profile, cost, pricing)]}


def _of_hardware(profile: Profile) -> dict[str, Any]:
    what, where = profile.configuration, profile.machine
    return {
        "modelServerInfo": {
            "model": what.model,
            "modelServer": what.model_server,
            "modelServerVersion": what.model_server_version,
        },
        "acceleratorType": accelerator_name(where.accelerator),
        "tpuTopology": where.topology,
        "instanceType": where.machine_type,
        "resourcesUsed": {"acceleratorCount": where.num_chips},
    }


def stats(profile: Profile, cost: Cost, pricing: str) -> dict[str, Any]:
    """``PerformanceStats``; a figure that is not known is left out, which there means 0."""
    found: dict[str, Any] = {}
    if profile.load.rate_rps is not None:
        found["queriesPerSecond"] = profile.load.rate_rps
    for metric, name, written in (
        ("output_throughput", "outputTokensPerSecond", whole),
        ("ntpot_s", "ntpotMilliseconds", milliseconds),
        ("ttft_s", "ttftMilliseconds", milliseconds),
    ):
        value = typical(profile, metric)
        if value is not None:
            found[name] = written(value)
    found["cost"] = _cost(cost, pricing)
    return found


def typical(profile: Profile, metric: str) -> float | None:
    for name in ("value", *_TYPICAL):
        known = profile.statistic(metric, name)
        if known is not None and known.value is not None:
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


def benchmarking_data(lookup: Lookup, asked: FetchBenchmarkingData) -> dict[str, Any]:
    """``FetchBenchmarkingDataResponse``. Raises Refused where that would be too many."""
    pricing = asked.pricing_model or DEFAULT_PRICING
    made: dict[str, dict[str, Any]] = {}
    for profile in _all_profiles(lookup, asked):
        entry = made.get(profile.configuration_id)
        if entry is None:
            entry = {**_of_hardware(profile), "performanceStats": []}
            made[profile.configuration_id] = entry
        cost = lookup.cost(profile, capacity=capacity_of(pricing))
        entry["performanceStats"].append(stats(profile, cost, pricing))
    for entry in made.values():
        entry["performanceStats"].sort(key=lambda point: point.get("queriesPerSecond", 0.0))
    return {"profile": list(made.values())}


def _all_profiles(lookup: Lookup, asked: FetchBenchmarkingData) -> Iterator[Profile]:
    info = asked.model_server_info
    wanted = ProfileFilter(
        model=info.model,
        model_server=info.model_server,
        model_server_version=info.model_server_version or latest_version(lookup, info),
        machine_types=(asked.instance_type,) if asked.instance_type else (),
    )
    offset = 0
    while True:
        page = lookup.profiles(wanted, offset, _STEP)
        if page.total > MAX_LOAD_POINTS:
            raise Refused(_too_many(page.total))
        yield from page.profiles
        offset += len(page.profiles)
        if offset >= page.total or not page.profiles:
            return


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
