"""What traffic cannot be meant: every fault of it, each with its path and what is accepted.

Pure: files that traffic names are looked at when the schedule is made, not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workloads.traffic.arrivals import MAX_REQUESTS, end_s, expected_arrivals
from workloads.traffic.lengths import MIN_MASS, mass
from workloads.traffic.rates import curve_of
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    EmpiricalLength,
    ExponentialTime,
    FilePrompts,
    FixedLength,
    GammaArrivals,
    Length,
    LognormalLength,
    LognormalTime,
    NormalLength,
    PiecewiseArrivals,
    PoissonArrivals,
    RandomPrompts,
    SharedPrefixPrompts,
    SpikeArrivals,
    TraceReplay,
    Traffic,
    UniformLength,
    UniformTime,
)

# More than any model's context: a mistyped length, of which no prompt should be made.
MAX_TOKENS = 10_000_000

Path = tuple[str | int, ...]  # of a value within the traffic: ("arrivals", "segments", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``says`` is the whole sentence where "found …; accepted: …" does not say it."""

    path: Path
    found: Any = None
    accepted: str = ""
    says: str = ""

    def __str__(self) -> str:
        where = ".".join(str(part) for part in self.path)
        if self.says:
            return f"{where} {self.says}".lstrip()
        return f"{where} = {self.found!r}; must be {self.accepted}"


Faults = Iterator[Fault]


def check_traffic(traffic: Traffic) -> None:
    """Raise ValueError, with every fault found, unless a schedule can be made of ``traffic``."""
    faults = list(traffic_faults(traffic))
    if faults:
        raise ValueError("traffic cannot be made: " + "; ".join(map(str, faults)))


def traffic_faults(traffic: Traffic) -> Faults:
    """Every fault; none where a schedule can be made, the files it names allowing."""
    wrong = [*_arrivals(traffic), *_numbers_of_all(traffic)]
    yield from wrong
    yield from _stop(traffic, wrong)
    yield from _length(traffic.prompt_tokens, ("prompt_tokens",))
    yield from _length(traffic.output_tokens, ("output_tokens",))
    yield from _prompts(traffic)
    yield from _sessions(traffic)
    yield from _models(traffic.models)


def _numbers_of_all(traffic: Traffic) -> Faults:
    yield from _numbers(
        traffic,
        (),
        duration_s=_above_0,
        num_requests=_between(1, MAX_REQUESTS),
        num_warmup_requests=_between(0, MAX_REQUESTS),
        seed=_at_least(0),
        request_timeout_s=_above_0,
    )


def _arrivals(traffic: Traffic) -> Faults:
    arrivals, path = traffic.arrivals, ("arrivals",)
    match arrivals:
        case ConstantArrivals() | PoissonArrivals():
            yield from _numbers(arrivals, path, rate_rps=_above_0)
        case GammaArrivals():
            yield from _numbers(arrivals, path, rate_rps=_above_0, burstiness=_above_0)
        case PiecewiseArrivals():
            yield from _piecewise(arrivals, traffic.duration_s)
        case SpikeArrivals():
            yield from _spikes(arrivals)
        case ClosedLoop():
            yield from _numbers(arrivals, path, num_users=_at_least(1), think_time_s=_at_least(0))
        case TraceReplay():
            yield from _text(arrivals.path, (*path, "path"), "the path of a trace")
            yield from _numbers(
                arrivals, path, speed=_above_0, offset=_at_least(0), limit=_at_least(1)
            )


def _piecewise(arrivals: PiecewiseArrivals, duration_s: float | None) -> Faults:
    path: Path = ("arrivals", "segments")
    if not arrivals.segments:
        yield Fault(path=path, found=[], accepted="at least one segment")
        return
    wrong = [
        fault
        for i, segment in enumerate(arrivals.segments)
        for fault in _numbers(
            segment,
            (*path, i),
            duration_s=_above_0,
            rate_rps=_at_least(0),
            end_rate_rps=_at_least(0),
        )
    ]
    yield from wrong
    if wrong:
        return
    if curve_of(arrivals).total <= 0:
        yield Fault(path=path, says="has no arrivals; accepted: a rate above 0 in one at least")
    if duration_s is not None and duration_s > end_s(arrivals):
        yield Fault(
            path=("duration_s",),
            found=duration_s,
            accepted=f"at most {end_s(arrivals):g}, where the segments end; or leave it out",
        )


def _spikes(arrivals: SpikeArrivals) -> Faults:
    path: Path = ("arrivals",)
    wrong = list(
        _numbers(
            arrivals,
            path,
            rate_rps=_at_least(0),
            spike_rate_rps=_above_0,
            period_s=_above_0,
            spike_s=_above_0,
        )
    )
    yield from wrong
    if wrong:
        return
    if arrivals.spike_rate_rps <= arrivals.rate_rps:
        yield Fault(
            path=(*path, "spike_rate_rps"),
            found=arrivals.spike_rate_rps,
            accepted=f"more than rate_rps, which is {arrivals.rate_rps:g}",
        )
    if arrivals.spike_s >= arrivals.period_s:
        yield Fault(
            path=(*path, "spike_s"),
            found=arrivals.spike_s,
            accepted=f"less than period_s, which is {arrivals.period_s:g}",
        )


def _stop(traffic: Traffic, wrong: list[Fault]) -> Faults:
    """That the traffic ends, and before more requests than anyone sends."""
    arrivals, count = traffic.arrivals, traffic.num_requests
    ends_itself = isinstance(arrivals, TraceReplay | PiecewiseArrivals)
    if traffic.duration_s is None and count is None and not ends_itself:
        yield Fault(path=(), says="never ends; accepted: duration_s, num_requests, or both")
    elif not wrong and count is None and not isinstance(arrivals, ClosedLoop | TraceReplay):
        expected = expected_arrivals(arrivals, traffic.duration_s)
        if expected > MAX_REQUESTS:
            yield Fault(
                path=("arrivals",),
                says=f"asks for about {expected:.0f} requests; accepted: at most {MAX_REQUESTS}: "
                "lower the rate or duration_s, or give num_requests",
            )


def _length(length: Length, path: Path) -> Faults:
    if isinstance(length, FixedLength):
        yield from _numbers(length, path, tokens=_between(1, MAX_TOKENS))
        return
    if isinstance(length, EmpiricalLength):
        yield from _empirical(length, path)
        return
    wrong = list(_numbers(length, path, low=_at_least(1)))
    if isinstance(length, NormalLength | LognormalLength):
        wrong += _numbers(length, path, mean=_above_0, std=_above_0)
    wrong += _numbers(length, path, high=_at_most(MAX_TOKENS))
    if length.high < length.low:
        accepted = f"at least low, which is {length.low}"
        wrong.append(Fault(path=(*path, "high"), found=length.high, accepted=accepted))
    yield from wrong
    if not wrong and not isinstance(length, UniformLength) and mass(length) < MIN_MASS:
        yield Fault(
            path=path,
            says=f"has next to nothing between low = {length.low} and high = {length.high}, with "
            f"mean = {length.mean:g} and std = {length.std:g}",
        )


def _empirical(length: EmpiricalLength, path: Path) -> Faults:
    if not length.values:
        yield Fault(path=(*path, "values"), found=[], accepted="at least one length")
    for i, tokens in enumerate(length.values):
        yield from _number(tokens, (*path, "values", i), _between(1, MAX_TOKENS))
    for i, weight in enumerate(length.weights):
        yield from _number(weight, (*path, "weights", i), _at_least(0))
    if length.weights and len(length.weights) != len(length.values):
        yield Fault(
            path=(*path, "weights"),
            says=f"has {len(length.weights)} numbers for {len(length.values)} values; accepted: "
            "one for each, or none",
        )
    elif length.weights and not sum(length.weights) > 0:
        yield Fault(path=(*path, "weights"), says="are all 0; accepted: one above 0 at least")


def _prompts(traffic: Traffic) -> Faults:
    prompts, path = traffic.prompts, ("prompts",)
    is_noise = isinstance(prompts, RandomPrompts | None)
    if isinstance(prompts, SharedPrefixPrompts):
        yield from _shared_prefix(prompts)
        if traffic.prompt_tokens != Traffic(arrivals=traffic.arrivals).prompt_tokens:
            yield Fault(
                path=("prompt_tokens",),
                says="is decided by prompts.prefix_tokens and question_tokens; leave it out",
            )
    if isinstance(prompts, FilePrompts):
        yield from _text(prompts.path, (*path, "path"), "the path of a file of prompts")
    if isinstance(traffic.arrivals, TraceReplay) and not is_noise:
        yield Fault(path=path, says="come from the trace where arrivals do; leave it out")
    if traffic.prompt_form == "ids" and traffic.api == "chat":
        yield Fault(path=("prompt_form",), found="ids", accepted="text with api: chat")
    elif traffic.prompt_form == "ids" and isinstance(prompts, FilePrompts):
        yield Fault(path=("prompt_form",), found="ids", accepted="text for the prompts of a file")


def _shared_prefix(prompts: SharedPrefixPrompts) -> Faults:
    path: Path = ("prompts",)
    yield from _numbers(prompts, path, num_groups=_at_least(1), prompts_per_group=_at_least(1))
    pool = prompts.num_groups * prompts.prompts_per_group
    if pool > MAX_REQUESTS:
        yield Fault(path=path, says=f"are {pool} in all; accepted: at most {MAX_REQUESTS}")
    yield from _length(prompts.prefix_tokens, (*path, "prefix_tokens"))
    yield from _length(prompts.question_tokens, (*path, "question_tokens"))


def _sessions(traffic: Traffic) -> Faults:
    sessions, path = traffic.sessions, ("sessions",)
    if sessions is None:
        return
    if isinstance(sessions.turns, int):
        yield from _numbers(sessions, path, turns=_at_least(1))
    else:
        yield from _length(sessions.turns, (*path, "turns"))
    think, here = sessions.think_time_s, (*path, "think_time_s")
    match think:
        case UniformTime():
            yield from _numbers(think, here, low_s=_at_least(0), high_s=_at_least(think.low_s))
        case ExponentialTime():
            yield from _numbers(think, here, mean_s=_above_0)
        case LognormalTime():
            yield from _numbers(think, here, mean_s=_above_0, std_s=_above_0)
        case _:
            yield from _numbers(sessions, path, think_time_s=_at_least(0))
    if isinstance(traffic.arrivals, ClosedLoop) and traffic.num_requests is None:
        yield Fault(
            path=("num_requests",),
            says="is missing: sessions of a closed loop are made before the load; accepted: as "
            "many turns as duration_s could see at most",
        )
    if isinstance(traffic.arrivals, TraceReplay) and traffic.arrivals.format == "azure":
        yield Fault(
            path=path,
            says="cannot be told apart: a trace of format azure names none; accepted: mooncake "
            "with session_id, or burstgpt with Session ID",
        )


def _models(models: Mapping[str, float]) -> Faults:
    for name, weight in models.items():
        if not name.strip():
            yield Fault(path=("models",), found=name, accepted="names of models")
        yield from _number(weight, ("models", name), _above_0)


# ---- helpers ----

Rule = Callable[[float], str]  # what is accepted instead, or "" where the value is


def _above_0(value: float) -> str:
    return "" if math.isfinite(value) and value > 0 else "more than 0"


def _at_least(low: float) -> Rule:
    return lambda value: "" if math.isfinite(value) and value >= low else f"at least {low:g}"


def _at_most(high: int) -> Rule:
    return lambda value: "" if value <= high else f"at most {high}"


def _between(low: int, high: int) -> Rule:
    def rule(value: float) -> str:
        return _at_least(low)(value) or ("" if value <= high else f"at most {high}")

    return rule


def _numbers(value: Any, path: Path, **rules: Rule) -> Faults:
    """Each named field against its rule; a field that is None is not checked."""
    for name, rule in rules.items():
        number = getattr(value, name)
        if number is not None:
            yield from _number(number, (*path, name), rule)


def _number(value: float, path: Path, rule: Rule) -> Faults:
    accepted = rule(value)
    if accepted:
        yield Fault(path=path, found=value, accepted=accepted)


def _text(value: str, path: Path, accepted: str) -> Faults:
    if not value.strip():
        yield Fault(path=path, found=value, accepted=accepted)
