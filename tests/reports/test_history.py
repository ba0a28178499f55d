"""Nights in, suspicions out: found, located, read again the same, and what people say honoured."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from reports.calibration import alarms_of
from reports.documents import dumps, loads
from reports.history import read_history
from reports.noise import Floats, drifting, white
from reports.series import Night, Series, series_of
from reports.suspicion import History, Kind, Standing, State
from results.events import Event, Said
from results.measurement import Measurement
from results.metrics import Direction
from results.record import Invalid
from results.testing import EPOCH, make_record

FIRST = date(2026, 1, 1)


def day(index: int) -> date:
    return FIRST + timedelta(days=index)


def series(
    logs: Floats, name: str = "chat", *, environments: Sequence[str] = (), start: int = 0
) -> Series:
    nights = tuple(
        Night(
            night=day(start + i),
            values=(math.exp(x),),
            environment=environments[i] if environments else "e0",
        )
        for i, x in enumerate(logs)
    )
    return Series(
        key=f"h100/{name}/ttft_s p50",
        name=name,
        pool="h100",
        metric="ttft_s",
        statistic="p50",
        direction=Direction.LOWER,
        nights=nights,
    )


def quiet(num_nights: int, seed: int = 1, sigma: float = 0.01) -> Floats:
    noise: Floats = white(np.random.default_rng(seed), 1, num_nights)[0] * sigma / 0.03
    return noise


def stepped(at: int = 60, num_nights: int = 90, step: float = 0.10, seed: int = 1) -> Floats:
    values = quiet(num_nights, seed)
    values[at:] += math.log1p(step)
    return values


def event(said: Said, night: int, *, minute: int = 0, **changes: str) -> Event:
    at = datetime(2026, 6, 1, 8, minute, tzinfo=UTC)
    return Event(
        event_id=f"{at:%Y%m%dT%H%M%SZ}-0000000000",
        at=at,
        said=said,
        night=day(night),
        reason=changes.pop("reason", "because"),
        **changes,
    )


def test_a_step_is_found_within_days_and_once() -> None:
    history = read_history([series(stepped())])
    (found,) = history.suspicions
    assert found.kind is Kind.STEP and found.worse
    assert day(62) <= found.found <= day(66)  # the first night alone is a jump already
    assert found.earliest <= day(60) <= found.latest
    assert found.low < 0.10 < found.high
    assert found.after / found.before == pytest.approx(1.0 + found.change)


def test_better_and_worse_follow_the_direction() -> None:
    faster = read_history([series(stepped(step=-0.10))]).suspicions[0]
    assert not faster.worse and faster.change < 0
    throughput = replace(series(stepped(step=-0.10)), direction=Direction.HIGHER)
    assert read_history([throughput]).suspicions[0].worse


def test_a_night_read_again_tells_the_same() -> None:
    many = [series(stepped(seed=i), f"s{i}") for i in range(8)]
    whole = {s.series: s for s in read_history(many).suspicions}
    for until in (63, 66, 75):
        early = read_history(many, until=day(until))
        assert early.night == day(until)
        told = [s for s in early.suspicions if s.kind is Kind.STEP]
        assert told == [whole[s.series] for s in told]
        assert {s.series for s in told} == {k for k, s in whole.items() if s.found <= early.night}


def test_a_series_goes_on_from_its_new_level() -> None:
    values = stepped(at=50, num_nights=120)
    values[90:] += math.log1p(0.10)
    steps = sorted(s.likely for s in read_history([series(values)]).suspicions)
    assert [abs((a - b).days) <= 1 for a, b in zip(steps, (day(50), day(90)), strict=True)] == [
        True,
        True,
    ]


def test_where_a_step_lies_is_told_with_95_percent() -> None:
    rng = np.random.default_rng(12)
    values = white(rng, 120, 90)
    values[:, 60:] += math.log1p(0.12)
    many = [series(row, f"s{i}") for i, row in enumerate(values)]
    found = [s for s in read_history(many).suspicions if s.kind is Kind.STEP and s.found > day(60)]
    assert len(found) > 60
    held = sum(s.earliest <= day(60) <= s.latest for s in found)
    # At a true 95 % fewer than 87 % of some 100 have a chance of 1 in 1000.
    assert held / len(found) > 0.87
    assert np.median([(s.latest - s.earliest).days for s in found]) <= 4


def test_an_expected_step_is_the_new_baseline() -> None:
    for night in (60, 63, 70):
        said = event(Said.EXPECTED, night, series="h100/chat/*", reason="new driver")
        (known,) = read_history([series(stepped())], [said]).suspicions
        assert known.state is State.EXPECTED and known.said == "new driver"
    small = stepped(step=0.012, at=70, seed=2)
    assert read_history([series(small)]).suspicions == ()
    told = read_history([series(small)], [event(Said.EXPECTED, 70)])
    assert told.suspicions == () and told.states[0].level == pytest.approx(1.012, abs=0.005)
    elsewhere = event(Said.EXPECTED, 60, series="a100/*")
    assert read_history([series(stepped())], [elsewhere]).suspicions[0].state is State.OPEN


def test_an_acknowledged_step_is_not_new_and_a_withdrawn_word_does_not_count() -> None:
    ack = event(Said.ACK, 80, reason="bug 412")
    (known,) = read_history([series(stepped())], [ack]).suspicions
    assert known.state is State.ACKNOWLEDGED and known.said == "bug 412"
    back = event(Said.WITHDRAWN, 80, minute=5, withdraws=ack.event_id)
    assert read_history([series(stepped())], [ack, back]).suspicions[0].state is State.OPEN
    early = event(Said.ACK, 30)
    assert read_history([series(stepped())], [early]).suspicions[0].state is State.OPEN


def test_an_event_speaks_of_the_last_step_before_it() -> None:
    values = stepped(at=50, num_nights=120)
    values[90:] += math.log1p(0.10)
    ack = event(Said.ACK, 70)
    later, first = read_history([series(values)], [ack]).suspicions
    assert (first.state, later.state) == (State.ACKNOWLEDGED, State.OPEN)


def test_invalid_nights_are_left_out() -> None:
    values = quiet(80)
    values[60:66] += 0.4  # six nights of a broken machine
    assert read_history([series(values)]).suspicions
    said = [event(Said.INVALID, 60 + i, minute=i) for i in range(6)]
    history = read_history([series(values)], said)
    assert history.suspicions == ()
    assert history.states[0].num_nights == 74


def test_one_night_alone_is_a_jump_and_no_step() -> None:
    values = quiet(60)
    values[-1] += 0.10
    history = read_history([series(values)])
    (found,) = history.new
    assert found.kind is Kind.JUMP and found.found == day(59)
    assert history.states[0].standing is Standing.SUSPECTED
    assert read_history([series(np.append(values, 0.0))]).suspicions == ()


def test_two_nights_of_repeats_are_enough_to_look_again() -> None:
    def nights(after: float) -> Series:
        both = ((1.0, 1.01, 0.99), (after, after * 1.01, after * 0.99))
        made = tuple(Night(night=day(i), values=v) for i, v in enumerate(both))
        return replace(series(quiet(1)), nights=made)

    history = read_history([nights(1.10)])
    (found,) = history.new
    assert found.kind is Kind.JUMP and found.change == pytest.approx(0.10, abs=0.01)
    assert (history.num_tested, history.num_young) == (0, 1)
    assert read_history([nights(1.05)]).suspicions == ()
    assert read_history([nights(1.05)]).states[0].standing is Standing.YOUNG


def test_the_night_says_how_many_it_would_call_by_chance() -> None:
    values = white(np.random.default_rng(3), 40, 100)
    history = read_history([series(row, f"s{i}") for i, row in enumerate(values)])
    assert history.num_tested == 40
    assert 0.0 < history.expected_false <= 0.1
    assert [s.standing for s in history.states].count(Standing.UNCHANGED) == 0  # 3 % nights


def test_quiet_series_are_unchanged_within_the_margin() -> None:
    history = read_history([series(quiet(100, sigma=0.004))])
    (state,) = history.states
    assert state.standing is Standing.UNCHANGED
    assert state.level == pytest.approx(1.0, abs=0.01)
    assert state.apart == pytest.approx(0.004 * math.sqrt(2.0), rel=0.3)
    assert state.threshold == pytest.approx(0.01)  # never told of less


def test_the_threshold_is_learned_from_the_series() -> None:
    noisy = read_history([series(quiet(100, sigma=0.05))]).states[0]
    assert noisy.threshold == pytest.approx(0.5 * 0.05 * math.sqrt(2.0), rel=0.3)


def test_a_changed_environment_is_seen_at_the_step() -> None:
    environments = ["e0"] * 60 + ["e1"] * 30
    (found,) = read_history([series(stepped(), environments=environments)]).suspicions
    assert found.environments == ("e0", "e1") and found.environment_changed
    (same,) = read_history([series(stepped())]).suspicions
    assert not same.environment_changed


def test_series_of_unlike_length_share_a_calendar() -> None:
    short = series(quiet(30, seed=4), "short", start=60)
    gone = series(quiet(40, seed=5), "gone")
    history = read_history([series(stepped()), short, gone])
    assert history.num_tested == 2  # the one that ended is judged no more
    assert {s.series for s in history.states} == {
        "h100/chat/ttft_s p50",
        "h100/short/ttft_s p50",
    }
    with pytest.raises(ValueError, match="no series"):
        read_history([])


def test_the_calibration_counts_what_the_history_calls() -> None:
    values = drifting()(np.random.default_rng(20), 16, 90)
    values[:4, 50:] += 0.15  # so that there is something to count
    alone = [read_history([series(row)]).suspicions for row in values]
    called = [any(s.kind is Kind.STEP for s in told) for told in alone]
    assert called == alarms_of(values).any(axis=1).tolist()
    assert any(called)


def test_records_become_series() -> None:
    def run(i: int, value: float, **changes: object):  # type: ignore[no-untyped-def]
        made = Measurement(metric="ttft_s", statistic="p50", value=value, n=9)
        rate = Measurement(metric="offered_rate", statistic="value", value=4.0, n=9)
        started = EPOCH + timedelta(hours=12 * i)
        return make_record(index=i, started_at=started, measurements=(made, rate), **changes)

    records = [run(i, 0.1 + 0.01 * i) for i in range(4)]
    records.append(run(4, 9.0, outcome=Invalid(reasons=("host_busy",))))
    (found,) = series_of(records, canaries=("llama-on-h100",))
    assert found.key == "h100-spot/llama-on-h100/ttft_s p50" and found.canary
    assert [len(n.values) for n in found.nights] == [1, 2, 1]  # 17:00, then 05:00 and 17:00
    assert found.nights[1].value == pytest.approx(0.115)
    assert found.nights[0].revision == "vllm==0.32.0"
    newer = series_of([*records, run(5, 0.2, workload_hash="ff" * 8)])
    assert [len(n.values) for n in newer[0].nights] == [1]


def test_a_history_survives_json() -> None:
    history = read_history([series(stepped()), series(quiet(90, seed=9), "other")])
    assert loads(History, dumps(History, history)) == history


@pytest.mark.alone
def test_a_thousand_series_of_a_year_take_seconds() -> None:
    values = white(np.random.default_rng(30), 1000, 365)
    values[:20, 300:] += 0.2
    many = [series(row, f"s{i}") for i, row in enumerate(values)]
    begun = time.process_time()
    history = read_history(many)
    assert time.process_time() - begun < 20.0
    assert sum(s.kind is Kind.STEP for s in history.suspicions) >= 20
