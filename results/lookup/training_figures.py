"""What a training of so many tokens takes in time and money, from what its steps were measured at.

Intervals are those of the measured throughput, carried through: time and money fall with it, so
the upper end of one is the lower end of the other. Pure.
"""

from __future__ import annotations

import math

from results.cost import capacity_to_price
from results.lookup.answering import Asked
from results.recommendation.answer import Between, TrainingFigures
from results.recommendation.profile import Cost, Price, Profile

_S_PER_HOUR = 3600.0


def figures_of(asked: Asked, profile: Profile) -> tuple[TrainingFigures, Cost]:
    """The profile must be of a training."""
    assert profile.training is not None
    machine, question = profile.machine, asked.question
    capacity = capacity_to_price(machine.capacity, question.capacity)
    price = asked.prices.find(machine, capacity, question.region)
    rate, startup = _between(profile, "training_throughput"), _between(profile, "startup_s")
    usd_per_s = price.usd_per_hour / _S_PER_HOUR if isinstance(price, Price) else None
    hours, usd, steps = None, None, None
    if question.training_tokens is not None and rate is not None:
        tokens = question.training_tokens
        start_s = startup.value if startup is not None else 0.0
        hours = _scaled(_over(tokens, rate, start_s), 1.0 / _S_PER_HOUR)
        steps = math.ceil(tokens / profile.training.tokens_per_step)
        if usd_per_s is not None:
            usd = _scaled(_over(tokens, rate, start_s), usd_per_s)
    per_million = None
    if rate is not None and usd_per_s is not None:
        per_million = _scaled(_over(1e6, rate), usd_per_s)
    figures = TrainingFigures(
        tokens_per_step=profile.training.tokens_per_step,
        step_time_s=_between(profile, "step_time_s", "p50"),
        tokens_per_s=rate,
        tokens_per_s_per_chip=_between(profile, "training_throughput_per_chip"),
        mfu=_between(profile, "mfu"),
        peak_memory_bytes=_between(profile, "peak_memory_bytes"),
        startup_s=startup,
        goodput=_between(profile, "training_goodput"),
        final_loss=_between(profile, "final_loss"),
        usd_per_million_tokens=per_million,
        num_steps=steps,
        hours=hours,
        usd=usd,
    )
    return figures, _cost(price, startup)


def _cost(price: Price | str, startup: Between | None) -> Cost:
    """What is paid an hour and for a start; the rest of a training's cost is in its figures."""
    if isinstance(price, str):
        return Cost(price=None, reason=price)
    each = price.usd_per_hour
    start = None if startup is None else each * startup.value / _S_PER_HOUR
    return Cost(price=price, usd_per_hour=each, usd_startup=start)


def _between(profile: Profile, metric: str, statistic: str = "value") -> Between | None:
    found = profile.statistic(metric, statistic)
    if found is None or found.value is None:
        return None
    return Between(value=found.value, low=found.low, high=found.high)


def _over(tokens: float, rate: Between, start_s: float = 0.0) -> Between | None:
    """Seconds. None where nothing was done in them."""
    if rate.value <= 0:
        return None
    low = None if rate.high is None else start_s + tokens / rate.high
    high = start_s + tokens / rate.low if rate.low else None
    return Between(value=start_s + tokens / rate.value, low=low, high=high)


def _scaled(one: Between | None, factor: float) -> Between | None:
    if one is None:
        return None
    low, high = (None if v is None else v * factor for v in (one.low, one.high))
    return Between(value=one.value * factor, low=low, high=high)
