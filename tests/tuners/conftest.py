"""A small world for tuners: two knobs, a goal with a known best, a bound that cuts it."""

from __future__ import annotations

import pytest

from tuners.goals import Bound, Goal, Wish
from tuners.space import Branch, Categorical, Knob, Ordinal, Space


@pytest.fixture
def wish() -> Wish:
    return Wish(
        goals=(Goal(metric="output_throughput"),),
        bounds=(Bound(metric="ttft_s", statistic="p99", limit=0.5, margin=0.1),),
    )


@pytest.fixture
def branch() -> Branch:
    knobs = (
        Knob(path="seqs", domain=Ordinal(values=(None, 1, 2, 4, 8, 16))),
        Knob(path="chunked", domain=Categorical(values=(True, False))),
    )
    return Space(knobs=knobs).branches()[0]
