"""Any grid as a file, the questions asked of it, and what a wrong one is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.grid_file import WrongGrid, read_grid, table_of
from benchmarks.replay import Grid, question_of
from benchmarks.strategies import STRATEGIES
from benchmarks.surfaces import SURFACES, surface
from benchmarks.tuners import describe, main
from tuners.space import Categorical, Ordinal


def rows() -> list[dict[str, Any]]:
    """A training grid of another shape: ``mfu`` rises with the batch, 8 of it does not fit."""
    return [
        {
            "batch": b,
            "remat": r,
            "seed": 7,
            "ok": b < 8,
            "mfu": 0.1 * b + 0.01 * r,
            "step": 100.0 * b,
        }
        for b in (None, 1, 2, 4, 8)
        if b is not None
        for r in (False, True)
    ]


def written(path: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


HEADER = {"grid": {"goals": ["mfu"], "limits": {"step": 250}, "noise": [0.01, 0.01, 0]}}


def test_knobs_are_what_is_no_result_and_has_two_values(tmp_path: Path) -> None:
    table = read_grid(written(tmp_path / "g.jsonl", [HEADER, *rows()]))
    assert {k.path: k.domain for k in table.knobs} == {
        "batch": Ordinal(values=(1, 2, 4, 8)),
        "remat": Categorical(values=(False, True)),
    }
    assert table.constants == {"seed": 7}
    grid = Grid(table, question_of(table))
    assert grid.num_feasible == 4  # 1 and 2; 4 takes 400 ms, 8 does not run
    assert grid.best == pytest.approx(0.21)
    assert grid.regret({"batch": 1, "remat": True}) == pytest.approx(1 - 0.11 / 0.21)
    assert grid.regret({"batch": 4, "remat": True}) == 1.0 == grid.regret(None)
    assert grid.crashes({"batch": 8, "remat": True})
    assert "mfu" in grid.why_no_forecast or "model" in grid.why_no_forecast
    assert grid.volume([{"batch": 2, "remat": True}]) == pytest.approx(1.0)


def test_an_absent_combination_is_refused_and_repeats_are_a_median() -> None:
    told = rows()[:-1]
    told += [{**told[0], "mfu": 0.5}, {**told[0], "mfu": 0.3}]
    table = table_of(told, HEADER["grid"], source="here")
    grid = Grid(table, question_of(table))
    assert (table.num_absent, table.num_repeated) == (1, 2)
    assert "no such configuration" in str(grid.predict({"batch": 8, "remat": True}))
    reading = grid.true_reading({"batch": 1, "remat": False})
    assert reading is not None
    assert reading.goals["mfu"] == 0.3
    assert "absent" in describe(grid)


def test_a_file_may_bring_its_own_forecast() -> None:
    told = [{**row, "forecast_mfu": 0.2, "forecast_step": 50.0} for row in rows()]
    table = table_of(told, HEADER["grid"], source="here")
    grid = Grid(table, question_of(table))
    assert grid.why_no_forecast == ""
    assert grid.predict({"batch": 1, "remat": True}) == {"mfu": 0.2, "step_time_s_p50": 0.05}


def test_the_floor_is_what_a_sure_pick_loses() -> None:
    """The best keeps its limit by less than its noise; the next is half as good and sure."""
    told = [
        {"a": 1, "mfu": 0.2, "step": 100.0},
        {"a": 2, "mfu": 0.4, "step": 199.0},
        {"a": 3, "mfu": 0.5, "step": 300.0},
    ]
    header = {"goals": ["mfu"], "limits": {"step": 200}, "noise": [0.05, 0.05, 0]}
    table = table_of(told, header, source="here")
    grid = Grid(table, question_of(table))
    assert grid.floor() == pytest.approx(0.5)
    assert grid.floor(probability=0.5) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("lines", "asked", "says"),
    [
        ([], [], "no configuration"),
        ([{"a": 1}, {"a": 2}], [], "is a result"),
        ([{"a": 1, "mfu": 0.1}, {"mfu": 0.1}], [], "do not say their a"),
        ([{"a": 1, "mfu": 0.1}, {"a": "x", "mfu": 0.1}], [], "categorical"),
        ([{"a": 1, "mfu": 0.1}], [], "nothing to choose"),
        ([{"a": 1, "mfu": 0.1}, {"a": 2, "mfu": 0.1}], [], "--goals"),
        ([{"a": 1, "mfu": 0.1}, {"a": 2, "mfu": 0.1}], ["--goals", "tpsg"], "it has mfu"),
        ([{"grid": {"gaols": 1}}, {"a": 1, "mfu": 0.1}], [], "gaols"),
        (rows(), ["--goals", "mfu", "--limit", "step=50"], "the best is 100"),
        (rows(), ["--goals", "mfu", "--limit", "step"], "COLUMN=NUMBER"),
        (rows(), ["--goals", "mfu", "--strategies", "magic"], "magic"),
    ],
)
def test_what_cannot_be_answered_is_said(
    lines: list[dict[str, Any]],
    asked: list[str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = written(tmp_path / "g.jsonl", lines)
    assert main(["--grid", str(path), "--seeds", "1", *asked]) == 2
    assert says in capsys.readouterr().err


def test_what_is_no_json_is_said_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    path.write_text('{"a": 1, "mfu": 0.1}\nnonsense\n', encoding="utf-8")
    with pytest.raises(WrongGrid, match="line 2"):
        read_grid(path)
    with pytest.raises(WrongGrid, match="no grid"):
        read_grid(tmp_path / "other.jsonl")


@pytest.mark.parametrize("name", ["shipped", "shipped-4", "random", "auto_tune"])
def test_a_small_grid_from_the_file_alone(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "g.jsonl", [HEADER, *rows()])
    out = tmp_path / "rows.jsonl"
    asked = ["--strategies", name, "--seeds", "1", "--trials", "10", "--out", str(out)]
    assert main(["--grid", str(path), *asked]) == 0
    row = json.loads(out.read_text(encoding="utf-8"))
    assert row["infeasible"] == [False]
    assert row["regret"][0] < 0.06  # all eight are tried: the best, or its equal within the noise
    assert f"| {name} | 1 |" in capsys.readouterr().out


@pytest.mark.parametrize("name", SURFACES)
def test_a_surface_crashes_and_keeps_as_it_says(name: str) -> None:
    made, header = surface(name)
    table = table_of(made, header, source=name)
    grid = Grid(table, question_of(table))
    assert name.startswith("synthetic-")
    crashed = np.mean([not row["ok"] for row in made])
    assert crashed == pytest.approx(SURFACES[name].crash_share, abs=0.03)
    kept = grid.num_feasible / (len(made) * (1 - crashed))
    assert kept == pytest.approx(SURFACES[name].limit, abs=0.05)
    assert surface(name)[0][:50] == made[:50]


def test_the_shipped_loop_beats_chance_without_a_forecast() -> None:
    made, header = surface("synthetic-training")
    table = table_of(made, header, source="synthetic-training")
    grid = Grid(table, question_of(table))
    ours = [STRATEGIES["shipped"](grid, seed, 30).regret[-1] for seed in range(3)]
    chance = [STRATEGIES["random"](grid, seed, 30).regret[-1] for seed in range(3)]
    assert np.median(ours) < np.median(chance)
    assert max(ours) < 1.0
