"""The page in a real browser: it answers, it can be used by keyboard and by ear, and on a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reports.testing import POOR_CONTRAST, Page
from results.api.testing import served
from results.recommendation.profile import TrainingStep

pytestmark = pytest.mark.browser

GEMMA = "google/gemma-2-27b-it"
TOKEN = "s3cret-of-the-tests"

# Resolves once the newest question is answered.
ANSWERED = """
(async () => {
  const start = performance.now();
  while (document.getElementById('result').getAttribute('aria-busy') !== 'false') {
    if (performance.now() - start > 20000) throw new Error('no answer after 20 s');
    await new Promise(requestAnimationFrame);
  }
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
})()
"""
SAID = "document.getElementById('said').textContent"
ROWS = """[...document.querySelectorAll('tr.one')].map(r =>
  [r.querySelector('th').firstChild.textContent, r.cells[2].firstChild.textContent])"""
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def shown(page: Page, url: str, path: str = "/", **more: Any) -> None:
    page.load(url + path, **more)
    page.run(ANSWERED)


def pressed(page: Page, key: str, code: int, text: str = "") -> None:
    page.command(
        "Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=text
    )
    page.command("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)


def test_a_link_is_a_question_and_its_answer(page: Page, url: str) -> None:
    shown(page, url, f"/?model={GEMMA}&rate_rps=4&target_ttft_milliseconds=250")
    assert page.run(SAID).startswith(
        "2 deployments do what was asked. First: 2 replicas of 1 × H100"
    )
    assert page.run(ROWS) == [
        ["2 replicas of 1 × H100", "$12.00/h"],
        ["4 replicas of 4 × TPU-V6E", "$32.00/h"],
    ]
    assert page.run("document.getElementById('load').value") == "4"
    assert page.run("document.querySelectorAll('#plot circle.dot').length") == 2
    assert "$12.00" in page.run("document.querySelector('#plot svg').getAttribute('aria-label')")
    assert page.problems == []
    assert all(asked.startswith((url, "data:")) for asked in page.requests)


def test_a_changed_form_asks_again_and_changes_the_link(page: Page, url: str) -> None:
    shown(page, url)
    page.run(f"document.getElementById('model').value = '{GEMMA}'")
    page.run("document.querySelector('[name=objective][value=fastest]').click()")
    page.run(ANSWERED)
    assert page.run("location.search") == "?model=google%2Fgemma-2-27b-it&objective=fastest"
    # The H100 has the shortest TTFT and the shortest gaps.
    assert page.run(ROWS)[0][0] == "1 × H100"


def test_no_answer_says_why_and_how_far_and_can_be_relaxed(page: Page, url: str) -> None:
    shown(page, url, f"/?model={GEMMA}&target_ttft_milliseconds=50")
    assert page.run(SAID) == "Nothing measured does all of this"
    headings = page.run("[...document.querySelectorAll('#answer h2')].map(h => h.textContent)")
    assert headings[:2] == ["What comes nearest", "What to measure next"]
    assert page.run("document.querySelector('tr.one .missed').textContent") != ""
    page.run("document.querySelector('#answer .row button').click()")
    page.run(ANSWERED)
    assert page.run("document.getElementById('target_ttft_milliseconds').value") == "100"
    assert page.run(ROWS)[0][0] == "1 × H100"


def test_a_misspelt_model_is_one_click_from_right(page: Page, url: str) -> None:
    shown(page, url, "/?model=google/gemma-2-27b")
    assert page.run(SAID) == "Nothing measured does all of this"
    page.run("document.querySelector('#answer .row button').click()")
    page.run(ANSWERED)
    assert page.run(SAID).startswith("3 deployments do")


def test_what_is_wrong_stands_beside_its_field(page: Page, url: str) -> None:
    shown(page, url, "/?min_repeats=1.5")
    assert page.run("document.activeElement.id") == "min_repeats"
    described = page.run(
        "document.getElementById(document.activeElement.getAttribute('aria-describedby'))"
        ".textContent"
    )
    assert "integer" in described
    page.run("document.getElementById('min_repeats').value = '1'")
    page.run("document.querySelector('form button.main').click()")
    page.run(ANSWERED)
    assert page.run("document.querySelectorAll('[aria-invalid], .field-error').length") == 0


@pytest.mark.parametrize(
    "path",
    [
        f"/?model={GEMMA}&rate_rps=4&target_ttft_milliseconds=250&percentile=99",
        f"/?model={GEMMA}&target_ttft_milliseconds=50",
        "/?objective=pareto",
    ],
)
def test_a_phone_and_a_desk_show_it_whole_and_with_contrast(
    page: Page, url: str, path: str
) -> None:
    for width in (390, 1280):
        shown(page, url, path, width=width)
        page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        page.run("document.querySelector('tr.one button')?.click()")
        assert page.run(SIDEWAYS) == 0, width
        scrolled = page.run(
            "[...document.querySelectorAll('.scroll')].map(s => s.scrollWidth - s.clientWidth)"
        )
        assert max(scrolled, default=0) == 0, width
        for dark in (False, True):
            page.scheme(dark)
            contrast = page.run(POOR_CONTRAST)
            assert contrast["seen"] > 40
            assert contrast["poor"] == [], (width, dark)


def test_it_can_be_used_by_keyboard_and_by_ear(page: Page, url: str) -> None:
    shown(page, url)
    pressed(page, "Tab", 9)
    assert page.run("document.activeElement.className") == "skip"
    page.run("document.getElementById('load').focus()")
    page.command("Input.insertText", text="4")
    pressed(page, "Enter", 13, "\r")
    page.run(ANSWERED)
    assert "rate_rps=4" in page.run("location.search")
    page.run("document.querySelector('tr.one button').focus()")
    pressed(page, "Enter", 13, "\r")
    assert page.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    unlabelled = page.run(
        "[...document.querySelectorAll('input, select')].filter(e => !e.labels.length).length"
    )
    assert unlabelled == 0
    assert page.run("document.getElementById('said').getAttribute('role')") == "status"
    nameless = "[...document.querySelectorAll('button')].filter(b => !b.textContent.trim()).length"
    assert page.run(nameless) == 0
    levels = page.run("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels.count(1) == 1
    assert all(b - a <= 1 or a == 1 for a, b in pairwise(levels))


def test_the_manifest_is_shown_and_copied(page: Page, url: str) -> None:
    page.command("Browser.grantPermissions", permissions=["clipboardReadWrite"], origin=url)
    shown(page, url, f"/?model={GEMMA}&rate_rps=4")
    page.run("document.querySelector('tr.one button').click()")
    page.run(
        """(async () => { const pre = document.querySelector('.inside pre');
        for (let i = 0; pre.textContent === '…' && i < 600; i += 1)
          await new Promise(requestAnimationFrame); })()"""
    )
    text = page.run("document.querySelector('.inside pre').textContent")
    assert "vllm serve" in text
    assert GEMMA in text
    page.command("Page.bringToFront")
    page.run(
        """(async () => { document.querySelector('.inside .row button').click();
        const said = document.querySelector('.inside .row [role=status]');
        for (let i = 0; said.textContent === '' && i < 600; i += 1)
          await new Promise(requestAnimationFrame); })()"""
    )
    assert page.run("document.querySelector('.inside .row [role=status]').textContent") == "copied"


def test_a_token_is_asked_for_and_kept_in_the_tab(
    page: Page, app_of: Callable[..., Any], lookup: Any, store: Any
) -> None:
    with served(app_of(lookup, store, token=TOKEN)) as url:
        shown(page, url)
        assert page.run(SAID) == "A token is needed"
        assert page.run("document.activeElement.id") == "token"
        page.command("Input.insertText", text=TOKEN)
        pressed(page, "Enter", 13, "\r")
        page.run(
            f"""(async () => {{ for (let i = 0; {SAID} === 'A token is needed' && i < 600; i += 1)
              await new Promise(requestAnimationFrame); }})()"""
        )
        page.run(ANSWERED)
        assert "deployments do" in page.run(SAID)
        assert TOKEN not in page.run("document.body.innerHTML + location.href")
        # The record of a run behind an answer is there for who has the token, too.
        page.run("document.querySelector('tr.one button').click()")
        run = "[...document.querySelectorAll('.inside button.link')][0]"
        run_id = page.run(f"{run}.textContent")
        page.run(f"{run}.click()")
        record = f"document.querySelector('pre[aria-label=\"Record of run {run_id}\"]')"
        page.run(
            f"""(async () => {{ for (let i = 0; {record} === null && i < 600; i += 1)
              await new Promise(requestAnimationFrame); }})()"""
        )
        assert page.run(f"JSON.parse({record}.textContent).run_id") == run_id
        page.run(f"{run}.click()")
        assert page.run(f"{record} === null")


@pytest.fixture
def hostile(app_of: Callable[..., Any], store: Any, make: SimpleNamespace) -> Iterator[str]:
    attack = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    found = make.profile(GEMMA, 0, 0)
    named = replace(
        found,
        configuration=replace(
            found.configuration, model=attack, engine_args={"max-num-seqs": attack}
        ),
        evidence=replace(found.evidence, environment=attack, source=attack),
    )
    with served(app_of(make.lookup_of([named], make.prices), store)) as url:
        yield url


def test_markup_in_a_record_does_nothing(page: Page, hostile: str, tmp_path: Path) -> None:
    shown(page, hostile)
    page.run("document.querySelector('tr.one button').click()")
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.run("document.images.length") == 0
    assert "owned" not in page.run("document.title")
    assert "<img" in page.run("document.querySelector('tr.one').textContent")


def test_a_training_is_asked_for_with_its_own_fields_and_told_by_its_own_figures(
    page: Page, app_of: Any, make: SimpleNamespace, store: Any
) -> None:
    step = TrainingStep(sequence_length=2048, sequences_per_step=64, num_steps=100)
    base = make.profile(GEMMA, 0, 0)
    configuration = replace(
        base.configuration,
        model="8b",
        model_server="torch",
        parallelism={"fsdp": 8},
        engine_args={"strategy": "fsdp2", "micro_batch_size": 2, "compile": True},
    )
    trained = [
        replace(
            base,
            profile_id=f"{900 + chips:016x}",
            configuration=configuration,
            machine=replace(base.machine, num_chips=chips),
            statistics=(make.statistic("training_throughput", "value", 10_000.0 * chips**0.9),),
            training=step,
        )
        for chips in (4, 8)
    ]
    lookup = make.lookup_of((*make.profiles(), *trained), make.prices)
    with served(app_of(lookup, store)) as url:
        shown(page, url, "/?use_case=training&model=8b&training_tokens=1e9")
        assert page.run(SAID).startswith("2 deployments do what was asked. First: 4 × H100")
        assert page.run("document.getElementById('load').closest('fieldset').hidden") is True
        assert page.run("document.getElementById('training_tokens').value") == "1e9"
        heads = "[...document.querySelectorAll('thead th')].map(h => h.textContent)"
        assert page.run(heads) == ["#", "deployment", "cost", "step", "tokens/s", "MFU", "evidence"]
        row = page.run("document.querySelector('tr.one').textContent")
        assert "fsdp 8" in row and "micro batch 2" in row and "in all" in row
        page.run("document.querySelector('tr.one button').click()")
        options = "[...document.querySelectorAll('tr.more option')].map(o => o.value)"
        assert page.run(options) == ["run", "command", "rayjob", "kubernetes"]
        page.run(
            "(() => { const s = document.getElementById('use_case'); s.value = 'chat';"
            " s.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )
        page.run(ANSWERED)
        assert page.run("document.getElementById('load').closest('fieldset').hidden") is False
        assert page.run("document.getElementById('training_tokens').disabled") is False
        assert "training_tokens" not in page.run("location.search")
