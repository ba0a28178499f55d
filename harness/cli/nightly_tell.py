"""What a night tells: from the store to its page, its index, a chat and Prometheus."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import fsspec
from prometheus_client import push_to_gateway

from harness.cli.exits import Exit
from harness.cli.output import json_text, stderr, writing
from harness.errors import HarnessError, SpecError
from harness.nightly.journal import Journal
from harness.nightly.night import NOT_RUN
from harness.settings import secret
from reports.confirm import Finding
from reports.html import render_html
from reports.markdown import render_markdown
from reports.night_outputs import (
    SCHEMA,
    IndexEntry,
    chat_message,
    index_entry,
    index_report,
    night_document,
    night_registry,
    openmetrics,
    page_name,
    prometheus_text,
)
from reports.night_report import night_report
from reports.night_told import LeftOut, NightTold, night_told
from results.events import Event, read_events
from results.nights import NightRun, night_runs
from results.store_files import FileStore

_OTHERS_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Where the page of a night goes. ``publish``: a folder or a bucket's URL."""

    publish: str
    markdown: Path | None = None
    webhook_env: str = ""
    prometheus: Path | None = None
    openmetrics: Path | None = None
    pushgateway: str = ""


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

    Raises HarnessError for a place that cannot be written."""
    report = night_report(told, command)
    name = page_name(told)
    place = f"{telling.publish.rstrip('/')}/{told.suite}"
    page = f"{place}/{name}.html"
    markdown = render_markdown(report)
    _put(page, render_html(report))
    _put(f"{place}/{name}.md", markdown)
    _put(f"{place}/{name}.json", json_text(SCHEMA, night_document(told)) + "\n")
    _put(f"{place}/{name}.entry.json", json.dumps(asdict(index_entry(told)), sort_keys=True))
    _put(f"{place}/index.html", render_html(index_report(told.suite, _entries(place))))
    if telling.markdown is not None:
        with writing(telling.markdown, "--markdown"):
            telling.markdown.write_text(markdown, encoding="utf-8")
    if telling.prometheus is not None:
        _swap(telling.prometheus, prometheus_text(told), "--prometheus")
    if telling.openmetrics is not None:
        _swap(telling.openmetrics, openmetrics(told), "--openmetrics")
    if telling.pushgateway:
        _push(telling.pushgateway, told)
    if telling.webhook_env:
        _post(telling.webhook_env, chat_message(told, page if "://" in page else ""))
    return page


def _put(url: str, text: str) -> None:
    """Whole or not at all: a reader of the bucket or folder never sees half a page."""
    if "://" not in url:
        path = Path(url)
        with writing(path, "--publish"):
            path.parent.mkdir(parents=True, exist_ok=True)
        _swap(path, text, "--publish")
        return
    try:
        with fsspec.open(url, "w", encoding="utf-8") as file:
            file.write(text)
    except Exception as error:  # each file system has errors of its own
        raise HarnessError(f"cannot write {url}: {error}; name another with --publish") from error


def _swap(path: Path, text: str, option: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    with writing(path, option):
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)


def _entries(place: str) -> list[IndexEntry]:
    """Of every night that was ever published there; one that cannot be read is left out."""
    filesystem, path = fsspec.core.url_to_fs(place)
    found = []
    for name in filesystem.glob(f"{path}/*.entry.json"):
        try:
            found.append(IndexEntry(**json.loads(filesystem.cat_file(name))))
        except (ValueError, TypeError):
            stderr().print(f"{name} is no entry of an index; left out", markup=False)
    return found


def _push(gateway: str, told: NightTold) -> None:
    try:
        push_to_gateway(
            gateway,
            job="windtunnel_nightly",
            registry=night_registry(told),
            grouping_key={"suite": told.suite},
            timeout=_OTHERS_S,
        )
    except (OSError, ValueError) as error:
        stderr().print(f"the push gateway {gateway} did not take the night: {error}", markup=False)


def _post(name: str, message: Mapping[str, object]) -> None:
    """A chat that does not answer costs a warning, not the night."""
    url = secret(name)
    if url is None:
        raise SpecError(f"--webhook-env {name}: there is no such variable, or it is empty")
    if not url.startswith(("http://", "https://")):
        raise SpecError(f"--webhook-env {name}: the variable holds no http URL")
    request = urllib.request.Request(  # checked above
        url, json.dumps(message).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_OTHERS_S):
            pass
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        stderr().print(f"the webhook of ${name} did not take the night: {reason}", markup=False)
