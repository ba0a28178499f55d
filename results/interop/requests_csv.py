"""A run's requests as CSV, one line each, for whoever has only a spreadsheet.

Stream events are left out: a cell holds one value. What is not known is an empty cell.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from results.samples import RequestSamples


def requests_csv(samples: RequestSamples) -> str:
    """Header and one line per request, warm-up included; times in seconds from the first intended
    send; ``num_events`` counts the stream's chunks."""
    names = [f.name for f in fields(samples) if not f.name.startswith("event_")]
    columns = [getattr(samples, name) for name in names]
    num_events = np.diff(samples.event_offset)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, "num_events"])
    for row in zip(*columns, num_events, strict=True):
        writer.writerow(list(_cells(row)))
    return out.getvalue()


def _cells(row: tuple[Any, ...]) -> Iterator[Any]:
    for value in row:
        if isinstance(value, np.bool_ | bool):
            yield int(value)
        elif isinstance(value, np.integer):
            yield "" if value == -1 else int(value)
        elif isinstance(value, float):
            yield "" if math.isnan(value) else repr(float(value))
        else:
            yield value
