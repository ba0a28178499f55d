"""What ``bench``, ``capacity`` and ``sweep`` ask alike, declared once, as values.

A group of options is a dataclass whose fields are annotated as Typer wants a parameter's;
:func:`with_groups` lets a command take the group as one parameter.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Self, get_type_hints

import typer

from harness.bench.ask import Ask, Words, ask_of
from harness.bench.asks import ARRIVAL_KINDS, LENGTH_SHAPES
from harness.cli.options import Json, Store
from harness.cli.output import check_writable
from harness.errors import SpecError
from harness.settings import read_settings

_Opt = typer.Option
Out = Annotated[
    Path | None, _Opt("--out", metavar="FILE", help="Write the JSON document to a file as well.")
]
Duration = Annotated[
    float | None,
    _Opt("--duration", metavar="S", help="Of the schedule. Default: 30 s, or --num-requests."),
]
NumRequests = Annotated[int | None, _Opt("--num-requests", metavar="N", help="At most so many.")]
Think = Annotated[float, _Opt("--think-time", metavar="S", help="Of a user, between answers.")]

_PICTURES = (".svg", ".png")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")
_SCALE_S = {None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Which server, and requests of what kind, at whatever rate."""

    endpoint: Annotated[str, _Opt("--endpoint", metavar="URL", help="Ends where /v1 would follow.")]
    model: Annotated[
        str | None, _Opt("--model", metavar="NAME", help="Default: the only one that is served.")
    ] = None
    api: Annotated[str, _Opt("--api", metavar="completions|chat", help="Which API to send to.")] = (
        "completions"
    )
    arrival: Annotated[str, _Opt("--arrival", metavar="KIND", help=f"One of {ARRIVAL_KINDS}.")] = (
        "poisson"
    )
    burstiness: Annotated[
        float, _Opt("--burstiness", metavar="B", help="Of gamma arrivals: below 1 in bursts.")
    ] = 1.0
    input_tokens: Annotated[str, _Opt("--input-tokens", metavar="D", help=f"{LENGTH_SHAPES}.")] = (
        "64"
    )
    output_tokens: Annotated[
        str, _Opt("--output-tokens", metavar="D", help=f"{LENGTH_SHAPES}.")
    ] = "64"
    warmup: Annotated[
        int, _Opt("--warmup", metavar="N", help="Sent first, one after another; never measured.")
    ] = 2
    timeout: Annotated[float, _Opt("--timeout", metavar="S", help="Of a request.")] = 120.0
    seed: Annotated[
        int, _Opt("--seed", metavar="S", help="Same seed, same arrivals and prompts.")
    ] = 0
    tokenizer: Annotated[
        Path | None, _Opt("--tokenizer", metavar="PATH", help="Prompts use its whole vocabulary.")
    ] = None
    api_key_env: Annotated[
        str, _Opt("--api-key-env", metavar="NAME", help="The variable that holds the API key.")
    ] = ""

    def words(
        self,
        *,
        rate: float | None,
        concurrency: int | None = None,
        think: float = 0.0,
        duration: float | None = None,
        num_requests: int | None = None,
        stream: bool = True,
        slo: str = "",
        until: str = "",
    ) -> Words:
        """With what one command asks besides."""
        return Words(
            rate=rate, concurrency=concurrency, think=think, duration=duration,
            num_requests=num_requests, stream=stream, slo=slo, until=until, **asdict(self),
        )  # fmt: skip

    def ask(self, *, num_requests: int | None = None) -> Ask:
        """What every point has in common, checked. The traffic has any rate and length: each
        point sets its own. Raises SpecError."""
        ask = ask_of(self.words(rate=1.0, num_requests=num_requests))
        return replace(ask, traffic=replace(ask.traffic, duration_s=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """With how many senders, calibrated or not."""

    workers: Annotated[
        int,
        _Opt(
            "--workers",
            metavar="N",
            help="Processes that send. Default: one thread here, more where calibration asks for "
            "them.",
        ),
    ] = 1
    calibrate: Annotated[
        bool,
        _Opt(
            "--calibrate/--no-calibrate",
            help="Find this client's ceiling and floor first, against a server of its own: some "
            "seconds, once a day for each size of request. A rate above half the ceiling is the "
            "client's limit, not the server's.",
        ),
    ] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Where the records go."""

    store: Store = None
    no_store: Annotated[bool, _Opt("--no-store", help="Keep no record.")] = False

    @property
    def url(self) -> str:
        """Empty: no record is kept."""
        return "" if self.no_store else self.store or read_settings().store_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What is written beside the tables, and where. ``page`` None: under our own reports."""

    out: Out = None
    page: Annotated[
        Path | None,
        _Opt("--page", metavar="FILE", help="Write the page there instead of under the reports."),
    ] = None
    no_page: Annotated[bool, _Opt("--no-page", help="Write no page.")] = False
    picture: Annotated[
        Path | None, _Opt("--picture", metavar="FILE", help="Write the curve as .svg or .png.")
    ] = None
    as_json: Json = False

    def checked(self) -> Self:
        """Before the load: afterwards it would be too late. Raises SpecError."""
        if self.picture is not None and self.picture.suffix not in _PICTURES:
            raise SpecError(f"--picture {self.picture}: a picture is {' or '.join(_PICTURES)}")
        for option, path in (
            ("--out", self.out), ("--page", self.page), ("--picture", self.picture)
        ):  # fmt: skip
            check_writable(option, path)
        return self


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer takes it: every parameter that is a group becomes its options.

    ``--help`` shows what must be given first, the rest in the order of the parameters.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    options: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(hints[name]):
            groups[name] = hints[name]
            options += _options(hints[name])
        else:
            kind = inspect.Parameter.KEYWORD_ONLY
            options.append(parameter.replace(annotation=hints[name], kind=kind))

    @wraps(command)
    def taking(**given: Any) -> None:
        made = {
            name: group(**{f.name: given.pop(f.name) for f in fields(group)})
            for name, group in groups.items()
        }
        command(**made, **given)

    options.sort(key=lambda option: option.default is not inspect.Parameter.empty)
    taking.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    taking.__annotations__ = {option.name: option.annotation for option in options}
    return taking


def _options(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )


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
