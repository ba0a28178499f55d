"""``windtunnel tune``: knobs become runs, runs are remembered, a study goes on, errors named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import tune as command
from harness.cli.app import app
from harness.cli.exits import Exit
from harness.cli.options import index_of
from harness.cli.tune_loads import check_turns
from harness.cli.tune_runs import configured, reseeded
from harness.errors import SpecError
from harness.fake_deployer import FakeDeployer
from harness.spec import RunSpec
from harness.specfile import read_specs
from harness.trial import fingerprint
from results.store_files import FileStore
from tuners.errors import StudyError
from tuners.goals import Reading
from tuners.outcome import Crashed, FailureKind, Measured
from tuners.space import Config
from tuners.study_spec import StudySpec
from tuners.trial import Evaluated, Phase
from workloads.params import CollectivesWorkload, CommandWorkload, TorchWorkload

RUN = """
name: varied
workload: {kind: simulated, model: tiny-llama, accelerator: H100, engine_args: {max-num-seqs: 4}}
traffic:
  arrivals: {kind: closed, num_users: 2}
  prompt_tokens: {kind: fixed, tokens: 8}
  output_tokens: {kind: fixed, tokens: 4}
  num_requests: 40
  duration_s: 20
"""
STUDY = """
name: small-study
spec: run.yaml
knobs:
  - {path: workload.engine_args.max-num-seqs, values: [null, 1]}
goals: [output_throughput]
slo: ttft_p50=5s
budget: {num_trials: 3}
sampler: random
top: 1
max_repeats: 1
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.setenv("WINDTUNNEL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WINDTUNNEL_STORE", str(tmp_path / "store"))
    return tmp_path


def test_a_knob_left_to_the_engine_is_taken_out(files: Path) -> None:
    (base,) = read_specs(str(files / "run.yaml"))
    path = "workload.engine_args.max-num-seqs"
    assert configured(base, {path: 16}).workload.engine_args == {"max-num-seqs": 16}  # type: ignore[union-attr]
    assert configured(base, {path: None}).workload.engine_args == {}  # type: ignore[union-attr]
    assert configured(base, {}) == base
    assert configured(base, {"workload.tensor_parallel_size": 2}).workload.tensor_parallel_size == 2  # type: ignore[union-attr]
    with pytest.raises(SpecError, match="tensor_parallel"):
        configured(base, {"workload.tensor_paralel_size": 2})


def test_a_fingerprint_is_of_what_was_asked(files: Path) -> None:
    (base,) = read_specs(str(files / "run.yaml"))
    same = replace(base, name="other", tags={"who": "me"}, num_repeats=3)
    assert fingerprint(same) == fingerprint(base)
    assert fingerprint(configured(base, {"workload.engine_args.max-num-seqs": 8})) != fingerprint(
        base
    )


def test_what_has_no_seed_is_another_question_each_time_it_is_repeated(files: Path) -> None:
    """Else memory would answer for every repeat with the first run."""

    def asked(spec: RunSpec, repeat: int) -> str:
        made = reseeded(spec, 1009 * repeat)
        return fingerprint(replace(made, tags={"study.repeat": str(repeat)}))

    (serving,) = read_specs(str(files / "run.yaml"))
    command_ = RunSpec(name="own", workload=CommandWorkload(argv=("python", "train.py")))
    training = RunSpec(name="train", workload=TorchWorkload())
    exchange = RunSpec(name="exchange", workload=CollectivesWorkload())
    for spec in (serving, command_, training, exchange):
        assert len({asked(spec, repeat) for repeat in range(3)}) == 3
        assert asked(spec, 0) == fingerprint(spec)
        assert asked(spec, 2) == asked(spec, 2)
    # What a seed tells apart already is the same question whoever repeats it.
    assert fingerprint(replace(training, tags={"study.repeat": "2"})) == fingerprint(training)


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_a_dry_run_starts_nothing(files: Path) -> None:
    result = invoke("tune", str(files / "study.yaml"), "--dry-run", "--json")
    assert result.exit_code == Exit.OK, result.output
    plan = json.loads(result.stdout)
    assert plan["schema"] == "windtunnel.tune-plan/2"
    (branch,) = plan["branches"]
    assert (branch["num_knobs"], branch["configurations"], branch["num_fit"]) == (1, 2, 2)
    assert len(branch["seeds"]) == 2  # no more configurations than that
    assert branch["seeds"][0]["forecast"]["output_throughput"] > 0
    assert (plan["num_trials_at_most"], plan["num_remeasured_least"]) == (3, 2)
    assert plan["trial"]["expected_s"] is None  # nothing like it has run here
    assert plan["usd_low"] is None
    people = invoke("tune", str(files / "study.yaml"), "--dry-run").stdout
    assert "no earlier run of this model here" in people
    assert "CPUs have no price" in people
    assert not (files / "store").exists()


def test_a_dry_run_tells_of_loads_in_turns(files: Path) -> None:
    words = ("tune", str(files / "study.yaml"), "--parallel", "3", "--dry-run")
    turns = (*words, "--loads-at-once", "1")
    assert "one of them is loaded at a time" in invoke(*turns).stdout
    assert json.loads(invoke(*turns, "--json").stdout)["loads_at_once"] == 1
    assert "at a time" not in invoke(*words).stdout
    assert json.loads(invoke(*words, "--json").stdout)["loads_at_once"] == 3


def test_what_cannot_wait_is_not_loaded_in_turns() -> None:
    study = StudySpec(name="a", spec="b", parallel=2, loads_at_once=1)
    training = RunSpec(name="train", workload=TorchWorkload())
    with pytest.raises(SpecError, match="loads_at_once: train has no traffic"):
        check_turns(study, training)
    check_turns(replace(study, loads_at_once=0), training)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("spec: run.yaml", "spec: none.yaml"), "none.yaml"),
        (("max-num-seqs, values", "max-num-seqs, value"), "did you mean values"),
        (("spec: run.yaml", "spec: run.yaml\nspace: torch"), "of torch workloads, and varied is a"),
        (("workload.engine_args.max-num-seqs", "workload.engineargs.x"), "engine_args"),
    ],
)
def test_bad_input_is_named(files: Path, change: tuple[str, str], says: str) -> None:
    path = files / "study.yaml"
    path.write_text(STUDY.replace(*change))
    result = invoke("tune", str(path), "--dry-run")
    assert result.exit_code == Exit.USAGE
    assert says in result.stderr


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def fake(*_: object) -> Iterator[FakeDeployer]:
        yield FakeDeployer()

    monkeypatch.setattr(command, "deployer", fake)


@pytest.mark.alone  # a busy machine sends late, and then the run is invalid before it is too short
def test_a_run_that_never_shows_what_is_wanted_ends_the_study_at_once(
    files: Path, without_ray: None
) -> None:
    (files / "run.yaml").write_text(RUN.replace("num_requests: 40", "num_requests: 5"))
    result = invoke("tune", str(files / "study.yaml"), "--quiet")
    assert result.exit_code == Exit.USAGE
    assert "n = 5; needs at least 20" in result.stderr
    assert len(list(FileStore(str(files / "store")).scan().records)) == 1


def test_a_study_runs_remembers_and_goes_on(files: Path, without_ray: None) -> None:
    """On real (simulated-engine) servers, without Ray."""
    study = str(files / "study.yaml")
    first = invoke("tune", study, "--json", "--quiet")
    found = json.loads(first.stdout)
    assert found["schema"] == "windtunnel.tune/1"
    phases = [t["phase"] for t in found["trials"]]
    assert phases[0] == Phase.BASELINE
    assert len(phases) == 3
    kept = list(FileStore(str(files / "store")).scan().records)
    assert {r.name for r in kept} == {"small-study"}
    assert {r.evidence for r in kept} == {"simulated"}

    listed = json.loads(invoke("study", "list", "--json").stdout)["studies"]
    assert [(s["name"], s["num_runs"]) for s in listed] == [("small-study", len(kept))]
    shown = json.loads(invoke("study", "show", "small-study", "--json").stdout)
    # Runs of one second have no order by their ids.
    assert {r["run_ids"][0] for r in shown["runs"]} == {r.run_id for r in kept}
    assert shown["bounds"] == {"ttft_s_p50": 5.0}
    people = invoke("study", "show", "small-study")
    assert all(r.run_id in people.stdout for r in kept)
    wrong = invoke("study", "show", "small-studi")
    assert wrong.exit_code == Exit.USAGE
    assert "did you mean small-study" in wrong.stderr

    again = invoke("tune", study, "--json", "--quiet")
    assert again.exit_code == Exit.USAGE
    assert "--resume goes on" in again.stderr
    resumed = invoke("tune", study, "--json", "--quiet", "--resume")
    document = json.loads(resumed.stdout)
    assert [t["run_ids"] for t in document["trials"]] == [t["run_ids"] for t in found["trials"]]
    after = [r.run_id for r in FileStore(str(files / "store")).scan().records]
    assert after == [r.run_id for r in kept]  # not one run was made again


def test_a_study_names_a_space_and_says_what_of_it_the_engine_has_not(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.study_file.snapshot_at_hand", lambda *_: (None, "9.9"))
    (files / "study.yaml").write_text(
        "name: spaced\nspec: run.yaml\nspace: vllm-cpu\nwithout: [dtype]\nslo: ttft_p50=5s\n"
        "budget: {num_trials: 3}\n"
    )
    (files / "run.yaml").write_text(
        RUN.replace("{kind: simulated, model: tiny-llama, accelerator: H100, ", "{kind: vllm, ")
    )
    plan = json.loads(invoke("tune", str(files / "study.yaml"), "--dry-run", "--json").stdout)
    assert sum(b["num_knobs"] for b in plan["branches"]) > 8
    assert "not held against vllm 9.9" in plan["dropped"][0]
    assert plan["why_no_forecast"] == "no data sheet of cpu is in the table"
    assert plan["bounds"][0]["limit"] == 5.0


@pytest.mark.parametrize("ended", ["well", "badly"])
def test_a_limit_of_the_baseline_becomes_a_number_before_the_first_trial(
    files: Path, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    (files / "study.yaml").write_text(
        STUDY.replace("slo: ttft_p50=5s", "limits: [{metric: ttft_p50, of_baseline: 1.5}]")
    )
    asked = []

    class Fake:
        def __init__(self, *_: object) -> None: ...

        def evaluate(self, config: Config, phase: Phase, repeat: int) -> Evaluated:
            asked.append((dict(config), phase, repeat))
            reading = Reading(goals={"output_throughput": 9.0}, bounds={"ttft_s_p50": 0.2})
            well = Measured(reading=reading)
            crash = Crashed(kind=FailureKind.HANG, message="no answer", severity=0.5)
            return Evaluated(outcome=well if ended == "well" else crash, run_ids=("r1",))

    monkeypatch.setattr(command, "TrialMaker", Fake)
    study = command.read_study(files / "study.yaml")
    store = FileStore(str(files / "store"))
    memory = command.Memory(store, index_of(store), study.wish, "small-study")
    if ended == "badly":
        with pytest.raises(StudyError, match="limits of the study are multiples of it"):
            command._against_baseline(study, memory, None)  # type: ignore[arg-type]
        return
    made = command._against_baseline(study, memory, None)  # type: ignore[arg-type]
    assert asked == [({}, Phase.BASELINE, 0)]
    (bound,) = made.wish.bounds
    assert bound.limit == pytest.approx(0.3)
    assert bound.of_baseline == 1.5
    assert memory.wish == made.wish
