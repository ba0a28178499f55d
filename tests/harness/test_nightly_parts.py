"""A night's order, its journal, versions of what is tested, and halving them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import SpecError
from harness.nightly.bisect import Asked, Found, Halving, bisect, num_questions
from harness.nightly.journal import Journal, NightBusy, alone, nights_kept
from harness.nightly.order import lanes_of, slots_of, without_canary
from harness.nightly.subject import Subjects
from harness.nightly.suite import Suite, read_suite
from results.testing import EPOCH

TRAIN = """\
name: {name}
workload: {{kind: command, argv: ["true"]}}
"""
SERVE = """\
name: {name}
workload: {{kind: vllm, model: org/model}}
traffic:
  arrivals: {{kind: constant, rate_rps: 2}}
  duration_s: 5
"""


def suite_of(folder: Path, text: str, **specs: str) -> Suite:
    for name, spec in specs.items():
        (folder / f"{name}.yaml").write_text(spec)
    path = folder / "suite.yaml"
    path.write_text(text)
    return read_suite(path)


@pytest.fixture
def two_and_canary(tmp_path: Path) -> Suite:
    return suite_of(
        tmp_path,
        "name: s\nruns: [{spec: a.yaml, repeats: 3}, {spec: b.yaml, repeats: 2}]\n"
        "canaries: [{spec: c.yaml}]\n",
        a=TRAIN.format(name="a"),
        b=SERVE.format(name="b"),
        c=TRAIN.format(name="c"),
    )


# ---- the suite ----


def test_a_series_has_the_metrics_of_its_kind_of_workload(two_and_canary: Suite) -> None:
    train, serve = two_and_canary.series
    assert "training_throughput" in train.metrics and "ttft_p99" in serve.metrics
    assert [s.spec.num_repeats for s in two_and_canary.series] == [1, 1]


def test_two_specs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a: several specs of that name"):
        suite_of(
            tmp_path,
            "name: s\nruns: [{spec: a.yaml}]\ncanaries: [{spec: b.yaml}]\n",
            a=TRAIN.format(name="a"),
            b=TRAIN.format(name="a"),
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: s\nruns: []\n", "a night needs a run"),
        ("name: s\nruns: [{spec: a.yaml, metrics: [tttft_p99]}]\n", "tttft"),
        ("name: s\nruns: [{spec: a.yaml, repeats: 0}]\n", "at least 1"),
        ("name: s\nruns: [{spec: a.yaml}]\nconfirm: {pairs: 9}\n", "pairs ≤ max_pairs"),
        ("name: s\nruns: [{spec: a.yaml}]\nsubject: {git: ., into: x, values: [a]}\n", "one of"),
        ("name: s\nruns: [{spec: a.yaml, repeat: 2}]\n", "did you mean repeats"),
        ("name: ../s\nruns: [{spec: a.yaml}]\n", "accepted: 1 to 63 lower-case letters"),
        ("name: s\nruns: [{spec: a.yaml, repeats: 1000000000}]\n", "at most 1000"),
        ("name: s\nruns: [{spec: a.yaml}]\nbudget: {wall_s: -5}\n", "budget.wall_s: found -5"),
        ("name: s\nruns: [{spec: a.yaml}]\nconfirm: {max_suspects: -1}\n", "0 or more"),
    ],
)
def test_a_suite_that_cannot_be_meant_is_refused_with_its_line(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(SpecError, match=words) as refusal:
        suite_of(tmp_path, text, a=TRAIN.format(name="a"))
    assert "suite.yaml:" in str(refusal.value)


# ---- the order ----


def test_rounds_turn_round_and_begin_and_end_with_the_canary(two_and_canary: Suite) -> None:
    names = [slot.name for slot in slots_of(two_and_canary)]
    assert names == ["c#1", "a#1", "b#1", "c#2", "b#2", "a#2", "c#3", "a#3", "c#4"]


def test_what_may_meet_on_a_pool_is_in_one_lane(two_and_canary: Suite) -> None:
    slots = slots_of(two_and_canary)
    apart: Mapping[str, frozenset[str]] = {
        "a": frozenset({"p"}),
        "c": frozenset({"p"}),
        "b": frozenset({"q"}),
    }
    lanes = lanes_of(slots, apart)
    assert [{s.series.name for s in lane} for lane in lanes] == [{"a", "c"}, {"b"}]
    assert [s.name for lane in lanes for s in lane if s.series.name == "a"] == ["a#1", "a#2", "a#3"]
    # A ladder that reaches into both joins them.
    joined = lanes_of(slots, {**apart, "b": frozenset({"q", "p"})})
    assert [s.name for s in joined[0]] == [s.name for s in slots]
    assert without_canary(two_and_canary, apart) == ("b",)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]), st.frozensets(st.sampled_from("pqrs"), max_size=3)
    )
)
def test_lanes_never_share_a_pool_and_lose_nothing(pools: dict[str, frozenset[str]]) -> None:
    slots = slots_of(_SUITE)
    lanes = lanes_of(slots, pools)
    assert sorted(s.name for lane in lanes for s in lane) == sorted(s.name for s in slots)
    used = [{p for s in lane for p in pools.get(s.series.name, ())} for lane in lanes]
    assert sum(map(len, used)) == len(set().union(*used))


@pytest.fixture(scope="module", autouse=True)
def _shared_suite(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _SUITE
    folder = tmp_path_factory.mktemp("suite")
    _SUITE = suite_of(
        folder,
        "name: s\nruns: [{spec: a.yaml}, {spec: b.yaml}, {spec: c.yaml}]\n",
        **{name: TRAIN.format(name=name) for name in "abc"},
    )


_SUITE: Suite


# ---- the journal ----


def test_a_torn_line_is_counted_and_takes_no_other_with_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "s", "n1")
    assert journal.read().entries == ()
    journal.append(EPOCH, "begun", slots=["a#1"])
    with journal.path.open("ab") as file:
        file.write(b'{"at": "2026-11-23T17:00:00+00:00", "ev')
    journal.append(EPOCH, "ended", exit=0)
    told = journal.read()
    assert ([e.event for e in told.entries], told.num_torn) == (["begun", "ended"], 1)
    assert told.last("begun") == {"slots": ["a#1"]} and told.last("gone") is None
    assert nights_kept(tmp_path, "s") == ("n1",)


def test_two_nights_of_one_home_do_not_run_at_once(tmp_path: Path) -> None:
    busy = r"night n2 of t cannot begin: night n1 of s \(process"
    with (
        alone(tmp_path, "night n1 of s"),
        pytest.raises(NightBusy, match=busy),
        alone(tmp_path, "night n2 of t"),
    ):
        pass
    with alone(tmp_path, "night n2 of t"):
        pass


# ---- versions ----


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, list[str]]:
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commits = []
    for number in range(3):
        (folder / "train.py").write_text(f"print({number})\n")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"c{number}")
        commits.append(git(folder, "rev-parse", "HEAD"))
    return folder, commits


def subjects(tmp_path: Path, subject: str, **specs: str) -> Subjects:
    runs = ", ".join(f"{{spec: {name}.yaml}}" for name in specs)
    suite = suite_of(tmp_path, f"name: s\nruns: [{runs}]\nsubject: {subject}\n", **specs)
    return Subjects(suite, tmp_path / "checkouts")


def test_a_commit_is_laid_out_once_and_put_into_the_spec(
    tmp_path: Path, repository: tuple[Path, list[str]]
) -> None:
    _, commits = repository
    made = subjects(
        tmp_path,
        "{git: code, into: workload.cwd}",
        a=TRAIN.format(name="a"),
        b=SERVE.format(name="b"),
    )
    tonight = made.tonight()
    assert tonight is not None and tonight.name == commits[2] and tonight.short == commits[2][:10]
    old = made.version("HEAD~2")
    assert (Path(str(old.value)) / "train.py").read_text() == "print(0)\n"
    assert made.version(commits[0]) == old
    train, serve = (series.spec for series in made._suite.series)
    workload: Any = made.at(train, old).workload
    assert workload.cwd == old.value
    assert made.at(serve, old) == serve  # has no such field
    assert made.between(commits[0], "main") == tuple(commits[1:])
    with pytest.raises(SpecError, match="is older than main"):
        made.between("main", commits[0])
    with pytest.raises(SpecError, match="has no such commit"):
        made.version("nobody")
    assert made.words([commits[1]]) == {commits[1]: f"{commits[1][:10]} c1"}
    made.clean()
    assert not Path(str(old.value)).exists()


def test_values_are_versions_from_old_to_new(tmp_path: Path) -> None:
    made = subjects(
        tmp_path,
        "{into: workload.python, values: [/a/python, /b/python, /c/python]}",
        b=SERVE.format(name="b"),
    )
    assert made.tonight() is None
    assert made.between("/a/python", "/c/python") == ("/b/python", "/c/python")
    with pytest.raises(SpecError, match="the good version comes first: /a/python /c/python"):
        made.between("/c/python", "/a/python")
    with pytest.raises(SpecError, match="are the same version"):
        made.between("/a/python", "/a/python")
    with pytest.raises(SpecError, match="/d/python is not among"):
        made.between("/a/python", "/d/python")


def test_a_subject_that_no_run_has_a_field_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"subject.into is workload.cwdd, which no run of s has"):
        subjects(tmp_path, "{git: code, into: workload.cwdd}", a=TRAIN.format(name="a"))


def test_a_suite_without_a_subject_has_no_versions(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, "name: s\nruns: [{spec: a.yaml}]\n", a=TRAIN.format(name="a"))
    with pytest.raises(SpecError, match="names no subject"):
        Subjects(suite, tmp_path).version("HEAD")


# ---- halving ----


def says(version: str, found: Found) -> Asked:
    return Asked(version=version, found=found)


@given(st.integers(1, 60), st.data())
def test_halving_finds_the_first_bad_one_in_few_steps(count: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, count - 1))
    versions = [str(i) for i in range(count)]
    found = bisect(versions, lambda v: says(v, Found.BAD if int(v) >= first else Found.GOOD))
    assert found.first_bad == versions[first] and found.is_exact
    assert found.last_good == (versions[first - 1] if first else "")
    assert len(found.asked) <= num_questions(count) - (count > 1)


@given(st.integers(2, 40), st.data())
def test_what_cannot_be_told_stays_within_the_range_that_is_told(
    count: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, count - 1))
    dim = data.draw(st.frozensets(st.integers(0, count - 2)))
    why = data.draw(st.sampled_from([Found.UNCLEAR, Found.SKIPPED]))

    def ask(version: str) -> Asked:
        if int(version) in dim:
            return says(version, why)
        return says(version, Found.BAD if int(version) >= first else Found.GOOD)

    found = bisect([str(i) for i in range(count)], ask)
    low = int(found.last_good) if found.last_good else -1
    assert low < first <= int(found.first_bad)
    assert {int(v) for v in found.unclear} == set(range(low + 1, int(found.first_bad)))
    assert len(found.asked) == len({a.version for a in found.asked}) <= count


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Found.GOOD, "is as good as the good one"),
        (Found.UNCLEAR, "is too close to the good one: 4 pairs"),
        (Found.SKIPPED, "could not be measured: 4 pairs"),
    ],
)
def test_a_bad_version_that_is_not_bad_ends_it_at_once(found: Found, words: str) -> None:
    why = "" if found is Found.GOOD else "4 pairs"
    made = bisect(["a", "b"], lambda v: Asked(version=v, found=found, why=why))
    assert (made.first_bad, len(made.asked)) == ("", 1)
    assert made.why_none.endswith(words)


def test_halving_that_is_cut_short_tells_how_far_it_came() -> None:
    halving = Halving(list("abcdefgh"))
    halving.tell(says("h", Found.BAD))
    assert halving.next() == "d"
    halving.tell(says("d", Found.GOOD))
    cut = halving.result("the budget is spent")
    assert (cut.last_good, cut.first_bad, cut.unclear) == ("d", "h", ("e", "f", "g"))
    assert cut.stopped == "the budget is spent" and not cut.is_exact
    assert Halving(["a"]).result("interrupted").why_none == "interrupted"
