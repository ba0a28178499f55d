"""The goodput of a run on its page: the parts, the bar, and the attempts."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from reports.goodput_section import goodput_section
from reports.html import render_html
from reports.markdown import render_markdown
from reports.model import Plots, Table
from reports.run_report import run_report
from results.goodput import Attempt, StepSpan, goodput_of, measure_goodput
from results.record import RunRecord
from results.units import metric_label


def spans(first: int, start_s: float, count: int) -> tuple[StepSpan, ...]:
    return tuple(StepSpan(first + i, start_s + i, start_s + i + 1) for i in range(count))


@pytest.fixture
def struck(make: SimpleNamespace) -> RunRecord:
    """Ten seconds to start, five steps of which two are lost, four seconds to come back."""
    goodput = goodput_of(
        [
            Attempt(spans=spans(0, 10.0, 5), ended_s=15.0, struck_s=15.0, cause="worker_died"),
            Attempt(spans=spans(3, 19.0, 2), ended_s=21.0),
        ],
        21.0,
    )
    told = {
        "num_workers": 2, "first_step_at_s": 10.0, "ended_at_s": 15.0, "message": "rank 1 died",
        "struck_by": ["kill_worker@step=4,rank=1"], "cause": "worker_died",
        "attempt": 0, "first_step": 0, "last_step": 4,
    }  # fmt: skip
    again = told | {
        "attempt": 1, "first_step": 3, "first_step_at_s": 19.0, "ended_at_s": 21.0, "cause": "",
        "struck_by": [], "message": "",
    }  # fmt: skip
    record: RunRecord = make.record()
    return replace(
        record,
        measurements=measure_goodput(goodput),
        resolved={"observed": {"attempts": [told, again]}},
    )


def test_parts_and_attempts(struck: RunRecord) -> None:
    section = goodput_section(struck, "r-")
    assert section is not None
    plots, parts, attempts = section.blocks
    assert isinstance(plots, Plots) and isinstance(parts, Table) and isinstance(attempts, Table)
    shown = {row[0].text: (row[1].text, row[2].text) for row in parts.rows}
    assert shown == {
        "productive": ("5.00 s", "23.8 %"),
        "startup": ("10.0 s", "47.6 %"),
        "wasted progress": ("2.00 s", "9.52 %"),
        "recovery": ("4.00 s", "19.0 %"),
    }
    assert [row[2].text for row in attempts.rows] == ["0 to 4", "3 to 4"]
    assert attempts.rows[0][5].detail == "struck by kill_worker@step=4,rank=1"
    assert attempts.rows[1][5].text == "every rank returned"


def test_it_stands_on_the_page(struck: RunRecord) -> None:
    page = render_html(run_report([struck], lambda *_: None))
    assert "Where the wall time went" in page
    assert "kill_worker@step=4,rank=1" in page


def test_a_run_without_goodput_has_no_such_section(make: SimpleNamespace) -> None:
    assert goodput_section(make.record(), "") is None


def test_what_did_not_happen_has_no_row(make: SimpleNamespace, struck: RunRecord) -> None:
    """Nothing struck it: the record knows nine kinds of badput, the tables those that it had."""
    calm = goodput_of([Attempt(spans=spans(0, 10.0, 5), ended_s=15.0)], 16.0)
    record = replace(make.record(), measurements=measure_goodput(calm))
    assert sum(m.metric.startswith("badput_") for m in record.measurements) == 9
    quiet = ("badput_recovery_s", "badput_hardware_wait_s", "num_restarts", "num_steps_lost")
    words = [metric_label(name) for name in quiet]
    text = render_markdown(run_report([record], lambda *_: None))
    assert [word for word in words if word in text] == []
    assert "badput startup" in text and "badput other" in text  # it took its time to start
    told = render_markdown(run_report([struck], lambda *_: None))
    assert [word for word in words if word not in told] == [metric_label("badput_hardware_wait_s")]
