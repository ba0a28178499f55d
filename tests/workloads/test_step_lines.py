"""Lines about steps: real ones of three programs, with where each was printed; and bad ones."""

from __future__ import annotations

import json
import math

import pytest

from workloads.errors import LaunchRefused, LossNotFinite, TrainingFailed
from workloads.step_lines import (
    Imported,
    NotReadable,
    Said,
    compiled,
    read_json_line,
    read_log_line,
)
from workloads.step_series import StepSeries, TokenRule

# https://github.com/pytorch/torchtitan/pull/1437 (under torchrun --tee), /pull/950 and /pull/2389
TORCHTITAN = [
    "[rank0]:[titan] 2025-07-21 15:57:43,242 - root - INFO - step:  4  loss:  4.6671  grad_norm:  "
    "2.5457  memory:  0.00GiB(0.00%)  tps: 35,051  tflops: 3.59  mfu: 0.36%",
    "[rank0]:[titan] 2025-03-12 11:10:21,511 - root - INFO - step: 22  loss:  6.2250  memory:  "
    "1.41GiB(1.79%)  tps: 193,831  tflops: 18.36  mfu: 1.86%",
    "[titan] 2026-02-24 19:46:17,508 - root - INFO - step:  4  loss:  7.62585  grad_norm: 26.6250  "
    "memory: 66.91GiB(37.51%)  tps: 10,050  tflops: 314.71  mfu: 13.99%",
]
# https://github.com/AI-Hypercomputer/maxtext/pull/2232, /pull/761 and /pull/4847
MAXTEXT = [
    "completed step: 9, seconds: 5.667, TFLOP/s/device: 134.924, Tokens/s/device: 8672.758, "
    "total_weights: 196608, loss: 10.374",
    "completed step: 9, seconds: 1.341, TFLOP/s/device: 257.929, Tokens/s/device: 36653.244, "
    "loss: 0.000",
    "I0811 21:55:06.119312 138304841739136 metric_logger.py:226] completed step: 2, seconds: "
    "10.228, TFLOP/s/device: 350.869, Tokens/s/device: 19222.175, total_weights: 1572864, loss: "
    "12.980, lm_loss: 12.980, perplexity: 433463.719",
]
# https://github.com/karpathy/nanoGPT/issues/178, /issues/110 and /issues/215
NANOGPT = [
    "iter 10: loss 3.2202, time 893.76ms, mfu 16.68%",
    "iter 1631: loss 4.0863, time 561.94ms",
    "2023-03-22 09:32:52 iter 3010: loss nan, time 1019.95ms, mfu 14.12%",
]


def said(preset: str, line: str) -> Said:
    found = read_log_line(compiled(preset), line)
    assert found is not None
    return found


def test_torchtitan() -> None:
    first, second, third = (said("torchtitan", line) for line in TORCHTITAN)
    assert first == Said(step=4, loss=4.6671, tokens_per_s=35051.0, memory_bytes=0)
    assert (second.step, second.tokens_per_s) == (22, 193831.0)
    assert second.memory_bytes == round(1.41 * 2**30)
    assert (third.loss, third.memory_bytes) == (7.62585, round(66.91 * 2**30))


def test_torchtitan_in_colour_and_its_validation() -> None:
    """The format string of torchtitan/components/metrics.py, commit 00fbaaf, with its colours."""
    line = (
        "\x1b[31mstep:  5  \x1b[32mloss:  7.0762  \x1b[38;2;180;60;0mgrad_norm: 46.5000  "
        "\x1b[36mmemory: 66.91GiB(37.51%)  \x1b[34mtps: 10,007  \x1b[0m"
    )
    assert said("torchtitan", line).tokens_per_s == 10007.0
    assert read_log_line(compiled("torchtitan"), "validate step:  5  loss:  7.1  ") is None


def test_maxtext() -> None:
    first, second, third = (said("maxtext", line) for line in MAXTEXT)
    assert first == Said(step=9, loss=10.374, step_time_s=5.667, job_tokens=196608.0)
    assert (second.job_tokens, second.loss) == (None, 0.0)
    assert (third.step, third.loss, third.job_tokens) == (2, 12.98, 1572864.0)


def test_nanogpt() -> None:
    first, second, third = (said("nanogpt", line) for line in NANOGPT)
    assert first == Said(step=10, loss=3.2202, step_time_s=pytest.approx(0.89376))
    assert second.step == 1631
    assert math.isnan(third.loss or 0.0)
    other = "step 250: train loss 1.5440, val loss 1.7220"  # issue 178, evaluation
    assert read_log_line(compiled("nanogpt"), other) is None


def test_an_own_pattern() -> None:
    pattern = r"s=(?P<step>\d+) t=(?P<step_time_ms>\S+) tok=(?P<job_tokens_per_s>\S+)"
    found = read_log_line(compiled(pattern), "… s=3 t=250 tok=1,000 …")
    assert found == Said(step=3, step_time_s=0.25, job_tokens_per_s=1000.0)
    with pytest.raises(NotReadable, match="step_time_ms is 'soon', no number"):
        read_log_line(compiled(pattern), "s=3 t=soon tok=1")


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("step (?P<step>[0-9", "is no regular expression: unterminated"),
        (r"step (\d+)", r"has the groups \(none\); it must name \(\?P<step>"),
        (r"(?P<step>\d+) (?P<speed>\d+)", "has the groups step, speed; .* presets: torchtitan"),
    ],
)
def test_bad_patterns_are_refused(pattern: str, says: str) -> None:
    with pytest.raises(LaunchRefused, match=says):
        compiled(pattern)


def test_json_lines() -> None:
    line = json.dumps({"step": 3, "loss": 2.5, "tokens": 512, "at_s": 7.0, "lr": "x", "mfu": None})
    assert read_json_line(line) == Said(step=3, loss=2.5, tokens=512.0, at_s=7.0)
    assert math.isnan((read_json_line('{"step": 0, "loss": "nan"}')).loss)  # type: ignore
    assert read_json_line('{"eval_loss": 2.0}') is None
    assert read_json_line('{"imported": true, "at_s": 1.5}') == Imported(at_s=1.5)
    for bad in ("{", "[1]", '{"step": 1.5}', '{"step": 1, "tokens": -1}'):
        with pytest.raises(NotReadable):
            read_json_line(bad)


# --- steps ---


def series(**rule: int) -> StepSeries:
    values = {"num_ranks": 1, "num_reporting": 1, **rule}
    return StepSeries(TokenRule(**values), 1, 10.0)


def test_a_step_lasts_from_the_end_of_the_one_before() -> None:
    made = series()
    made.imported(Imported(at_s=111.0), offset_s=100.0)
    first = made.add(Said(step=5, at_s=113.0, tokens=8), seen_s=99.0, offset_s=100.0)
    second = made.add(Said(step=6, at_s=113.5, tokens=8, loss=2.0), seen_s=99.0, offset_s=100.0)
    assert first is not None and second is not None
    assert (first.step, first.start_s, first.duration_s, first.is_warmup) == (0, 11.0, 2.0, True)
    assert (second.step, second.start_s, second.duration_s) == (1, 13.0, 0.5)
    assert (second.num_tokens, second.loss, second.is_warmup) == (8, 2.0, False)
    assert first.loss == -1.0  # not told
    assert math.isnan(second.data_wait_s)
    assert made.job_first == 5


def again(job_first: int | None) -> StepSeries:
    """As the second attempt of a job has it, whose first called its first step ``job_first``."""
    return StepSeries(TokenRule(num_ranks=1, num_reporting=1), 1, 10.0, job_first)


def steps_of(made: StepSeries, *numbers: int, is_own_number: bool = True) -> list[tuple[int, bool]]:
    found = [
        made.add(Said(step=number, is_own_number=is_own_number), seen_s=11.0 + at, offset_s=0.0)
        for at, number in enumerate(numbers)
    ]
    return [(step.step, step.is_warmup) for step in found if step is not None]


def test_a_script_that_numbers_its_steps_goes_on_where_it_is() -> None:
    made = again(job_first=100)
    assert steps_of(made, 160, 161, 161, 162) == [(60, True), (61, False), (62, False)]
    assert (made.job_first, made.num_here, made.num_steps) == (100, 3, 63)
    with pytest.raises(TrainingFailed, match="told of step 170 after step 162"):
        steps_of(made, 170)
    anew = again(job_first=100)  # its first attempt was killed before its first checkpoint
    assert steps_of(anew, 100, 101) == [(0, True), (1, False)]
    assert steps_of(again(job_first=None), 7) == [(0, True)]  # the first attempt told of no step


def test_a_script_whose_calls_are_counted_begins_anew() -> None:
    made = again(job_first=0)
    assert steps_of(made, 0, 1, is_own_number=False) == [(0, True), (1, False)]
    counted = read_json_line('{"step": 4, "numbered": false, "at_s": 1.0}')
    assert isinstance(counted, Said) and not counted.is_own_number


def test_a_restart_from_before_the_job_is_told() -> None:
    with pytest.raises(TrainingFailed, match=r"step 90 after a restart, .* begun with step 100"):
        steps_of(again(job_first=100), 90)


def test_the_scripts_own_step_time_counts_where_it_tells_one() -> None:
    step = series().add(Said(step=0, step_time_s=0.25), seen_s=12.0, offset_s=0.0)
    assert step is not None
    assert (step.start_s, step.duration_s) == (11.75, 0.25)


@pytest.mark.parametrize(
    ("line", "rule", "tokens"),
    [
        (Said(step=0, tokens=100), {}, 100),
        (Said(step=0, tokens=100), {"num_ranks": 4, "num_reporting": 4}, 100),
        (Said(step=0, tokens=100), {"num_ranks": 4, "num_reporting": 1}, 400),
        (Said(step=0, job_tokens=400), {"num_ranks": 4, "num_reporting": 4}, 100),
        (Said(step=0, job_tokens=400), {"num_ranks": 4, "num_reporting": 1}, 400),
        (Said(step=0, tokens_per_s=50, step_time_s=2), {"num_ranks": 4}, 400),
        (Said(step=0, job_tokens_per_s=50, step_time_s=2), {"num_ranks": 4}, 100),
        (Said(step=0, tokens=7), {"tokens_per_step": 64}, 64),
        (Said(step=0), {}, -1),
    ],
)
def test_tokens_of_all_ranks_add_up_to_the_jobs(
    line: Said, rule: dict[str, int], tokens: int
) -> None:
    step = series(**rule).add(line, seen_s=12.0, offset_s=0.0)
    assert step is not None
    assert step.num_tokens == tokens


def test_steps_that_are_missing_or_wrong() -> None:
    made = series()
    made.add(Said(step=1), 1.0, 0.0)
    assert made.add(Said(step=1), 1.1, 0.0) is None  # another rank's line about it
    with pytest.raises(TrainingFailed, match=r"step 10 after step 1; .*metrics.log_freq=1"):
        made.add(Said(step=10), 2.0, 0.0)
    with pytest.raises(LossNotFinite, match="step 2: the loss is nan"):
        made.add(Said(step=2, loss=math.nan), 2.0, 0.0)
