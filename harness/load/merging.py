"""The rows of several workers as one: in order of index, events and all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from results.columns import GrowingColumn
from results.samples import IntColumn, RequestSamples

_ROWS_PER_BLOCK = 1 << 12


def merged(parts: Sequence[RequestSamples]) -> RequestSamples:
    """Nothing is copied where there is one part; with more, the events go to a file where they are
    many."""
    if len(parts) == 1:
        return parts[0]
    names = [f.name for f in fields(RequestSamples)]
    flat = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in names
        if not name.startswith("event_")
    }
    order = np.argsort(flat["index"], kind="stable")
    part_of = np.repeat(np.arange(len(parts)), [part.num_requests for part in parts])[order]
    starts = np.concatenate([part.event_offset[:-1] for part in parts])[order]
    ends = np.concatenate([part.event_offset[1:] for part in parts])[order]
    events: dict[str, Any] = {
        name: _gathered([getattr(part, name) for part in parts], part_of, starts, ends)
        for name in names
        if name.startswith("event_") and name != "event_offset"
    }
    return RequestSamples(
        **{name: values[order] for name, values in flat.items()},
        **events,
        event_offset=np.concatenate([[0], np.cumsum(ends - starts)]),
    )


def _gathered(parts: Sequence[Any], part_of: IntColumn, starts: IntColumn, ends: IntColumn) -> Any:
    """``parts[part_of[k]][starts[k]:ends[k]]`` for every k, one after the other."""
    made = GrowingColumn(parts[0].dtype)
    for at in range(0, len(part_of), _ROWS_PER_BLOCK):
        rows = slice(at, at + _ROWS_PER_BLOCK)
        places = zip(
            part_of[rows].tolist(), starts[rows].tolist(), ends[rows].tolist(), strict=True
        )
        made.extend(np.concatenate([parts[part][start:end] for part, start, end in places]))
    return made.finished()


def max_in_flight(samples: RequestSamples) -> int:
    """The most requests that were sent and not yet ended at one time; ends count first."""
    was_sent = ~np.isnan(samples.dispatched_s)
    sent = np.sort(samples.dispatched_s[was_sent])
    ended = np.sort(np.nan_to_num(samples.done_s[was_sent], nan=math.inf))
    if not len(sent):
        return 0
    open_now = np.arange(1, len(sent) + 1) - np.searchsorted(ended, sent, side="right")
    return int(open_now.max())
