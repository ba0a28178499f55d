"""What the words of the command line ask for: arrivals, lengths, limits. Pure.

Each family of words is a table, so that a kind of traffic that is added is one line here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.errors import SpecError
from workloads.traffic.spec import (
    Arrivals,
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    Length,
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
    )
}
_ARRIVALS: Mapping[str, Callable[[float, float], Arrivals]] = {
    "constant": lambda rate, _: ConstantArrivals(rate_rps=rate),
    "poisson": lambda rate, _: PoissonArrivals(rate_rps=rate),
}
LENGTH_SHAPES = "TOKENS, " + ", ".join(word.shape for word in _LENGTHS.values())
ARRIVAL_KINDS = ", ".join(_ARRIVALS)

_SLO_METRICS = ("ttft", "tpot", "ntpot", "e2e")
_SCALE = {"ms": 1e-3, "s": 1.0}
_SLO_PART = re.compile(
    rf"({'|'.join(_SLO_METRICS)})(?:_s)?(?:_p(\d{{1,2}}(?:\.\d+)?))?=(\d+(?:\.\d+)?)(ms|s)"
)


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
    if (rate is None) == (concurrency is None):
        raise SpecError(
            "say how much load: either --rate R (requests/s, whatever the server does) or "
            "--concurrency N (users that each wait for their answer)"
        )
    if concurrency is not None:
        return ClosedLoop(num_users=concurrency, think_time_s=think_s)
    make = _ARRIVALS.get(kind)
    if make is None:
        raise SpecError(f"--arrival {kind!r} is not known; it is one of {ARRIVAL_KINDS}")
    assert rate is not None
    return make(rate, burstiness)


@dataclass(frozen=True, slots=True, kw_only=True)
class SloPart:
    """``metric`` of every request, or its ``percentile`` over all, is to be at most ``limit_s``."""

    text: str
    metric: str
    limit_s: float
    percentile: str = ""  # "p99"; empty: every request by itself


def slo_of(text: str) -> tuple[SloPart, ...]:
    """``ttft_p99=500ms,tpot=50ms``. Raises SpecError."""
    parts = []
    for part in (p.strip() for p in text.split(",") if p.strip()):
        found = _SLO_PART.fullmatch(part)
        if found is None or float(found[3]) <= 0:
            raise SpecError(
                f"--slo {text!r}: {part!r} is no limit; write {{{'|'.join(_SLO_METRICS)}}}[_pNN]="
                "NUMBERms|s, for example ttft_p99=500ms"
            )
        parts.append(
            SloPart(
                text=part,
                metric=f"{found[1]}_s",
                limit_s=float(found[3]) * _SCALE[found[4]],
                percentile=f"p{found[2]}" if found[2] else "",
            )
        )
    return tuple(parts)


def slo_limits(parts: tuple[SloPart, ...]) -> dict[str, float]:
    """The limit of a single request, by metric: what goodput counts by. The strictest wins."""
    limits: dict[str, float] = {}
    for part in parts:
        limits[part.metric] = min(part.limit_s, limits.get(part.metric, part.limit_s))
    return limits
