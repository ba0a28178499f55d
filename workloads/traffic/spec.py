"""What traffic a spec may ask for: arrival process × request shape × duration.

Unions are told apart by ``kind``. What values are accepted is in ``checks``, what each means for
the schedule in the modules that make it (``arrivals``, ``lengths``, ``contents``, ``sessions``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# ---- when requests are meant to be sent ----


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
class GammaArrivals:
    """Open loop, gamma-distributed gaps of mean 1/rate seconds.

    ``burstiness`` is the gamma's shape, as vLLM's benchmark means it: 1 is Poisson, below 1 the
    gaps vary more (bursts and lulls), above 1 less. The gaps' squared coefficient of variation is
    1/burstiness.
    """

    rate_rps: float
    burstiness: float
    kind: Literal["gamma"] = "gamma"


Spacing = Literal["poisson", "constant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSegment:
    """``duration_s`` at ``rate_rps``; with ``end_rate_rps`` the rate changes linearly to it."""

    duration_s: float
    rate_rps: float
    end_rate_rps: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PiecewiseArrivals:
    """Open loop, a rate that steps or ramps; the traffic ends with the last segment at the latest.

    ``spacing`` is that of a process of rate 1 whose time axis is stretched by the rate: an
    inhomogeneous Poisson process, or arrivals where the expected count is a whole number.
    """

    segments: tuple[RateSegment, ...]
    spacing: Spacing = "poisson"
    kind: Literal["piecewise"] = "piecewise"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeArrivals:
    """Open loop, ``rate_rps`` with a spike at the end of every period: its last ``spike_s`` seconds
    have ``spike_rate_rps`` instead."""

    rate_rps: float
    spike_rate_rps: float
    period_s: float
    spike_s: float
    spacing: Spacing = "poisson"
    kind: Literal["spikes"] = "spikes"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """``num_users`` users, each sending its next request ``think_time_s`` after its last answer."""

    num_users: int
    think_time_s: float = 0.0
    kind: Literal["closed"] = "closed"


TraceFormat = Literal["mooncake", "azure", "burstgpt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceReplay:
    """Open loop, the arrivals and the lengths of a recorded trace; ends with its last row.

    Rows ``offset`` to ``offset + limit`` of the file are taken, by time; the first arrives at 0 and
    every later one at its distance from it divided by ``speed``.
    """

    path: str
    format: TraceFormat
    speed: float = 1.0
    offset: int = 0
    limit: int | None = None
    kind: Literal["trace"] = "trace"


DrawnArrivals = (
    ConstantArrivals | PoissonArrivals | GammaArrivals | PiecewiseArrivals | SpikeArrivals
)
Arrivals = DrawnArrivals | ClosedLoop | TraceReplay


# ---- how long prompts and answers are, in tokens ----


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


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalLength:
    """A normal distribution, rounded, of which only ``low`` to ``high`` is used (truncated, not
    clipped: nothing piles up at the ends). ``mean`` and ``std`` are those before truncation."""

    mean: float
    std: float
    high: int
    low: int = 1
    kind: Literal["normal"] = "normal"


@dataclass(frozen=True, slots=True, kw_only=True)
class LognormalLength:
    """A log-normal distribution, rounded and truncated as ``NormalLength`` is. ``mean`` and ``std``
    are those of the token counts, not of their logarithms."""

    mean: float
    std: float
    high: int
    low: int = 1
    kind: Literal["lognormal"] = "lognormal"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmpiricalLength:
    """One of ``values``, each as likely as its weight says; without weights all alike."""

    values: tuple[int, ...]
    weights: tuple[float, ...] = ()
    kind: Literal["empirical"] = "empirical"


Length = FixedLength | UniformLength | NormalLength | LognormalLength | EmpiricalLength


# ---- what is in the prompts ----


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomPrompts:
    """Noise of ``prompt_tokens`` tokens; no two requests share a prefix."""

    kind: Literal["random"] = "random"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPrefixPrompts:
    """``num_groups`` × ``prompts_per_group`` prompts: a prefix that the group shares, then a
    question that the prompt has alone. They are sent in one shuffled order, over and over."""

    num_groups: int
    prompts_per_group: int
    prefix_tokens: Length
    question_tokens: Length
    kind: Literal["shared_prefix"] = "shared_prefix"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePrompts:
    """The prompts of a file, over and over: in its order, or in one shuffled by the seed.

    ``jsonl``: a JSON object per line with ``prompt`` (text) or ``messages`` (a list of ``role`` and
    ``content``), ``output_tokens`` where the answer's length is known, and for sessions the
    ``session_id`` of a conversation of which it is a turn. ``sharegpt``: a JSON
    list of conversations; the first human text is the prompt.
    """

    path: str
    format: Literal["jsonl", "sharegpt"]
    shuffle: bool = False
    kind: Literal["file"] = "file"


Prompts = RandomPrompts | SharedPrefixPrompts | FilePrompts


# ---- conversations ----


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformTime:
    """Every time from ``low_s`` to ``high_s`` seconds alike."""

    low_s: float
    high_s: float
    kind: Literal["uniform"] = "uniform"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialTime:
    """Seconds, exponentially distributed."""

    mean_s: float
    kind: Literal["exponential"] = "exponential"


@dataclass(frozen=True, slots=True, kw_only=True)
class LognormalTime:
    """Seconds, log-normally distributed; ``mean_s`` and ``std_s`` are those of the seconds."""

    mean_s: float
    std_s: float
    kind: Literal["lognormal"] = "lognormal"


ThinkTime = UniformTime | ExponentialTime | LognormalTime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Conversations: the arrival process brings first turns; every later turn is meant to be sent
    ``think_time_s`` after the answer to the one before it, with the conversation so far before it.

    A session that has begun goes on to its last turn, also after ``duration_s``. The users of a
    closed loop hold one after another; a trace or a file that names its conversations has at most
    ``turns`` of each.
    """

    turns: int | Length
    think_time_s: float | ThinkTime = 0.0


# ---- all of it ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The load of one run. Stops at ``duration_s`` of schedule or ``num_requests``, whichever is
    named (both: whichever comes first), or where the arrivals themselves end (segments, a trace).
    Everything random comes from ``seed``.

    ``prompts`` None is random. ``prompt_form`` None is token ids in completions, text in chat.
    ``tokenizer`` is a folder with a tokenizer.json; with it, text has the asked number of tokens.
    ``salt`` makes prompts that share nothing with those of another salt. ``models`` are names and
    weights; empty: the one model of the workload.
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
    # What is not asked for stays out of the workload's hash, so these are empty where unused.
    prompts: Prompts | None = None
    prompt_form: Literal["ids", "text"] | None = None
    tokenizer: str = ""
    salt: str = ""
    sessions: Sessions | None = None
    models: Mapping[str, float] = field(default_factory=dict)
    stream: bool | None = None  # None is yes

    @property
    def sends_text(self) -> bool:
        """Whether prompts are text rather than token ids."""
        is_file = isinstance(self.prompts, FilePrompts)
        return self.api == "chat" or self.prompt_form == "text" or is_file

    @property
    def is_stream(self) -> bool:
        """False: answers in one piece, so that no token has a time."""
        return self.stream is not False
