"""What ``capacity`` and ``sweep`` ask besides the words of ``bench``, and what they share."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from harness.bench.ask import Ask, Words, ask_of
from harness.errors import SpecError

_Opt = typer.Option
Calibrate = Annotated[
    bool,
    _Opt(
        help="Find this client's ceiling first, against a server of its own; a rate above half of "
        "it is the client's limit, not the server's."
    ),
]
Page = Annotated[
    Path | None,
    _Opt("--page", metavar="FILE", help="Write the page there instead of under the reports."),
]
NoPage = Annotated[bool, _Opt("--no-page", help="Write no page.")]
Picture = Annotated[
    Path | None, _Opt("--picture", metavar="FILE", help="Write the curve as .svg or .png.")
]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")
_SCALE_S = {None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWords:
    """The words that every point has in common, as they were written."""

    endpoint: str
    model: str | None
    api: str
    arrival: str
    burstiness: float
    input_tokens: str
    output_tokens: str
    warmup: int
    timeout: float
    seed: int
    tokenizer: Path | None
    api_key_env: str

    def ask(self, *, num_requests: int | None = None) -> Ask:
        """Checked. The traffic has any rate and length: each point sets its own. Raises
        SpecError."""
        words = Words(
            endpoint=self.endpoint,
            model=self.model,
            api=self.api,
            stream=True,
            rate=1.0,
            concurrency=None,
            arrival=self.arrival,
            burstiness=self.burstiness,
            think=0.0,
            duration=None,
            num_requests=num_requests,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            warmup=self.warmup,
            timeout=self.timeout,
            seed=self.seed,
            tokenizer=self.tokenizer,
            api_key_env=self.api_key_env,
            slo="",
            until="",
        )
        ask = ask_of(words)
        return replace(ask, traffic=replace(ask.traffic, duration_s=None))


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
