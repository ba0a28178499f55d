"""What the records of one trial mean together: of several loads, of attempts, of what was lost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from harness.cli.tune_loads import loads_document, loads_lines, longest
from harness.cli.tune_make import ascent_of
from harness.cli.tune_runs import evaluated_trial, groups_of_trials, read_trial, startup_of
from harness.spec import RunSpec
from results.measurement import Measurement
from results.record import Failed, RunRecord, Succeeded
from results.testing import make_record, make_run_id
from tuners.goals import Bound, Goal, Wish
from tuners.load_spec import LoadSpec
from tuners.outcome import Crashed, Measured, Transient
from tuners.race_spec import RaceSpec
from tuners.study_spec import StudySpec
from workloads.params import SimulatedWorkload
from workloads.traffic.spec import ConstantArrivals, Traffic

WISH = Wish(
    goals=(Goal(metric="output_throughput"),),
    bounds=(Bound(metric="ttft_s", statistic="p90", limit=0.5, margin=0.0),),
)


def record(
    number: int, rate: float, ttft_s: float = 0.1, window: str = "full", **changes: Any
) -> RunRecord:
    load = {"at": f"{rate:g}/s", "number": 0, "window": window, "target": None}
    tags = {
        "study": "s",
        "study.phase": "search",
        "study.config": '{"seqs": 4}',
        "study.repeat": "0",
        "study.load": json.dumps(load),
        "study.fingerprint": f"{rate:g} {window}",
    }
    measurements = (
        Measurement(metric="output_throughput", statistic="value", value=10 * rate, n=100),
        Measurement(metric="ttft_s", statistic="p90", value=ttft_s, n=100),
        Measurement(metric="chip_hours", statistic="value", value=0.5, n=1),
    )
    made = make_record(
        run_id=make_run_id(number), outcome=Succeeded(), measurements=measurements, duration_s=60.0
    )
    return replace(
        made, spec={"tags": tags}, startup=made.startup if number == 0 else None, **changes
    )


LOST = Failed(stage="lost", error="driver_died", message="gone")
OOM = Failed(stage="load", error="out_of_memory", message="out of memory")


def test_a_trial_is_read_at_the_best_load_that_keeps_the_limits() -> None:
    records = [record(0, 1), record(1, 2), record(2, 4), record(3, 8, ttft_s=0.9)]
    told, made = read_trial(records, WISH)
    assert isinstance(made.outcome, Measured)
    assert made.outcome.reading.goals == {"output_throughput": 40.0}
    assert (made.at, told.run_id) == ("4/s", records[2].run_id)
    assert made.run_ids == tuple(r.run_id for r in records)


def test_its_cost_is_that_of_all_its_windows_and_one_start() -> None:
    spent = evaluated_trial([record(0, 1), record(1, 2, window="probe"), record(2, 2)], WISH).spent
    assert (spent.wall_s, spent.chip_hours) == (180.0, 1.5)
    assert (spent.startup_s, spent.num_starts) == (40.0, 1)
    assert spent.startup_share == pytest.approx(40 / 180)


def test_a_wait_for_its_turn_is_neither_start_nor_probe_and_counts_once() -> None:
    turn = {"observed": {"turn": {"waited_s": 5.0, "came_at": "2026-11-24T12:00:00+00:00"}}}
    windows = [record(0, 1, window="probe"), record(1, 1)]
    plain = evaluated_trial(windows, WISH).spent
    waited = evaluated_trial([replace(w, resolved=turn) for w in windows], WISH).spent
    assert (plain.waited_s, waited.waited_s) == (0.0, 5.0)
    assert waited.startup_s == plain.startup_s
    assert waited.probe_s == plain.probe_s - 5.0
    assert waited.plus(waited).waited_s == 10.0


def test_where_none_keeps_them_the_least_broken_is_told() -> None:
    made = evaluated_trial([record(0, 1, ttft_s=0.6), record(1, 2, ttft_s=0.8)], WISH)
    assert made.at == "1/s"


def test_a_probe_is_no_reading() -> None:
    made = evaluated_trial([record(0, 1), record(1, 2, window="probe")], WISH)
    assert made.at == "1/s"


def test_a_failure_at_any_load_is_the_trials() -> None:
    made = evaluated_trial([record(0, 1), record(1, 2, outcome=OOM)], WISH)
    assert isinstance(made.outcome, Crashed)
    assert made.outcome.kind == "oom_under_load"


def test_what_was_lost_counts_until_it_is_measured_again() -> None:
    lost = [record(0, 1), record(1, 2, outcome=LOST)]
    assert isinstance(evaluated_trial(lost, WISH).outcome, Transient)
    again = evaluated_trial([*lost, record(2, 2)], WISH)
    assert again.at == "2/s"
    assert len(again.run_ids) == 3


def test_windows_of_a_trial_belong_together_and_single_runs_do_not() -> None:
    single = record(2, 4)
    tags = {k: v for k, v in single.spec["tags"].items() if k != "study.load"}
    alone = [replace(single, spec={"tags": tags}), replace(record(3, 4), spec={"tags": tags})]
    groups = groups_of_trials([record(0, 1), alone[0], record(1, 2), alone[1]])
    assert [len(group) for group in groups] == [2, 1, 1]


def test_a_start_that_failed_is_all_start() -> None:
    failed = Failed(stage="startup", error="deadline_exceeded", message="too late")
    assert startup_of(record(1, 1, outcome=failed)) == 60.0
    assert startup_of(record(1, 1)) == 0.0


def test_a_plan_counts_every_load_point_and_tells_of_them() -> None:
    load = LoadSpec(rates=(2.0, 4.0, 8.0), duration_s=20.0)
    study = StudySpec(
        name="s", spec="r", knobs=(), slo="ttft_p90=1s", load=load, parallel=2, race=RaceSpec()
    )
    traffic = Traffic(arrivals=ConstantArrivals(rate_rps=1.0), num_requests=5)
    base = RunSpec(name="r", workload=SimulatedWorkload(), traffic=traffic)
    ascent = ascent_of(study, base)
    assert ascent is not None
    planned = longest(base, ascent)
    assert planned.traffic is not None
    assert planned.traffic.duration_s == 3 * (20.0 + 4.0)  # a fifth of each window before it
    assert planned.deadlines.load_s == 6 * base.deadlines.load_s
    assert longest(base, None) is base
    told = list(loads_lines(study, base, ascent))
    assert "a probe of 4 s before each window of 20 s" in told[0]
    assert "2/s, 4/s, 8/s: windows of 20 s, each after a probe of 4 s" in told[1]
    assert "2 trials" in told[2]
    assert loads_document(study, ascent)["loads"]["at"] == ["2/s", "4/s", "8/s"]
    off = replace(study, parallel=1, race=None, load=None)
    (line,) = loads_lines(off, base, None)
    assert "asks for none" in line
