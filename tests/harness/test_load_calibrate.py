"""The search for a ceiling against a client whose ceiling is known, and one real calibration."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ClientTooSlow
from harness.load.calibrate import (
    CLOSE_ENOUGH,
    MAX_RPS,
    MIN_RPS,
    Trial,
    asked_rps,
    busy_share,
    ceiling_of,
    contradicts,
    judge,
    next_rate,
    noop_server,
    peak_rps,
    reconsider,
    requests_alone,
    step_traffic,
    with_headroom,
)
from harness.load.clocks import ClockReading
from harness.load.kept_calibrations import CalibrationStore
from harness.load.local_workers import local_fleet
from results.client import Calibration
from results.clock import SystemClock
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    PoissonArrivals,
    Sessions,
    TraceReplay,
    Traffic,
)

pytestmark = pytest.mark.alone

TARGET = ServerTarget(base_url="http://127.0.0.1:1", model="m")
CALIBRATION = Calibration(
    asked_rps=0.0,
    ceiling_rps=1e3,
    ceiling_is_bound=True,
    floor_ttft_p50_s=1e-3,
    floor_ttft_p99_s=None,
    duration_s=2.0,
    num_workers=1,
)


def searched(true_rps: float, server_rps: float = math.inf) -> list[Trial]:
    """All trials against a client that keeps its schedule below ``true_rps``, and a server that
    keeps up below ``server_rps``."""
    trials: list[Trial] = []
    while (rate := next_rate(trials)) is not None:
        assert len(trials) < 50, "the search does not end"
        trials.append(
            Trial(rate_rps=rate, on_time=rate < true_rps, answered=rate < min(true_rps, server_rps))
        )
    return trials


@given(true_rps=st.floats(min_value=2 * MIN_RPS, max_value=MAX_RPS))
def test_the_ceiling_is_found_from_below(true_rps: float) -> None:
    trials = searched(true_rps)
    ceiling, is_bound = ceiling_of(trials)
    assert ceiling <= true_rps <= ceiling * CLOSE_ENOUGH * (1 + 1e-9)
    assert is_bound
    assert len(trials) <= 8


def test_a_client_that_never_fails_has_at_least_the_highest_rate_tried() -> None:
    ceiling, is_bound = ceiling_of(searched(math.inf))
    assert ceiling == MAX_RPS
    assert not is_bound


def test_a_server_that_gives_out_first_leaves_the_ceiling_open() -> None:
    ceiling, is_bound = ceiling_of(searched(math.inf, server_rps=1000.0))
    assert 1000.0 / CLOSE_ENOUGH <= ceiling < 1000.0
    assert not is_bound


def test_a_client_that_keeps_no_rate_has_the_lowest_that_was_tried() -> None:
    ceiling, is_bound = ceiling_of(searched(0.0))
    assert MIN_RPS <= ceiling < 2 * MIN_RPS
    assert is_bound


def peak_by_looking(times: list[float]) -> int:
    return max((sum(1 for t in times if start <= t < start + 1.0) for start in times), default=0)


# Multiples of 1/1024 s, which floating point adds exactly.
@given(st.lists(st.integers(min_value=0, max_value=20 * 1024).map(lambda n: n / 1024), max_size=60))
def test_the_peak_is_the_most_of_any_second(times: list[float]) -> None:
    assert peak_rps(np.sort(np.array(times, dtype=np.float64))) == peak_by_looking(sorted(times))


def test_what_a_schedule_asks_for_at_most() -> None:
    constant = Traffic(arrivals=ConstantArrivals(rate_rps=50.0), duration_s=4.0)
    assert asked_rps(constant) == pytest.approx(50.0, abs=1.0)
    poisson = Traffic(arrivals=PoissonArrivals(rate_rps=50.0), duration_s=20.0)
    # The largest of 1,000 windows of a Poisson(50) count lies some 2 to 5 deviations of 7 above.
    asked = asked_rps(poisson)
    assert asked is not None
    assert 60 < asked < 90
    assert asked_rps(Traffic(arrivals=ClosedLoop(num_users=4), num_requests=9)) is None


# ---- one step, judged ----


def step(rate_rps: float, *, lag_s: float = 0.0, service_s: float = 0.001) -> RequestSamples:
    """A step of 200 requests, each sent ``lag_s`` late and answered ``service_s`` later."""
    at_s = np.arange(200) / rate_rps
    sent_s = at_s + lag_s
    done_s = sent_s + service_s
    whole = np.zeros(200, dtype=np.int64)
    return RequestSamples(
        intended_s=at_s,
        dispatched_s=sent_s,
        written_s=sent_s,
        first_byte_s=done_s,
        first_token_s=done_s,
        done_s=done_s,
        prompt_tokens=whole,
        output_tokens=whole,
        status=whole + 200,
        error=np.array([""] * 200, dtype=object),
        is_warmup=np.zeros(200, dtype=np.bool_),
        worker=whole,
        event_offset=np.arange(201),
        event_s=done_s,
        event_tokens=whole + 1,
    )


def test_a_step_is_kept_when_it_was_sent_on_time_and_answered() -> None:
    assert judge(step(800.0), 800.0).kept
    late = judge(step(800.0, lag_s=0.006), 800.0)
    assert (late.on_time, late.kept) == (False, False)
    slow = step(800.0)
    behind = replace(slow, done_s=slow.intended_s * 1.5)  # the server falls behind more and more
    assert (judge(behind, 800.0).on_time, judge(behind, 800.0).answered) == (True, False)
    refused = replace(slow, error=np.array(["http_500"] * 200, dtype=object))
    assert not judge(refused, 800.0).answered
    unsent = slow.dispatched_s.copy()
    unsent[150:] = np.nan
    assert not judge(replace(slow, dispatched_s=unsent), 800.0).on_time


# ---- what is done with a ceiling ----


class KnownFleet:
    """A fleet whose every worker keeps exactly ``per_worker`` requests/s."""

    def __init__(self, per_worker: float, room: int) -> None:
        self.per_worker, self.room = per_worker, room
        self.num_workers = 1
        self.urls: set[str] = set()

    @property
    def workers(self) -> tuple[Any, ...]:
        return (self,) * self.num_workers

    kind = "known"

    def read_clock(self) -> ClockReading:
        return ClockReading(boot_id="known", monotonic_s=0.0)

    def grow(self, wanted: int) -> int:
        self.num_workers = max(self.num_workers, min(wanted, self.room))
        return self.num_workers

    def drive(self, target: ServerTarget, traffic: Traffic) -> Any:
        self.urls.add(target.base_url)
        assert isinstance(traffic.arrivals, PoissonArrivals)
        rate = traffic.arrivals.rate_rps
        lag_s = 0.0 if rate <= self.per_worker * self.num_workers else 0.1

        class Result:
            samples = step(rate, lag_s=lag_s)

        return Result


@contextmanager
def no_server() -> Iterator[str]:
    yield "http://noop"


def headroom(fleet: KnownFleet, rate_rps: float, **options: Any) -> Calibration:
    traffic = Traffic(arrivals=ConstantArrivals(rate_rps=rate_rps), duration_s=5.0)
    options = {"busy": lambda _: 0.01, **options}
    return with_headroom(fleet, TARGET, traffic, server=no_server, **options)  # type: ignore[arg-type]


def test_below_half_the_ceiling_one_worker_is_enough() -> None:
    fleet = KnownFleet(per_worker=1000.0, room=8)
    found = headroom(fleet, 100.0)
    assert fleet.num_workers == found.num_workers == 1
    assert found.asked_rps == pytest.approx(100.0, abs=1.0)
    assert 1000.0 / CLOSE_ENOUGH <= found.ceiling_rps <= 1000.0
    assert found.floor_ttft_p50_s == pytest.approx(0.001)
    assert fleet.urls == {"http://noop"}, "nothing may be sent to the server under test"


def test_above_it_more_workers_are_taken() -> None:
    fleet = KnownFleet(per_worker=1000.0, room=8)
    found = headroom(fleet, 1200.0)
    assert found.num_workers == fleet.num_workers >= 3
    assert found.ceiling_rps >= 2 * found.asked_rps


def test_without_room_for_more_the_run_is_refused_with_both_numbers() -> None:
    with pytest.raises(ClientTooSlow, match=r"asks for 1200 requests/s .* up to \d+ requests/s"):
        headroom(KnownFleet(per_worker=1000.0, room=2), 1200.0)
    forced = headroom(KnownFleet(per_worker=1000.0, room=2), 1200.0, force=True)
    assert forced.asked_rps > forced.ceiling_rps / 2


def test_a_kept_calibration_spares_a_new_one_but_refuses_nothing(tmp_path: Path) -> None:
    store = CalibrationStore(folder=tmp_path, clock=SystemClock())
    headroom(KnownFleet(per_worker=1000.0, room=1), 100.0, store=store)
    again = KnownFleet(per_worker=1000.0, room=1)
    assert headroom(again, 150.0, store=store).asked_rps == pytest.approx(150.0, abs=1.0)
    assert not again.urls
    # The machine was busy then; asked for more, it is measured anew.
    faster = KnownFleet(per_worker=8000.0, room=1)
    assert headroom(faster, 900.0, store=store).ceiling_rps >= 1800.0
    assert faster.urls


def test_a_calibration_made_among_others_is_not_kept_to(tmp_path: Path) -> None:
    store = CalibrationStore(folder=tmp_path, clock=SystemClock())
    busy = headroom(KnownFleet(per_worker=500.0, room=1), 100.0, store=store, busy=lambda _: 0.6)
    assert busy.busy_share == 0.6
    again = KnownFleet(per_worker=1000.0, room=1)
    quiet = headroom(again, 100.0, store=store)
    assert again.urls, "measured anew"
    assert quiet.busy_share == 0.01 and quiet.ceiling_rps > busy.ceiling_rps
    third = KnownFleet(per_worker=1000.0, room=1)
    assert headroom(third, 100.0, store=store).ceiling_rps == quiet.ceiling_rps
    assert not third.urls


@pytest.mark.parametrize(
    ("rate_rps", "lag_s", "is_bound", "says_otherwise"),
    [
        (400.0, 0.001, True, False),  # asked for less than half, and on time
        (400.0, 0.020, True, True),  # late, with room enough
        (900.0, 0.020, True, False),  # late near the ceiling: as foretold
        (1400.0, 0.001, True, False),  # a ceiling is known to a factor of 1.5
        (1600.0, 0.001, True, True),
        (1600.0, 0.001, False, False),  # "at least" so much
    ],
)
def test_a_load_may_say_otherwise_than_the_calibration_before_it(
    rate_rps: float, lag_s: float, is_bound: bool, says_otherwise: bool
) -> None:
    found = replace(CALIBRATION, ceiling_is_bound=is_bound, asked_rps=rate_rps)
    assert contradicts(found, step(rate_rps, lag_s=lag_s)) is says_otherwise


def test_a_closed_loop_says_by_its_rows_how_fast_it_was() -> None:
    assert contradicts(CALIBRATION, step(100.0, lag_s=0.02))
    assert not contradicts(CALIBRATION, step(100.0, lag_s=0.001))
    slow = replace(CALIBRATION, ceiling_rps=50.0)
    assert contradicts(slow, step(100.0, lag_s=0.001)), "twice its ceiling, and on time"
    assert not contradicts(slow, step(100.0, lag_s=0.02))


def test_what_a_load_contradicts_is_forgotten(tmp_path: Path) -> None:
    store = CalibrationStore(folder=tmp_path, clock=SystemClock())
    traffic = Traffic(arrivals=ConstantArrivals(rate_rps=100.0), duration_s=5.0)
    fleet: Any = KnownFleet(per_worker=1000.0, room=1)
    found = headroom(fleet, 100.0, store=store)
    reconsider(fleet, TARGET, traffic, found, step(100.0, lag_s=0.0), store)
    assert len(list(tmp_path.iterdir())) == 1
    reconsider(fleet, TARGET, traffic, found, step(100.0, lag_s=0.05), store)
    assert not list(tmp_path.iterdir())
    reconsider(fleet, TARGET, traffic, found, step(100.0, lag_s=0.05), store)  # gone already


def test_how_busy_the_machine_is() -> None:
    assert 0.0 <= busy_share(SystemClock()) <= 1.0


class DatedClock(SystemClock):
    def __init__(self, now: datetime) -> None:
        self.now = now

    def now_utc(self) -> datetime:
        return self.now


def test_a_calibration_is_kept_for_a_day_and_a_torn_one_is_none(tmp_path: Path) -> None:
    found = CALIBRATION
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def at(moment: datetime) -> CalibrationStore:
        return CalibrationStore(folder=tmp_path / "calibration", clock=DatedClock(moment))

    assert at(noon).get("k") is None
    at(noon).put("k", found)
    assert at(noon + timedelta(hours=23)).get("k") == found
    assert at(noon + timedelta(hours=25)).get("k") is None
    assert at(noon - timedelta(hours=1)).get("k") is None, "the date stepped back"
    assert at(noon).get("other") is None
    (kept,) = (tmp_path / "calibration").iterdir()
    kept.write_text(kept.read_text()[:40])
    assert at(noon).get("k") is None
    (tmp_path / "file").write_text("")
    CalibrationStore(folder=tmp_path / "file", clock=DatedClock(noon)).put("k", found)


# ---- the real thing ----


def test_the_noop_server_ends_with_its_context() -> None:
    before = set(psutil.Process().children(recursive=True))
    with noop_server() as url:
        started = set(psutil.Process().children(recursive=True)) - before
        assert started
        assert url.startswith("http://127.0.0.1:")
    assert not any(process.is_running() for process in started)


def test_a_real_client_is_calibrated(tmp_path: Path) -> None:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=2.0),
        output_tokens=FixedLength(tokens=4),
        num_requests=10,
    )
    store = CalibrationStore(folder=tmp_path, clock=SystemClock())
    with local_fleet() as fleet:
        found = with_headroom(fleet, TARGET, traffic, store=store, force=True)
    assert found.ceiling_rps >= MIN_RPS
    assert found.floor_ttft_p50_s is not None
    # No wait at all is what the loopback and two event loops take: some 0.1 ms to, when the machine
    # is busy, a good part of a second.
    assert 1e-5 < found.floor_ttft_p50_s < 1.0
    assert 0.0 < found.duration_s < 60.0
    assert len(list(tmp_path.iterdir())) == 1


def test_sessions_models_and_traces_are_calibrated_as_requests_of_their_size(
    tmp_path: Path,
) -> None:
    trace = tmp_path / "trace.jsonl"
    rows = [(0, 100, 10), (500, 300, 30)]  # Mooncake: milliseconds, tokens in, tokens out
    trace.write_text(
        "".join(
            f'{{"timestamp": {at}, "input_length": {i}, "output_length": {o}, "hash_ids": []}}\n'
            for at, i, o in rows
        )
    )
    replayed = Traffic(arrivals=TraceReplay(path=str(trace), format="mooncake"))
    alone = requests_alone(replace(replayed, num_warmup_requests=0), None)
    assert alone.prompt_tokens == FixedLength(tokens=200)
    assert alone.output_tokens == FixedLength(tokens=20)
    talk = Traffic(
        arrivals=PoissonArrivals(rate_rps=1.0),
        num_requests=10,
        sessions=Sessions(turns=3),
        models={"a": 1.0, "b": 2.0},
    )
    alone = requests_alone(talk, None)
    assert alone.sessions is None
    assert not alone.models
    assert alone.prompt_tokens == talk.prompt_tokens
    build_schedule(step_traffic(alone, 100.0, 50))  # a schedule can be made of it
