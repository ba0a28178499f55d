"""What a night tells, from the store and the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from harness.cli.exits import Exit
from harness.cli.options import index_of
from harness.nightly.journal import Journal
from harness.nightly.night import NOT_RUN
from reports.confirm import Finding
from reports.night_told import LeftOut, NightTold, night_told
from results.events import Event, read_events
from results.nights import NightRun, nights_in
from results.store_files import FileStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the store holds of a suite's nights, and what of it could not be read."""

    nights: Mapping[str, Sequence[NightRun]]
    events: tuple[Event, ...]
    num_torn: int


def read_nights(store: FileStore, suite: str) -> Kept:
    index = index_of(store)
    report = index.refresh()
    events, torn = read_events(store.objects)
    nights = nights_in(index, suite)
    return Kept(nights=nights, events=events, num_torn=report.num_torn + len(torn))


def told_of(kept: Kept, night_id: str, journal: Journal, suite: str, on: date) -> NightTold:
    said = journal.read()
    left_out = dict.fromkeys((told["what"], told["why"]) for told in said.all(NOT_RUN))
    return night_told(
        kept.nights,
        night_id,
        kept.events,
        left_out=[LeftOut(what=what, why=why) for what, why in left_out],
        num_torn=kept.num_torn + said.num_torn,
        on=on,
        suite=suite,
    )


def exit_of(told: NightTold, num_unsent: int = 0) -> Exit:
    """A regression first; then what was not run, or did not arrive; then what is open."""
    if told.found(Finding.REGRESSION):
        return Exit.REGRESSION
    if told.num_failed or told.left_out or num_unsent:
        return Exit.INFRASTRUCTURE
    return Exit.INVALID if told.found(Finding.SUSPECTED) else Exit.OK
