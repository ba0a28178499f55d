"""``windtunnel study``: what a store full of studies is told as, whole, half-done or failed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.exits import Exit
from harness.cli.options import index_of
from harness.cli.study_judged import seed_of
from harness.cli.study_kept import Remembered, kept_study
from results.measurement import Measurement
from results.record import Failed, Invalid, Outcome, RunRecord, Succeeded
from results.store_files import FileStore
from results.study_log import StudyEventKind, StudyLog
from results.testing import EPOCH, make_record, make_run_id
from tuners.goals import Bound, Goal, Wish

SEQS = "workload.engine_args.max-num-seqs"
WISH = Wish(
    goals=(Goal(metric="output_throughput"),),
    bounds=(Bound(metric="ttft_s", statistic="p99", limit=0.5),),
)
OOM = Failed(stage="load", error="out_of_memory", message="CUDA out of memory: 2.50 GiB")
LOST = Failed(stage="lost", error="driver_died", message="the driver ended")
FILE = {"probability": 0.95, "max_repeats": 5, "top": 3, "spec_path": "runs/chat.yaml"}


class Study:
    """Writes runs as ``windtunnel tune`` does: one a minute, 8 sequences at a time the best."""

    def __init__(self, store: FileStore, name: str = "chat", wish: Wish = WISH) -> None:
        self.store, self.name, self.wish, self.count = store, name, wish, 0
        self.log = StudyLog(store.objects, name)

    def begun(self) -> None:
        wish = json.dumps(asdict(self.wish))
        self.log.begun(EPOCH, {**FILE, "wish": wish}, "windtunnel tune chat.yaml")

    def ended(self, **body: Any) -> None:
        self.log.append(StudyEventKind.ENDED, EPOCH + timedelta(hours=9), body)

    def run(
        self,
        config: Mapping[str, Any],
        phase: str = "search",
        *,
        seed: int = 7,
        outcome: Outcome | None = None,
        noise: float = 1.0,
    ) -> str:
        self.count += 1
        at = EPOCH + timedelta(minutes=self.count)
        seqs = config.get(SEQS) or 4
        engine_args = {} if config.get(SEQS) is None else {"max-num-seqs": seqs}
        tags = {
            "study": self.name,
            "study.phase": phase,
            "study.config": json.dumps(dict(config)),
            "study.wish": json.dumps(asdict(self.wish)),
            "study.fingerprint": f"{seqs}-{seed}",
        }
        numbers = {
            ("output_throughput", "value"): 100.0 * seqs * noise,
            ("ttft_s", "p99"): 0.05 * seqs / noise,
            ("startup_s", "value"): 40.0,
            ("chip_hours", "value"): 0.5,
            ("cost_usd", "value"): 1.25,
        }
        measurements = tuple(
            Measurement(metric=metric, statistic=statistic, value=value, n=2000)
            for (metric, statistic), value in numbers.items()
        )
        record = make_record(
            run_id=make_run_id(self.count, at),
            name=self.name,
            started_at=at,
            ended_at=at + timedelta(seconds=50),
            duration_s=50.0,
            outcome=outcome or Succeeded(),
            spec={
                "name": self.name,
                "tags": tags,
                "workload": {"kind": "vllm", "model": "m", "engine_args": engine_args},
                "traffic": {"seed": seed},
            },
            measurements=() if isinstance(outcome, Failed) else measurements,
        )
        return self.store.seal(record, {}).run_id


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    monkeypatch.setenv("WINDTUNNEL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WINDTUNNEL_STORE", str(tmp_path / "store"))
    return FileStore(tmp_path / "store")


def ask(*words: str) -> Any:
    result = CliRunner().invoke(app, ["study", *words, "--json"])
    assert result.exit_code == Exit.OK, result.output
    return json.loads(result.stdout)


def whole(store: FileStore) -> Study:
    """A search of five, its best measured again beside the baseline: 8 passes, 16 breaks."""
    study = Study(store)
    study.begun()
    study.run({}, "baseline")
    for seqs in (None, 2, 8, 16):
        study.run({SEQS: seqs}, "seed")
    study.run({SEQS: 64}, outcome=OOM)
    study.run({SEQS: 1}, outcome=Invalid(reasons=("client_late",)))
    for repeat, noise in enumerate((0.99, 1.0, 1.01), 1):
        seed = 7 + 1009 * repeat
        study.run({}, "remeasure", seed=seed, noise=noise)
        study.run({SEQS: 8}, "remeasure", seed=seed, noise=noise)
    study.ended(stopped_by="7 trials", why_none="", num_foreseen=2)
    return study


def test_a_whole_study_is_told_with_its_winner(store: FileStore) -> None:
    whole(store)
    told = ask("report", "chat")
    assert told["state"] == "ended"
    assert told["winner"]["config"] == {SEQS: 8}
    assert told["winner"]["verdict"] == "passed"
    assert told["winner"]["num_runs"] == 3
    # Each pair has the same noise: the ratio is exactly that of 8 to 4.
    assert told["gain"]["ratio"] == pytest.approx(2.0)
    assert told["gain"]["num_pairs"] == 3
    assert told["baseline"]["goals"]["output_throughput"] == pytest.approx(400.0)
    assert told["deploy"] == f"windtunnel run runs/chat.yaml --set {SEQS}=8"
    assert told["baseline_config"] == {SEQS: "left to the engine"}
    assert "max-num-seqs: 8" in told["winner_spec"]
    assert "study.config" not in told["winner_spec"]
    states = [t["state"] for t in told["trials"] if t["phase"] in ("seed", "search")]
    assert states == [*["keeps its limits"] * 3, "breaks a limit", "failed", "invalid"]
    assert [p["value"] for p in told["progress"]] == [400.0, 400.0, 800.0, 800.0]
    assert told["usd"] == pytest.approx(12 * 1.25)
    assert told["num_foreseen"] == 2
    assert told["written"] == []


def test_limits_that_are_multiples_of_the_baseline_are_numbers_as_soon_as_it_ran(
    store: FileStore,
) -> None:
    """Its own run was asked for before they were; 0.2 s × 1.5 by hand."""
    bound = Bound(metric="ttft_s", statistic="p99", limit=None, of_baseline=1.5)
    study = Study(store, wish=Wish(goals=WISH.goals, bounds=(bound,)))
    study.begun()
    assert ask("show", "chat")["bounds"] == {"ttft_s_p99": None}
    study.run({}, "baseline")
    assert ask("show", "chat")["bounds"]["ttft_s_p99"] == pytest.approx(0.3)
    (told,) = ask("report", "chat")["bounds"]
    assert told["limit"] == pytest.approx(0.3)


def test_trainings_are_paired_by_the_seed_of_their_data() -> None:
    def record(seed: int) -> RunRecord:
        return make_record(spec={"workload": {"kind": "torch", "seed": seed}})

    assert seed_of(record(1016), 0) == seed_of(record(1016), 5) != seed_of(record(7), 0)
    command = make_record(spec={"workload": {"kind": "command"}})
    assert seed_of(command, 0) != seed_of(command, 1)


def test_list_and_show_have_state_share_and_cost(store: FileStore) -> None:
    whole(store)
    (listed,) = ask("list")["studies"]
    assert (listed["state"], listed["num_feasible"], listed["num_trials"]) == ("ended", 3, 6)
    assert listed["feasible_share"] == 0.5
    assert listed["failures"] == {"oom_under_load": 1, "invalid": 1}
    spent = listed["spent"]
    assert (spent["wall_s"], spent["chip_hours"], spent["usd"]) == (650.0, 6.0, 15.0)
    assert sum(spent["startup_parts"].values()) == pytest.approx(spent["startup_s"])
    assert (spent["num_stopped"], spent["probe_s"]) == (0, 0.0)
    shown = ask("show", "chat")
    assert len(shown["runs"]) == 13
    people = CliRunner().invoke(app, ["study", "show", "chat"]).stdout
    assert "3 of 6 trials keep them" in people
    assert "1 oom_under_load, 1 invalid" in people
    table = CliRunner().invoke(app, ["study", "list"]).stdout
    assert "ended" in table and "3 of 6" in table


def test_the_page_and_its_markdown_are_written_where_asked(
    store: FileStore, tmp_path: Path
) -> None:
    whole(store)
    page, text = tmp_path / "s.html", tmp_path / "s.md"
    words = ["study", "report", "chat", "--html", str(page), "--markdown", str(text)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == Exit.OK, result.output
    assert result.stdout.split() == [str(page), str(text)]
    assert "max-num-seqs=8" in page.read_text()
    assert text.read_text().startswith("# Study chat")
    default = CliRunner().invoke(app, ["study", "report", "chat"]).stdout.strip()
    assert default == str(tmp_path / "home" / "reports" / "study-chat.html")
    bad = CliRunner().invoke(app, ["study", "report", "chat", "--html", "/none/s.html"])
    assert bad.exit_code == Exit.USAGE
    assert "/none" in bad.stderr


def test_a_store_that_was_moved_tells_its_studies_where_it_is_now(
    store: FileStore, tmp_path: Path
) -> None:
    study = whole(store)
    command = "windtunnel tune chat.yaml --pools 'p q.yaml' --store old"
    study.log.begun(EPOCH + timedelta(hours=8), {**FILE, "wish": json.dumps(asdict(WISH))}, command)
    moved = Path(store.url).rename(tmp_path / "moved here")
    page = tmp_path / "page.md"
    ask("report", "chat", "--markdown", str(page), "--store", str(moved))
    # What makes the study, and what runs its winner, are complete.
    assert command in page.read_text()
    runs = [line for line in page.read_text().splitlines() if "windtunnel run " in line]
    assert runs and runs[0].rstrip().endswith("--pools 'p q.yaml' --store old")


def half(store: FileStore) -> Study:
    study = Study(store)
    study.begun()
    return study


def test_a_study_that_began_and_made_no_run_has_a_page(store: FileStore) -> None:
    half(store)
    told = ask("report", "chat")
    assert told["state"] == "running"  # this very process began it
    assert told["sentence"] == "Nothing has been measured yet."
    assert ask("list")["studies"][0]["num_runs"] == 0
    assert CliRunner().invoke(app, ["study", "report", "chat"]).exit_code == Exit.OK


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ([({}, "baseline", None)], "Still searching: 0 trials so far."),
        ([({}, "baseline", None), ({SEQS: 2}, "seed", None)], "Best seen once: max-num-seqs=2"),
        ([({}, "baseline", OOM), ({SEQS: 2}, "seed", OOM)], "The 1 trial failed."),
        ([({SEQS: 2}, "seed", LOST)], "Still searching: 1 trial so far."),
        ([({SEQS: 16}, "seed", None)], "None of 1 measured trial keeps every limit."),
        (
            [({}, "baseline", None), ({SEQS: 8}, "seed", None), ({SEQS: 8}, "remeasure", None)],
            "Best seen once: max-num-seqs=8",
        ),
        ([({SEQS: 8}, "remeasure", OOM)], "Still searching"),
    ],
)
def test_half_a_study_is_told_as_half(
    store: FileStore, runs: list[tuple[dict[str, Any], str, Outcome | None]], says: str
) -> None:
    study = half(store)
    for config, phase, outcome in runs:
        study.run(config, phase, outcome=outcome)
    told = ask("report", "chat")
    assert says in told["sentence"]
    assert told["winner"] is None
    result = CliRunner().invoke(app, ["study", "report", "chat"])
    assert result.exit_code == Exit.OK, result.output


def test_runs_without_a_word_of_their_study_are_told_too(store: FileStore) -> None:
    """As an older program left them, or a driver on another store."""
    study = Study(store)
    study.run({}, "baseline")
    study.run({SEQS: 8})
    told = ask("report", "chat")
    assert told["state"] == "not known"
    assert told["deploy"] == ""
    assert len(told["trials"]) == 2


def test_a_trial_that_another_study_had_measured_is_told_and_costs_nothing(
    store: FileStore,
) -> None:
    other = Study(store, "earlier")
    run_id = other.run({SEQS: 8})
    study = half(store)
    study.count = 10
    study.run({}, "baseline")
    body = {"run_id": run_id, "phase": "seed", "config": {SEQS: 8}}
    for _ in range(2):  # as a study that went on asks again
        study.log.append(StudyEventKind.REMEMBERED, EPOCH + timedelta(hours=1), body)
    told = ask("report", "chat")
    assert [t["run_id"] for t in told["trials"]][1:] == [run_id]
    assert told["trials"][1]["from_memory"]
    assert told["wall_s"] == 50.0
    assert [s["num_remembered"] for s in ask("list")["studies"]] == [0, 1]


def test_a_name_that_is_not_there_is_told_with_the_nearest(store: FileStore) -> None:
    whole(store)
    result = CliRunner().invoke(app, ["study", "report", "chta"])
    assert result.exit_code == Exit.USAGE
    assert "did you mean chat" in result.stderr
    assert CliRunner().invoke(app, ["study", "list"]).exit_code == Exit.OK


def test_memory_finds_a_run_without_reading_the_others(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(store, "earlier")
    ids = {seqs: study.run({SEQS: seqs}) for seqs in range(1, 60)}
    index_of(store).refresh()
    reads: list[str] = []
    plain = store.objects.read
    monkeypatch.setattr(store.objects, "read", lambda path: reads.append(path) or plain(path))
    memory = Remembered(store, index_of(store), WISH, "chat")
    found = memory.get("7-7")
    assert found is not None
    assert found.run_id == ids[7]
    assert memory.get("no such fingerprint") is None
    assert len([path for path in reads if path.endswith("record.json")]) == 1


def test_memory_has_what_says_something_and_only_its_own_when_asked(store: FileStore) -> None:
    earlier, own = Study(store, "earlier"), Study(store, "chat")
    own.count = 20
    earlier.run({SEQS: 1}, outcome=Invalid(reasons=("client_late",)))
    earlier.run({SEQS: 2}, outcome=LOST)
    earlier.run({SEQS: 3}, outcome=OOM)
    earlier.run({SEQS: 5})
    own.run({SEQS: 1}, outcome=Invalid(reasons=("client_late",)))
    index = index_of(store)
    memory = Remembered(store, index, WISH, "chat")
    assert [memory.get(f"{s}-7") is not None for s in (1, 2, 3, 5)] == [True, False, True, True]
    stranger = Remembered(store, index, WISH, "third")
    assert [stranger.get(f"{s}-7") is not None for s in (1, 2, 3, 5)] == [False, False, True, True]
    anew = Remembered(store, index, WISH, "chat", only_own=True)
    assert [anew.get(f"{s}-7") is not None for s in (1, 2, 3, 5)] == [True, False, False, False]


def test_a_killed_study_is_interrupted(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    half(store).run({}, "baseline")
    study = kept_study(store, "chat")
    assert study is not None
    assert study.state == "running"
    monkeypatch.setattr("harness.cli.study_kept.state_of", _as_if_dead)
    dead = kept_study(store, "chat")
    assert dead is not None
    assert dead.state == "interrupted"
    assert "--resume" in dead.state_words


def _as_if_dead(events: Any) -> Any:
    from results.study_log import state_of

    return state_of(events, alive=lambda pid, started: False)
