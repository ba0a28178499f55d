"""What the words of the command line ask for: arrivals and lengths. Pure.

Each family of words is a table, so that a kind of traffic that is added is one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.errors import SpecError
from workloads.traffic.spec import (
    Arrivals,
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    GammaArrivals,
    Length,
    LognormalLength,
    NormalLength,
    PoissonArrivals,
    UniformLength,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LengthWord:
    """``make`` takes ``least`` to ``most`` numbers."""

    shape: str
    least: int
    most: int
    make: Callable[..., Length]


# Where no bounds are given, a distribution is cut off this many standard deviations above its mean.
_CUT_STDS = 6


def _bounded(kind: type[NormalLength] | type[LognormalLength]) -> Callable[..., Length]:
    def make(mean: float, std: float, low: float = 1, high: float | None = None) -> Length:
        top = mean + _CUT_STDS * std if high is None else high
        return kind(mean=mean, std=std, low=int(low), high=round(top))

    return make


_LENGTHS: Mapping[str, _LengthWord] = {
    word.shape.partition(":")[0]: word
    for word in (
        _LengthWord(
            shape="fixed:TOKENS", least=1, most=1, make=lambda n: FixedLength(tokens=int(n))
        ),
        _LengthWord(
            shape="uniform:LOW:HIGH",
            least=2,
            most=2,
            make=lambda low, high: UniformLength(low=int(low), high=int(high)),
        ),
        _LengthWord(
            shape="normal:MEAN:STD[:LOW:HIGH]", least=2, most=4, make=_bounded(NormalLength)
        ),
        _LengthWord(
            shape="lognormal:MEAN:STD[:LOW:HIGH]", least=2, most=4, make=_bounded(LognormalLength)
        ),
    )
}
_ARRIVALS: Mapping[str, Callable[[float, float], Arrivals]] = {
    "constant": lambda rate, _: ConstantArrivals(rate_rps=rate),
    "poisson": lambda rate, _: PoissonArrivals(rate_rps=rate),
    "gamma": lambda rate, shape: GammaArrivals(rate_rps=rate, burstiness=shape),
}
LENGTH_SHAPES = "TOKENS, " + ", ".join(word.shape for word in _LENGTHS.values())
ARRIVAL_KINDS = ", ".join(_ARRIVALS)


def length_of(text: str, option: str) -> Length:
    """``64`` or ``uniform:16:256``. Raises SpecError with the shapes there are."""
    kind, *numbers = text.split(":") if ":" in text else ("fixed", text)
    word = _LENGTHS.get(kind)
    try:
        values = [float(n) for n in numbers]
    except ValueError:
        values = []
    if word is None or not word.least <= len(values) <= word.most:
        raise SpecError(f"{option} {text!r} is no length; write one of {LENGTH_SHAPES}")
    if kind in ("fixed", "uniform") and any(v != int(v) for v in values):
        raise SpecError(f"{option} {text!r}: tokens are whole numbers")
    return word.make(*values)


def arrivals_of(
    *, rate: float | None, concurrency: int | None, kind: str, burstiness: float, think_s: float
) -> Arrivals:
    """Open loop at ``rate``, or ``concurrency`` users that each wait for their answer."""
    if rate is not None and concurrency is not None:
        raise SpecError(
            f"--rate {rate:g} and --concurrency {concurrency} exclude each other: an open loop "
            "sends at its rate, a closed one when its users are answered"
        )
    if rate is None and concurrency is None:
        raise SpecError(
            "say how much load: either --rate R (requests/s, whatever the server does) or "
            "--concurrency N (users that each wait for their answer)"
        )
    if rate is not None and think_s:
        raise SpecError(
            f"--rate {rate:g} and --think-time {think_s:g} exclude each other: users think, and an "
            "open loop has none (--concurrency N has)"
        )
    if concurrency is not None:
        return ClosedLoop(num_users=concurrency, think_time_s=think_s)
    make = _ARRIVALS.get(kind)
    if make is None:
        raise SpecError(f"--arrival {kind!r} is not known; it is one of {ARRIVAL_KINDS}")
    assert rate is not None
    return make(rate, burstiness)
