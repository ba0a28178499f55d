"""``windtunnel bisect`` on a real git repository: what it asks, says and leaves behind.

The pairs are made up here, one level for each commit.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import halving, versions
from harness.cli.app import app
from harness.cli.exits import Exit
from harness.cli.versions import Pairs
from harness.nightly.subject import Version
from harness.progress import Silent
from reports.compare import Comparison, compare
from results.measurement import Measurement
from results.nights import NightRole
from results.testing import EPOCH, make_record, make_run_id

SUITE = """\
name: s
runs: [{spec: train.yaml}, {spec: other.yaml}]
subject: {git: code, into: workload.cwd}
confirm: {pairs: 5, max_pairs: 8}
"""
SPEC = """\
name: {name}
workload: {{kind: command, argv: [train.py]}}
"""
STEP = ("step_time_s", "p50")


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def commits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``c0 … c9`` on main, ``c4`` a merge of ``side``."""
    code = tmp_path_factory.mktemp("code")
    git(code, "init", "-q", "-b", "main")
    for number in range(10):
        if number == 4:
            git(code, "checkout", "-q", "-b", "side", "HEAD~1")
            (code / "side.txt").write_text("side\n")
            git(code, "add", "-A")
            git(code, "commit", "-q", "-m", "[side] work")
            git(code, "checkout", "-q", "main")
            git(code, "merge", "-q", "--no-ff", "-m", "c4 merge side", "side")
        else:
            (code / "train.py").write_text(f"print({number})\n")
            git(code, "add", "-A")
            git(code, "commit", "-q", "-m", f"c{number}")
        git(code, "tag", f"c{number}")
    return code


@pytest.fixture
def files(tmp_path: Path, commits: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(commits, tmp_path / "code")
    for name in ("train", "other"):
        (tmp_path / f"{name}.yaml").write_text(SPEC.format(name=name))
    (tmp_path / "suite.yaml").write_text(SUITE)
    monkeypatch.setenv("WINDTUNNEL_HOME", str(tmp_path / "home"))
    return tmp_path


@dataclass
class Night:
    """As much of one as halving looks at."""

    subjects: Any
    made: list[Any] = field(default_factory=list)
    spent: str = ""

    def over_budget(self) -> str:
        return self.spent


@dataclass
class Lab:
    """``levels``: the step's time by the commit's title; a text: why it does not run."""

    levels: dict[str, float | str]
    titles: dict[str, str]
    night: Night
    asked: list[str] = field(default_factory=list)
    before: Callable[[int], None] = lambda number: None

    def pairs(self, good: Version, new: Version) -> Pairs:
        title = self.titles[new.name]
        self.before(len(self.asked))
        self.asked.append(title)
        assert (Path(str(new.value)) / "train.py").is_file()
        levels = [self.levels.get(self.titles[v.name], 0.1) for v in (good, new)]
        for role, level in zip((NightRole.GOOD, NightRole.NEW), levels, strict=True):
            if isinstance(level, str):
                return Pairs(comparison=None, failed=role, why=level)
        return Pairs(comparison=compared(*levels))  # type: ignore[arg-type]


def compared(good: float, new: float) -> Comparison:
    sides: tuple[list[Any], list[Any]] = ([], [])
    for number in range(10):
        side = (number + number // 2) % 2  # ABBA
        at = EPOCH + timedelta(seconds=number)
        value = (good, new)[side] * (1.0 + 0.004 * ((number * 7) % 5 - 2))
        sides[side].append(
            make_record(
                run_id=make_run_id(number, at),
                started_at=at,
                measurements=(Measurement(metric=STEP[0], statistic=STEP[1], value=value, n=50),),
            )
        )
    return compare(*sides, metrics=[STEP])


@pytest.fixture
def lab(files: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    log = git(files / "code", "log", "--all", "--format=%H %s").splitlines()
    night = Night(subjects=None)
    made = Lab(levels={}, titles=dict(line.split(" ", 1) for line in log), night=night)

    @contextmanager
    def sitting(ask: Any, sides: Any, store: Any, quiet: bool) -> Iterator[Any]:
        night.subjects = sides.subjects
        try:
            yield night, Silent()
        finally:
            sides.subjects.clean()

    def side_by_side(night: Any, series: Any, good: Version, new: Version, decided: Any) -> Pairs:
        assert series.name == "train" and series.metrics == ("step_time_p50",)
        found = made.pairs(good, new)
        assert found.comparison is None or decided(found.comparison)
        return found

    monkeypatch.setattr(halving, "sitting", sitting)
    monkeypatch.setattr(halving, "side_by_side", side_by_side)
    return made


def invoke(files: Path, *words: str) -> Any:
    more = ("--series", "train", "--metric", "step_time_p50", "--quiet")
    return CliRunner().invoke(app, ["bisect", str(files / "suite.yaml"), *words, *more])


def slow_from(number: int, level: float = 0.15) -> dict[str, float | str]:
    titles = {4: "c4 merge side"}
    return {titles.get(n, f"c{n}"): level for n in range(number, 10)}


def test_the_first_slow_commit_is_found_past_one_that_does_not_run(files: Path, lab: Lab) -> None:
    lab.levels = {**slow_from(8), "c6": "its run failed at startup: SyntaxError", "c2": 0.102}
    made = invoke(files, "c0", "main", "--json")
    found = json.loads(made.stdout)
    assert made.exit_code == Exit.REGRESSION, made.output
    assert lab.asked == ["c9", "c4 merge side", "c6", "c7", "c8", "c8"]
    assert found["first_bad"] == git(files / "code", "rev-parse", "c8") and found["is_exact"]
    by_title = {lab.titles[one["version"]]: one for one in found["asked"]}
    assert by_title["c6"]["found"] == "not measured" and "SyntaxError" in by_title["c6"]["why"]
    assert by_title["c9"]["low"] < 0.5 < by_title["c9"]["high"]
    assert found["sentence"].startswith("step time p50 of train: ")
    assert "c8 is the first that is worse (+50" in found["sentence"]
    assert not (files / "home" / "checkouts").exists()


def test_a_commit_that_cannot_be_told_stays_in_the_answer(files: Path, lab: Lab) -> None:
    lab.levels = {**slow_from(7), "c6": "its run failed at load: it hangs"}
    made = invoke(files, "c0", "main")
    assert made.exit_code == Exit.REGRESSION
    words = " ".join(made.stdout.split())
    assert "worse from" in words and "1 version between not told" in words
    assert "not told: " in made.stdout and "it hangs" in made.stdout


def test_a_merge_is_one_change_and_leads_into_what_it_brought(files: Path, lab: Lab) -> None:
    lab.levels = slow_from(4)
    made = invoke(files, "c0", "main")
    assert "c4 merge side is the first that is worse" in made.stdout.replace("\n", " ")
    base, side = (git(files / "code", "rev-parse", name) for name in ("c4^1", "side"))
    words = "".join(made.stdout.split())  # a long path is wrapped
    assert f"whatitbrought:windtunnelbisect{files}/suite.yaml" in words
    assert git(files / "code", "merge-base", "c4^1", "c4^2") in words and side in words and base


def test_an_answer_that_does_not_hold_side_by_side_is_none(files: Path, lab: Lab) -> None:
    lab.levels = slow_from(8)

    def calm(number: int) -> None:
        if number == 5:  # the last good one against the first bad one
            lab.levels = {}

    lab.before = calm
    made = invoke(files, "c0", "main", "--json")
    found = json.loads(made.stdout)
    assert made.exit_code == Exit.INVALID and not found["is_exact"], lab.asked
    assert "no answer that holds" in found["sentence"]


def test_a_small_change_before_the_step_is_not_the_step(files: Path, lab: Lab) -> None:
    lab.levels = {f"c{n}": 0.105 for n in range(1, 8)} | slow_from(8)
    made = invoke(files, "c0", "main", "--json")
    assert json.loads(made.stdout)["first_bad"] == git(files / "code", "rev-parse", "c8")


@pytest.mark.parametrize(
    ("levels", "code", "says"),
    [
        ({}, Exit.INVALID, "is as good as the good one"),
        ({"c9": 0.08}, Exit.INVALID, "as good as the good one: it is better"),
        ({"c9": "its run failed at startup: no"}, Exit.INVALID, "could not be measured: its run"),
        ({"c0": "no torch"}, Exit.INFRASTRUCTURE, "c0 does not run: no torch"),
    ],
)
def test_where_there_is_nothing_to_find_it_says_so_at_once(
    files: Path, lab: Lab, levels: Any, code: Exit, says: str
) -> None:
    lab.levels = levels
    made = invoke(files, "c0", "main")
    assert made.exit_code == code and lab.asked == ["c9"]
    assert says in (made.stdout + made.stderr).replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("main", "c0"), "is older than main"),
        (("c3", "c3"), "are the same version"),
        (("c0", "nobody"), "nobody: "),
    ],
)
def test_wrong_versions_are_named_before_anything_starts(
    files: Path, lab: Lab, words: Any, says: str
) -> None:
    made = invoke(files, *words)
    assert made.exit_code == Exit.USAGE and says in made.stderr and lab.asked == []


def test_the_plan_says_how_many_runs_and_starts_nothing(files: Path, lab: Lab) -> None:
    made = invoke(files, "c0", "main", "--dry-run", "--json")
    plan = json.loads(made.stdout)
    assert made.exit_code == Exit.OK and lab.asked == []
    assert [v["words"].split(" ", 1)[1] for v in plan["versions"]][:4] == [
        "c1", "c2", "c3", "c4 merge side",
    ]  # fmt: skip
    # Nine versions: the bad one, four halvings, the answer again; five to eight pairs each.
    assert (plan["num_sets"], plan["fewest_runs"], plan["most_runs"]) == (6, 60, 96)
    words = invoke(files, "c0", "main", "--dry-run").stdout
    assert "60 to 96 valid runs in 6 sets of pairs (160 runs, should no version" in words


def test_ctrl_c_tells_what_is_known(files: Path, lab: Lab) -> None:
    lab.levels = slow_from(7)

    def stop(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    lab.before = stop
    made = invoke(files, "c0", "main")
    assert made.exit_code == Exit.INTERRUPTED
    assert "so far: step time p50 of train: worse from" in made.stderr
    code = files / "code"
    good, bad = (git(code, "rev-parse", name) for name in ("c4", "c9"))
    assert f"suite.yaml {good} {bad} --series train --metric step_time_p50" in made.stderr
    assert not (files / "home" / "checkouts").exists()


def test_a_spent_budget_ends_it_with_what_is_known(files: Path, lab: Lab) -> None:
    lab.levels = slow_from(7)

    def spend(number: int) -> None:
        if number == 1:
            lab.night.spent = "the night's budget of 60 s is spent (61)"

    lab.before = spend
    made = invoke(files, "c0", "main")
    assert made.exit_code == Exit.REGRESSION
    assert "stopped: the night's budget of 60 s" in made.stdout and "to go on: " in made.stdout


def test_a_version_that_says_what_is_asked_is_refused(files: Path, lab: Lab) -> None:
    suite = SUITE.replace(
        "git: code, into: workload.cwd", "into: workload.num_steps, values: [5, 6]"
    )
    (files / "suite.yaml").write_text(suite)
    made = invoke(files, "5", "6")
    assert made.exit_code == Exit.USAGE
    assert "workload.num_steps says what is asked" in made.stderr and lab.asked == []
    assert versions.all_decided(compared(0.1, 0.15))
