"""What ``capacity`` and ``sweep`` ask, in the words of ``bench``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import SpecError
from workloads.base import ServerTarget
from workloads.traffic.spec import (
    Arrivals,
    ConstantArrivals,
    FixedLength,
    Length,
    PoissonArrivals,
    Traffic,
    UniformLength,
)

_Opt = typer.Option
Endpoint = Annotated[str, _Opt("--endpoint", metavar="URL", help="Ends where /v1 would follow.")]
Model = Annotated[str, _Opt("--model", metavar="NAME", help="The model's name in requests.")]
Api = Annotated[str, _Opt("--api", metavar="completions|chat", help="Which API to send to.")]
Arrival = Annotated[
    str, _Opt("--arrival", metavar="KIND", help="poisson or constant gaps between requests.")
]
Input = Annotated[
    str, _Opt("--input-tokens", metavar="D", help="TOKENS or uniform:LOW:HIGH of a prompt.")
]
Output = Annotated[
    str, _Opt("--output-tokens", metavar="D", help="TOKENS or uniform:LOW:HIGH of an answer.")
]
Warmup = Annotated[
    int, _Opt("--warmup", min=0, metavar="N", help="Requests before each point; never measured.")
]
Timeout = Annotated[float, _Opt("--timeout", min=0.001, metavar="S", help="Of a request.")]
Seed = Annotated[int, _Opt("--seed", min=0, metavar="S", help="Same seed, same arrivals.")]
KeyEnv = Annotated[
    str, _Opt("--api-key-env", metavar="NAME", help="The variable that holds the API key.")
]
NoStore = Annotated[bool, _Opt("--no-store", help="Keep no record of the points.")]
Out = Annotated[
    Path | None, _Opt("--out", metavar="FILE", help="Write the JSON document to a file as well.")
]
Page = Annotated[
    Path | None,
    _Opt("--page", metavar="FILE", help="Write the page there instead of under the reports."),
]
NoPage = Annotated[bool, _Opt("--no-page", help="Write no page.")]
Picture = Annotated[
    Path | None, _Opt("--picture", metavar="FILE", help="Write the curve as .svg or .png.")
]

_LENGTH = re.compile(r"(?:fixed:)?(\d+)|uniform:(\d+):(\d+)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")
_SCALE_S = {None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whom to ask, with what traffic. The rate in it is any: each point sets its own."""

    target: ServerTarget
    traffic: Traffic


def asked_of(
    endpoint: str,
    model: str,
    api: str,
    arrival: str,
    input_tokens: str,
    output_tokens: str,
    warmup: int,
    timeout: float,
    seed: int,
    api_key_env: str,
) -> Asked:
    """Raises SpecError for words that mean nothing."""
    url = endpoint.rstrip("/").removesuffix("/v1")
    if not url.startswith(("http://", "https://")):
        raise SpecError(f"--endpoint {endpoint!r}: write http://HOST:PORT or https://HOST")
    if api not in ("completions", "chat"):
        raise SpecError(f"--api {api!r}: it is completions or chat")
    kinds: Mapping[str, Callable[[], Arrivals]] = {
        "poisson": lambda: PoissonArrivals(rate_rps=1.0),
        "constant": lambda: ConstantArrivals(rate_rps=1.0),
    }
    if arrival not in kinds:
        raise SpecError(f"--arrival {arrival!r}: it is one of {', '.join(kinds)}")
    traffic = Traffic(
        arrivals=kinds[arrival](),
        prompt_tokens=length_of(input_tokens, "--input-tokens"),
        output_tokens=length_of(output_tokens, "--output-tokens"),
        num_warmup_requests=warmup,
        seed=seed,
        api="chat" if api == "chat" else "completions",
        request_timeout_s=timeout,
    )
    return Asked(
        target=ServerTarget(base_url=url, model=model, api_key_env=api_key_env), traffic=traffic
    )


def length_of(text: str, option: str) -> Length:
    """``64`` or ``uniform:16:256``. Raises SpecError."""
    found = _LENGTH.fullmatch(text.strip())
    numbers = [int(n) for n in found.groups() if n is not None] if found else []
    if not numbers or min(numbers) < 1 or numbers != sorted(numbers):
        raise SpecError(f"{option} {text!r} is no length; write TOKENS or uniform:LOW:HIGH")
    if len(numbers) == 1:
        return FixedLength(tokens=numbers[0])
    return UniformLength(low=numbers[0], high=numbers[1])


def duration_of(text: str, option: str) -> float:
    """``90``, ``90s``, ``10m``, ``1h`` in seconds. Raises SpecError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise SpecError(f"{option} {text!r} is no duration; write 90s, 10m or 1h")
    return float(found[1]) * _SCALE_S[found[2]]


def share_of(text: str, option: str, *, low: float, high: float) -> float:
    """``0.05`` or ``5%``, strictly between ``low`` and ``high``. Raises SpecError."""
    number = text.strip().removesuffix("%").strip()
    try:
        value = float(number) / (100.0 if text.strip().endswith("%") else 1.0)
    except ValueError:
        value = -1.0
    if not low < value < high:
        raise SpecError(f"{option} {text!r}: write a share between {low:g} and {high:g}, say 5%")
    return value


def length_words(length: Length) -> str:
    """The inverse of ``length_of``."""
    if isinstance(length, FixedLength):
        return str(length.tokens)
    return f"uniform:{length.low}:{length.high}" if isinstance(length, UniformLength) else "mixed"
