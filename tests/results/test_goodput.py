"""Goodput worked out by hand, and that its parts are the wall time whatever happened."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.goodput import BADPUT, Attempt, Part, StepSpan, goodput_of, kept, measure_goodput
from results.samples import StepSamples


def spans(first: int, start_s: float, count: int, took_s: float = 1.0) -> tuple[StepSpan, ...]:
    return tuple(
        StepSpan(first + i, start_s + i * took_s, start_s + (i + 1) * took_s) for i in range(count)
    )


def restarted() -> list[Attempt]:
    """Five steps from 10 s, a save of 0.5 s after step 2; struck at 16 s in step 5, noticed at
    18 s; back at 30 s after 2 s of restore, and steps 3 to 6 follow."""
    first = list(spans(0, 10.0, 3))
    first[2] = first[2]._replace(checkpoint_s=0.5)
    first += spans(3, 13.5, 2)
    return [
        Attempt(spans=tuple(first), ended_s=18.0, struck_s=16.0, cause="worker_died"),
        Attempt(spans=spans(3, 30.0, 4), ended_s=34.0, restore_s=2.0),
    ]


def test_a_failure_worked_out_by_hand() -> None:
    got = goodput_of(restarted(), wall_s=35.0)
    assert got.seconds == pytest.approx(
        {
            Part.PRODUCTIVE: 7.0,  # steps 0, 1, 2 and 3, 4, 5, 6
            Part.STARTUP: 10.0,
            Part.FIRST_STEP: 0.0,
            Part.DATA_WAIT: 0.0,
            Part.CHECKPOINT_SAVE: 0.5,
            Part.CHECKPOINT_RESTORE: 2.0,
            Part.WASTED_PROGRESS: 2.5,  # steps 3 and 4, and 0.5 s of step 5
            Part.RECOVERY: 12.0,  # 16 → 28
            Part.HARDWARE_WAIT: 0.0,
            Part.OTHER: 1.0,
        }
    )
    assert got.share == pytest.approx(7.0 / 35.0)
    assert (got.num_restarts, got.num_steps_kept, got.num_steps_lost) == (1, 7, 2)
    assert got.recoveries_s == pytest.approx((15.0,))  # 16 → 31


def test_waiting_for_a_machine_is_the_first_part_of_a_recovery() -> None:
    first, second = restarted()
    got = goodput_of([first, replace(second, hardware_wait_s=4.0)], 35.0)
    usual = goodput_of(restarted(), 35.0)
    assert got.seconds[Part.HARDWARE_WAIT] == pytest.approx(4.0)
    assert got.seconds[Part.RECOVERY] == pytest.approx(usual.seconds[Part.RECOVERY] - 4.0)
    assert got.recoveries_s == usual.recoveries_s
    longer = goodput_of([first, replace(second, hardware_wait_s=100.0)], 35.0)
    assert longer.seconds[Part.HARDWARE_WAIT] == pytest.approx(10.0)  # 18 → 28, never more
    assert sum(longer.seconds.values()) == pytest.approx(35.0)


def test_a_failure_that_nobody_saw_strike_is_recovery_from_the_last_step_on() -> None:
    first, second = restarted()
    got = goodput_of([Attempt(spans=first.spans, ended_s=18.0, cause="x"), second], 35.0)
    assert got.seconds[Part.WASTED_PROGRESS] == pytest.approx(2.0)
    assert got.seconds[Part.RECOVERY] == pytest.approx(12.5)
    assert got.recoveries_s == pytest.approx((13.0,))


def test_waits_and_a_slow_first_step() -> None:
    slow = (StepSpan(0, 0.0, 4.0, data_wait_s=0.5), *spans(1, 4.0, 3))
    got = goodput_of([Attempt(spans=slow, ended_s=7.0)], 7.0).seconds
    assert got[Part.DATA_WAIT] == pytest.approx(0.5)
    assert got[Part.FIRST_STEP] == pytest.approx(3.0)
    assert got[Part.PRODUCTIVE] == pytest.approx(3.5)


def test_an_attempt_without_a_step_is_recovery() -> None:
    first, second = restarted()
    dead = Attempt(spans=(), ended_s=24.0, cause="node_lost")
    got = goodput_of([first, dead, second], 35.0)
    assert got.seconds == pytest.approx(goodput_of(restarted(), 35.0).seconds)
    assert got.num_restarts == 2
    assert got.recoveries_s == pytest.approx((15.0,))


@st.composite
def timelines(draw: st.DrawFn) -> tuple[list[Attempt], float]:
    """Any order of attempts, spans that touch, gape or overlap, whatever length each part has."""
    at_s = draw(st.floats(0, 50))
    attempts = []
    for _ in range(draw(st.integers(1, 4))):
        step = draw(st.integers(0, 10))
        found = []
        for _step in range(draw(st.integers(0, 6))):
            took_s = draw(st.floats(0, 20))
            found.append(
                StepSpan(step, at_s, at_s + took_s, draw(st.floats(0, 30)), draw(st.floats(0, 5)))
            )
            at_s += took_s + draw(st.floats(-1, 5))
            step += 1
        at_s += draw(st.floats(0, 20))
        attempts.append(
            Attempt(
                spans=tuple(found),
                ended_s=at_s,
                restore_s=draw(st.floats(0, 10)),
                hardware_wait_s=draw(st.floats(0, 30)),
                struck_s=draw(st.none() | st.floats(0, 200)),
                cause=draw(st.sampled_from(["", "worker_died"])),
            )
        )
        at_s += draw(st.floats(0, 20))
    return attempts, draw(st.floats(0, 300))


@given(timelines())
def test_the_parts_are_the_wall_time_whatever_happened(case: tuple[list[Attempt], float]) -> None:
    attempts, wall_s = case
    got = goodput_of(attempts, wall_s)
    assert set(got.seconds) == set(Part)
    assert min(got.seconds.values()) >= 0.0
    assert sum(got.seconds.values()) == pytest.approx(wall_s, abs=1e-9)
    assert 0.0 <= got.share <= 1.0
    made = sum(len(a.spans) for a in attempts)
    assert got.num_steps_kept + got.num_steps_lost == made
    measured = {m.metric: m.value for m in measure_goodput(got) if m.statistic == "value"}
    total = measured["goodput_productive_s"] or 0.0
    total += sum(measured[f"badput_{part.value}_s"] or 0.0 for part in BADPUT)
    assert total == pytest.approx(wall_s, abs=1e-9)


def test_of_a_step_made_twice_the_later_is_kept() -> None:
    step = np.array([0, 1, 2, 3, 2, 3, 4])
    attempt = np.array([0, 0, 0, 0, 1, 1, 1])
    n = len(step)
    samples = StepSamples(
        step=step, rank=np.zeros(n, np.int64), start_s=np.arange(n) * 1.0,
        duration_s=np.arange(n) * 1.0 + 1, data_wait_s=np.zeros(n), num_tokens=np.ones(n, np.int64),
        loss=np.ones(n), memory_bytes=np.full(n, -1), is_warmup=np.zeros(n, bool), attempt=attempt,
    )  # fmt: skip
    got = kept(samples)
    assert got.step.tolist() == [0, 1, 2, 3, 4]
    assert got.duration_s.tolist() == [1.0, 2.0, 5.0, 6.0, 7.0]
