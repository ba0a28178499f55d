"""Sources that answer, hang, die or are not there: the load never notices, the table tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import SourceFailed
from harness.telemetry.beside import LocalWatch, Watched, load_zero, on_load_axis, watch_over
from harness.telemetry.sampler import Reading, Sampler, Source
from harness.telemetry.sampling import Sampling, next_read_s
from harness.telemetry.testing import (
    FakeSampler,
    SamplerContract,
    absent_source,
    fake_source,
)
from results.client import ClientReport
from results.telemetry import RESOLUTION_S, Row, Telemetry
from results.testing import make_requests

QUICKLY_S = 0.005
DEADLINE_S = 20.0


class TestFakeSampler(SamplerContract):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return FakeSampler((1.0, 2.0))


def until(true: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < DEADLINE_S, "in vain"
        time.sleep(0.001)


@given(
    begun_s=st.floats(0, 1e5),
    took_s=st.floats(0, 30),
    interval_s=st.floats(0.01, 60),
    max_duty=st.floats(0.01, 1),
)
def test_a_slow_source_is_read_less_often_and_never_to_catch_up(
    begun_s: float, took_s: float, interval_s: float, max_duty: float
) -> None:
    due_s = next_read_s(begun_s, took_s, 0.0, interval_s, max_duty)
    slack = 1e-6 * max(begun_s, 1.0)
    assert due_s >= begun_s + took_s - slack  # the read is over
    assert took_s <= max_duty * (due_s - begun_s) + slack
    # No tick that would do is let go.
    assert due_s - interval_s < begun_s + max(took_s / max_duty, took_s + interval_s / 2) + slack
    ticks = due_s / interval_s
    assert ticks == pytest.approx(round(ticks), abs=1e-6 * max(ticks, 1.0))


def test_quick_reads_keep_to_the_grid() -> None:
    assert next_read_s(10.02, 0.004, 10.0, 1.0) == 11.0
    assert next_read_s(10.98, 0.004, 10.0, 1.0) == 12.0  # never twice within half an interval
    assert next_read_s(11.0, 0.1, 10.0, 1.0) == 13.0  # 100 ms may be spent every two seconds


def test_every_source_is_read_from_start_to_stop() -> None:
    sampler = FakeSampler((1.0, 2.0, 3.0))
    sampling = Sampling([fake_source(sampler)], time.monotonic, QUICKLY_S)
    sampling.start()
    assert sampler.num_reads >= 1  # before the load
    until(lambda: sampler.num_reads >= 4)
    before_stop = sampler.num_reads
    stopped_s = time.monotonic()
    telemetry = sampling.stop()
    assert sampler.num_reads > before_stop  # one more look, at the end
    assert sampler.num_closed == 1
    (series,) = telemetry.series("load").values()
    assert list(series.value[:4]) == [1.0, 2.0, 3.0, 3.0]
    assert len(series.value) == sampler.num_reads
    assert np.all(np.diff(series.t_s) > 0)
    assert series.t_s[-1] >= stopped_s
    (note,) = telemetry.sources()
    assert (note.num_reads, note.num_gaps, note.absent) == (sampler.num_reads, 0, "")
    assert note.max_read_s is not None
    assert 0 <= note.max_read_s < 1.0
    # Of a histogram only the first reading and the last.
    (bucket,) = telemetry.series("took_bucket").values()
    assert list(bucket.value) == [1.0, float(sampler.num_reads)]


def test_a_read_that_fails_is_a_gap_and_the_next_one_counts() -> None:
    sampler = FakeSampler((1.0, "HTTP 500", 2.0))
    sampling = Sampling([fake_source(sampler)], time.monotonic, QUICKLY_S)
    sampling.start()
    until(lambda: sampler.num_reads >= 3)
    telemetry = sampling.stop()
    (note,) = telemetry.sources()
    assert (note.num_gaps, note.last_gap) == (1, "HTTP 500")
    (series,) = telemetry.series("load").values()
    assert list(series.value[:2]) == [1.0, 2.0]


def test_a_library_that_fails_in_its_own_way_is_a_gap_too() -> None:
    class Odd(FakeSampler):
        def read(self) -> tuple[Reading, ...]:
            self.num_reads += 1
            raise ZeroDivisionError("what was that")

    def refuse() -> Sampler:
        raise MemoryError("no room")

    sources = [fake_source(Odd()), Source(name="other", open=refuse)]
    sampling = Sampling(sources, time.monotonic, QUICKLY_S)
    sampling.start()
    notes = {note.source: note for note in sampling.stop().sources()}
    assert "ZeroDivisionError" in notes["fake"].last_gap
    assert "MemoryError" in notes["other"].absent


def test_an_absent_source_is_told_with_its_reason() -> None:
    sampling = Sampling([absent_source("NVML: no driver", "nvml")], time.monotonic, QUICKLY_S)
    sampling.start()
    (note,) = sampling.stop().sources()
    assert (note.source, note.num_reads, note.absent) == ("nvml", 0, "NVML: no driver")


def test_a_source_that_hangs_holds_up_nobody() -> None:
    release = threading.Event()
    hangs = FakeSampler(before=lambda: release.wait(DEADLINE_S))
    quick = FakeSampler()
    sampling = Sampling(
        [fake_source(hangs, "hangs"), fake_source(quick, "quick")], time.monotonic, QUICKLY_S
    )
    began = time.monotonic()
    sampling.start(deadline_s=0.05)
    until(lambda: quick.num_reads >= 3)
    telemetry = sampling.stop(deadline_s=0.05)
    assert time.monotonic() - began < DEADLINE_S / 2
    release.set()
    notes = {note.source: note for note in telemetry.sources()}
    assert notes["quick"].num_reads >= 3
    assert notes["hangs"].num_reads == 0
    assert "did not answer within 0.05 s" in notes["hangs"].absent


# ---- around a load ----


def test_the_load_is_driven_between_the_first_read_and_the_last() -> None:
    sampler = FakeSampler()
    watch = LocalWatch((fake_source(sampler),), time.monotonic, 60.0)
    seen: list[int] = []

    def drive() -> str:
        seen.append(sampler.num_reads)
        return "rows"

    result, watched = watch_over(watch, time.monotonic, drive)
    assert result == "rows"
    assert seen == [1]
    assert sampler.num_reads == 2
    assert watched.telemetry is not None
    (series,) = watched.telemetry.series("load").values()
    assert series.t_s[0] <= watched.began_s <= watched.ended_s <= series.t_s[1]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_load_that_fails_ends_the_sampling(error: type[BaseException]) -> None:
    sampler = FakeSampler()
    watch = LocalWatch((fake_source(sampler),), time.monotonic, 60.0)

    def drive() -> None:
        raise error

    with pytest.raises(error):
        watch_over(watch, time.monotonic, drive)
    until(lambda: sampler.num_closed == 1)


def test_without_a_watch_the_load_is_just_driven() -> None:
    result, watched = watch_over(None, time.monotonic, lambda: 7)
    assert (result, watched.telemetry) == (7, None)


def rows_at(*times_s: float) -> Telemetry:
    return Telemetry.of(Row(t, "host", "load_1m", 1.0) for t in times_s)


def test_the_clients_own_zero_is_the_axis() -> None:
    samples = make_requests(3)
    watched = Watched(telemetry=rows_at(99.0, 101.5), began_s=99.2, ended_s=104.0)
    report = ClientReport(dialect="full", max_in_flight=1, workers=(), origin_s=100.0)
    telemetry = on_load_axis(watched, samples, report)
    assert telemetry is not None
    assert telemetry.t_s.tolist() == [-1.0, 1.5]
    assert telemetry.resolution_s == 0.0


def test_without_it_the_zero_lies_between_what_is_known() -> None:
    samples = make_requests(3)
    first, last = np.nanmin(samples.dispatched_s), np.nanmax(samples.done_s)
    zero = 100.0
    watched = Watched(
        telemetry=rows_at(zero), began_s=zero + first - 0.04, ended_s=zero + last + 0.02
    )
    found = load_zero(watched, samples, None)
    assert abs(found.origin_s - zero) <= found.resolution_s
    assert found.resolution_s == pytest.approx(0.03)
    telemetry = on_load_axis(watched, samples, None)
    assert telemetry is not None
    assert telemetry.resolution_s == pytest.approx(0.03)
    assert RESOLUTION_S not in telemetry.names()


def test_a_closed_sampler_refuses() -> None:
    sampler = FakeSampler()
    sampler.close()
    with pytest.raises(SourceFailed, match="closed"):
        sampler.read()
