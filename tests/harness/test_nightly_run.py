"""A night at work: what is run, kept, made again, given up; and pairs that confirm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import harness.runner
from harness.cli.halving import asked_of, change_of
from harness.cli.versions import side_by_side
from harness.errors import EngineDied
from harness.nightly.bisect import Asked, bisect
from harness.nightly.confirm import Duel, duel_of, fight
from harness.nightly.journal import Journal
from harness.nightly.night import Night, pools_of
from harness.nightly.order import slots_of
from harness.nightly.subject import Subjects, Version
from harness.nightly.suite import Suite, read_suite
from harness.nightly.testing import Mood, VirtualDeployer, virtual_workloads
from harness.plan import RunPlan
from harness.progress import Silent
from harness.runner import RunContext
from reports.compare import Change
from results.nights import NightRole, NightRun, night_runs
from results.record import Evidence, Failed, Invalid, Succeeded
from results.testing import EPOCH, FakeClock, FakeRecordStore

SPEC = """\
name: {name}
workload: {{kind: simulated, accelerator: H100, engine_args: {{max-num-seqs: 64}}}}
hardware: {{accelerator: H100, num_chips: 1}}
traffic:
  arrivals: {{kind: poisson, rate_rps: 10}}
  prompt_tokens: {{kind: fixed, tokens: 256}}
  output_tokens: {{kind: fixed, tokens: 16}}
  num_requests: 200
"""
SUITE = """\
name: s
runs: [{spec: a.yaml, repeats: 2, metrics: [ttft_p50]}, {spec: b.yaml, repeats: 2}]
canaries: [{spec: c.yaml}]
confirm: {pairs: 2, max_pairs: 4}
"""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> FakeRecordStore:
    return FakeRecordStore()


@pytest.fixture
def deployer(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> VirtualDeployer:
    mood = Mood()
    monkeypatch.setattr(harness.runner, "workload_for", virtual_workloads(clock, mood))
    return VirtualDeployer(clock=clock, mood=mood)


MakeNight = Callable[..., Night]


@pytest.fixture
def night(
    tmp_path: Path, clock: FakeClock, store: FakeRecordStore, deployer: VirtualDeployer
) -> MakeNight:
    def make(night_id: str = "n1", text: str = SUITE, version: Version | None = None) -> Night:
        for name in "abc":
            if not (tmp_path / f"{name}.yaml").exists():
                (tmp_path / f"{name}.yaml").write_text(SPEC.format(name=name))
        (tmp_path / "suite.yaml").write_text(text)
        suite = read_suite(tmp_path / "suite.yaml")
        context = RunContext(
            deployer=deployer,
            store=store,
            clock=clock,
            progress=Silent(),
            models_dir="models",
        )
        made = Night(
            night_id=night_id,
            date=EPOCH.date(),
            suite=suite,
            subjects=Subjects(suite, tmp_path / "checkouts"),
            version=version,
            context=context,
            journal=Journal(tmp_path / "home", suite.name, night_id),
        )
        made.spent.begun_s = clock.monotonic_s()
        return made

    return make


def kept(store: FakeRecordStore) -> dict[str, tuple[NightRun, ...]]:
    return night_runs(store.scan().records)


def left_out(night: Night) -> list[tuple[str, str]]:
    return [(told["what"], told["why"]) for told in night.journal.read().all("not_run")]


def test_a_night_is_its_records(night: MakeNight, store: FakeRecordStore) -> None:
    made = night()
    runs = list(made.run(slots_of(made.suite)))
    assert [r.slot for r in runs] == ["c#1", "a#1", "b#1", "c#2", "b#2", "a#2", "c#3"]
    told = kept(store)["n1"]
    assert [(r.slot, r.role, r.series) for r in told] == [(r.slot, r.role, r.series) for r in runs]
    assert {r.role for r in told} == {NightRole.RUN, NightRole.CANARY}
    assert told[1].metrics == ("ttft_p50",) and told[1].pool == "h100"
    assert all(isinstance(r.record.outcome, Succeeded) for r in told)
    assert {r.record.evidence for r in told} == {Evidence.SIMULATED}
    assert {r.record.experiment_id for r in told} == {"n1"} and left_out(made) == []


def test_a_night_goes_on_where_it_was_killed(night: MakeNight, store: FakeRecordStore) -> None:
    made = night()
    first = made.run(slots_of(made.suite))
    next(first), next(first), next(first)
    first.close()
    again = night()
    again.resume(kept(store)["n1"])
    rest = list(again.run(slots_of(again.suite)))
    assert [r.slot for r in rest] == ["c#2", "b#2", "a#2", "c#3"]
    assert len(kept(store)["n1"]) == 7


def test_what_our_own_interruption_ended_is_made_again(
    night: MakeNight, store: FakeRecordStore, deployer: VirtualDeployer
) -> None:
    def interrupt(plan: RunPlan) -> None:
        raise KeyboardInterrupt

    made = night()
    deployer.fails = interrupt
    with pytest.raises(KeyboardInterrupt):
        list(made.run(slots_of(made.suite)))
    deployer.fails = None
    again = night()
    again.resume(kept(store)["n1"])
    assert len(list(again.run(slots_of(again.suite)))) == 7


def test_two_nights_do_not_mix(night: MakeNight, store: FakeRecordStore) -> None:
    one, other = night("n1"), night("n2")
    turns = [one.run(slots_of(one.suite)), other.run(slots_of(other.suite))]
    for _ in range(7):
        for turn in turns:
            next(turn)
    assert {n: len(runs) for n, runs in kept(store).items()} == {"n1": 7, "n2": 7}


def test_a_series_that_fails_twice_is_left_alone_and_named(
    night: MakeNight, store: FakeRecordStore, deployer: VirtualDeployer
) -> None:
    def fail(plan: RunPlan) -> None:
        if plan.spec.name == "a":
            raise EngineDied("startup", "the engine died")

    deployer.fails = fail
    made = night(text=SUITE.replace("repeats: 2, metrics", "repeats: 5, metrics"))
    list(made.run(slots_of(made.suite)))
    failed = [r for r in kept(store)["n1"] if isinstance(r.record.outcome, Failed)]
    assert [r.series for r in failed] == ["a", "a"]
    ((what, why),) = left_out(made)
    assert what == "a" and "the engine died" in why


def test_a_spec_that_no_pool_can_hold_is_asked_once(
    night: MakeNight, tmp_path: Path, store: FakeRecordStore
) -> None:
    (tmp_path / "b.yaml").write_text(SPEC.format(name="b").replace("num_chips: 1", "num_chips: 9"))
    made = night()
    list(made.run(slots_of(made.suite)))
    assert [r.slot for r in kept(store)["n1"] if r.series == "b"] == ["b#1"]
    assert [what for what, _ in left_out(made)] == ["b"]
    pools = pools_of(made.suite, made.context.deployer.inventory(), None)
    assert pools == {"a": frozenset({"h100"}), "b": frozenset(), "c": frozenset({"h100"})}


def test_the_budget_ends_a_night_and_says_what_was_not_run(night: MakeNight) -> None:
    made = night(text=SUITE + "budget: {wall_s: 100}\n")
    runs = list(made.run(slots_of(made.suite)))
    assert 2 <= len(runs) < 7  # each takes some 40 s
    assert left_out(made) and all("budget of 100 s is spent" in why for _, why in left_out(made))


# ---- confirming ----


def a_duel(night: MakeNight, store: FakeRecordStore, change: str) -> tuple[Night, Duel]:
    """The night before ran ``a`` as it was; tonight it is changed."""
    before = night("n1")
    list(before.run(slots_of(before.suite)))
    path = before.suite.folder / "a.yaml"
    path.write_text(path.read_text().replace("max-num-seqs: 64", change))
    tonight = night("n2")
    good = next(r for r in kept(store)["n1"] if r.series == "a")
    return tonight, duel_of(tonight, "a", tonight.suite.named("a"), good)


def engine_args(runs: Sequence[NightRun]) -> list[int]:
    found: list[Any] = [r.record.spec["workload"]["engine_args"]["max-num-seqs"] for r in runs]
    return found


def test_pairs_take_turns_until_they_decide(night: MakeNight, store: FakeRecordStore) -> None:
    tonight, duel = a_duel(night, store, "max-num-seqs: 2")
    assert not duel.is_same
    asked: list[int] = []

    def decided(runs: Sequence[NightRun]) -> bool:
        asked.append(len(runs))
        return len(runs) >= 6

    runs = list(fight(tonight, duel, decided))
    assert [r.role for r in runs] == ["good", "new", "new", "good", "good", "new"]
    assert engine_args(runs) == [64, 2, 2, 64, 64, 2]
    assert asked == [4, 6]
    assert {r.record.workload_hash for r in runs} == {runs[0].record.workload_hash}
    assert {r.suspect for r in kept(store)["n2"]} == {"a"}


def test_pairs_end_at_the_most_and_go_on_after_a_kill(
    night: MakeNight, store: FakeRecordStore
) -> None:
    tonight, duel = a_duel(night, store, "max-num-seqs: 2")
    first = fight(tonight, duel, lambda _: False)
    next(first), next(first), next(first)
    first.close()
    again = night("n2")
    again.resume(kept(store)["n2"])
    assert len(list(fight(again, duel, lambda _: False))) == 5
    assert len(kept(store)["n2"]) == 8  # max_pairs


def test_a_pair_with_an_invalid_run_is_made_again(
    night: MakeNight, store: FakeRecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tonight, duel = a_duel(night, store, "max-num-seqs: 2")
    real, made = Night.one, count(1)

    def late(self: Night, *asked: Any, **named: Any) -> NightRun:
        run = real(self, *asked, **named)
        if next(made) not in spoilt:
            return run
        return replace(run, record=replace(run.record, outcome=Invalid(reasons=("client_late",))))

    monkeypatch.setattr(Night, "one", late)
    spoilt = {2, 7}  # of the first pair and of the fourth
    decided_at: list[int] = []

    def decided(runs: Sequence[NightRun]) -> bool:
        decided_at.append(len(runs))
        return len(runs) >= 10

    runs = list(fight(tonight, duel, decided))
    assert decided_at == [6, 8, 10] and len(runs) == 10  # of pairs two, three and five
    spoilt, made = set(range(100)), count(1)
    duel = replace(duel, name="b")
    assert len(list(fight(tonight, duel, lambda _: True))) == 2 * (4 + 2)


def test_a_series_that_is_the_same_as_on_the_good_night_has_nothing_to_put_back(
    night: MakeNight, store: FakeRecordStore
) -> None:
    _, duel = a_duel(night, store, "max-num-seqs: 64")
    assert duel.is_same


def test_versions_make_two_sides_of_one_spec(
    night: MakeNight, store: FakeRecordStore, tmp_path: Path
) -> None:
    text = SUITE + "subject: {into: workload.engine_args.max-num-seqs, values: [64, 2]}\n"
    old, new = Version(name="64", value=64), Version(name="2", value=2)
    before = night("n1", text, old)
    list(before.run(slots_of(before.suite)))
    tonight = night("n2", text, new)
    good = next(r for r in kept(store)["n1"] if r.series == "a")
    assert good.subject == "64"
    duel = duel_of(tonight, "a", tonight.suite.named("a"), good)
    assert not duel.is_same
    runs = list(fight(tonight, duel, lambda _: True))
    assert [r.subject for r in runs] == ["64", "2", "2", "64"]
    # The canary is pinned: no version of the subject is put into it.
    assert {r.subject for r in kept(store)["n1"] if r.role is NightRole.CANARY} == {""}


def test_the_suite_is_read_as_it_is_now(night: MakeNight) -> None:
    suite: Suite = night().suite
    assert [s.name for s in suite.series] == ["a", "b"]
    assert replace(suite.series[0].spec, name="x").num_repeats == 1


def test_halving_asks_pairs_and_finds_the_version(night: MakeNight) -> None:
    values = "[64, 63, 62, 61, 1]"
    text = SUITE.replace("pairs: 2, max_pairs: 4", "pairs: 5, max_pairs: 5")
    subject = f"subject: {{into: workload.engine_args.max-num-seqs, values: {values}}}\n"
    made = night(text=text + subject)
    series = made.suite.named("a")
    good = made.subjects.version("64")
    asked: list[str] = []
    steps: list[Change | None] = []

    def ask(version: str) -> Asked:
        asked.append(version)
        new = made.subjects.version(version)
        pairs = side_by_side(made, series, good, new, lambda comparison: True)
        steps.append(change_of(pairs.comparison, "ttft_s", "p50"))
        return asked_of(version, pairs, steps[-1], steps[0] if len(steps) > 1 else None)

    found = bisect(made.subjects.between("64", "1"), ask)
    assert (found.first_bad, found.last_good, found.is_exact) == ("1", "61", True)
    assert asked[0] == "1" and len(asked) <= 4
