"""What a night tells: from the store to its page, its index, a chat and Prometheus."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date

from harness.cli.exits import Exit
from harness.cli.nightly_options import Telling, webhook_url
from harness.cli.output import json_text, stderr, writing
from harness.nightly.journal import Journal
from harness.nightly.night import NOT_RUN
from harness.settings import read_settings
from reports.confirm import Finding
from reports.html import render_html
from reports.markdown import render_markdown
from reports.night_metrics import openmetrics, prometheus_text, push
from reports.night_outputs import (
    SCHEMA,
    IndexEntry,
    chat_message,
    index_entry,
    index_report,
    night_document,
    page_name,
)
from reports.night_report import night_report
from reports.night_told import LeftOut, NightTold, night_told
from results.events import Event, read_events
from results.nights import NightRun, night_runs
from results.pages import Pages
from results.store_files import FileStore

_OTHERS_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the store holds of a suite's nights, and what of it could not be read."""

    nights: Mapping[str, Sequence[NightRun]]
    events: tuple[Event, ...]
    num_torn: int


def read_nights(store: FileStore, suite: str) -> Kept:
    scan = store.scan()
    nights = night_runs(scan.records, suite)
    events, torn = read_events(store.objects)
    return Kept(nights=nights, events=events, num_torn=len(scan.torn) + len(torn))


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


def exit_of(told: NightTold) -> Exit:
    """A regression first; then what was not run; then what is open."""
    if told.found(Finding.REGRESSION):
        return Exit.REGRESSION
    if told.num_failed or told.left_out:
        return Exit.INFRASTRUCTURE
    return Exit.INVALID if told.found(Finding.SUSPECTED) else Exit.OK


def publish(told: NightTold, telling: Telling, command: str) -> str:
    """Write the page, its Markdown and JSON, and the index; returns where the page lies.

    Raises StoreUnwritable or HarnessError for a place that cannot be written."""
    report = night_report(told, command)
    name, markdown = page_name(told), render_markdown(report)
    home = str(read_settings().home / "nights" / "pages")
    pages = Pages(f"{(telling.publish or home).rstrip('/')}/{told.suite}")
    pages.put(f"{name}.html", render_html(report))
    pages.put(f"{name}.md", markdown)
    pages.put(f"{name}.json", json_text(SCHEMA, night_document(told)) + "\n")
    pages.put(f"{name}.entry.json", json.dumps(asdict(index_entry(told)), sort_keys=True))
    pages.put("index.html", render_html(index_report(told.suite, _entries(pages))))
    page = pages.at(f"{name}.html")
    for option, path, text in (
        ("--markdown", telling.markdown, markdown),
        ("--prometheus", telling.prometheus, prometheus_text(told)),
        ("--openmetrics", telling.openmetrics, openmetrics(told)),
    ):
        if path is not None:
            with writing(path, option):
                path.write_text(text, encoding="utf-8")
    if telling.pushgateway:
        _push(telling.pushgateway, told)
    if telling.webhook_env:
        _post(telling.webhook_env, chat_message(told, page if "://" in page else ""))
    return page


def _entries(pages: Pages) -> list[IndexEntry]:
    """Of every night that was ever published there; one that cannot be read is left out."""
    found = []
    for name in pages.names("*.entry.json"):
        try:
            found.append(IndexEntry(**json.loads(pages.read(name))))
        except (ValueError, TypeError):
            stderr().print(f"{pages.at(name)} is no entry of an index; left out", markup=False)
    return found


def _push(gateway: str, told: NightTold) -> None:
    try:
        push(gateway, told, _OTHERS_S)
    except (OSError, ValueError) as error:
        stderr().print(f"the push gateway {gateway} did not take the night: {error}", markup=False)


def _post(name: str, message: Mapping[str, object]) -> None:
    """A chat that does not answer costs a warning, not the night."""
    request = urllib.request.Request(  # an http URL, or none at all
        webhook_url(name), json.dumps(message).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_OTHERS_S):
            pass
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        stderr().print(f"the webhook of ${name} did not take the night: {reason}", markup=False)
