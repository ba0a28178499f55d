"""The best profile of every kind of hardware, without making a recommendation of each."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from results.lookup.filters import filtered
from results.lookup.sheet import dividing, feasible_of
from results.lookup.table import TableLookup
from results.recommendation.question import Question

# What tells one hardware, as a user of the GKE Inference Quickstart sees it, from another.
_APART = ("hardware", "server", "version")


def best_of_each_hardware(table: TableLookup, question: Question, now: datetime) -> tuple[int, ...]:
    """Rows of the snapshot: of each hardware, model server and version the feasible load point with
    the most output tokens per second per chip (the shorter whole request where two have as many),
    in no order; the question's objective and limit do not matter. Empty where nothing is
    feasible."""
    snapshot = table.snapshot
    if not snapshot.has_model(question.model):
        return ()
    found = filtered(snapshot, question, now)
    hardware = table.hardware(question.capacity, question.region)
    with dividing():
        one = feasible_of(found, question, hardware)
        keys = np.fmin(-one.per_chip, np.inf), np.fmin(one.e2e_s, np.inf)
    apart = np.zeros(len(one), np.int64)
    for name in _APART:
        column = found.part.ints(name)
        apart = apart * (int(column.max()) + 2) + column[one.positions] + 1
    _, group = np.unique(apart, return_inverse=True)
    left = np.arange(len(one))
    for key in keys:
        lowest = np.full(len(one), np.inf)  # of each group; there are no more than rows
        np.minimum.at(lowest, group[left], key[left])
        left = left[key[left] == lowest[group[left]]]
    _, first = np.unique(group[left], return_index=True)
    rows = found.part.rows[one.positions[left[first]]]
    return tuple((rows + found.part.first).tolist())
