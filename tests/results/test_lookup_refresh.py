"""From the store to the table and back: incremental, consistent, rebuildable."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from results.clock import SystemClock
from results.errors import LookupUnreadable
from results.lookup.refresh import SEEN, built_as_of, refresh
from results.lookup.snapshot import open_current
from results.lookup.table import open_lookup
from results.lookup.writing import CURRENT, FORMAT, write_snapshot
from results.measurement import Measurement
from results.recommendation.flags import EvidenceFlag, FlagKind, append_flag, in_force, read_flags
from results.recommendation.question import Question
from results.recommendation.testing import a_profile, generated
from results.record import Evidence, Placement, RunRecord, Succeeded
from results.store_compact import adopt, compact
from results.store_files import FileStore
from results.store_index import RunIndex

START = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def a_record(number: int) -> RunRecord:
    at = START + timedelta(days=number)
    values = {"achieved_rate": 4.0, "prompt_throughput": 4000.0, "output_throughput": 800.0}
    return RunRecord(
        run_id=f"{at:%Y%m%dT%H%M%SZ}-{number:010x}",
        experiment_id="e",
        name="n",
        workload="vllm",
        evidence=Evidence.MEASURED,
        workload_hash="w",
        environment_hash="env",
        started_at=at,
        ended_at=at,
        duration_s=300.0,
        outcome=Succeeded(),
        spec={"workload": {"kind": "vllm", "model": "a/b"}, "traffic": {"seed": number}},
        placement=Placement(
            pool="p", accelerator="H100", num_chips=1, capacity="spot", nodes=("a",)
        ),
        measurements=tuple(
            Measurement(metric=m, statistic="value", value=v, n=10) for m, v in values.items()
        ),
    )


def test_only_new_runs_are_read_and_the_same_comes_out_as_anew(tmp_path: Path) -> None:
    store, folder = FileStore(tmp_path / "s"), tmp_path / "lookup"
    for number in range(2):
        store.seal(a_record(number), {})
    first = refresh(RunIndex(store), folder)
    assert (first.num_read, first.num_runs, first.num_profiles, first.changed) == (2, 2, 1, True)
    again = refresh(RunIndex(store), folder)
    assert (again.num_read, again.changed, again.snapshot_id) == (0, False, first.snapshot_id)
    store.seal(a_record(2), {})
    third = refresh(RunIndex(store), folder)
    assert (third.num_read, third.num_runs, third.changed) == (1, 3, True)
    (profile,) = open_lookup(folder).answer(Question(model="a/b"), NOW).recommendations
    assert profile.profile.evidence.repeats == 3
    assert refresh(RunIndex(store), tmp_path / "other").snapshot_id == third.snapshot_id
    assert refresh(RunIndex(store), folder, anew=True).snapshot_id == third.snapshot_id


def test_a_damaged_cache_is_read_anew(tmp_path: Path) -> None:
    store, folder = FileStore(tmp_path / "s"), tmp_path / "lookup"
    store.seal(a_record(0), {})
    before = refresh(RunIndex(store), folder)
    with (folder / SEEN).open("a") as file:
        file.write('{"layout": 2, "obs')
    store.seal(a_record(1), {})
    after = refresh(RunIndex(store), folder)
    assert (after.num_read, after.num_runs) == (2, 2)
    assert after.snapshot_id != before.snapshot_id
    store.seal(a_record(2), {})
    third = refresh(RunIndex(store), folder)
    assert third.num_read == 1  # the cache is whole again
    (folder / CURRENT).unlink()
    assert refresh(RunIndex(store), folder).snapshot_id == third.snapshot_id


def test_a_crash_before_the_table_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = FileStore(tmp_path / "s"), tmp_path / "lookup"
    store.seal(a_record(0), {})
    refresh(RunIndex(store), folder)
    store.seal(a_record(1), {})

    def power_cut(*_: object) -> str:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("results.lookup.refresh.write_snapshot", power_cut)
        with pytest.raises(RuntimeError):
            refresh(RunIndex(store), folder)  # the new run is kept as seen by now
    assert refresh(RunIndex(store), folder).changed
    (profile,) = open_lookup(folder).answer(Question(model="a/b"), NOW).recommendations
    assert profile.profile.evidence.repeats == 2


def test_where_nothing_is_new_nothing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = FileStore(tmp_path / "s"), tmp_path / "lookup"
    store.seal(a_record(0), {})
    before = refresh(RunIndex(store), folder)
    (folder / SEEN).unlink()  # it is not even looked for
    again = refresh(RunIndex(store), folder)
    assert replace(again, num_read=1, changed=True) == before
    assert not (folder / SEEN).exists()


def test_a_flag_changes_the_answers_and_can_be_taken_back(tmp_path: Path) -> None:
    store, folder = FileStore(tmp_path / "s"), tmp_path / "lookup"
    record = store.seal(a_record(0), {})
    clean = refresh(RunIndex(store), folder).snapshot_id

    def said(kind: FlagKind, minute: int) -> None:
        at = START + timedelta(minutes=minute)
        flag = EvidenceFlag(kind=kind, run_ids=(record.run_id,), message="re-checked", at=at)
        append_flag(store.objects, flag)

    said(FlagKind.DRIFT, 0)
    drifted = refresh(RunIndex(store), folder)
    assert drifted.changed and drifted.num_read == 0
    (one,) = open_lookup(folder).answer(Question(model="a/b"), NOW).recommendations
    assert one.profile.evidence.stale
    said(FlagKind.RETRACTED, 1)
    assert refresh(RunIndex(store), folder).num_profiles == 0
    said(FlagKind.CLEARED, 2)
    assert refresh(RunIndex(store), folder).snapshot_id == clean
    assert len(read_flags(store.objects)) == 3 and in_force(read_flags(store.objects)) == ()


def test_history_is_what_the_runs_until_then_say(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "s")
    for number in range(3):
        store.seal(a_record(number), {})
    repeats = [
        [
            p.evidence.repeats
            for p in built_as_of(RunIndex(store), START + timedelta(days=day)).profiles
        ]
        for day in (-1, 0, 1, 9)
    ]
    assert repeats == [[], [1], [2], [3]]


def test_a_reader_keeps_its_snapshot_while_another_is_swapped_in(tmp_path: Path) -> None:
    write_snapshot(tmp_path, [a_profile()])
    reader = open_lookup(tmp_path)
    before = reader.answer(Question(), NOW)
    write_snapshot(tmp_path, list(generated(2, 3, 3)))
    assert reader.answer(Question(), NOW) == before
    assert open_lookup(tmp_path).num_profiles == 18
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [
        open_current(tmp_path).snapshot_id
    ]


def test_a_crash_while_writing_leaves_what_counted(tmp_path: Path) -> None:
    write_snapshot(tmp_path, [a_profile()])
    before = open_current(tmp_path).snapshot_id

    def broken() -> object:
        yield a_profile(model="b/c")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_snapshot(tmp_path, broken())  # type: ignore[arg-type]
    assert open_current(tmp_path).snapshot_id == before
    assert open_lookup(tmp_path).num_profiles == 1


def test_what_is_no_table_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LookupUnreadable, match="store reindex"):
        open_lookup(tmp_path)
    write_snapshot(tmp_path, [a_profile()])
    about = open_current(tmp_path).folder / "about.json"
    about.write_text(about.read_text().replace(f'"format":{FORMAT}', '"format":99'))
    with pytest.raises(LookupUnreadable, match="format 99"):
        open_lookup(tmp_path)


def test_many_records_are_adopted_by_day_and_read_like_any_other(tmp_path: Path) -> None:
    store, clock = FileStore(tmp_path / "s"), SystemClock()
    store.seal(a_record(0), {})
    records = [a_record(n) for n in range(4)]
    twin = replace(records[1], run_id=records[1].run_id[:-1] + "f")
    new = adopt(store, [*records, twin], clock)
    assert [r.run_id for r in new] == sorted(r.run_id for r in [*records[1:], twin])
    assert adopt(store, records, clock) == ()
    assert [r.run_id for r in store.scan().records] == sorted(r.run_id for r in [*records, twin])
    assert store.get(records[2].run_id) == replace(records[2])
    assert compact(store, clock).torn == ()
    assert len(list(store.scan().records)) == 5
