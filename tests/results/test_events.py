"""What people say of nights: kept, read back, withdrawn, and never lost to a torn neighbour."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from results.errors import NothingSelected, RecordFormatError, StoreError
from results.events import (
    Event,
    Said,
    append_event,
    event_named,
    in_force,
    new_event_id,
    read_events,
)
from results.store_check import check
from results.store_files import FileStore

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)


def event(index: int = 0, **changes: Any) -> Event:
    at = NOW + timedelta(minutes=index)
    values: dict[str, Any] = {
        "event_id": new_event_id(at),
        "at": at,
        "said": Said.ACK,
        "night": date(2026, 11, 23),
        "reason": "bug 412",
    }
    return Event(**values | changes)


def test_events_come_back_in_order(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    made = [event(i, said=said, by="ada") for i, said in enumerate((Said.INVALID, Said.EXPECTED))]
    for one in reversed(made):
        append_event(store.objects, one)
    assert read_events(store.objects) == (tuple(made), ())
    assert check(store).torn == ()


def test_no_store_is_no_events(tmp_path: Path) -> None:
    assert read_events(FileStore(tmp_path / "nothing").objects) == ((), ())


def test_an_event_is_never_overwritten(tmp_path: Path) -> None:
    objects = FileStore(tmp_path).objects
    first = event()
    append_event(objects, first)
    with pytest.raises(StoreError, match="already kept"):
        append_event(objects, event(event_id=first.event_id, reason="other"))
    assert read_events(objects)[0] == (first,)


def test_torn_events_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    good = event()
    append_event(store.objects, good)
    other = event(1)
    (tmp_path / "events" / f"{other.event_id}.json").write_text("{")
    (tmp_path / "events" / "_tmp123").write_text("left by a crash")
    events, torn = read_events(store.objects)
    assert events == (good,) and len(torn) == 1 and other.event_id in torn[0].path
    found = check(store)
    assert [t.path for t in found.torn] == [torn[0].path]
    assert found.leftovers


def test_what_was_withdrawn_is_not_in_force(tmp_path: Path) -> None:
    mistake, kept = event(0), event(1)
    back = event(2, said=Said.WITHDRAWN, withdraws=mistake.event_id, reason="wrong night")
    assert in_force([back, kept, mistake]) == (kept,)


def test_series_may_be_a_pattern() -> None:
    one = event(series="h100/*/ttft_s*")
    assert one.concerns("h100/chat/ttft_s p99")
    assert not one.concerns("h100/chat/tpot_s p50")
    assert event().concerns("anything/at all")


@pytest.mark.parametrize(
    "changes",
    [{"reason": " "}, {"said": Said.WITHDRAWN}, {"withdraws": "20261124T083000Z-0123456789"}],
)
def test_half_an_event_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RecordFormatError):
        event(**changes)


def test_an_id_is_made_by_us(tmp_path: Path) -> None:
    with pytest.raises(RecordFormatError, match="no event id"):
        append_event(FileStore(tmp_path).objects, event(event_id="../../etc"))


def test_an_event_is_named_by_its_beginning() -> None:
    made = [event(0), event(1)]
    assert event_named(made, made[1].event_id[:14]) is made[1]
    for asked in ("2026", "", "1999"):
        with pytest.raises(NothingSelected, match=made[1].event_id):
            event_named(made, asked)
