"""A night told: the same page for the same nights, nothing cried that pairs have not shown, and
outputs that programs can read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from reports.confirm import Finding
from reports.html import render_html
from reports.markdown import render_markdown
from reports.model import Listing
from reports.night_metrics import openmetrics, prometheus_text
from reports.night_outputs import (
    IndexEntry,
    chat_message,
    counts_of,
    index_entry,
    index_report,
    night_document,
)
from reports.night_report import night_report, night_sentence
from reports.night_told import LeftOut, NightTold, good_run, night_told, to_confirm
from reports.testing import Page
from results.events import Event, Said, new_event_id
from results.measurement import Measurement
from results.nights import NightRole, NightRun, night_runs, night_tags
from results.record import Failed, RunRecord
from results.testing import make_record, make_run_id

FIRST = date(2026, 10, 1)
NIGHTS = 24
Nights = dict[str, tuple[NightRun, ...]]


class Book:
    """Records of nights, made one by one; a run-to-run spread of 1 %."""

    def __init__(self, seed: int = 7) -> None:
        self._rng = np.random.default_rng(seed)
        self.records: list[RunRecord] = []

    def add(
        self,
        night: int,
        role: NightRole = NightRole.RUN,
        level: float = 0.1,
        *,
        suspect: str = "",
        name: str = "",
        engine: str = "1",
        failed: bool = False,
    ) -> None:
        name = name or ("canary" if role is NightRole.CANARY else "chat")
        on = FIRST + timedelta(days=night)
        number = len(self.records)
        started = datetime.combine(on, datetime.min.time(), UTC) + timedelta(seconds=number)
        value = level * float(np.exp(self._rng.normal(0.0, 0.01)))
        tags = night_tags(
            night_id=f"n{night:03}",
            on=on,
            suite="s",
            series=name,
            role=role,
            slot=f"{name}#{number}",
            suspect=suspect,
            metrics=("ttft_p50",),
        )
        self.records.append(
            make_record(
                run_id=make_run_id(number, started),
                started_at=started,
                name=name,
                spec={"name": name, "tags": tags},
                environment_hash=f"env-{engine}",
                resolved={"engine_version": engine},
                measurements=(Measurement(metric="ttft_s", statistic="p50", value=value, n=100),),
                **({"outcome": Failed(stage="load", error="e", message="<b>")} if failed else {}),
            )
        )

    def night(self, night: int, level: float = 0.1, canary: float = 0.1, engine: str = "1") -> None:
        self.add(night, NightRole.CANARY, canary)
        for _ in range(3):
            self.add(night, level=level, engine=engine)
        self.add(night, NightRole.CANARY, canary)

    def pairs(self, night: int, good: float, new: float, engine: str = "2", num: int = 5) -> None:
        for pair in range(num):
            sides = [(NightRole.GOOD, good, "1"), (NightRole.NEW, new, engine)]
            for role, level, version in sides if pair % 2 == 0 else sides[::-1]:
                self.add(night, role, level, suspect="h100-spot/chat", engine=version)

    def told(self, night: int = NIGHTS - 1, events: Sequence[Event] = ()) -> NightTold:
        nights: Nights = night_runs(self.records)
        left_out = [LeftOut(what="code", why="the engine <died>")]
        return night_told(nights, f"n{night:03}", events, left_out=left_out)


@pytest.fixture
def book() -> Book:
    made = Book()
    for night in range(NIGHTS - 1):
        made.night(night)
    return made


LAST = NIGHTS - 1


def findings(told: NightTold) -> dict[str, Finding]:
    return {d.suspicion.series: d.finding for d in told.decisions}


def test_a_quiet_night_says_so(book: Book) -> None:
    book.night(LAST)
    told = book.told()
    assert told.decisions == () and counts_of(told)["unchanged"] == 2
    assert night_sentence(told).startswith("0 regressions confirmed, 2 series unchanged")


def test_a_slow_night_is_watched_until_pairs_were_made(book: Book) -> None:
    book.night(LAST, level=0.115, engine="2")
    told = book.told()
    (group,) = to_confirm(told, 5)
    assert [s.series for s in group] == ["h100-spot/chat/ttft_s p50"]
    good = good_run(group, [run for runs in night_runs(book.records).values() for run in runs])
    assert good is not None and good.night_id == f"n{LAST - 1:03}"
    assert told.found(Finding.REGRESSION) == ()


def test_a_finding_says_how_to_look_again_at_runs_that_there_are(book: Book) -> None:
    book.night(LAST, level=0.115, engine="2")
    report = night_report(book.told(), "c")
    (finding,) = next(s for s in report.sections if s.key == "findings").sections
    (command,) = [b.text for b in finding.blocks if isinstance(b, Listing)]
    words = command.split()
    assert words[:2] == ["windtunnel", "compare"]
    runs: dict[int, list[str]] = {LAST - 1: [], LAST: []}
    for record in book.records:
        night = (record.started_at.date() - FIRST).days
        if record.name == "chat" and night in runs:
            runs[night].append(record.run_id)
    assert [word.split(",") for word in words[2:]] == [runs[LAST - 1], runs[LAST]]


def test_pairs_make_a_regression_of_it_and_name_what_differs(book: Book) -> None:
    book.night(LAST, level=0.115, engine="2")
    book.pairs(LAST, 0.1, 0.115)
    told = book.told()
    (found,) = told.found(Finding.REGRESSION)
    assert found.confirmation is not None and found.confirmation.change.change is not None
    assert found.confirmation.change.change == pytest.approx(0.15, abs=0.03)
    assert [(d.key, d.a, d.b) for d in found.differences] == [("resolved.engine_version", "1", "2")]
    assert to_confirm(told, 5) == ()


def test_pairs_that_a_kill_cut_short_go_on(book: Book) -> None:
    book.night(LAST, level=0.115, engine="2")
    book.pairs(LAST, 0.1, 0.115, num=3)
    told = book.told()
    assert told.found(Finding.REGRESSION) == ()
    ((one,),) = to_confirm(told, 5)
    assert one.series == "h100-spot/chat/ttft_s p50"


def test_pairs_that_are_alike_take_it_back(book: Book) -> None:
    book.night(LAST, level=0.115)
    book.pairs(LAST, 0.115, 0.115, engine="1")
    assert set(findings(book.told()).values()) <= {Finding.NOT_CONFIRMED, Finding.SUSPECTED}


def test_what_moves_with_the_canary_is_the_environment(book: Book) -> None:
    book.night(LAST, level=0.13, canary=0.13)
    told = book.told()
    assert set(findings(told).values()) == {Finding.ENVIRONMENT} and len(told.decisions) == 2


def test_an_expected_step_is_not_told_again(book: Book) -> None:
    book.night(LAST, level=0.115, engine="2")
    now = datetime(2026, 11, 1, tzinfo=UTC)
    event = Event(
        event_id=new_event_id(now),
        at=now,
        said=Said.EXPECTED,
        night=FIRST + timedelta(days=LAST),
        reason="a safer default",
        series="h100-spot/chat/*",
    )
    told = book.told(events=[event])
    assert told.found(Finding.REGRESSION, Finding.SUSPECTED, Finding.WATCHED) == ()
    assert to_confirm(told, 5) == ()


def test_a_night_without_a_value_says_why(book: Book) -> None:
    book.add(LAST, failed=True)
    told = book.told()
    assert told.history is None and told.num_failed == 1
    assert night_sentence(told).startswith("nothing of this night has a value")
    page = render_html(night_report(told, "windtunnel nightly s.yaml"))
    assert "load: &lt;b&gt;" in page and "the engine &lt;died&gt;" in page


@pytest.fixture
def told(book: Book) -> NightTold:
    book.night(LAST, level=0.115, engine="2")
    book.pairs(LAST, 0.1, 0.115)
    return book.told()


def test_the_same_night_is_the_same_page(book: Book, told: NightTold) -> None:
    once = render_html(night_report(told, "c"))
    assert once == render_html(night_report(book.told(), "c"))
    assert len(once.encode()) < 2_000_000
    markdown = render_markdown(night_report(told, "c"))
    assert markdown.startswith("# s, night of 2026-10-24\n\n1 regression confirmed")
    assert "▁" in markdown  # the small lines of the tables


def test_a_page_of_many_series_stays_below_two_megabytes() -> None:
    made = Book()
    names = [f"series-{i}" for i in range(60)]
    for night in range(40):
        for name in names:
            made.add(night, name=name, level=0.2 if night > 37 else 0.1)
    page = render_html(night_report(made.told(39), "c"))
    assert len(page.encode()) < 2_000_000


def test_programs_can_read_it(told: NightTold) -> None:
    document = json.loads(json.dumps(night_document(told), default=str, allow_nan=False))
    assert document["counts"]["regression"] == 1
    assert document["findings"][0]["finding"] == "regression confirmed"
    values = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in read_prometheus(prometheus_text(told))
        for sample in family.samples
    }
    key = ("windtunnel_night_findings", ("finding", "regression"), ("suite", "s"))
    assert values[key] == 1.0
    names = {family.name for family in read_openmetrics(openmetrics(told))}
    assert "windtunnel_night_change_ratio" in names


def test_a_chat_gets_the_sentence_and_no_markup_of_ours(told: NightTold) -> None:
    message = chat_message(told, "https://example.org/n.html")
    text = message["blocks"][0]["text"]["text"]
    assert message["text"].startswith("1 regression confirmed")
    assert "regression confirmed: h100-spot/chat/ttft_s p50 +1" in text
    assert text.endswith("https://example.org/n.html") and "<" not in text


def test_the_index_has_every_night_the_newest_first(told: NightTold) -> None:
    entry = index_entry(told)
    older = IndexEntry(night_id="n0", date="2026-10-01", sentence="x.", page="a.html", counts={})
    page = render_html(index_report("s", [older, entry]))
    assert page.index("2026-10-24") < page.index("2026-10-01")
    assert f'<a href="{entry.page}">' in page
    assert IndexEntry(**json.loads(json.dumps({f: getattr(entry, f) for f in entry.__slots__})))


# Marks of every chart, once all are drawn.
MARKS = """
(async () => {
  const start = performance.now();
  const all = [...document.querySelectorAll('.chart')];
  while (all.some(c => !['drawn', 'failed'].includes(c.dataset.state))) {
    if (performance.now() - start > 30000) throw new Error('charts are not drawn after 30 s');
    await new Promise(requestAnimationFrame);
  }
  return all.map(c => [...c.querySelectorAll('.role-mark path')].filter(m =>
    (m.getAttribute('d') ?? '').length > 4).length);
})()
"""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_a_night_in_a_browser(told: NightTold, page: Page, tmp_path: Path, width: int) -> None:
    path = tmp_path / "night.html"
    path.write_text(render_html(night_report(told, "c")), encoding="utf-8")
    page.load(path, width=width, height=900)
    (marks,) = page.run(MARKS)
    assert marks > 2 * NIGHTS  # a point for each night, and one for each run
    assert page.run(WIDER) <= 0
    assert page.problems == [] and page.requests == [path.as_uri()]
