"""Starts, waits and loads of a study's trials on one axis: drawn to scale, told in words."""

from __future__ import annotations

from typing import Any

import altair as alt
import pytest

from reports.plots_study_time import MAX_PAUSE_S, MAX_ROWS, both_s, joined, timeline
from reports.study_told import SpanPart, SpanTold, StudyTold, TrialState, TrialTold
from results.testing import EPOCH

START, WAIT, LOAD = SpanPart.START, SpanPart.WAIT, SpanPart.LOAD


def trial(number: int, *spans: tuple[SpanPart, float, float], phase: str = "search") -> TrialTold:
    return TrialTold(
        number=number,
        branch="",
        phase=phase,
        config={},
        state=TrialState.KEEPS,
        started_at=EPOCH,
        spans=tuple(SpanTold(part=p, start_s=a, end_s=b) for p, a, b in spans),
    )


def study(*trials: TrialTold) -> StudyTold:
    return StudyTold(
        name="s",
        state="ended",
        state_words="",
        evidence="simulated",
        workload="simulated",
        model="m",
        goals=(),
        bounds=(),
        knobs=(),
        trials=trials,
        probability_wanted=0.95,
        num_trials_asked=None,
        baseline=None,
        remeasured=(),
        winner=None,
        gain=None,
    )


IN_TURNS = study(
    trial(1, (START, 5, 25), (LOAD, 25, 55), phase="baseline"),
    trial(2, (START, 55, 75), (LOAD, 75, 105)),
    trial(3, (START, 55, 75), (WAIT, 75, 105), (LOAD, 105, 135)),
    trial(4, (START, 105, 125), (WAIT, 125, 135), (LOAD, 135, 165), phase="remeasure"),
)


def drawn(told: StudyTold) -> Any:
    plot = timeline(told, "t")
    assert plot is not None
    (rows,) = plot.spec["datasets"].values()
    return rows[0]


def test_every_span_is_a_bar_from_the_first_start_on() -> None:
    plot = timeline(IN_TURNS, "t")
    assert plot is not None
    rows = drawn(IN_TURNS)
    assert (rows["start"][0], rows["end"][-1]) == (0.0, 160.0)
    assert list(dict.fromkeys(rows["trial"])) == ["1 baseline", "2", "3", "4 again"]
    assert [m.name for m in plot.marks] == ["start", "ready, waits for its turn", "under load"]
    assert plot.note == ""
    alt.Chart.from_dict(dict(plot.spec), validate=True)


def test_the_sentence_says_how_much_of_the_load_had_a_start_beside_it() -> None:
    plot = timeline(IN_TURNS, "t")
    assert plot is not None
    # Loads of 30 s each and never two at once; of the last start 20 s lie beside a load.
    assert "160 s in which something ran" in plot.description.replace("2.67 min", "160 s")
    assert "for 20.0 s of it another one started" in plot.description
    texts = [[cell.text for cell in row] for row in plot.summary.rows]
    assert [row[0] for row in texts] == [m.name for m in plot.marks]


@pytest.mark.parametrize("trials", [(), (trial(1, (LOAD, 0, 1)),), (trial(1), trial(2))])
def test_nothing_is_drawn_of_fewer_than_two_trials(trials: tuple[TrialTold, ...]) -> None:
    assert timeline(study(*trials), "t") is None


def test_a_long_pause_is_drawn_short_and_said() -> None:
    told = study(trial(1, (LOAD, 0, 10)), trial(2, (LOAD, 7 * 86_400, 7 * 86_400 + 10)))
    assert drawn(told)["start"] == [0.0, 10.0 + MAX_PAUSE_S]
    assert drawn(told)["end"] == [10.0, 20.0 + MAX_PAUSE_S]
    plot = timeline(told, "t")
    assert plot is not None
    assert "drawn as a minute" in plot.note


def test_what_is_left_out_is_said() -> None:
    told = study(*(trial(n, (LOAD, n, n + 1)) for n in range(1, MAX_ROWS + 4)))
    plot = timeline(told, "t")
    assert plot is not None
    assert f"first {MAX_ROWS} of {MAX_ROWS + 3} runs" in plot.note
    assert len(drawn(told)["trial"]) == MAX_ROWS


def test_intervals() -> None:
    spans = [SpanTold(part=LOAD, start_s=a, end_s=b) for a, b in ((4, 6), (0, 2), (1, 3), (6, 7))]
    assert joined(spans) == [(0, 3), (4, 7)]
    assert both_s([(0, 3), (4, 7)], [(2, 5), (6.5, 9)]) == 2.5
