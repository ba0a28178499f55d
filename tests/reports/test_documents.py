"""The report as HTML and as Markdown: complete, deterministic, deaf to a record's markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reports import html
from reports.html import chart_library, render_html
from reports.markdown import escape, render_markdown
from reports.model import Paragraph, Report, Section
from reports.run_report import run_report
from results.record import Failed

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> | `a` <!--"
MAX_BYTES = 2 * 1024 * 1024


class Tags(HTMLParser):
    """Counts tags and keeps every attribute that could make a request."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.addresses: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "srcset"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            assert not name.startswith("on"), (tag, name)


def parse(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def hostile(make: SimpleNamespace) -> Any:
    """A run whose every text is an attack."""
    samples = make.request_samples(n=40, failures=3)
    error = samples.error.copy()
    error[error != ""] = HOSTILE
    runs = make.serving_run(samples=replace(samples, error=error))
    (record,) = runs.records
    phases = tuple(replace(p, name=p.name + HOSTILE, detail=HOSTILE) for p in record.startup.phases)
    bad = replace(
        record,
        name=HOSTILE,
        outcome=Failed(stage="load", error=HOSTILE, message=HOSTILE, log_tail=(HOSTILE, "```")),
        spec={HOSTILE: HOSTILE},
        seeds={HOSTILE: 1},
        startup=replace(record.startup, phases=phases),
        placement=make.placement(pool=HOSTILE, virtual=True),
        environment=make.environment(**{HOSTILE: HOSTILE}),
    )
    return make.Runs((bad,), {(bad.run_id, "requests"): runs.table(record, "requests")})


def test_the_page_is_one_file_that_asks_for_nothing(serving: Any) -> None:
    html = render_html(run_report(serving.records, serving.table, command="windtunnel run a.yaml"))
    tags = parse(html)
    assert all(a.startswith(("#", "data:,")) for a in tags.addresses)
    assert "default-src 'none'" in html
    assert "@import" not in html.replace(chart_library(), "")
    assert len(tags.ids) == len(set(tags.ids))
    assert html.count(chart_library()) == 1
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert tags.tags[landmark] == 1


def test_the_library_can_stand_inside_a_script_element() -> None:
    assert "</script" not in chart_library()
    assert "<!--" not in chart_library()


def test_the_same_records_give_the_same_bytes(make: SimpleNamespace) -> None:
    first, second = (
        run_report(runs.records, runs.table, command="x")
        for runs in (make.serving_run(), make.serving_run())
    )
    assert render_html(first) == render_html(second)
    assert render_markdown(first) == render_markdown(second)


def test_twenty_thousand_requests_fit(make: SimpleNamespace) -> None:
    samples = make.request_samples(n=20_000, failures=150, rate=60.0)
    runs = make.serving_run(samples=samples)
    html = render_html(run_report(runs.records, runs.table))
    assert len(html.encode()) < MAX_BYTES
    assert "A sample of 2,000 of 20,004 requests, evenly by time; extremes kept" in html


def test_twelve_long_runs_fit_as_well(make: SimpleNamespace) -> None:
    samples = make.request_samples(n=500, rate=50.0)
    runs = make.serving_run(0, samples=samples)
    for i in range(1, 12):
        runs = runs + make.serving_run(i, samples=samples)
    html = render_html(run_report(runs.records, runs.table))
    assert len(html.encode()) < MAX_BYTES
    assert html.count(chart_library()) == 1


def test_a_page_without_plots_carries_no_script(failed: Any) -> None:
    html = render_html(run_report(failed.records, failed.table))
    assert "script" not in parse(html).tags
    assert "script-src 'none'" in html
    assert len(html) < 40_000


def test_hostile_text_stays_text(make: SimpleNamespace) -> None:
    runs = hostile(make)
    html = render_html(run_report(runs.records, runs.table, command=HOSTILE))
    tags = parse(html)
    assert "img" not in tags.tags
    # Two programs, the chart config, and one specification per chart.
    charts = html.count('class="chart"')
    assert charts > 3
    assert tags.tags["script"] == 3 + charts
    assert "&lt;img src=x onerror=alert(1)&gt;" in html


def test_only_our_two_scripts_may_run(serving: Any) -> None:
    html = render_html(run_report(serving.records, serving.table))
    policy = re.search(r'content="([^"]*script-src[^"]*)"', html)
    assert policy is not None
    assert policy.group(1).count("'sha256-") == 2
    assert "unsafe-eval" not in policy.group(1)
    assert "script-src 'unsafe-inline'" not in policy.group(1)


def test_a_number_that_json_lacks_is_refused(serving: Any) -> None:
    report = run_report(serving.records, serving.table)
    section = next(s for s in report.sections if s.key == "latency")
    plots = section.blocks[0]
    broken = replace(plots.plots[0], spec={"a": float("nan")})  # type: ignore[union-attr]
    bad = replace(section, blocks=(replace(plots, plots=(broken,)),))  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="JSON compliant"):
        render_html(replace(report, sections=(bad,)))


def test_markdown_tells_the_same(serving: Any) -> None:
    report = run_report(serving.records, serving.table, command="windtunnel run a.yaml")
    text = render_markdown(report)
    assert text.startswith(
        f"# quickstart 1/3\n\n{escape(report.sentence)}\n\n**valid** · **measured**"
    )
    assert "\n| TTFT" in text
    assert "- TTFT: send intended → first non-empty token of a request\n" in text
    assert "```\nwindtunnel run a.yaml\n```" in text
    for section in report.sections:
        assert f"\n## {section.heading}\n" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_markdown_of_hostile_text_is_text(make: SimpleNamespace) -> None:
    runs = hostile(make)
    text = render_markdown(run_report(runs.records, runs.table))
    fenced = re.split(r"^(`{3,})\n.*?^\1$", text, flags=re.M | re.S)
    outside = "".join(part for part in fenced if not part.startswith("```"))
    assert "\\<img src=x" in outside
    assert not re.search(r"(?<!\\)<", outside)
    rows = [line for line in outside.splitlines() if line.startswith("|")]
    assert rows
    assert "````\n" in text  # a fence that the log's own ``` cannot close


def test_a_report_without_a_plot_or_a_fact_renders() -> None:
    report = Report(
        title="t",
        sentence="s",
        sections=(Section(key="k", heading="h", blocks=(Paragraph(text="p & q"),)),),
    )
    assert '<p class="plain">p &amp; q</p>' in render_html(report)
    assert render_markdown(report) == "# t\n\ns\n\n## h\n\np \\& q\n"


def test_the_chart_library_is_bundled_once_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is what would be bundled; a folder that cannot be written is no error."""
    made: list[str] = []

    def bundled(version: str) -> str:
        made.append(version)
        return "window.vegaEmbed = 1; // é"

    monkeypatch.setattr(html, "_bundled", bundled)
    monkeypatch.setattr(html, "__file__", str(tmp_path / "html.py"))
    fresh = html.chart_library.__wrapped__
    assert fresh() == fresh() == "window.vegaEmbed = 1; // é"
    assert len(made) == 1
    assert [p.suffix for p in (tmp_path / "__pycache__").iterdir()] == [".js"]
    monkeypatch.setattr(html, "__file__", str(tmp_path / "file" / "html.py"))
    (tmp_path / "file").write_text("in the way")
    assert fresh() == fresh()
    assert len(made) == 3
