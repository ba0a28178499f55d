"""The best profile of every kind of hardware, without making a recommendation of each."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from results.lookup.filters import filtered
from results.lookup.sheet import feasible_of
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
    found = filtered(snapshot, question, now)
    hardware = table.hardware(question.capacity, question.region)
    one, feasible = feasible_of(found, question, hardware)
    among = np.flatnonzero(feasible)
    thrift, e2e = (
        np.where(np.isnan(values), np.inf, values)[among] for values in (-one.per_chip, one.e2e_s)
    )
    best = one.positions[among[np.lexsort([e2e, thrift])]]
    apart = np.column_stack([found.part.ints(name)[best] for name in _APART])
    _, first = np.unique(apart, axis=0, return_index=True)
    return tuple(
        table.at(found.part.first + position) for position in best[np.sort(first)].tolist()
    )
