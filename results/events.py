"""What people say of a night, kept beside the records and never edited.

A verdict is one object of its own; who thinks better of it appends another that withdraws it. So
two people who judge at once cannot overwrite each other, and who said what, when and why stays.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from pydantic import TypeAdapter

from results.codec import dumps_document, loads_document
from results.errors import NothingSelected, RecordFormatError, StoreError
from results.store import Torn
from results.store_layout import EVENTS, TEMPORARY
from results.store_objects import Objects

SCHEMA_VERSION: Final = 1
EVERY: Final = "*"  # series


class Said(StrEnum):
    ACK = "ack"  # seen, and somebody is at it: do not tell it again
    EXPECTED = "expected"  # meant to be so: from that night on it is the new baseline
    INVALID = "invalid"  # the night's numbers are worth nothing: leave them out
    WITHDRAWN = "withdrawn"  # an earlier event was a mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``series``: a series' key, ``*`` in it standing for anything. ``night``: of an invalid
    night, itself; of a step, its first night or any that it was told of. ``withdraws``: the id of
    the event that this one takes back."""

    event_id: str
    at: datetime
    said: Said
    night: date
    reason: str
    series: str = EVERY
    by: str = ""
    withdraws: str = ""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise RecordFormatError(f"an event ({self.said}) must say its reason")
        if (self.said is Said.WITHDRAWN) != bool(self.withdraws):
            raise RecordFormatError("a withdrawal, and nothing else, names the event it takes back")

    def concerns(self, series: str) -> bool:
        return fnmatchcase(series, self.series)


_EVENT: TypeAdapter[Event] = TypeAdapter(Event)
_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{10}")


def new_event_id(now: datetime) -> str:
    """As ``record.new_run_id``: sorts by time, unique without coordination."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(5)}"


def append_event(objects: Objects, event: Event) -> None:
    """Durable on return. Raises RecordFormatError for what is no event's id, StoreError when that
    id is taken or the place cannot be written."""
    if not _ID.fullmatch(event.event_id):
        raise RecordFormatError(f"{event.event_id!r} is no event id (new_event_id makes one)")
    text = dumps_document(_EVENT, event, f"event {event.event_id}")
    objects.prepare()
    try:
        objects.put_new(f"{EVENTS}/{event.event_id}.json", text.encode())
    except FileExistsError:
        raise StoreError(f"event {event.event_id} is already kept in {objects.url}") from None


def read_events(objects: Objects) -> tuple[tuple[Event, ...], tuple[Torn, ...]]:
    """All events in order of id, withdrawals among them, and the objects that are none."""
    events: list[Event] = []
    torn: list[Torn] = []
    for name in objects.names(EVENTS):
        if name.startswith(TEMPORARY):
            continue
        path = f"{EVENTS}/{name}"
        try:
            event = loads_document(_EVENT, objects.read(path))
            if f"{event.event_id}.json" != name:
                raise RecordFormatError(f"holds the event {event.event_id}")
        except (FileNotFoundError, RecordFormatError, StoreError) as error:
            torn.append(Torn(path=path, reason=str(error)))
        else:
            events.append(event)
    return tuple(events), tuple(torn)


def in_force(events: Iterable[Event]) -> tuple[Event, ...]:
    """Those that nobody has withdrawn, withdrawals left out, in order of id."""
    known = sorted(events, key=lambda e: e.event_id)
    gone = {e.withdraws for e in known if e.said is Said.WITHDRAWN}
    return tuple(e for e in known if e.said is not Said.WITHDRAWN and e.event_id not in gone)


def event_named(events: Sequence[Event], asked: str) -> Event:
    """The one whose id begins so; NothingSelected with the latest otherwise."""
    fits = [e for e in events if asked and e.event_id.startswith(asked)]
    if len(fits) == 1:
        return fits[0]
    latest = ", ".join(e.event_id for e in events[-3:]) or "none"
    raise NothingSelected(f"{asked!r} begins {len(fits)} event ids; the latest are: {latest}")
