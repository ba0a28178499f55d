"""``windtunnel nights``: told again, and what people say of them, honoured the next night."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.exits import told
from harness.cli.nights_publish import publish
from harness.cli.options import Json, Store, index_of, store_of
from harness.cli.output import print_json, stderr, stdout
from harness.errors import SpecError
from harness.spec_errors import nearest
from results.clock import SystemClock

if TYPE_CHECKING:
    from results.events import Event, Said
    from results.store_files import FileStore

app = typer.Typer(help="Nights told again, and what people say of them.", no_args_is_help=True)
app.command()(publish)

Night = Annotated[str, typer.Argument(metavar="NIGHT", help="Its date: YYYY-MM-DD.")]
SeriesKey = Annotated[
    str,
    typer.Option(metavar="KEY", help="pool/spec/metric statistic, as reports print it; `*` fits."),
]
Reason = Annotated[str, typer.Option(help="Why; kept with the verdict.")]


@app.command()
def ack(
    night: Night,
    reason: Reason,
    series: SeriesKey = "*",
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Say that a step is known and in hands: it is not told as new again.

    Example: `windtunnel nights ack 2026-11-24 --series "h100/chat/ttft_s p99" --reason "bug 412"`
    """
    _say("ack", night, series, reason, store, as_json)


@app.command()
def expected(
    night: Night,
    reason: Reason,
    series: SeriesKey = "*",
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Say that a step was meant: from that night on, it is the new baseline.

    Example: `windtunnel nights expected 2026-11-24 --series "h100/*" --reason "new driver"`
    """
    _say("expected", night, series, reason, store, as_json)


@app.command()
def invalid(
    night: Night,
    reason: Reason,
    series: SeriesKey = "*",
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Say that a night's numbers are worth nothing: every history leaves it out.

    Example: `windtunnel nights invalid 2026-11-24 --reason "the cooling failed"`
    """
    _say("invalid", night, series, reason, store, as_json)


@app.command()
def withdraw(
    event_id: Annotated[str, typer.Argument(metavar="EVENT", help="Its id, or its beginning.")],
    reason: Reason,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Take back what was said of a night; both stay in the store.

    Example: `windtunnel nights withdraw 20261124T0830 --reason "wrong night"`
    """
    from results.events import Said, append_event, event_named, read_events

    with told(as_json):
        objects = store_of(store).objects
        before = event_named([e for e in read_events(objects)[0] if not e.withdraws], event_id)
        event = _event(Said.WITHDRAWN, before.night, before.series, reason, before.event_id)
        append_event(objects, event)
    _told(event, as_json)


@app.command()
def verdicts(store: Store = None, as_json: Json = False) -> None:
    """List what people said of nights, in order.

    Example: `windtunnel nights verdicts --json`
    """
    from results.events import in_force, read_events

    with told(as_json):
        events, torn = read_events(store_of(store).objects)
    alive = {e.event_id for e in in_force(events)}
    if as_json:
        body = [_plain(e) | {"in_force": e.event_id in alive} for e in events]
        print_json("windtunnel.nights-verdicts/1", {"events": body, "num_torn": len(torn)})
        return
    for e in events:
        gone = "" if e.event_id in alive or e.withdraws else "  (withdrawn)"
        what = f"takes back {e.withdraws}" if e.withdraws else f"{e.night} {e.series}"
        stdout().print(f"{e.event_id}  {e.said}  {what}: {e.reason}{gone}", markup=False)
    if not events:
        stdout().print("nobody has said anything of any night")
    if torn:
        stderr().print(f"{len(torn)} events are unreadable; see `windtunnel store check`")


def _say(what: str, night: str, series: str, reason: str, store: str | None, as_json: bool) -> None:
    from results.events import Said, append_event

    with told(as_json):
        try:
            day = date.fromisoformat(night)
        except ValueError:
            raise SpecError(f"night {night!r}: is a date such as 2026-11-24") from None
        if not reason.strip():
            raise SpecError("--reason is empty; whoever reads it later wants to know why")
        kept, event = store_of(store), _event(Said(what), day, series, reason)
        append_event(kept.objects, event)
        concerned = _concerned(kept, event)
    _told(event, as_json, num_series=concerned)


def _concerned(store: FileStore, event: Event) -> int:
    """How many series of that night it is said of. None is no error, for the night may lie in
    another store; more often a word is wrong, so what there is is said on stderr."""
    from reports.night_told import series_of_nights
    from results.nights import DATE, night_run

    index, night = index_of(store), event.night.isoformat()
    index.refresh()
    runs = [night_run(store.get(run_id)) for run_id in index.tagged(DATE, night)]
    keys = [one.key for one in series_of_nights([run for run in runs if run is not None])]
    concerned = sum(event.concerns(key) for key in keys)
    if not runs:
        known = ", ".join(sorted(index.tag_values(DATE))[-3:]) or "none"
        stderr().print(
            f"kept, but this store has no night of {night}; the latest are: {known}", markup=False
        )
    elif not concerned:
        hint = nearest(event.series, keys)
        some = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        stderr().print(
            f"kept, but no series of {night} with a value is {event.series!r}{hint}; "
            f"there are: {some or 'none'}. `windtunnel nights withdraw {event.event_id}` takes it "
            "back",
            markup=False,
            soft_wrap=True,
        )
    return concerned


def _event(said: Said, night: date, series: str, reason: str, withdraws: str = "") -> Event:
    from results.events import Event, new_event_id

    now = SystemClock().now_utc()
    return Event(
        event_id=new_event_id(now),
        at=now,
        said=said,
        night=night,
        series=series,
        reason=reason.strip(),
        by=_who(),
        withdraws=withdraws,
    )


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""


def _told(event: Event, as_json: bool, **more: int) -> None:
    if as_json:
        print_json("windtunnel.nights-verdict/1", {"event": _plain(event), **more})
    else:
        stdout().print(event.event_id)


def _plain(event: Event) -> dict[str, Any]:
    return asdict(event)
