"""The best profile of every kind of hardware, without making a recommendation of each."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from results.lookup.filters import filtered
from results.lookup.sheet import constraints, sheet
from results.lookup.table import TableLookup
from results.recommendation.profile import Profile
from results.recommendation.question import Question

# What tells one hardware, as a user of the GKE Inference Quickstart sees it, from another.
_APART = ("hardware", "server", "version")


def best_of_each_hardware(
    table: TableLookup, question: Question, now: datetime
) -> tuple[Profile, ...]:
    """Of each hardware, model server and version the feasible load point with the most output
    tokens per second per chip (the shorter whole request where two have as many), the best first;
    the question's objective and limit do not matter. Empty where nothing is feasible."""
    snapshot = table.snapshot
    if not snapshot.num_profiles or (
        question.model and question.model not in snapshot.about.names.model
    ):
        return ()
    rows = filtered(snapshot, question, now).rows
    if not len(rows):
        return ()
    one = sheet(snapshot, rows, question, table._usd_per_hour(question.capacity, question.region))
    feasible = np.ones(len(rows), dtype=bool)
    for constraint in constraints(snapshot, one, question):
        feasible &= constraint.kept
    among = np.flatnonzero(feasible)
    thrift, e2e = (
        np.where(np.isnan(values), np.inf, values)[among] for values in (-one.per_chip, one.e2e_s)
    )
    best = one.rows[among[np.lexsort([e2e, thrift])]]
    apart = np.column_stack([snapshot.ints(name)[best] for name in _APART])
    _, first = np.unique(apart, axis=0, return_index=True)
    return tuple(snapshot.profile(int(row)) for row in best[np.sort(first)])
