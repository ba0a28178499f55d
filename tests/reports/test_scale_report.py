"""The page and the pictures of a scaling experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import altair as alt
import numpy as np
import pytest

from reports.html import render_html
from reports.markdown import render_markdown
from reports.model import Plot, Plots, Report, Table
from reports.picture import standalone, write_picture
from reports.plots_scale import efficiency_plot, loss_plot
from reports.scale_report import scale_report
from reports.scale_words import contention_sentence, loss_sentence, scaling_sentence
from reports.testing import Page
from results.scaling.efficiency import Scaling, scaling_of
from results.scaling.extrapolate import Extrapolation
from results.scaling.further import further_of
from results.scaling.runs import ScaleRun, StepParts
from results.scaling.told import ScaleTold

TOLD = ScaleTold(
    name="training-ddp",
    workload="torch",
    mode="weak",
    evidence="measured",
    experiment_id="20261124T100000Z-0123456789",
    workers=(1, 2, 4, 8),
    num_rounds=4,
    control=True,
    can_control=True,
    accelerator="cpu",
    domain=None,
    command="windtunnel scale examples/training-ddp.yaml --workers 1,2,4,8",
)


def runs(*, control: bool = True, cores: int = 4) -> list[ScaleRun]:
    """Four cores, 3 % lost per doubling, 1 % spread."""
    rng = np.random.default_rng(4)
    found = []
    for r in range(4):
        for n in (1, 2, 4, 8):
            for alone in (False, True) if control and n > 1 else (False,):
                share = min(1.0, cores / n)
                talk = 1.0 if alone else 1.0 + 0.03 * np.log2(n)
                speed = 1000.0 * share / talk * np.exp(0.01 * rng.standard_normal())
                found.append(
                    ScaleRun(
                        num_workers=n,
                        round_index=r,
                        is_control=alone,
                        run_id=f"20261124T10{r:02}{n:02}Z-{'c' if alone else 'a'}123456789",
                        throughput=n * speed,
                        startup_s=9.0 + n,
                        training_s=40.0,
                        parts=StepParts(data=0.01, imbalance=0.002 * n, communication=None),
                        num_cores=cores,
                        num_threads=1,
                        accelerator="cpu",
                        doubts=("host_busy: the host was busy with something else",),
                    )
                )
    return found


def scaling(**options: int) -> Scaling:
    return scaling_of(runs(**options), "weak")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def further() -> Extrapolation:
    found = further_of(scaling(), runs(), [16, 64, 1024])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def report(further: Extrapolation) -> Report:
    return scale_report(TOLD, scaling(), further, runs())


def plots(report: Report) -> Sequence[Plot]:
    return [p for s in report.sections for b in s.blocks if isinstance(b, Plots) for p in b.plots]


def test_every_plot_keeps_the_schema_and_draws_alone(report: Report, tmp_path: Path) -> None:
    drawn = plots(report)
    assert [p.key for p in drawn] == ["efficiency", "loss-parts"]
    for plot in drawn:
        alt.Chart.from_dict(dict(plot.spec))  # raises where Vega-Lite's schema is not kept
        assert standalone(plot)["title"]["text"] == plot.title
        write_picture(plot, tmp_path / f"{plot.key}.svg")
        assert "<svg" in (tmp_path / f"{plot.key}.svg").read_text()


def test_the_curve_has_both_factors_and_what_is_predicted(further: Extrapolation) -> None:
    plot = efficiency_plot(scaling(), further, "e")
    assert plot is not None
    names = [m.name for m in plot.marks]
    assert names == ["efficiency", "run / control", "control alone", "predicted"]
    rows = [[c.text for c in row] for row in plot.summary.rows]
    # 1,024 is beyond sixteen times 8 and has no dot.
    assert [r[0] for r in rows if r[1] == "predicted"] == ["16", "64"]
    bare = efficiency_plot(scaling(control=False), None, "e")
    assert bare is not None and [m.name for m in bare.marks] == ["efficiency"]


def test_the_parts_of_a_bar_add_up(report: Report) -> None:
    for size in scaling().sizes[1:]:
        assert size.efficiency.value is not None
        assert sum(p.share for p in size.loss) == pytest.approx(1 - size.efficiency.value)
    assert loss_plot(scaling_of(runs()[:1], "weak"), "l") is None


def test_contention_is_named_and_never_sold_as_scaling() -> None:
    found = scaling()
    words = contention_sentence(TOLD, found)
    assert words.startswith("8 ranks with 8 threads shared 4 cores")
    assert "only what is lost beyond that is scaling" in words
    assert "of what the same ranks do" in scaling_sentence(TOLD, found)
    alone = scaling(control=False)
    left_out = contention_sentence(replace(TOLD, control=False), alone)
    assert "it was left out" in left_out
    cannot = contention_sentence(replace(TOLD, control=False, can_control=False), alone)
    assert "this workload has none" in cannot and "lower bound" in cannot
    assert contention_sentence(TOLD, scaling(cores=8)) == ""
    lost = loss_sentence(found.sizes[-1])
    assert lost.index("host contention") < lost.index("communication") < lost.index("imbalance")


def test_the_page_in_words(report: Report) -> None:
    text = render_markdown(report)
    assert "Run / control, n₀ = 1, with 90 % intervals" in text
    assert "16 times the largest size measured" in text or "beyond 16 times" in text
    assert "Predicted, not measured" in text
    assert "host_busy" in text
    html = render_html(report)
    assert TOLD.experiment_id in html
    missing = scale_report(replace(TOLD, missing=3), scaling(), None, runs())
    assert any("3 of the runs" in b.text for b in missing.banners)
    tables = [b for s in missing.sections for b in s.blocks if isinstance(b, Table)]
    assert len(tables) == 2  # sizes and runs; nothing was extrapolated


@pytest.mark.browser
def test_the_page_in_a_browser(report: Report, page: Page, tmp_path: Path) -> None:
    path = tmp_path / "scale.html"
    path.write_text(render_html(report), encoding="utf-8")
    page.load(path)
    states = page.run(
        """(async () => {
          const charts = [...document.querySelectorAll('.chart')];
          const start = performance.now();
          while (charts.some(c => !['drawn', 'failed'].includes(c.dataset.state))) {
            if (performance.now() - start > 30000) throw new Error('not drawn after 30 s');
            await new Promise(requestAnimationFrame);
          }
          return charts.map(c => c.dataset.state);
        })()"""
    )
    assert states == ["drawn", "drawn"]
