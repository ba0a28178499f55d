"""How a study reads while it runs: what is best, what failed, what is left, on which console."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from harness.cli.tune_live import StudyNow, status_rows, study_live, trial_words
from results.testing import FakeClock
from tuners.goals import Bound, Goal, Reading, Wish
from tuners.loop import Budget, Evaluated, Phase, Spent, Trial
from tuners.outcome import Crashed, FailureKind, Measured, Outcome

WISH = Wish(
    goals=(Goal(metric="output_throughput"),),
    bounds=(Bound(metric="ttft_s", statistic="p99", limit=0.5),),
)
OOM = Crashed(kind=FailureKind.OOM_UNDER_LOAD, message="out of memory", severity=0.25)


def seen(throughput: float, ttft_s: float = 0.1) -> Measured:
    goals, bounds = {"output_throughput": throughput}, {"ttft_s_p99": ttft_s}
    return Measured(reading=Reading(goals=goals, bounds=bounds))


def trial(number: int, phase: Phase, outcome: Outcome, *, known: bool = False) -> Trial:
    evaluated = Evaluated(outcome=outcome, run_ids=(f"run-{number}",), from_memory=known)
    config = {} if phase is Phase.BASELINE else {"a.seqs": number}
    return Trial(number=number, branch="", phase=phase, config=config, evaluated=evaluated)


TRIALS = (
    trial(1, Phase.BASELINE, seen(100.0)),
    trial(2, Phase.SEED, seen(125.0)),
    trial(3, Phase.SEED, seen(200.0, ttft_s=0.9)),
    trial(4, Phase.SEARCH, OOM),
)
NOW = StudyNow(
    wish=WISH,
    budget=Budget(num_trials=10, wall_s=3600.0, chip_hours=2.0, usd=8.0),
    trials=TRIALS,
    spent=Spent(wall_s=200.0, chip_hours=0.4, usd=1.0),
    num_foreseen=3,
    elapsed_s=240.0,
    num_made=4,
    num_again=9,
)


def test_the_rows_tell_best_limits_failures_and_what_is_left() -> None:
    rows = dict(status_rows(NOW))
    assert rows["best"] == "output_throughput 125 tokens/s (+25.0% over the baseline)"
    assert rows["limits"] == "1 of 3 keep the limits (33%)"
    assert rows["failed"] == "1 oom_under_load; 3 foreseen, never started"
    assert rows["left"].startswith(
        "6 of 10 trials, 56.0 min of 60.0 min, 1.6 of 2 chip-hours, 7.00 of 8 USD"
    )
    # Six trials and nine re-measurements at a minute each.
    assert rows["left"].endswith("about 15.0 min to go")


def test_the_pace_is_of_what_this_sitting_made() -> None:
    assert NOW.eta_s == pytest.approx(15 * 60.0)
    assert replace(NOW, num_made=2).eta_s == pytest.approx(15 * 120.0)
    assert replace(NOW, num_made=0).eta_s is None
    # Money for four trials more at what one has cost, then the re-measurements.
    poor = replace(NOW, budget=Budget(num_trials=10, usd=2.0))
    assert poor.eta_s == pytest.approx((4 + 9) * 60.0)
    assert replace(NOW, searching=False, num_again=2).eta_s == pytest.approx(2 * 60.0)
    first = replace(NOW, trials=(), num_made=0, num_foreseen=0)
    assert dict(status_rows(first))["best"] == "the baseline comes first"


def test_a_trial_says_what_it_was() -> None:
    assert trial_words(TRIALS[0], NOW).startswith("trial 1 of 10 (baseline) the run as it stands:")
    assert trial_words(TRIALS[3], NOW).endswith("failed: oom_under_load")
    known = trial(5, Phase.SEARCH, seen(90.0), known=True)
    assert trial_words(known, NOW).endswith("keeps its limits, known from an earlier run")
    again = trial(6, Phase.REMEASURE, seen(90.0))
    assert trial_words(again, NOW).startswith("measured again seqs=6:")


def shown(**console: Any) -> str:
    text = io.StringIO()
    with study_live(Console(file=text, width=110, **console), FakeClock()) as live:
        live.shown.phase("load", "sending")
        live.trial(TRIALS[3], NOW)
        live.shown.phase("load", "sending again")
    return text.getvalue()


def test_without_a_terminal_a_trial_is_one_plain_line() -> None:
    lines = shown().splitlines()
    assert len(lines) == 3
    assert "trial 4 of 10 (search) seqs=4: failed: oom_under_load; best: output" in lines[1]
    assert "\x1b" not in shown()
    assert "\r" not in shown()


def test_on_a_terminal_the_rows_stand_above_the_run_and_are_cleared() -> None:
    text = shown(force_terminal=True)
    assert "1 of 3 keep the limits" in text
    assert "sending again" in text
    assert text.rstrip().endswith(("\x1b[2K", "\x1b[?25h"))


def test_quiet_is_quiet() -> None:
    text = io.StringIO()
    console = Console(file=text, width=110, force_terminal=True)
    with study_live(console, FakeClock(), quiet=True) as live:
        live.trial(TRIALS[3], NOW)
    assert text.getvalue() == ""
