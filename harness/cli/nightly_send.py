"""A night's outputs: its page and index, files for Prometheus, a push gateway, a chat's webhook.

Each is tried whatever becomes of the others, and what did not arrive is told and can be sent again
(``windtunnel nights publish``): a night is its records, and no output loses it.
"""

from __future__ import annotations

import http.client
import json
import re
import shlex
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any

from harness.cli.again import and_so
from harness.cli.nightly_options import Telling
from harness.cli.output import json_text, stderr, write_whole, writing
from harness.errors import HarnessError
from harness.settings import read_settings
from reports.html import render_html
from reports.markdown import render_markdown
from reports.model import Report
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
from reports.night_told import NightTold
from results.errors import StoreUnwritable
from results.pages import Pages, without_password

OTHERS_S = 10.0  # for somebody else's server to answer
_TOKEN = re.compile(r"[a-z]+(_[a-z]+){1,5}")  # how Slack says what was wrong: no_service


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """``what``: the option that asked for it, without a secret."""

    what: str
    why: str


@dataclass(slots=True, kw_only=True)
class Published:
    """``page``: where the page lies, "" where it could not be written anywhere."""

    page: str = ""
    unsent: list[Unsent] = field(default_factory=list)

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """The trouble of one output is that output's alone."""
        try:
            yield
        except (HarnessError, StoreUnwritable) as error:
            self.unsent.append(Unsent(what=what, why=str(error)))


def publish(told: NightTold, telling: Telling, command: str) -> Published:
    """Write and send everything that is asked for. ``command``: the one that makes it again."""
    report = night_report(told, command)
    done = Published()
    home = str(read_settings().home / "nights" / "pages")
    if telling.publish:
        with done.trying(f"--publish {without_password(telling.publish)}"):
            done.page = _put_pages(told, report, telling.publish)
    link = done.page if "://" in done.page else ""
    if not done.page:
        with done.trying("the page"):
            done.page = _put_pages(told, report, home)
    if telling.markdown:
        with done.trying("--markdown"), writing(telling.markdown, "--markdown"):
            telling.markdown.write_text(render_markdown(report), encoding="utf-8")
    for option, path, text in (
        ("--prometheus", telling.prometheus, prometheus_text(told)),
        ("--openmetrics", telling.openmetrics, openmetrics(told)),
    ):
        if path is not None:
            with done.trying(option):
                write_whole(path, option, text)
    if telling.pushgateway:
        with done.trying(f"--pushgateway {without_password(telling.pushgateway)}"):
            _push(telling.pushgateway, told)
    if telling.webhook_env:
        with done.trying(f"--webhook-env {telling.webhook_env}"):
            post_to_chat(telling.webhook_url(), chat_message(told, link))
    return done


def say_unsent(done: Published, told: NightTold, telling: Telling) -> None:
    """On stderr: what did not arrive, and the command that sends it again."""
    for one in done.unsent:
        stderr().print(f"did not arrive: {one.what}: {one.why}", markup=False, soft_wrap=True)
    if done.unsent:
        words = ["windtunnel", "nights", "publish", told.night_id, "--suite", told.suite]
        again = shlex.join([*words, *telling.words()]) + and_so("--store")
        stderr().print(
            f"the night is kept; to send it again: {again}", markup=False, soft_wrap=True
        )


def _put_pages(told: NightTold, report: Report, where: str) -> str:
    """The page, its Markdown and JSON, and the index of all nights there."""
    name = page_name(told)
    pages = Pages(f"{where.rstrip('/')}/{told.suite}")
    pages.put(f"{name}.html", render_html(report))
    pages.put(f"{name}.md", render_markdown(report))
    pages.put(f"{name}.json", json_text(SCHEMA, night_document(told)) + "\n")
    pages.put(f"{name}.entry.json", json.dumps(asdict(index_entry(told)), sort_keys=True))
    pages.put_index("index.html", "*.entry.json", lambda files: _index(pages, told.suite, files))
    return pages.at(f"{name}.html")


def _index(pages: Pages, suite: str, files: Mapping[str, bytes]) -> str:
    """Of every night that was ever published there; one that cannot be read is left out."""
    found = []
    for name, data in sorted(files.items()):
        try:
            found.append(IndexEntry(**json.loads(data)))
        except (ValueError, TypeError):
            stderr().print(f"{pages.at(name)} is no entry of an index; left out", markup=False)
    return render_html(index_report(suite, found))


# ---- over HTTP ----


def _push(gateway: str, told: NightTold) -> None:
    try:
        push(gateway, told, OTHERS_S)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise HarnessError(_reason(error)) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A message that was sent on would be sent as a question without it."""

    def redirect_request(self, *_: Any) -> None:
        return None


def post_to_chat(url: str, message: Mapping[str, object]) -> None:
    """To a Slack-like incoming webhook. Raises HarnessError, whose text holds nothing of ``url``,
    which is a secret."""
    data, kind = json.dumps(message).encode(), {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(url, data, kind)
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=OTHERS_S):
            pass
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise HarnessError(_without(url, _reason(error))) from None


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        with error:
            said = error.read(200).decode("utf-8", "replace").strip()
        named = HTTPStatus(error.code).phrase if error.code in list(HTTPStatus) else ""
        token = f": {said}" if _TOKEN.fullmatch(said) else ""
        return f"the server answered {error.code} {named}".rstrip() + token
    inner = getattr(error, "reason", error)
    if isinstance(inner, TimeoutError):
        return f"no answer within {OTHERS_S:g} s"
    if isinstance(inner, OSError):
        return inner.strerror or str(inner) or type(inner).__name__
    # What http.client says of an answer may quote the question.
    return f"no answer that could be read ({type(error).__name__})"


def _without(url: str, text: str) -> str:
    """Not even a part of it: a host, a token."""
    for part in re.split(r"[/?#@&=]+", url):
        if len(part) > 6:
            text = text.replace(part, "…")
    return text
