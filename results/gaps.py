"""Gaps between stream events, pooled over requests, in blocks: a million requests fit.

Two pools are made of the same events. Inter-chunk gaps stand between non-empty chunks, whatever
they hold. Token gaps (ITL) stand between tokens: those that come in one chunk arrive together, so
their gaps are zero and the chunk's first token carries the whole wait. The zeros are counted, never
stored. Gaps are kept as 32-bit floats (relative error below 6e-8), computed from 64-bit times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from results.columns import release
from results.intervals import Interval
from results.samples import BoolColumn, FloatColumn, IntColumn, RequestSamples
from results.serial import (
    Estimate,
    effective_number_at,
    linear_position,
    rank_positions,
    ratio_mean,
)

GapColumn = npt.NDArray[np.float32]

# Some 8 MB of working memory.
EVENTS_PER_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GapPool:
    """All gaps of some requests: the measured ones sorted, and how many more are exactly zero.

    ``rows`` marks the requests whose gaps they are, all of them rows of ``samples``.
    """

    samples: RequestSamples
    rows: BoolColumn  # (n,)
    order: IntColumn  # (rows,) the rows in order of their intended sends
    ordered: GapColumn  # (measured gaps,)
    num_zeros: int
    sum_s: FloatColumn  # (n,) of each request's gaps
    num: IntColumn  # (n,) of each request's gaps, zeros included

    @property
    def num_gaps(self) -> int:
        return len(self.ordered) + self.num_zeros

    def at_rank(self, rank: int) -> float:
        """The ``rank``-th smallest gap, from 1."""
        return 0.0 if rank <= self.num_zeros else float(self.ordered[rank - self.num_zeros - 1])

    def mean(self, confidence: float = 0.95) -> Estimate:
        """Mean over all gaps, requests as clusters; needs a gap."""
        num = self.num[self.order].astype(np.float64)
        return ratio_mean(self.sum_s[self.order], num, confidence)

    def quantile(self, q: float, confidence: float = 0.95) -> Estimate:
        """Quantile over all gaps, requests as clusters; needs a gap."""
        low, high, weight = linear_position(q, self.num_gaps)
        below = self.at_rank(low)
        value = below + weight * (self.at_rank(high) - below)
        effective = effective_number_at(
            q,
            lambda: self._counted(value, strictly=False),
            lambda: self._counted(value, strictly=True),
            self.num[self.order].astype(np.float64),
            confidence,
        )
        ranks = (
            rank_positions(q, self.num_gaps, effective, confidence)
            if effective is not None
            else None
        )
        interval = None
        if ranks is not None:
            interval = Interval(
                low=min(self.at_rank(ranks[0]), value), high=max(self.at_rank(ranks[1]), value)
            )
        return Estimate(value=value, interval=interval, num_effective=effective)

    def _counted(self, value: float, *, strictly: bool) -> FloatColumn:
        """(rows,) in order of time, how many gaps of each request are at most ``value`` ≥ 0, or
        below it."""
        found = np.zeros(len(self.rows), dtype=np.int64)
        # Compared as they are stored: the 32-bit number next to an interpolated value may lie on
        # its other side.
        limit = np.float32(value)
        upto = float(limit) < value or (float(limit) == value and not strictly)
        for block in _blocks(self.samples, self.rows):
            gaps = block.gaps
            found[block.rows] = block.count(gaps <= limit if upto else gaps < limit)
        if value > 0.0 or not strictly:
            found += self.num - _num_chunk_gaps(self.samples, self.rows)
        counts: FloatColumn = found[self.order].astype(np.float64)
        return counts


def gap_pools(samples: RequestSamples, rows: BoolColumn) -> tuple[GapPool, GapPool]:
    """(ITL, inter-chunk) of the requests marked in ``rows`` (n,).

    A request with a chunk of unknown token count gives no ITL at all. Where every count is known
    both pools share one sorted column.
    """
    known, num_tokens = _tokens(samples, rows)
    chunk_rows = rows & (np.diff(samples.event_offset) > 0)
    token_rows = chunk_rows & known
    chunks = _pool(samples, chunk_rows, _num_chunk_gaps(samples, chunk_rows), None)
    num_gaps = np.where(token_rows, num_tokens - 1, 0)
    shared = chunks if bool(np.array_equal(token_rows, chunk_rows)) else None
    return _pool(samples, token_rows, num_gaps, shared), chunks


def token_gaps(samples: RequestSamples, rows: BoolColumn) -> FloatColumn:
    """(gaps,) every ITL of the requests marked in ``rows``, zeros among them, in row order."""
    known, _ = _tokens(samples, rows)
    rows = rows & known & (np.diff(samples.event_offset) > 0)
    kept: list[FloatColumn] = []
    for block in _blocks(samples, rows):
        tokens = samples.event_tokens[block.events][block.kept]
        ends = np.cumsum(tokens)
        gaps = np.zeros(int(ends[-1]) if len(ends) else 0)
        first = ends - tokens  # the token at which each chunk begins
        gaps[first] = block.all_gaps_s[block.kept]
        kept.append(np.delete(gaps, first[block.begins[block.kept]]))
    return np.concatenate(kept) if kept else np.empty(0)


def chunk_gaps(samples: RequestSamples, rows: BoolColumn) -> FloatColumn:
    """(gaps,) every inter-chunk gap of the requests marked in ``rows``, in row order."""
    kept = [block.all_gaps_s[block.inner] for block in _blocks(samples, rows)]
    return np.concatenate(kept) if kept else np.empty(0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Block:
    """Consecutive requests. Of their events, ``kept`` marks those of wanted requests, ``begins``
    the first of each request, ``inner`` the wanted ones that have a gap before them."""

    rows: slice
    events: slice
    offsets: IntColumn  # (rows + 1,) into the block's events
    all_gaps_s: FloatColumn  # (events,) time since the event before, whoever's that is
    kept: BoolColumn  # (events,)
    begins: BoolColumn  # (events,)

    @property
    def inner(self) -> BoolColumn:
        return self.kept & ~self.begins

    @property
    def gaps(self) -> GapColumn:
        """(events,) as they are stored, with infinity where there is none."""
        return np.where(self.inner, np.maximum(self.all_gaps_s, 0.0), np.inf).astype(np.float32)

    def count(self, marked: BoolColumn) -> IntColumn:
        """(rows,) how many of each request's events are ``marked`` (events,)."""
        return self.total(marked.astype(np.int64))

    def total(self, values: IntColumn) -> IntColumn:
        """(rows,) sums of ``values`` (events,) over each request's events."""
        sums: IntColumn = np.diff(np.concatenate([[0], np.cumsum(values)])[self.offsets])
        return sums

    def total_s(self, values: FloatColumn) -> FloatColumn:
        """As ``total``."""
        sums: FloatColumn = np.diff(np.concatenate([[0.0], np.cumsum(values)])[self.offsets])
        return sums


def _blocks(samples: RequestSamples, rows: BoolColumn) -> Iterator[_Block]:
    offset = samples.event_offset
    n, start = len(rows), 0
    while start < n:
        # At least one request, however long.
        reach = np.searchsorted(offset, offset[start] + EVENTS_PER_BLOCK, side="right") - 1
        end = min(max(int(reach), start + 1), n)
        if rows[start:end].any():
            yield _block(samples, rows, start, end)
            release(samples.event_s, samples.event_tokens)
        start = end


def _block(samples: RequestSamples, rows: BoolColumn, start: int, end: int) -> _Block:
    offset = samples.event_offset
    events = slice(int(offset[start]), int(offset[end]))
    offsets = offset[start : end + 1] - offset[start]
    lengths = np.diff(offsets)
    times = samples.event_s[events]
    begins = np.zeros(len(times), dtype=np.bool_)
    begins[offsets[:-1][lengths > 0]] = True
    gaps = np.zeros(len(times))
    np.subtract(times[1:], times[:-1], out=gaps[1:])
    return _Block(
        rows=slice(start, end),
        events=events,
        offsets=offsets,
        all_gaps_s=gaps,
        kept=np.repeat(rows[start:end], lengths),
        begins=begins,
    )


def _tokens(samples: RequestSamples, rows: BoolColumn) -> tuple[BoolColumn, IntColumn]:
    """(n,) whether every chunk's token count is known, and (n,) their sum."""
    known = np.zeros(len(rows), dtype=np.bool_)
    total = np.zeros(len(rows), dtype=np.int64)
    for block in _blocks(samples, rows):
        tokens = samples.event_tokens[block.events]
        known[block.rows] = block.count(tokens <= 0) == 0
        total[block.rows] = block.total(tokens)
    return known, total


def _num_chunk_gaps(samples: RequestSamples, rows: BoolColumn) -> IntColumn:
    counts: IntColumn = np.where(rows, np.maximum(np.diff(samples.event_offset) - 1, 0), 0)
    return counts


def _pool(
    samples: RequestSamples, rows: BoolColumn, num: IntColumn, shared: GapPool | None
) -> GapPool:
    measured = int(_num_chunk_gaps(samples, rows).sum())
    if shared is not None:
        ordered, sums = shared.ordered, shared.sum_s
    else:
        ordered = np.empty(measured, dtype=np.float32)
        sums = np.zeros(len(rows))
        filled = 0
        for block in _blocks(samples, rows):
            inner = block.inner
            gaps = np.maximum(block.all_gaps_s, 0.0)
            part = gaps[inner]
            ordered[filled : filled + len(part)] = part
            filled += len(part)
            gaps[~inner] = 0.0
            sums[block.rows] = block.total_s(gaps)
        ordered.sort()
    by_time = np.argsort(samples.intended_s, kind="stable")
    return GapPool(
        samples=samples,
        rows=rows,
        order=by_time[rows[by_time]],
        ordered=ordered,
        num_zeros=int(num.sum()) - measured,
        sum_s=sums,
        num=num,
    )
