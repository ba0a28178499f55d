"""Another tool's requests, one by one, as the columns that our own client writes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from results.samples import RequestSamples

NAN = math.nan
MAX_ERROR_CHARS = 200
NO_REASON = "failed, no reason given"
_KIND = re.compile(r"[\w.]+(Error|Exception|Timeout)\b.*: ")
_REPR = re.compile(r"([\w.]+)\(['\"](.*?)['\"],?\)")
_TIMES = ("intended_s", "dispatched_s", "first_token_s", "done_s")
_COUNTS = (
    "prompt_tokens",
    "output_tokens",
    "own_prompt_tokens",
    "own_output_tokens",
    "status",
    "worker",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One request; times are seconds on any one clock of the tool, NaN and −1 mean not known.

    ``event_tokens`` is as long as ``event_s``, or empty where no chunk's tokens are known.
    """

    intended_s: float
    dispatched_s: float = NAN
    first_token_s: float = NAN
    done_s: float = NAN
    event_s: Sequence[float] = ()
    event_tokens: Sequence[int] = ()
    prompt_tokens: int = -1  # the server's count
    output_tokens: int = -1
    own_prompt_tokens: int = -1  # the tool's count
    own_output_tokens: int = -1
    status: int = -1
    error: str = ""
    is_warmup: bool = False
    worker: int = 0


def all_samples(rows: Sequence[Row], num_requests: int) -> RequestSamples | None:
    """``samples_of`` where each of the ``num_requests`` that the summary counts has its row; None
    where some have not: what is missing is seldom missing at random."""
    if not rows or sum(not row.is_warmup for row in rows) != num_requests:
        return None
    return samples_of(rows)


def samples_of(rows: Sequence[Row]) -> RequestSamples:
    """All rows, on a clock that begins with the first intended send."""
    origin_s = min((r.intended_s for r in rows if not math.isnan(r.intended_s)), default=0.0)
    events = [np.asarray(r.event_s, dtype=np.float64) for r in rows]

    def column(name: str, kind: type[Any]) -> Any:
        return np.array([getattr(r, name) for r in rows], dtype=kind)

    return RequestSamples(
        **{name: column(name, np.float64) - origin_s for name in _TIMES},
        **{name: column(name, np.int64) for name in _COUNTS},
        written_s=np.full(len(rows), NAN),
        first_byte_s=np.full(len(rows), NAN),
        error=np.array([r.error for r in rows], dtype=object),
        is_warmup=column("is_warmup", np.bool_),
        event_offset=np.concatenate([[0], np.cumsum([len(e) for e in events])]).astype(np.int64),
        event_s=np.concatenate([np.empty(0), *events]) - origin_s,
        event_tokens=np.array([t for r in rows for t in _tokens(r)], dtype=np.int64),
    )


def short_error(value: Any) -> str:
    """One line, kind first: of a traceback the last that names an error, of ``Kind('why')`` its
    words."""
    lines = [line.strip() for line in str(value).strip().splitlines() if line.strip()]
    named = [line for line in lines if _KIND.match(line)]
    line = (named or lines or [NO_REASON])[-1]
    if shown := _REPR.fullmatch(line):
        line = f"{shown[1]}: {shown[2]}"
    return line[:MAX_ERROR_CHARS]


def _tokens(row: Row) -> Sequence[int]:
    return row.event_tokens or [-1] * len(row.event_s)
