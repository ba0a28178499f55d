"""What the paced server knows: the diary of ``paced_server.c``, and what follows from it. Pure.

All times are CLOCK_MONOTONIC seconds of the one host both programs run on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FloatColumn = npt.NDArray[np.float64]

_MAGIC = b"WTPACED1"
_ABORTED, _NOOP = 1, 2
_SERVED = np.dtype(
    [
        ("arrival_ns", np.int64),
        ("first_time", np.int64),
        ("num_times", np.int32),
        ("asked_tokens", np.int32),
        ("peer_port", np.int32),
        ("flags", np.int32),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Diary:
    """n requests in the order of their ends; ``time_s[offset[i]:offset[i + 1]]`` are request i's
    token times: one for each token, or one for all (``--noop``)."""

    arrival_s: FloatColumn  # (n,) the request's last byte was received
    asked_tokens: npt.NDArray[np.int64]  # (n,)
    is_complete: npt.NDArray[np.bool_]  # (n,) false: the client hung up first, or the server ended
    is_noop: npt.NDArray[np.bool_]  # (n,) all tokens in one write
    offset: npt.NDArray[np.int64]  # (n + 1,)
    time_s: FloatColumn  # (tokens,) just before each token's write

    @property
    def num_requests(self) -> int:
        return len(self.arrival_s)


def read_diary(path: Path) -> Diary:
    """Raise ValueError where the file is none, or is cut off."""
    raw = path.read_bytes()
    if raw[:8] != _MAGIC:
        raise ValueError(f"{path} is no diary of paced_server: it starts with {raw[:8]!r}")
    num_served, num_times = np.frombuffer(raw, np.int64, 2, 8).tolist()
    expected = 24 + num_served * _SERVED.itemsize + num_times * 8
    if len(raw) != expected:
        raise ValueError(f"{path} should have {expected} bytes and has {len(raw)}: it is cut off")
    served = np.frombuffer(raw, _SERVED, num_served, 24)
    times = np.frombuffer(raw, np.int64, num_times, 24 + num_served * _SERVED.itemsize)
    return Diary(
        arrival_s=_seconds(served["arrival_ns"]),
        asked_tokens=served["asked_tokens"].astype(np.int64),
        is_complete=(served["flags"] & _ABORTED) == 0,
        is_noop=(served["flags"] & _NOOP) != 0,
        offset=np.append(served["first_time"], num_times).astype(np.int64),
        time_s=_seconds(times),
    )


def _seconds(nanoseconds: npt.NDArray[np.int64]) -> FloatColumn:
    return nanoseconds.astype(np.float64) * 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Seconds. None: a tool may refuse a percentile that its samples do not support."""

    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """One load as the server saw it. Only requests for ``num_tokens`` tokens count: probes of a
    client ask for fewer. Latencies are None where no request was answered in full."""

    num_arrived: int
    num_complete: int
    first_contact_s: float | None  # first request for any number of tokens
    first_arrival_s: float | None
    arrival_rate: float | None  # (n - 1) / (last arrival - first)
    tokens_per_s: float | None  # first arrival → last token
    num_tokens: int  # written, in requests answered in full or not
    ttft_s: Latency | None  # arrival → first token
    tpot_s: Latency | None  # per request, (last token - first) / (tokens - 1)
    itl_s: Latency | None  # all gaps, pooled
    late_p99_s: float | None  # token written - token due: the server's own error


def latency(values: FloatColumn) -> Latency | None:
    """Linear percentiles of (n,) seconds."""
    if not len(values):
        return None
    p50, p99 = np.quantile(values, [0.5, 0.99])
    return Latency(p50=float(p50), p99=float(p99))


def truth_of(diary: Diary, *, num_tokens: int, ttft_s: float, itl_s: float) -> Truth:
    """``ttft_s`` and ``itl_s`` are the pace the server was asked to keep; a server that keeps none
    has a TTFT only."""
    counts = np.diff(diary.offset)
    asked = diary.asked_tokens == num_tokens
    per_request = np.where(diary.is_noop, 1, num_tokens)
    full = np.flatnonzero(asked & diary.is_complete & (counts == per_request))
    arrived = diary.arrival_s[asked]
    arrival = diary.arrival_s[full]
    first = diary.time_s[diary.offset[full]]
    paced = full[~diary.is_noop[full]]
    # (requests, tokens); every row has the same number of tokens.
    times = diary.time_s[diary.offset[paced][:, None] + np.arange(num_tokens)]
    gaps = np.diff(times, axis=1)
    due = diary.arrival_s[paced][:, None] + ttft_s + itl_s * np.arange(num_tokens)
    begun = asked & (counts > 0)
    span = float(arrived.max() - arrived.min()) if len(arrived) > 1 else 0.0
    written = int(np.where(diary.is_noop, num_tokens, counts)[begun].sum())
    last = diary.time_s[diary.offset[1:][begun] - 1]
    window = float(last.max() - arrived.min()) if len(last) else 0.0
    return Truth(
        num_arrived=len(arrived),
        num_complete=len(full),
        first_contact_s=float(diary.arrival_s.min()) if diary.num_requests else None,
        first_arrival_s=float(arrived.min()) if len(arrived) else None,
        arrival_rate=(len(arrived) - 1) / span if span > 0 else None,
        tokens_per_s=written / window if window > 0 else None,
        num_tokens=written,
        ttft_s=latency(first - arrival),
        tpot_s=latency(gaps.mean(axis=1)) if gaps.size else None,
        itl_s=latency(gaps.ravel()),
        late_p99_s=float(np.quantile(times - due, 0.99)) if times.size else None,
    )


def error_share(reported_s: float | None, truth_s: float | None) -> float | None:
    """How far off: reported / truth - 1."""
    if reported_s is None or truth_s is None or truth_s <= 0:
        return None
    return reported_s / truth_s - 1.0
