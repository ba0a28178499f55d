"""What tests of any room need of ``results``: values, a clock that jumps, a store that behaves,
and the contract every store must keep."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from results.codec import dumps_open_run, dumps_record, loads_open_run, loads_record
from results.environment import Environment, Hardware, Software
from results.errors import DuplicateRecord, RecordFormatError, RecordNotFound, StoreError
from results.measurement import Measurement
from results.record import (
    Artifact,
    Evidence,
    Placement,
    RungTried,
    RunRecord,
    Succeeded,
)
from results.samples import RequestSamples
from results.startup import PhaseSource, StartupPhase, StartupTimeline
from results.store import OpenRun, RecordStore, Scan
from results.store_layout import check_table_name, day_of, resolve_run_id
from results.store_tables import artifact_of, decode_table, encode_table

EPOCH = datetime(2026, 11, 23, 17, 0, 0, tzinfo=UTC)


class FakeClock:
    """Both clocks, moved by hand. ``sleep`` moves them at once and remembers how long."""

    def __init__(self, now: datetime = EPOCH, monotonic_s: float = 1000.0) -> None:
        self._now = now
        self._monotonic_s = monotonic_s
        self.slept_s: list[float] = []

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def now_utc(self) -> datetime:
        return self._now

    def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        self.advance(duration_s)

    def advance(self, duration_s: float) -> None:
        """Time passes, on both clocks."""
        if duration_s < 0:
            raise ValueError(f"time went back by {-duration_s} s; step_date does that to dates")
        self._monotonic_s += duration_s
        self._now += timedelta(seconds=duration_s)

    def step_date(self, duration_s: float) -> None:
        """Somebody sets the wall clock; the monotonic clock does not notice."""
        self._now += timedelta(seconds=duration_s)


def make_run_id(index: int = 0, started_at: datetime = EPOCH) -> str:
    """The same id for the same arguments, in order of ``index`` within one second."""
    return f"{started_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{index:010x}"


_NODE = Hardware(
    node="node-0",
    cpu_model="Example CPU",
    num_cpus=8,
    memory_bytes=32 * 2**30,
    kernel="6.12.0",
    accelerators=("NVIDIA H100 80GB HBM3",),
    driver="570.86.15",
)
_PLACEMENT = Placement(
    pool="h100-spot",
    accelerator="H100",
    num_chips=2,
    capacity="spot",
    nodes=("node-0", "node-1"),
    zone="zone-b",
    rungs=(
        RungTried(
            pool="h100-reserved",
            capacity="reservation",
            waited_s=60.0,
            outcome="timed_out",
        ),
        RungTried(pool="h100-spot", capacity="spot", waited_s=2.5, outcome="taken"),
    ),
)
_ENVIRONMENT = Environment(
    software=Software(
        python="3.11.2", windtunnel="0.1.0", packages={"vllm": "0.32.0", "torch": "2.13.0"}
    ),
    hardware=(_NODE, replace(_NODE, node="node-1")),
)
_PLACED = StartupPhase(
    name="placed", start_s=0.0, end_s=2.5, source=PhaseSource.RAY, resolution_s=0.05
)
_LOADED = StartupPhase(
    name="weights loaded",
    start_s=3.0,
    end_s=21.0,
    source=PhaseSource.LOG,
    resolution_s=0.01,
    detail="4 shards",
)
_STARTUP = StartupTimeline(phases=(_PLACED, _LOADED), ready_s=40.0, page_cache=0.5)
_MEASUREMENTS = (
    Measurement(metric="startup_s", statistic="value", value=40.0, n=1),
    Measurement(
        metric="ttft_s",
        statistic="p50",
        value=0.125,
        n=200,
        low=0.118,
        high=0.131,
        method="order statistics",
    ),
    Measurement(
        metric="ttft_s",
        statistic="p99",
        value=None,
        n=200,
        reason="p99 needs 1000 samples; there are 200",
    ),
    Measurement(metric="output_throughput", statistic="value", value=1234.5, n=200),
)


def make_record(**changes: Any) -> RunRecord:
    """A successful measured run of two nodes, complete but for its tables; any field may be
    changed. ``index=7`` gives it another run id of the same second."""
    started_at = changes.get("started_at", EPOCH)
    index = changes.pop("index", 0)
    record = RunRecord(
        run_id=make_run_id(index, started_at),
        experiment_id="20261123T170000Z-experiment",
        name="llama-on-h100",
        workload="vllm",
        evidence=Evidence.MEASURED,
        workload_hash="0123456789abcdef",
        environment_hash="fedcba9876543210",
        started_at=started_at,
        ended_at=started_at + timedelta(seconds=90),
        duration_s=90.25,
        outcome=Succeeded(),
        spec={"name": "llama-on-h100", "traffic": {"rate_rps": 4.0, "seed": 7}},
        plan={"rungs": [{"pool": "h100-reserved"}, {"pool": "h100-spot"}]},
        resolved={"max_model_len": 4096, "dtype": "bfloat16", "quantization": None},
        seeds={"traffic": 7},
        placement=_PLACEMENT,
        environment=_ENVIRONMENT,
        startup=_STARTUP,
        measurements=_MEASUREMENTS,
    )
    return replace(record, **changes)


def make_open_run(**changes: Any) -> OpenRun:
    """The open run that ``make_record`` with the same ``index`` and ``started_at`` would seal."""
    started_at = changes.get("started_at", EPOCH)
    run = OpenRun(
        run_id=make_run_id(changes.pop("index", 0), started_at),
        experiment_id="20261123T170000Z-experiment",
        name="llama-on-h100",
        workload="vllm",
        workload_hash="0123456789abcdef",
        started_at=started_at,
        host="driver-host",
        boot_id="6f2c1d0e-0000-4000-8000-000000000001/4026531836",
        pid=4242,
        process_started_s=123.45,
        spec={"name": "llama-on-h100"},
        plan={"rungs": [{"pool": "h100-reserved"}]},
    )
    return replace(run, **changes)


def make_requests(num_requests: int = 3, seed: int = 0) -> RequestSamples:
    """Requests answered in full, four chunks each, with the times that ``seed`` gives."""
    rng = np.random.default_rng(seed)
    intended = np.arange(num_requests, dtype=np.float64)
    first = intended + rng.uniform(0.05, 0.2, num_requests)
    gaps = rng.uniform(0.01, 0.03, (num_requests, 4)).cumsum(axis=1)
    events = first[:, None] + gaps - gaps[:, :1]
    whole = np.full(num_requests, 4, dtype=np.int64)
    return RequestSamples(
        intended_s=intended,
        dispatched_s=intended + 0.001,
        written_s=intended + 0.002,
        first_byte_s=first - 0.001,
        first_token_s=first,
        first_answer_s=first,
        done_s=events[:, -1] + 0.001,
        prompt_tokens=whole * 16,
        output_tokens=whole,
        status=np.full(num_requests, 200, dtype=np.int64),
        error=np.array([""] * num_requests, dtype=object),
        is_warmup=np.zeros(num_requests, dtype=np.bool_),
        worker=np.zeros(num_requests, dtype=np.int64),
        event_offset=np.arange(0, 4 * num_requests + 1, 4, dtype=np.int64),
        event_s=events.reshape(-1),
        event_tokens=np.ones(4 * num_requests, dtype=np.int64),
    )


class FakeRecordStore:
    """A store in memory that keeps the whole contract: it refuses duplicates and what cannot be
    written, and hands back what was decoded from text. ``fail_begin``/``fail_seal``, when set, are
    raised by the next calls, before anything changes (a full disk, say)."""

    def __init__(self) -> None:
        self._open: dict[str, str] = {}
        self._sealed: dict[str, str] = {}
        self._tables: dict[tuple[str, str], memoryview] = {}
        self.fail_begin: StoreError | None = None
        self.fail_seal: StoreError | None = None

    def begin(self, run: OpenRun) -> None:
        if self.fail_begin is not None:
            raise self.fail_begin
        day_of(run.run_id)
        text = dumps_open_run(run)
        if run.run_id in self._open or run.run_id in self._sealed:
            raise DuplicateRecord(f"run {run.run_id} is already open or sealed")
        self._open[run.run_id] = text

    def seal(self, record: RunRecord, tables: Mapping[str, pa.Table]) -> RunRecord:
        if self.fail_seal is not None:
            raise self.fail_seal
        day_of(record.run_id)
        artifacts = []
        encoded = {}
        for name, table in tables.items():
            check_table_name(name)
            data = encode_table(table)
            encoded[record.run_id, f"{name}.parquet"] = data
            artifacts.append(
                Artifact(
                    name=f"{name}.parquet",
                    sha256=hashlib.sha256(data).hexdigest(),
                    num_bytes=len(data),
                    num_rows=table.num_rows,
                )
            )
        text = dumps_record(replace(record, artifacts=tuple(artifacts)))
        if self._sealed.setdefault(record.run_id, text) is not text:
            raise DuplicateRecord(f"run {record.run_id} is already sealed")
        self._tables.update(encoded)
        self._open.pop(record.run_id, None)
        return loads_record(text)

    def open_runs(self) -> tuple[OpenRun, ...]:
        return tuple(loads_open_run(self._open[run_id]) for run_id in sorted(self._open))

    def scan(self) -> Scan:
        return Scan(records=(loads_record(self._sealed[run_id]) for run_id in sorted(self._sealed)))

    def get(self, run_id: str) -> RunRecord:
        known = sorted({*self._sealed, *self._open})
        found = resolve_run_id(run_id, known, "memory", self._sealed.__contains__)
        return loads_record(self._sealed[found])

    def table(self, record: RunRecord, name: str) -> pa.Table | None:
        artifact = artifact_of(record, name)
        if artifact is None:
            return None
        return decode_table(self._tables[record.run_id, artifact.name])


class RecordStoreContract:
    """Subclass it and give a ``store`` fixture: an empty store, a new one for each test."""

    @pytest.fixture
    def store(self) -> Iterator[RecordStore]:
        raise NotImplementedError("the subclass makes the store")

    def test_a_sealed_run_is_found_again_as_it_was(self, store: RecordStore) -> None:
        record = make_record()
        kept = store.seal(record, {})
        assert kept == record
        assert store.get(record.run_id) == record
        assert list(store.scan().records) == [record]

    def test_an_empty_store_is_no_error(self, store: RecordStore) -> None:
        scan = store.scan()
        assert (list(scan.records), scan.torn, store.open_runs()) == ([], [], ())
        with pytest.raises(RecordNotFound):
            store.get(make_run_id())

    def test_tables_come_back_row_for_row(self, store: RecordStore) -> None:
        table = make_requests(17, seed=3).to_table()
        kept = store.seal(make_record(), {"requests": table, "steps": table.slice(0, 2)})
        assert {(a.name, a.num_rows) for a in kept.artifacts} == {
            ("requests.parquet", 17),
            ("steps.parquet", 2),
        }
        assert all(len(a.sha256) == 64 and a.num_bytes > 100 for a in kept.artifacts)
        found = store.table(store.get(kept.run_id), "requests")
        assert found is not None and found.equals(table)
        assert store.table(kept, "nothing") is None

    def test_a_second_seal_is_refused_and_changes_nothing(self, store: RecordStore) -> None:
        first = store.seal(make_record(), {"requests": make_requests(3).to_table()})
        with pytest.raises(DuplicateRecord, match=first.run_id):
            store.seal(make_record(name="other"), {"requests": make_requests(9).to_table()})
        with pytest.raises(DuplicateRecord):
            store.seal(make_record(), {})  # not even the same once more
        assert list(store.scan().records) == [first]
        found = store.table(first, "requests")
        assert found is not None and found.num_rows == 3

    def test_an_open_run_is_listed_until_it_is_sealed(self, store: RecordStore) -> None:
        runs = tuple(make_open_run(index=i) for i in range(3))
        for run in reversed(runs):
            store.begin(run)
        assert store.open_runs() == runs
        store.seal(make_record(index=1), {})
        assert store.open_runs() == (runs[0], runs[2])

    def test_a_run_begins_once(self, store: RecordStore) -> None:
        store.begin(make_open_run())
        with pytest.raises(DuplicateRecord):
            store.begin(make_open_run())
        store.seal(make_record(), {})
        with pytest.raises(DuplicateRecord):
            store.begin(make_open_run())
        assert store.open_runs() == ()

    def test_an_open_run_is_no_record(self, store: RecordStore) -> None:
        store.begin(make_open_run())
        assert list(store.scan().records) == []
        with pytest.raises(RecordNotFound):
            store.get(make_run_id())

    def test_scan_is_in_order_of_run_id(self, store: RecordStore) -> None:
        days = [EPOCH + timedelta(days=d) for d in (3, -400, 0, 1)]
        for index, started_at in enumerate(days):
            store.seal(make_record(index=index, started_at=started_at), {})
        found = [record.run_id for record in store.scan().records]
        assert found == sorted(found) and len(found) == 4

    def test_get_takes_a_prefix_that_fits_one_run(self, store: RecordStore) -> None:
        for index in (1, 0xFFFFFFFFFF):
            store.seal(make_record(index=index), {})
        assert store.get(make_run_id(1)[:20]).run_id == make_run_id(1)
        with pytest.raises(RecordNotFound, match="fits 2 runs"):
            store.get("20261123T")

    def test_not_found_names_the_nearest(self, store: RecordStore) -> None:
        store.seal(make_record(), {})
        with pytest.raises(RecordNotFound, match=make_run_id()):
            store.get("20261123T170001Z-0000000000")

    def test_what_cannot_be_read_again_is_refused_whole(self, store: RecordStore) -> None:
        store.begin(make_open_run())
        for changes in ({"duration_s": float("nan")}, {"spec": {"path": object()}}):
            with pytest.raises(RecordFormatError):
                store.seal(make_record(**changes), {"requests": make_requests().to_table()})
        assert list(store.scan().records) == []
        assert len(store.open_runs()) == 1
        store.seal(make_record(), {"requests": make_requests().to_table()})

    @pytest.mark.parametrize("run_id", ["", "run-1", "../../etc", "20261399T170000Z-00"])
    def test_a_run_id_has_the_shape_that_new_run_id_gives(
        self, store: RecordStore, run_id: str
    ) -> None:
        with pytest.raises(RecordFormatError):
            store.seal(make_record(run_id=run_id), {})
        with pytest.raises(RecordFormatError):
            store.begin(make_open_run(run_id=run_id))

    def test_of_many_that_seal_one_run_exactly_one_wins(self, store: RecordStore) -> None:
        def attempt(writer: int) -> int | None:
            table = make_requests(writer + 1, seed=writer).to_table()
            try:
                store.seal(make_record(name=f"writer-{writer}"), {"requests": table})
            except DuplicateRecord:
                return None
            return writer

        with ThreadPoolExecutor(8) as pool:
            winners = [w for w in pool.map(attempt, range(8)) if w is not None]
        assert len(winners) == 1
        [record] = store.scan().records
        assert record.name == f"writer-{winners[0]}"
        table = store.table(record, "requests")
        assert table is not None and table.num_rows == winners[0] + 1
