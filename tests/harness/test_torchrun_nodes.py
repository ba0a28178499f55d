"""torchrun on two nodes, for real: two pretended machines on this one, a torchrun on each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.on_ray.cluster import ClusterHandle, ray_cluster
from harness.pools import VirtualCluster, VirtualPool
from harness.progress import Silent
from harness.ray_deployer import RayDeployer
from harness.runner import RunContext, run_spec
from harness.spec import Deadlines, Hardware, RunSpec
from results.clock import SystemClock
from results.record import Succeeded
from results.samples import StepSamples
from results.store_files import FileStore
from workloads.params import CommandWorkload

pytestmark = [pytest.mark.ray, pytest.mark.torch, pytest.mark.timeout(300)]

PAIR = VirtualPool(
    name="pair", accelerator="H100", num_nodes=2, chips_per_node=1, cpus_per_node=1.0
)

SCRIPT = """
import os
import torch
import torch.distributed as dist
from windtunnel_step import step

torch.set_num_threads(1)
dist.init_process_group("gloo")  # by the variables that torchrun sets
rank, size = dist.get_rank(), dist.get_world_size()
names = ("GROUP_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
print("rank", rank, "of", size, *(f"{name}={os.environ[name]}" for name in names))
for n in range(4):
    told = torch.tensor([float(rank + 1)])
    dist.all_reduce(told)
    step(loss=told.item() - n, num_tokens=10, number=n)
dist.destroy_process_group()
"""


@pytest.fixture
def cluster() -> Iterator[ClusterHandle]:
    with ray_cluster("local", VirtualCluster(pools=(PAIR,))) as handle:
        yield handle


def test_the_ranks_of_two_nodes_meet(cluster: ClusterHandle, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "train.py").write_text(SCRIPT)
    store = FileStore(str(tmp_path / "store"))
    store.prepare()
    context = RunContext(
        deployer=RayDeployer(),
        store=store,
        clock=SystemClock(),
        progress=Silent(),
        models_dir=str(tmp_path),
    )
    workload = CommandWorkload(
        argv=("train.py",),
        cwd=str(tmp_path),
        launcher="torchrun",
        num_workers=2,
        num_warmup_steps=1,
        cpus_per_worker=0.5,
    )
    spec = RunSpec(
        name="two-nodes",
        workload=workload,
        hardware=(Hardware(accelerator="H100", num_chips=2),),
        deadlines=Deadlines(startup_s=200.0, load_s=60.0),
    )
    (record,) = run_spec(spec, context)
    assert isinstance(record.outcome, Succeeded), record.outcome
    assert record.placement is not None
    assert len(set(record.placement.nodes)) == 2
    table = store.table(record, "steps")
    assert table is not None
    samples = StepSamples.from_table(table)
    assert samples.rank.tolist() == [0, 1] * 4
    # 1 + 2, which no rank has by itself.
    assert samples.loss.tolist() == [3.0 - n for n in range(4) for _ in range(2)]
    assert record.resolved["launcher"] == "torchrun"
