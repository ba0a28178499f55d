"""The request shapes of the GKE Inference Quickstart, and how its numbers are written.

Names, units and meanings are those of ``google.cloud.gkerecommender.v1`` (the public client
``google-cloud-gkerecommender`` 0.3.2): protocol buffers as JSON, so 64-bit integers may be text,
null means not given, and a name may be written ``targetTtftMilliseconds`` or
``target_ttft_milliseconds``. Money is ``units`` + ``nanos`` · 10⁻⁹ US dollars.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

_CONFIG: Final = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

INT32_MAX: Final = 2**31 - 1
NANOS: Final = 10**9
DEFAULT_PRICING: Final = "spot"
DEFAULT_OUTPUT_INPUT_RATIO: Final = 4.0

Milliseconds = Annotated[int, Field(ge=1, le=INT32_MAX)]
PageSize = Annotated[int, Field(ge=0, le=INT32_MAX)]
Name = Annotated[str, Field(max_length=512)]
Token = Annotated[str, Field(max_length=2048)]
PricingModel = Literal["3-years-cud", "1-year-cud", "on-demand", "spot", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """US dollars: ``units`` whole ones and ``nanos`` · 10⁻⁹ more, both of one sign."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    units: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    nanos: Annotated[int, Field(gt=-NANOS, lt=NANOS)] = 0

    @property
    def usd(self) -> float:
        return self.units + self.nanos / NANOS


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCost:
    """``pricing_model`` empty: spot. ``output_input_cost_ratio`` None: 4.0."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    cost_per_million_output_tokens: Amount | None = None
    cost_per_million_input_tokens: Amount | None = None
    pricing_model: PricingModel = ""
    output_input_cost_ratio: Annotated[float, Field(gt=0, le=1e6)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceRequirements:
    """A target that is not given is not enforced. ``target_itl_milliseconds`` is gcloud's (2026);
    the Python client does not have it yet."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    target_ntpot_milliseconds: Milliseconds | None = None
    target_ttft_milliseconds: Milliseconds | None = None
    target_itl_milliseconds: Milliseconds | None = None
    target_cost: TargetCost | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServerInfo:
    """``model_server_version`` empty: the latest that there is."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    model: Name
    model_server: Name
    model_server_version: Name = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchProfiles:
    """All are optional: what is not given filters nothing."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    model: Name = ""
    model_server: Name = ""
    model_server_version: Name = ""
    performance_requirements: PerformanceRequirements | None = None
    page_size: PageSize | None = None
    page_token: Token | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchBenchmarkingData:
    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    model_server_info: ModelServerInfo
    instance_type: Name = ""
    pricing_model: PricingModel = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    model_bucket_uri: Name = ""
    xla_cache_bucket_uri: Name = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptimizedManifest:
    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    model_server_info: ModelServerInfo
    accelerator_type: Name
    kubernetes_namespace: Annotated[
        str, Field(max_length=63, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")
    ] = ""
    performance_requirements: PerformanceRequirements | None = None
    storage_config: StorageConfig | None = None


def amount(usd: float) -> dict[str, Any]:
    """US dollars as ``Amount`` has them; ``units`` is text, as protocol buffers write an int64."""
    nanos = round(usd * NANOS)
    sign = -1 if nanos < 0 else 1
    units, rest = divmod(abs(nanos), NANOS)
    return {"units": str(sign * units), "nanos": sign * rest}


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, rounded up: a latency is never told better than it is, nor as 0, which
    would mean that there is none."""
    return min(INT32_MAX, max(1, math.ceil(round(seconds * 1e3, 6))))


def whole(per_second: float) -> int:
    """A throughput as a whole number, rounded down."""
    return min(INT32_MAX, math.floor(per_second))
