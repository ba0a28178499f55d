"""What a terminal shows of one record."""

from __future__ import annotations

import io

from rich.console import Console
from rich.text import Text

from harness.cli.tables import load_tables
from results.goodput import Attempt, StepSpan, goodput_of, measure_goodput


def shown(*attempts: Attempt) -> str:
    measurements = measure_goodput(goodput_of(attempts, 21.0))
    console = Console(file=io.StringIO(), width=200)
    console.print(load_tables(Text("a training"), measurements, ()))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_only_what_happened_to_a_training_has_a_row() -> None:
    steps = tuple(StepSpan(n, 10.0 + n, 11.0 + n) for n in range(5))
    calm = shown(Attempt(spans=steps, ended_s=15.0))
    assert "badput_startup_s" in calm
    assert "badput_recovery_s" not in calm and "num_restarts" not in calm
    struck = shown(
        Attempt(spans=steps, ended_s=15.0, struck_s=15.0, cause="worker_died"),
        Attempt(spans=(StepSpan(3, 19.0, 20.0),), ended_s=20.0),
    )
    assert "badput_recovery_s" in struck and "num_restarts" in struck
