"""Conversations as rows: a session's turns stand one below the other, the sessions by arrival."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from results.samples import FloatColumn, IntColumn
from workloads.traffic.arrivals import MAX_REQUESTS
from workloads.traffic.lengths import quantiles, think_times
from workloads.traffic.randomness import Stream, uniforms
from workloads.traffic.spec import Sessions


def by_conversation(session: IntColumn) -> tuple[IntColumn, IntColumn]:
    """Rows of a trace in another order, and how many each conversation has.

    ``session`` (n,) are the conversations of rows by time, −1: a row that stands alone. Returns
    (n,) row numbers, the turns of one conversation one below the other and the conversations by
    their first rows, and (conversations,) sizes.
    """
    rows = np.arange(len(session), dtype=np.int64)
    own = np.where(session < 0, -1 - rows, session)  # no two that stand alone are one
    _, first, inverse, sizes = np.unique(
        own, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((rows, first[inverse]))
    return order, sizes[np.argsort(first)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SessionRows:
    """One row per turn; n rows, after ``num_warmup`` others that belong to no session."""

    session: IntColumn  # (n,) from 0
    turn: IntColumn  # (n,) from 0
    intended_s: FloatColumn  # (n,) NaN: a later turn
    think_s: FloatColumn  # (n,) NaN: a first turn


def session_rows(
    sessions: Sessions,
    starts_s: FloatColumn,
    *,
    seed: int,
    num_warmup: int,
    num_requests: int | None,
    num_available: IntColumn | None = None,
) -> SessionRows:
    """The turns of sessions that begin at ``starts_s`` (s,), at most ``num_requests`` in all: the
    last session may be cut short. ``num_available`` (s,) bounds the turns of each.

    Raises ValueError for more than MAX_REQUESTS turns.
    """
    count = len(starts_s)
    if isinstance(sessions.turns, int):
        turns = np.full(count, sessions.turns, dtype=np.int64)
    else:
        turns = quantiles(sessions.turns, uniforms(seed, Stream.TURNS, 0, count))
    if num_available is not None:
        turns = np.minimum(turns, num_available)
    ends = np.cumsum(turns)
    total = int(ends[-1]) if count else 0
    if num_requests is not None and total > num_requests:
        count = int(np.searchsorted(ends, num_requests)) + 1
        turns = turns[:count].copy()
        turns[-1] -= ends[count - 1] - num_requests
        total = num_requests
    if total > MAX_REQUESTS:
        raise ValueError(
            f"sessions have {total} turns in all; at most {MAX_REQUESTS} requests are sent in one "
            "run: lower the rate, duration_s, turns or num_requests"
        )
    session = np.repeat(np.arange(count, dtype=np.int64), turns)
    first = np.cumsum(turns) - turns
    turn = np.arange(total, dtype=np.int64) - first[session]
    is_first = turn == 0
    think_s = think_times(sessions.think_time_s, seed, num_warmup, total)
    return SessionRows(
        session=session,
        turn=turn,
        intended_s=np.where(is_first, starts_s[session], np.nan),
        think_s=np.where(is_first, np.nan, think_s),
    )
