"""What traffic a spec may ask for: arrival process × request shape × duration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantArrivals:
    """Open loop, one request every 1/rate seconds, exactly."""

    rate_rps: float
    kind: Literal["constant"] = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoissonArrivals:
    """Open loop, exponential gaps of mean 1/rate seconds."""

    rate_rps: float
    kind: Literal["poisson"] = "poisson"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """``num_users`` users, each sending its next request ``think_time_s`` after its last answer."""

    num_users: int
    think_time_s: float = 0.0
    kind: Literal["closed"] = "closed"


Arrivals = ConstantArrivals | PoissonArrivals | ClosedLoop


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedLength:
    tokens: int
    kind: Literal["fixed"] = "fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformLength:
    """Every length from ``low`` to ``high`` tokens, both inclusive, alike."""

    low: int
    high: int
    kind: Literal["uniform"] = "uniform"


Length = FixedLength | UniformLength


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The load of one run. Stops at ``duration_s`` of schedule or ``num_requests``, whichever is
    named (at least one; both: whichever comes first). Prompts are token ids drawn from ``seed``.
    """

    arrivals: Arrivals
    prompt_tokens: Length = field(default_factory=lambda: FixedLength(tokens=64))
    output_tokens: Length = field(default_factory=lambda: FixedLength(tokens=32))
    duration_s: float | None = None
    num_requests: int | None = None
    num_warmup_requests: int = 2
    seed: int = 0
    api: Literal["completions", "chat"] = "completions"
    request_timeout_s: float = 120.0
    stream: bool = True  # false: answers in one piece, so that no token has a time
