"""A study's file: what it means, and what it refuses with a place and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.specfile import read_yaml_as
from tuners.goals import Bound, Goal
from tuners.space import Categorical, Integers, Ordinal, Reals
from tuners.study_spec import (
    StudySpec,
    bounds_of,
    check_study,
    expanded,
    loads_in_turns,
    space_of,
    wish_of,
)

GOOD = """
name: knobs
spec: quickstart.yaml
knobs:
  - {path: workload.engine_args.max-num-seqs, values: [null, 4, 8, 16]}
  - {path: workload.engine_args.enable-prefix-caching, choices: [null, true, false]}
  - {path: workload.engine_args.gpu-memory-utilization, low: 0.5, high: 0.95}
  - path: workload.engine_args.long-prefill-token-threshold
    low: 64
    high: 512
    step: 64
    when: {workload.engine_args.enable-prefix-caching: [true]}
goals: [output_throughput, ttft_p50]
slo: ttft_p99=500ms,tpot_p99=50ms
budget: {num_trials: 12}
"""


def written(tmp_path: Path, text: str) -> StudySpec:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return read_yaml_as(str(path), StudySpec, check_study)


def test_a_file_becomes_a_space_and_a_wish(tmp_path: Path) -> None:
    study = written(tmp_path, GOOD)
    kinds = [type(knob.domain) for knob in space_of(study).knobs]
    assert kinds == [Ordinal, Categorical, Reals, Integers]
    assert len(space_of(study).branches()) == 2
    wish = wish_of(study)
    assert wish.goals == (
        Goal(metric="output_throughput"),
        Goal(metric="ttft_s", statistic="p50"),
    )
    assert wish.bounds == (
        Bound(metric="ttft_s", statistic="p99", limit=0.5),
        Bound(metric="tpot_s", statistic="p99", limit=0.05),
    )


@pytest.mark.parametrize(
    ("parallel", "loads_at_once", "in_turns"),
    [(1, 0, 0), (1, 1, 0), (4, 0, 0), (2, 1, 1), (4, 2, 2), (4, 4, 0), (2, 3, 0)],
)
def test_turns_are_taken_where_fewer_are_loaded_than_run(
    parallel: int, loads_at_once: int, in_turns: int
) -> None:
    study = StudySpec(name="a", spec="b", parallel=parallel, loads_at_once=loads_at_once)
    assert loads_in_turns(study) == in_turns


def test_limits_of_each_request_are_a_bound_on_how_many_kept_them() -> None:
    (bound,) = bounds_of("ttft=500ms,tpot=50ms,attainment=95%", 0.05)
    assert (bound.metric, bound.limit) == ("slo_attainment", 0.95)
    assert bound.slack(1.0) < 0  # the margin never asks for more than all
    assert bound.slack(0.95) > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("values: [null, 4, 8, 16]", "values: [16, 8]"), "max-num-seqs: an ordinal's values rise"),
        (("values: [null, 4, 8, 16]", "step: 2"), "give one of: values, choices"),
        (("low: 0.5, high: 0.95", "low: 0.5"), "both a low and a high"),
        (
            ("goals: [output_throughput, ttft_p50]", "goals: [outputthroughput]"),
            r"study.yaml:\d+: goals: .*output_throughput",
        ),
        (("output_throughput, ttft_p50", "ttft_p50, ttft_p50"), "goals: ttft_s_p50: given twice"),
        (("ttft_p99=500ms", "ttft_p99=500"), r"study.yaml:\d+: slo: "),
        (("num_trials: 12", "num_trials: 0"), "budget.num_trials: found 0"),
        (("name: knobs", "name: knobs\nsampler: grid"), "accepted: auto, gp"),
        (("name: knobs", "name: knobs\nloads_at_once: -1"), "loads_at_once: found -1"),
        (("name: knobs", "name: knobs\nprobability: 1.0"), "from 0.5 to below 1"),
        (("goals:", "goal:"), "did you mean goals"),
        (("name: knobs", "name: ../knobs"), 'name: found text "../knobs"; accepted: 1 to 63'),
        (("name: knobs", "name: knobs\nseed: -1"), "seed: found -1"),
        (("name: knobs", "name: knobs\nseed: 4294967296"), "from 0 to 2147483648"),
        (("num_trials: 12", "num_trials: 12, wall_s: -1"), "budget.wall_s: found -1"),
        (("low: 64", "low: 64.5"), "step makes whole numbers; found 64.5 … 512"),
        (("high: 512", "high: 99999999999999999999"), "within ±2⁵³"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(SpecError, match=says):
        written(tmp_path, GOOD.replace(*change))


SPACED = """
name: trained
spec: training.yaml
space: torch
without: [compile]
knobs:
  - {path: workload.micro_batch_size, values: [2, 4]}
goals: [mfu, startup_s]
limits:
  - {metric: final_loss, of_baseline: 1.02, margin: 0}
  - {metric: peak_memory_bytes, at_most: 8.0e+10}
  - {metric: step_time_p90, at_most: 0.5}
"""


def test_a_study_takes_a_space_and_makes_it_its_own(tmp_path: Path) -> None:
    study = expanded(written(tmp_path, SPACED))
    knobs = {knob.path: knob for knob in space_of(study).knobs}
    assert "workload.compile" not in knobs
    assert knobs["workload.micro_batch_size"].domain == Ordinal(values=(2, 4))
    assert "workload.activation_checkpointing" in knobs


def test_limits_are_on_any_metric_each_with_its_statistic_and_its_margin(tmp_path: Path) -> None:
    wish = wish_of(written(tmp_path, SPACED))
    assert wish.goals == (Goal(metric="mfu"), Goal(metric="startup_s"))
    assert wish.bounds == (
        Bound(metric="final_loss", limit=None, of_baseline=1.02, margin=0.0),
        Bound(metric="peak_memory_bytes", limit=8e10),
        Bound(metric="step_time_s", statistic="p90", limit=0.5),
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("space: torch", "space: troch"), "no space is called troch"),
        (("without: [compile]", "without: [compiles]"), "did you mean compile"),
        (("at_most: 0.5", "at_least: 0.5"), "lower is better"),
        (("at_most: 0.5", "at_most: 0.5, of_baseline: 2"), "nothing else"),
        (("at_most: 0.5", "at_most: -1"), "limits: bound on step_time_s"),
        (("metric: step_time_p90", "metric: step_tim"), "step_time_s"),
        (("metric: step_time_p90", "metric: offered_rate"), "limits: offered_rate"),
        (("space: torch\nwithout: [compile]\n", "without: [compile]\n"), "without"),
    ],
)
def test_what_is_wrong_with_a_space_or_a_limit_is_named(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    assert change[0] in SPACED
    with pytest.raises(SpecError, match=says):
        written(tmp_path, SPACED.replace(*change))
