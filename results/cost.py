"""From a price to a cost: per hour, per million tokens, per start. Pure.

``$ per output token = $/s ÷ (input tokens/s ÷ ratio + output tokens/s)`` and an input token costs
1/ratio of it: the rule of GKE Inference Quickstart (its API's ``outputInputCostRatio``, 4 unless
said otherwise). It shares the machine's price out over the tokens that went in and came out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from results.recommendation.profile import Cost, Price, Profile

DEFAULT_RATIO: Final = 4.0
# What evidence that does not say on which capacity type it was measured is priced as.
DEFAULT_CAPACITY: Final = "on-demand"

_S_PER_HOUR = 3600.0


def per_million_output_tokens(
    usd_per_hour: float, input_per_s: float, output_per_s: float, ratio: float
) -> float | None:
    """None where no token came out. Throughputs in tokens per second."""
    if output_per_s <= 0:
        return None
    return usd_per_hour / _S_PER_HOUR / (input_per_s / ratio + output_per_s) * 1e6


def cost_of(
    price: Price | str,
    *,
    replicas: int = 1,
    tokens_per_s: tuple[float, float] | None = None,
    asked_tokens_per_s: tuple[float, float] | None = None,
    utilisation: float | None = None,
    startup_s: float | None = None,
    ratio: float = DEFAULT_RATIO,
    make: Callable[..., Cost] = Cost,
) -> Cost:
    """``price``: of one replica, or why there is none. ``tokens_per_s``: (input, output) of one
    replica at its load point; ``asked_tokens_per_s``: of all the traffic asked for."""
    if isinstance(price, str):
        return make(price=None, reason=price, output_input_cost_ratio=ratio)
    each = price.usd_per_hour
    whole = each * replicas
    output = per_million_output_tokens(each, *tokens_per_s, ratio) if tokens_per_s else None
    asked = (
        per_million_output_tokens(whole, *asked_tokens_per_s, ratio) if asked_tokens_per_s else None
    )
    return make(
        price=price,
        usd_per_hour=whole,
        usd_per_million_output_tokens=output,
        usd_per_million_input_tokens=None if output is None else output / ratio,
        usd_per_million_output_tokens_asked=asked,
        usd_idle_per_hour=None if utilisation is None else whole * max(0.0, 1.0 - utilisation),
        usd_startup=None if startup_s is None else whole * startup_s / _S_PER_HOUR,
        output_input_cost_ratio=ratio,
        reason="" if output is not None else "its tokens per second are not known",
    )


def capacity_to_price(profile_capacity: str, asked: str) -> str:
    return asked or profile_capacity or DEFAULT_CAPACITY


def tokens_per_s(profile: Profile) -> tuple[float, float] | None:
    """(input, output) tokens per second of one replica at its load point, measured where they
    were, else its request rate times its mean lengths; None where neither is known."""
    said = [profile.statistic(name) for name in ("prompt_throughput", "output_throughput")]
    values = [one.value if one else None for one in said]
    if values[0] is not None and values[1] is not None:
        return values[0], values[1]
    load = profile.load
    if load.rate_rps is None or load.input_tokens is None or load.output_tokens is None:
        return None
    return load.rate_rps * load.input_tokens, load.rate_rps * load.output_tokens
