"""The workloads ``collectives`` and ``command`` on a real cluster, from the spec to the record."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli.collectives_tables import collective_tables
from harness.faults import Fault, Restarts
from harness.on_ray.cluster import ClusterHandle, ray_cluster
from harness.progress import Silent
from harness.ray_deployer import RayDeployer
from harness.runner import RunContext, run_spec
from harness.spec import Deadlines, RunSpec
from reports.run_report import run_report
from results.clock import SystemClock
from results.collectives import rows_of
from results.record import Failed, RunRecord, Succeeded
from results.samples import CollectiveSamples, StepSamples
from results.store_files import FileStore
from workloads.params import CollectivesWorkload, CommandWorkload

pytestmark = pytest.mark.ray

SCRIPT = """
import os, sys, time
from windtunnel_step import step
print("rank", os.environ["RANK"], "at", os.environ["MASTER_ADDR"])
for n in range(8):
    time.sleep(0.02)
    step(loss=2.0 - 0.1 * n, num_tokens=100)
    if sys.argv[1:] == ["die"] and os.environ["RANK"] == "1" and n == 4:
        sys.exit("the disk is full")
time.sleep(600)
"""


GOES_ON = """
import sys, time
from pathlib import Path
from windtunnel_step import step
saved = Path(sys.argv[1])  # a checkpoint, every five steps
for n in range(int(saved.read_text()) if saved.exists() else 1000, 1030):
    time.sleep(0.05)
    step(loss=2000.0 - n, num_tokens=100, number=n)
    if (n + 1) % 5 == 0:
        saved.with_suffix(".draft").write_text(str(n + 1))
        saved.with_suffix(".draft").replace(saved)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterHandle]:
    with ray_cluster("local") as handle:
        yield handle


@pytest.fixture
def made(cluster: ClusterHandle, tmp_path: Path) -> Any:
    """(the record of a workload, its store)."""
    store = FileStore(str(tmp_path / "store"))
    store.prepare()
    context = RunContext(
        deployer=RayDeployer(),
        store=store,
        clock=SystemClock(),
        progress=Silent(),
        models_dir=str(tmp_path),
    )

    def run(workload: Any, **changes: Any) -> tuple[RunRecord, FileStore]:
        deadlines = Deadlines(startup_s=150.0, load_s=100.0)
        spec = RunSpec(name="trained", workload=workload, deadlines=deadlines, **changes)
        (record,) = run_spec(spec, context)
        return record, store

    return run


@pytest.mark.torch
def test_collectives_over_gloo(made: Any) -> None:
    sizes = (1024, 16384, 65536, 262144)
    names = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")
    record, store = made(
        CollectivesWorkload(
            collectives=names,
            sizes_bytes=sizes,
            num_rounds=20,
            calls_per_round=2,
            cpus_per_worker=0.5,
        )
    )
    assert isinstance(record.outcome, Succeeded), record.outcome
    rows = [row for row in rows_of(record.measurements) if row.size_bytes]
    assert [(r.collective, r.size_bytes) for r in rows] == [(n, s) for n in names for s in sizes]
    for row in rows:
        time_s = row.by["collective_time_s", "mean"].value
        bus = row.by["busbw", "value"].value
        assert time_s is not None and bus is not None
        # Two ranks: nccl-tests' factor is 1 for an all-reduce and a broadcast, else a half.
        share = 1.0 if row.collective in ("all_reduce", "broadcast") else 0.5
        assert bus == pytest.approx(share * row.size_bytes / time_s)
        assert 1e-6 < time_s < 10.0
    table = store.table(record, "collectives")
    assert table is not None
    samples = CollectiveSamples.from_table(table)
    assert samples.num_rows == 2 * 20 * len(names) * len(sizes)
    looked_at = samples.num_wrong[samples.round % 19 == 0]
    assert len(looked_at) == 2 * 2 * len(rows)
    assert not looked_at.any()  # every result that was looked at is right
    assert {d.code for d in record.doubts} >= {"one_host"}
    report = run_report([record], store.table)
    assert "busbw up to" in report.sentence
    assert "collectives" in [section.key for section in report.sections]
    assert [t.row_count for t in collective_tables(record.measurements)] == [20, 5]


def test_collectives_over_xla(made: Any, require: Callable[[bool, str], None]) -> None:
    """Two processes with a device each, over the gloo that XLA itself has."""
    require(importlib.util.find_spec("jax") is not None, "jax is not installed")
    sizes, names = (1024, 65536, 262144), ("all_reduce", "all_gather", "reduce_scatter")
    names += ("all_to_all",)
    record, store = made(
        CollectivesWorkload(
            collectives=names,
            sizes_bytes=sizes,
            num_rounds=10,
            calls_per_round=2,
            cpus_per_worker=0.5,
            backend="xla",
        )
    )
    assert isinstance(record.outcome, Succeeded), record.outcome
    table = store.table(record, "collectives")
    assert table is not None
    samples = CollectiveSamples.from_table(table)
    assert samples.num_rows == 2 * 10 * len(names) * len(sizes)
    looked_at = samples.num_wrong[samples.round % 9 == 0]
    assert len(looked_at) == 2 * 2 * len(names) * len(sizes)
    assert not looked_at.any()  # every result that was looked at is right
    assert (samples.num_ranks == 2).all()
    rows = rows_of(record.measurements)
    assert [(r.collective, r.size_bytes) for r in rows if r.size_bytes] == [
        (name, size) for name in names for size in sizes
    ]
    for row in (row for row in rows if row.size_bytes):
        time_s = row.by["collective_time_s", "mean"].value
        share = 1.0 if row.collective == "all_reduce" else 0.5
        assert time_s is not None and 1e-6 < time_s < 10.0
        assert row.by["busbw", "value"].value == pytest.approx(share * row.size_bytes / time_s)
    assert record.resolved["backend"] == "xla:cpu"
    assert 0 < record.resolved["observed"]["dispatch_s"] < 1.0
    assert set(record.environment.software.packages) >= {"jax", "jaxlib", "ray"}


def test_a_script_of_two_ranks(made: Any, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    workload = CommandWorkload(
        argv=("train.py",), cwd=str(tmp_path), num_workers=2, num_steps=8, cpus_per_worker=0.5
    )
    record, store = made(workload)
    assert isinstance(record.outcome, Succeeded), record.outcome
    table = store.table(record, "steps")
    assert table is not None
    samples = StepSamples.from_table(table)
    assert samples.step.tolist() == [s for s in range(8) for _ in range(2)]
    assert samples.rank.tolist() == [0, 1] * 8
    (rate,) = [m for m in record.measurements if m.metric == "training_throughput"]
    assert rate.value is not None
    assert 1000.0 < rate.value < 10_000.0  # 200 tokens in 20 ms, and the host may be busy
    assert record.startup is not None
    names = [phase.name for phase in record.startup.phases]
    assert names[-3:] == ["process start", "script start", "first step"]
    assert record.resolved["steps_from"] == "the callback windtunnel_step"


def test_a_rank_that_dies_is_told_with_its_last_lines(made: Any, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    workload = CommandWorkload(
        argv=("train.py", "die"), cwd=str(tmp_path), num_workers=2, cpus_per_worker=0.5
    )
    record, _ = made(workload)
    assert isinstance(record.outcome, Failed)
    assert "the script ended with exit code 1: the disk is full" in record.outcome.message
    assert any("the disk is full" in line for line in record.outcome.log_tail)


@pytest.mark.chaos
def test_a_script_that_is_killed_goes_on_from_its_own_checkpoint(made: Any, tmp_path: Path) -> None:
    """Its numbers begin at 1000; those of the record at 0, and the steps that it had kept stay."""
    (tmp_path / "train.py").write_text(GOES_ON)
    workload = CommandWorkload(
        argv=("train.py", str(tmp_path / "saved")), cwd=str(tmp_path), cpus_per_worker=0.5
    )
    record, store = made(
        workload,
        faults=(Fault(kind="kill_worker", at_step=7),),
        restarts=Restarts(max_restarts=1),
    )
    assert isinstance(record.outcome, Succeeded), record.outcome
    observed = record.resolved["observed"]
    assert (observed["job_first_step"], observed["steps_numbered"]) == (1000, True)
    first, second = observed["attempts"]
    assert second["first_step"] % 5 == 0
    assert 5 <= second["first_step"] <= first["last_step"] + 5  # what was not heard of may be saved
    assert second["last_step"] == 29
    table = store.table(record, "steps")
    assert table is not None
    samples = StepSamples.from_table(table)
    assert samples.loss.tolist() == [1000.0 - step for step in samples.step]
    values = {m.metric: m.value for m in record.measurements if m.statistic == "value"}
    lost = max(0, first["last_step"] + 1 - second["first_step"])
    assert (values["num_restarts"], values["num_steps_lost"]) == (1.0, float(lost))
    assert values["goodput_productive_s"] >= 0.05 * second["first_step"]
    assert "steps_not_numbered" not in {doubt.code for doubt in record.doubts}
