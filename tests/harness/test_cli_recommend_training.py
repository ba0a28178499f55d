"""How to train a model, and estimates of unmeasured hardware, by the commands alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from harness.cli.app import app_with
from harness.spec import Hardware, RunSpec
from harness.specfile import read_specs, spec_to_mapping
from results.measurement import Measurement
from results.record import RunRecord
from results.store_files import FileStore
from results.testing import EPOCH, make_record
from workloads.params import TorchWorkload, VllmWorkload
from workloads.traffic.spec import ClosedLoop, FixedLength, Traffic

PRICES = """\
as_of: 2026-10-01
source: test
usd_per_chip_hour: {H100: {on-demand: 4, spot: 2}}
usd_per_machine_hour: {a3-highgpu-8g: {spot: 12}}
"""
LLAMA = "llama-3.1-8b"


def a_run(index: int, spec: RunSpec, values: dict[str, float], **place: Any) -> RunRecord:
    made = make_record(index=index, spec=spec_to_mapping(spec), workload=spec.workload.kind)
    assert made.placement is not None
    told = {name.partition(" "): value for name, value in values.items()}
    return replace(
        made,
        started_at=EPOCH + timedelta(seconds=index),
        resolved={},
        placement=replace(made.placement, nodes=("n",), topology="", zone="", **place),
        measurements=tuple(
            Measurement(metric=metric, statistic=statistic or "value", value=value, n=100)
            for (metric, _, statistic), value in told.items()
        ),
    )


def a_training(index: int, rate: float, **place: Any) -> RunRecord:
    spec = RunSpec(
        name="t",
        workload=TorchWorkload(
            preset="1b", num_workers=8, num_steps=100, micro_batch_size=4, sequence_length=2048,
            strategy="fsdp2", precision="bfloat16",
        ),
        hardware=(Hardware(accelerator="H100", num_chips=8),),
    )  # fmt: skip
    values = {"training_throughput": rate, "startup_s": 60.0, "step_time_s p50": 65536 / rate}
    return a_run(index, spec, values, accelerator="H100", num_chips=8, **place)


def a_serving(index: int, seqs: int) -> RunRecord:
    spec = RunSpec(
        name="s",
        workload=VllmWorkload(
            model=LLAMA, engine_args={"max-num-seqs": seqs, "max-model-len": 4096}
        ),
        traffic=Traffic(
            arrivals=ClosedLoop(num_users=seqs),
            prompt_tokens=FixedLength(tokens=512),
            output_tokens=FixedLength(tokens=128),
            duration_s=30.0,
        ),
        hardware=(Hardware(accelerator="H200", num_chips=1),),
    )
    values = {"output_throughput": 400.0 * seqs**0.7, "tpot_s p50": 0.01, "ttft_s p50": 0.1}
    return a_run(index, spec, values, accelerator="H200", num_chips=1)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("prices.yaml").write_text(PRICES)
    kept = FileStore(tmp_path / "store")
    for index in range(2):
        kept.seal(a_training(index, 100_000.0 + 2_000 * index, capacity="spot"), {})
    for index, seqs in enumerate((8, 16, 32), start=10):
        kept.seal(a_serving(index, seqs), {})
    return tmp_path / "store"


def run(command: str, *words: str, store: Path, code: int = 0) -> Any:
    done = CliRunner().invoke(app_with(command), [command, *words, "--store", str(store)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def document(*words: str, store: Path, code: int = 0) -> Any:
    return json.loads(run(*words, "--json", store=store, code=code).stdout)


def test_a_training_is_recommended_priced_and_started_again(store: Path, tmp_path: Path) -> None:
    asked = ("--model", "1b", "--use-case", "training", "--training-tokens", "3.6e9")
    priced = (*asked, "--prices", "prices.yaml")
    (one,) = document("recommend", *priced, store=store)["recommendations"]
    assert one["training"]["tokens_per_s"]["value"] == pytest.approx(101_000)
    seconds = 60 + 3.6e9 / 101_000
    assert one["training"]["hours"]["value"] == pytest.approx(seconds / 3600)
    assert one["training"]["usd"]["value"] == pytest.approx(8 * 2 * seconds / 3600)
    table = run("recommend", *priced, store=store).stdout
    assert "fsdp=8" in table and "accumulation" not in table  # of one: not a word
    assert one["profile"]["profile_id"] in table
    pools = document("compare-pools", *priced, store=store)["pools"]
    assert [p["accelerator"] for p in pools] == ["H100"]
    assert "tokens/s/chip" in run("compare-pools", *priced, store=store).stdout
    profile = one["profile"]["profile_id"]
    written = run("manifest", profile, "--platform", "run", store=store).stdout
    path = tmp_path / "again.yaml"
    path.write_text(written)
    (spec,) = read_specs(str(path))
    assert spec.workload == TorchWorkload(
        preset="1b", num_workers=8, num_steps=100, micro_batch_size=4, sequence_length=2048,
        strategy="fsdp2", precision="bfloat16",
    )  # fmt: skip
    job = run("manifest", profile, "--platform", "rayjob", "--image", "a/b:1", store=store).stdout
    assert [d["kind"] for d in yaml.safe_load_all(job)] == ["ConfigMap", "RayJob"]
    run("manifest", profile, store=store, code=2)  # no image of its trainer is public


def test_a_question_about_trainings_refuses_what_is_of_servings(store: Path) -> None:
    asked = ("recommend", "--model", "1b", "--use-case", "training")
    error = document(*asked, "--rate", "4", store=store, code=2)["error"]["message"]
    assert "rate_rps" in error and "training" in error
    error = document(*asked, "--max-hours", "4", store=store, code=2)["error"]["message"]
    assert "training_tokens" in error
    error = document("recommend", "--training-tokens", "1e9", store=store, code=2)
    assert "use_case training" in error["error"]["message"]
    none = document(*asked, "--accelerator", "H200", store=store, code=4)["no_answer"]
    assert none["binding"] == "hardware" and "H100" in none["words"]
    said = run(*asked, "--accelerator", "H200", store=store, code=4).stdout
    assert "none of them ran on the hardware asked for" in said.replace("\n", " ")


def test_the_price_of_the_machine_comes_before_that_of_its_chips(tmp_path: Path) -> None:
    kept = FileStore(tmp_path / "machines")
    kept.seal(a_training(0, 1e5, capacity="spot", machine_type="a3-highgpu-8g"), {})
    Path(tmp_path / "prices.yaml").write_text(PRICES)
    asked = ("--model", "1b", "--use-case", "training", "--prices", str(tmp_path / "prices.yaml"))
    (one,) = document("recommend", *asked, store=tmp_path / "machines")["recommendations"]
    assert one["profile"]["machine"]["machine_type"] == "a3-highgpu-8g"
    assert (one["cost"]["price"]["unit"], one["cost"]["usd_per_hour"]) == ("machine", 12.0)


def test_an_estimate_is_made_kept_marked_and_deployed_with_a_warning(store: Path) -> None:
    asked = ("--model", LLAMA, "--accelerator", "H100")
    before = document("recommend", *asked, store=store, code=4)["no_answer"]
    assert before["binding"] == "hardware"
    dry = document("forecast", *asked, "--dry-run", store=store)
    assert dry["event"] == "" and {e["kind"] for e in dry["estimates"]} == {
        "transferred",
        "analytic",
    }
    assert "none of them was measured" in run("forecast", *asked, store=store).stdout
    none = document("recommend", *asked, store=store, code=4)["no_answer"]
    assert none["measure_next"][0]["profile_id"] and "estimate" in none["words"]
    answer = document("recommend", *asked, "--allow", "transferred,analytic", store=store)
    first = answer["recommendations"][0]
    estimated = first["profile"]["evidence"]["estimated"]
    assert estimated["margin"] == 0.1 and first["profile"]["evidence"]["repeats"] == 0
    assert "NOT MEASURED" in answer["flags"][first["flags"][0]]
    table = run("recommend", *asked, "--allow", "transferred", store=store).stdout
    assert "transferred estimate, from H200" in table and "NOT MEASURED" in table
    done = run("manifest", first["profile"]["profile_id"], store=store)
    assert "NOT MEASURED" in done.stdout and "NOT MEASURED" in done.stderr
    run("forecast", "--model", LLAMA, store=store, code=2)
    run("forecast", *asked[:2], "--accelerator", "Gaudi3", store=store, code=2)
    run("forecast", "--model", "qwen3-8b", "--accelerator", "H100", store=store, code=2)
    alone = ("--model", "qwen3-8b", "--accelerator", "H100", "--use-case", "chat")
    made = document("forecast", *alone, "--concurrency", "8", store=store)["estimates"]
    assert {e["kind"] for e in made} == {"analytic"} and {e["concurrency"] for e in made} == {8.0}
    run("recommend", *asked, "--allow", "guessed", store=store, code=2)
