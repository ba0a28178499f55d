"""The page in a real browser: charts are drawn, nothing is asked for, and people can read it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reports.html import render_html
from reports.run_report import run_report
from reports.testing import POOR_CONTRAST, Page

pytestmark = pytest.mark.browser

# Resolves when every chart outside a closed fold is drawn or has failed; rejects after 30 s.
DRAWN = """
(async () => {
  const open = () => [...document.querySelectorAll('.chart')]
    .filter(c => !c.closest('details:not([open])'));
  const start = performance.now();
  while (open().some(c => !['drawn', 'failed'].includes(c.dataset.state))) {
    if (performance.now() - start > 30000) throw new Error('charts are not drawn after 30 s');
    await new Promise(requestAnimationFrame);
  }
  return open().map(c => c.dataset.state === 'drawn' ? 'drawn' : c.textContent);
})()
"""

# Marks that have a shape, for each chart by its figure's id.
MARKS = """
Object.fromEntries([...document.querySelectorAll('.chart')].map(c => [
  c.closest('figure').id,
  [...c.querySelectorAll('.role-mark path, .role-mark line, .role-mark text')].filter(m =>
    m.tagName !== 'path' || (m.getAttribute('d') ?? '').length > 4).length,
]))
"""

# What sticks out: of the page sideways (but for what scrolls by itself), or out of its chart.
STICKS_OUT = """
(() => {
  const found = [];
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) found.push('the page scrolls sideways');
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('.scroll, pre, .tail, .unseen, .skip, svg')) continue;
    const box = e.getBoundingClientRect();
    if (box.width && box.right > width + 1) found.push(`${e.tagName}.${e.className}`);
  }
  for (const text of document.querySelectorAll('.chart svg text')) {
    if (!text.textContent) continue;
    const inner = text.getBoundingClientRect();
    const outer = text.closest('.chart').getBoundingClientRect();
    if (inner.left < outer.left - 2 || inner.right > outer.right + 2 ||
        inner.top < outer.top - 2 || inner.bottom > outer.bottom + 2)
      found.push(`${text.closest('figure').id}: ${text.textContent}`);
  }
  return found;
})()
"""

KINDS = ("serving", "training", "failed", "pretended", "several", "dots")


def several(make: SimpleNamespace) -> Any:
    """A served, a failed and a training run of many ranks, in one report."""
    steps = make.step_samples(num_steps=400, ranks=8)
    return make.serving_run(0) + make.failed_run(1) + make.training_run(2, samples=steps)


def write(runs: Any, folder: Path) -> Path:
    path = folder / "report.html"
    report = run_report(runs.records, runs.table, command="windtunnel run a.yaml")
    path.write_text(render_html(report), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def report_of(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make: SimpleNamespace,
) -> Callable[[str], Path]:
    """The page of one kind of report, rendered once."""

    @cache
    def render(kind: str) -> Path:
        if kind == "several":
            runs = several(make)
        elif kind == "dots":
            samples = make.request_samples(n=900, failures=9, rate=20.0)
            runs = make.serving_run(samples=samples)
        else:
            runs = request.getfixturevalue(kind)
        return write(runs, tmp_path_factory.mktemp(kind))

    return render


def open_folds(page: Page) -> None:
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")


def assert_quiet(page: Page, path: Path) -> None:
    assert page.problems == []
    assert page.requests == [path.as_uri()]


@pytest.mark.parametrize("kind", KINDS)
def test_charts_are_drawn_and_nothing_is_asked_for(
    page: Page, report_of: Callable[[str], Path], kind: str
) -> None:
    path = report_of(kind)
    page.load(path)
    open_folds(page)
    states = page.run(DRAWN)
    assert set(states) <= {"drawn"}
    marks = page.run(MARKS)
    assert len(marks) == {"training": 4, "failed": 0, "several": 12}.get(kind, 8)
    assert all(count > 0 for count in marks.values()), marks
    if kind == "dots":
        assert marks["timeline"] > 1500
    assert_quiet(page, path)


@pytest.mark.parametrize("kind", ["serving", "training", "failed", "several", "pretended"])
def test_a_phone_shows_it_without_sideways_scrolling_and_with_contrast(
    page: Page, report_of: Callable[[str], Path], kind: str
) -> None:
    path = report_of(kind)
    page.load(path, width=390, height=844)
    if kind != "several":
        open_folds(page)
    page.run(DRAWN)
    assert page.run(STICKS_OUT) == []
    for dark in (False, True):
        page.scheme(dark)
        contrast = page.run(POOR_CONTRAST)
        assert contrast["seen"] > 40
        assert contrast["poor"] == [], f"{dark=}"
    assert_quiet(page, path)


def test_dark_mode_is_dark_and_charts_follow_without_a_reload(
    page: Page, report_of: Callable[[str], Path]
) -> None:
    page.load(report_of("serving"))
    page.run(DRAWN)
    ground = "getComputedStyle(document.body).backgroundColor"
    line = "getComputedStyle(document.querySelector('#ecdf-ttft_s .mark-line path')).stroke"
    light = page.run(ground), page.run(line)
    page.scheme(dark=True)
    dark = page.run(ground), page.run(line)
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] == "rgb(20, 24, 29)"
    assert light[1] == "rgb(33, 102, 172)"
    assert dark[1] == "rgb(106, 174, 234)"


def test_paper_is_white_in_dark_mode_too(page: Page, report_of: Callable[[str], Path]) -> None:
    page.load(report_of("serving"), dark=True)
    page.run(DRAWN)
    feature = {"name": "prefers-color-scheme", "value": "dark"}
    page.command("Emulation.setEmulatedMedia", media="print", features=[feature])
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.command("Emulation.setEmulatedMedia", media="", features=[])


def test_a_bar_tells_its_source_and_resolution(
    page: Page, report_of: Callable[[str], Path]
) -> None:
    page.load(report_of("serving"))
    page.run(DRAWN)
    box = page.run(
        """(() => { const bar = document.querySelectorAll('#startup-plot .mark-rect path')[3];
        bar.scrollIntoView({ block: 'center', behavior: 'instant' });
        const b = bar.getBoundingClientRect();
        return { x: b.x + b.width / 2, y: b.y + b.height / 2 }; })()"""
    )
    for shift in (0, 1):  # the first move enters the chart, the second lies on the bar
        page.command("Input.dispatchMouseEvent", type="mouseMoved", x=box["x"] + shift, y=box["y"])
    tip = page.run("document.getElementById('vg-tooltip-element')?.innerText ?? ''")
    assert "engine imports" in tip
    assert "log" in tip
    assert "± 50.0 ms" in tip
    assert "15.7 s" in tip


def test_ctrl_and_wheel_zoom_a_chart_and_the_wheel_alone_does_not(
    page: Page, report_of: Callable[[str], Path]
) -> None:
    page.load(report_of("serving"))
    page.run(DRAWN)
    axis = (
        "[...document.querySelectorAll('#timeline .role-axis-label text')]"
        ".map(t => t.textContent).join()"
    )
    box = page.run(
        """(() => { const c = document.querySelector('#timeline .chart');
        c.scrollIntoView({ block: 'center', behavior: 'instant' });
        const b = c.getBoundingClientRect();
        return { x: b.x + b.width / 2, y: b.y + b.height / 2 }; })()"""
    )
    frames = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r())))"

    def wheel(modifiers: int) -> None:
        page.command(
            "Input.dispatchMouseEvent",
            type="mouseWheel",
            x=box["x"],
            y=box["y"],
            deltaX=0,
            deltaY=-240 if modifiers else 1,
            modifiers=modifiers,
        )
        page.run(frames)

    before = page.run(axis)
    wheel(0)
    assert page.run(axis) == before
    wheel(2)  # 2 is Ctrl
    assert page.run(axis) != before


def test_it_can_be_used_by_keyboard_and_by_ear(
    page: Page, report_of: Callable[[str], Path]
) -> None:
    page.load(report_of("several"))
    page.run(DRAWN)
    for kind in ("rawKeyDown", "keyUp"):
        page.command("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
    assert page.run("document.activeElement.className") == "skip"
    assert page.run("document.activeElement.getBoundingClientRect().left") >= 0
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.run(outline) == "solid"
    levels = page.run(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    open_folds(page)
    assert set(page.run(DRAWN)) == {"drawn"}
    charts = page.run(
        """[...document.querySelectorAll('.chart')].map(c => [c.getAttribute('role'),
        c.getAttribute('aria-label').length,
        c.closest('figure').querySelectorAll('tbody tr').length])"""
    )
    assert len(charts) == 12
    silent = [c for c in charts if c[0] != "img" or c[1] < 30 or not c[2]]
    assert silent == []
    assert page.run("[...document.querySelectorAll('.scroll')].every(s => s.tabIndex === 0)")


def test_a_link_to_a_folded_run_opens_it(page: Page, report_of: Callable[[str], Path]) -> None:
    page.load(report_of("repeats"))
    page.run(DRAWN)
    assert page.run("document.querySelectorAll('.chart[data-state]').length") == 2
    page.run("document.querySelector('nav a[href=\"#run-2\"]').click()")
    page.run(
        """new Promise(done => { const look = () =>
        document.querySelector('#run-2 details').open ? done() : setTimeout(look, 5); look(); })"""
    )
    assert set(page.run(DRAWN)) == {"drawn"}
    assert page.run("document.querySelectorAll('.chart[data-state=drawn]').length") == 10


def test_a_log_opens_at_its_end(page: Page, report_of: Callable[[str], Path]) -> None:
    page.load(report_of("failed"))
    gap = page.run(
        """(() => { const t = document.querySelector('.tail'), p = t.querySelector('pre');
        return [p.offsetHeight - t.clientHeight,
          p.getBoundingClientRect().bottom - t.getBoundingClientRect().bottom]; })()"""
    )
    assert gap[0] > 50  # there is more than fits
    assert abs(gap[1]) < 2


def test_markup_in_a_record_does_nothing(page: Page, tmp_path: Path, make: SimpleNamespace) -> None:
    attack = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
    samples = make.request_samples(n=60, failures=2)
    samples.error[samples.error != ""] = attack
    runs = make.serving_run(
        samples=samples, name=attack, placement=make.placement(pool=attack, virtual=True)
    )
    path = write(runs, tmp_path)
    page.load(path)
    open_folds(page)
    assert set(page.run(DRAWN)) == {"drawn"}
    assert page.run("document.title").startswith("</script>")
    assert page.run("document.images.length") == 0
    assert_quiet(page, path)


def test_the_policy_stops_a_script_that_is_not_ours(
    page: Page, report_of: Callable[[str], Path]
) -> None:
    path = report_of("serving")
    page.load(path)
    page.run(DRAWN)
    page.run(
        """(() => { const s = document.createElement('script');
        s.textContent = "document.title = 'owned'"; document.body.append(s); })()"""
    )
    assert page.run("document.title") != "owned"
    assert any("Content Security Policy" in problem for problem in page.problems)
    assert page.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'stopped')") == "stopped"
    assert all(not url.startswith("http") for url in page.requests)
