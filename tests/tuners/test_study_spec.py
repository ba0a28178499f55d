"""A study's file: what it means, and what it refuses with a place and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.specfile import read_yaml_as
from tuners.goals import Bound, Goal
from tuners.space import Categorical, Integers, Ordinal, Reals
from tuners.study_spec import StudySpec, bounds_of, check_study, space_of, wish_of

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
            "output_throughput",
        ),
        (("ttft_p99=500ms", "ttft_p99=500"), "slo"),
        (("num_trials: 12", "num_trials: 0"), "budget.num_trials: found 0"),
        (("name: knobs", "name: knobs\nsampler: grid"), "accepted: auto, gp"),
        (("name: knobs", "name: knobs\nprobability: 1.0"), "from 0.5 to below 1"),
        (("goals:", "goal:"), "did you mean goals"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(SpecError, match=says):
        written(tmp_path, GOOD.replace(*change))
