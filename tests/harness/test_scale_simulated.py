"""``scale --simulate`` as a command: its document, its record, its page, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from harness.cli.scale_simulated import scale_simulated
from harness.errors import SpecError
from harness.scale_simulated import SimulatedAsk, record_of, setup_of
from results.clock import SystemClock
from results.codec import dumps_record, loads_record
from results.collective_time import Link
from results.measurement import Measurement
from results.record import Evidence, RunRecord
from results.store_files import FileStore
from workloads.simulated.training.predict import predict

APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(scale_simulated)
SMALL = ["--simulate", "--chips", "1024", "--days", "5", "--seeds", "20", "-q"]


def test_a_document_a_record_and_a_page(tmp_path: Path) -> None:
    page, picture = tmp_path / "p.html", tmp_path / "p.svg"
    store = str(tmp_path / "store")
    ran = CliRunner().invoke(
        APP,
        [*SMALL, "--json", "--store", store, "--page", str(page), "--picture", str(picture)],
    )
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert told["schema"] == "windtunnel.scale-simulated/1"
    assert told["evidence"] == "simulated"
    assert told["num_chips"] == 1024
    assert sum(part["value"] for part in told["parts"].values()) == pytest.approx(1.0)
    record = FileStore(store).get(told["run_id"])
    assert record.evidence is Evidence.SIMULATED
    by_name = {m.metric: m for m in record.measurements}
    assert by_name["training_goodput"].value == told["goodput"]["value"]
    assert by_name["training_goodput"].low == told["goodput"]["low"]
    assert "A simulation" in page.read_text(encoding="utf-8")
    assert "published" in picture.read_text(encoding="utf-8")


def test_people_are_told_that_nothing_was_measured() -> None:
    ran = CliRunner().invoke(APP, [*SMALL, "--no-store", "--no-page"])
    assert ran.exit_code == 0, ran.output
    assert "[simulated]" in ran.stdout
    assert "no number here was measured" in ran.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--chips", "1000"], "768 or 1024"),
        (["--preset", "maxtext"], "there are maxtext-v5e-16b"),
        (["--algorithm", "ring"], "draws ring or tree"),
    ],
)
def test_refusals_are_sentences(words: list[str], said: str) -> None:
    ran = CliRunner().invoke(APP, ["--simulate", "--no-store", "--no-page", "-q", *words])
    assert ran.exit_code in (2, 3)
    assert said in ran.stderr
    assert "Traceback" not in ran.output


def record_with(run_id: str, *measurements: Measurement, **resolved: object) -> RunRecord:
    now = SystemClock().now_utc()
    setup = setup_of(SimulatedAsk(num_chips=512, days=1.0, num_seeds=2))
    made = record_of(setup, predict(replace(setup, num_steps=1)), now, now, 0.0)
    return replace(made, run_id=run_id, measurements=measurements, resolved=resolved)


def value(metric: str, number: float, statistic: str = "value") -> Measurement:
    return Measurement(metric=metric, statistic=statistic, value=number, n=9)


def test_a_trainings_record_gives_the_step() -> None:
    record = record_with(
        "R1",
        value("step_time_s", 2.0, "mean"),
        value("communication_share", 0.25),
        num_parameters=1e9,
    )
    setup = setup_of(SimulatedAsk(chips_per_domain=8, num_chips=64), [record])
    assert setup.seen == ()
    assert setup.step.compute_s == pytest.approx(1.5)
    assert setup.step.gradient_bytes == pytest.approx(4e9)
    assert "R1" in setup.sources[0]


def test_a_collectives_record_gives_the_outer_network() -> None:
    """Of the all-reduce over the most ranks; other collectives and other ranks are left alone."""
    said = [
        ("alpha_s", "all_reduce/2 ranks", 1e-3),
        ("beta_s_per_byte", "all_reduce/2 ranks", 1e-9),
        ("alpha_s", "all_reduce/4 ranks", 2e-3),
        ("beta_s_per_byte", "all_reduce/4 ranks", 3e-9),
        ("alpha_s", "all_gather/8 ranks", 9.0),
        ("alpha_s", "all_reduce/8 ranks", None),
        ("beta_s_per_byte", "all_reduce/8 ranks", 9.0),
    ]
    measurements = [
        SimpleNamespace(metric=metric, group=group, value=number, statistic="value")
        for metric, group, number in said
    ]
    record = replace(record_with("R4"), measurements=measurements)  # type: ignore[arg-type]
    setup = setup_of(SimulatedAsk(algorithm="tree"), [record])
    assert setup.step.outer == Link(alpha_s=2e-3, beta_s_per_byte=3e-9)
    assert setup.step.algorithm == "tree"


def test_a_record_that_says_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="neither a mean step_time_s"):
        setup_of(SimulatedAsk(), [record_with("R2", value("training_goodput", 0.5))])


def test_what_was_asked_is_listed_as_asked() -> None:
    setup = setup_of(SimulatedAsk(checkpoint_s=5.0, num_spares=3, mtbf_chip_hours=1000.0))
    assert setup.recovery.save_s == 5.0
    assert setup.failures.num_spares == 3
    assert sum("asked for" in words for words in setup.assumptions) == 3


def test_the_record_survives_its_file() -> None:
    record = record_with("R3", value("training_goodput", 0.5))
    assert loads_record(dumps_record(record)) == record
    assert {d.code for d in record.doubts} >= {"simulated", "few_seeds"}
