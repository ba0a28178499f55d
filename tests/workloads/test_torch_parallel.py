"""One model trained by one process and by several, laid out in every way: the same losses.

Two processes are started once and train all layouts, one after the other; what one process alone
makes of the same batches is the truth. Everything a rank tells comes back as a pickle.
"""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.params import TorchWorkload
from workloads.torch_shape import ModelShape

pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
NUM_STEPS = 4
SHAPE = {  # stands in for a preset: what is shown does not need a million parameters
    "vocab_size": 64, "dim": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
    "hidden_dim": 48,
}  # fmt: skip
BASE = TorchWorkload(
    num_workers=2,
    num_steps=NUM_STEPS,
    num_warmup_steps=1,
    micro_batch_size=2,
    sequence_length=16,
    learning_rate=3e-3,
)
LAYOUTS: dict[str, dict[str, Any]] = {
    "ddp": {},
    "ddp, accumulated": {"micro_batch_size": 1, "gradient_accumulation_steps": 2},
    "ddp, recomputed": {"activation_checkpointing": "full"},
    "fsdp2": {"strategy": "fsdp2"},
    "fsdp2, accumulated, products kept": {
        "strategy": "fsdp2",
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "activation_checkpointing": "selective",
    },
    "fsdp2, bfloat16": {"strategy": "fsdp2", "precision": "bfloat16"},
    "tensor parallel": {"tensor_parallel_size": 2, "micro_batch_size": 4},
    "tensor parallel, bfloat16, recomputed": {
        "tensor_parallel_size": 2,
        "micro_batch_size": 4,
        "precision": "bfloat16",
        "activation_checkpointing": "full",
    },
    "tensor parallel in fsdp2": {
        "strategy": "fsdp2",
        "tensor_parallel_size": 2,
        "micro_batch_size": 4,
    },
    "each alone": {"communication": "none"},
    "each alone, fsdp2": {"communication": "none", "strategy": "fsdp2"},
}

WORKER = """
import pickle, sys, time
from contextlib import suppress

import torch
import torch.distributed as dist
from torch.distributed import TCPStore

from workloads import torch_comm, torch_loop, torch_shape
from workloads.base import TrainRank
from workloads.torch_train import params_of

rank, port, jobs, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
shape, jobs = pickle.load(open(jobs, "rb"))
torch_shape.PRESETS["tiny"] = torch_shape.ModelShape(**shape)
torch.set_num_threads(1)
store = TCPStore("127.0.0.1", port, is_master=rank == 0, wait_for_workers=False)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2)


class Given:
    def __init__(self, batches):
        self.batches = iter(batches)

    def next(self):
        return next(self.batches)

    def close(self):
        pass


told = {}
for name, (config, batches, delay_s) in jobs.items():
    params = params_of(config)
    me = TrainRank(
        rank=rank, world_size=2, backend="gloo", address="127.0.0.1", now_s=time.monotonic,
        report=lambda event: None, from_rank_zero=lambda value: value, device=lambda: "cpu",
    )
    trainer = torch_loop.make_trainer(params, me, torch.device("cpu"))
    feed = trainer.layout.feed
    given = Given(batches[feed.index])
    if delay_s and rank == 1:
        trainer.placed.module.register_forward_pre_hook(lambda *_: time.sleep(delay_s))
    steps = [trainer.step(index, given) for index in range(params.num_steps)]
    norm = torch_loop.parameter_norm(trainer.placed.module)
    digest = torch_loop.parameter_digest(trainer.placed.module)
    profiled = None
    if "profiled" in name:
        profiled = torch_comm.profiled_exposed_s(
            trainer.repeat, torch.device("cpu")
        )
    told[name] = (steps, norm, digest, profiled)
    dist.barrier()
pickle.dump(told, open(f"{out}.{rank}", "wb"))
dist.destroy_process_group()
"""


def global_batches(num: int = NUM_STEPS) -> np.ndarray[Any, Any]:
    """(steps, 4, T + 1): the sequences of each step over all ranks. Two batches take turns, so that
    there is something to learn."""
    drawn = np.random.default_rng(5).integers(
        0, SHAPE["vocab_size"], (2, 4, BASE.sequence_length + 1)
    )
    return drawn[np.arange(num) % 2]


def shares(params: TorchWorkload) -> list[list[Any]]:
    """The batches of each data-parallel rank: consecutive quarters of the global batch."""
    num_ranks = 1 if params.tensor_parallel_size == 2 else 2
    size = (params.gradient_accumulation_steps, params.micro_batch_size, -1)
    return [
        [part.reshape(size) for part in (np.split(step, num_ranks)[r] for step in global_batches())]
        for r in range(num_ranks)
    ]


Told = dict[str, list[Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """By layout: what rank 0 and what rank 1 told."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "worker.py").write_text(WORKER)
    jobs = {}
    for name, change in (
        *LAYOUTS.items(),
        ("ddp, a late peer, profiled", {}),
        ("fsdp2, a late peer, profiled", {"strategy": "fsdp2"}),
    ):
        params = replace(BASE, **change)
        late_s = LATE_S if "late peer" in name else 0.0
        jobs[name] = (asdict(params), shares(params), late_s)
    (folder / "jobs").write_bytes(pickle.dumps((SHAPE, jobs)))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(folder / "worker.py"), str(r), str(port),
             str(folder / "jobs"), str(folder / "told")],
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
        )
        for r in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=170)[1].decode() for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0, 0], said
    both = [pickle.loads((folder / f"told.{r}").read_bytes()) for r in range(2)]
    return {name: [told[name] for told in both] for name in jobs}


LATE_S = 0.15


@pytest.fixture(scope="module")
def truth() -> tuple[list[float], float]:
    """Losses and the norm of the weights of one process with the whole batch: plain PyTorch."""
    import torch
    import torch.nn.functional as functional

    from workloads.torch_model import Transformer

    torch.manual_seed(BASE.seed)
    model = Transformer(ModelShape(**SHAPE), BASE.sequence_length)
    update = torch.optim.AdamW(
        model.parameters(), lr=BASE.learning_rate, betas=(0.9, 0.95), weight_decay=0.1
    )
    losses = []
    for batch in torch.from_numpy(global_batches()):
        logits = model(batch[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        update.zero_grad()
        loss.backward()
        update.step()
        losses.append(loss.item())
    norm = torch.cat([p.detach().double().flatten() for p in model.parameters()]).norm().item()
    return losses, norm


@pytest.mark.parametrize("name", [name for name in LAYOUTS if "alone" not in name])
def test_every_layout_learns_what_one_process_learns(
    name: str, trained: Told, truth: tuple[list[float], float]
) -> None:
    steps = [rank[0] for rank in trained[name]]
    losses = np.mean([[step.loss for step in rank] for rank in steps], axis=0)
    tolerance = 3e-3 if "bfloat16" in name else 2e-5
    assert losses == pytest.approx(truth[0], rel=tolerance)
    assert truth[0][0] - truth[0][-1] > 0.1  # there is something to agree on
    assert [rank[1] for rank in trained[name]] == pytest.approx([truth[1]] * 2, rel=tolerance)
    assert trained[name][0][2] == trained[name][1][2], "the replicas have drifted apart"


@pytest.mark.parametrize("name", ["each alone", "each alone, fsdp2"])
def test_alone_each_rank_learns_from_its_own_half(name: str, trained: Told) -> None:
    first, second = trained[name]
    assert first[2] != second[2]
    assert all(step.comm_s == 0.0 for step in (*first[0], *second[0]))


def test_alone_is_alone_whatever_the_strategy(trained: Told) -> None:
    plain, sharded = trained["each alone"], trained["each alone, fsdp2"]
    for rank in range(2):
        assert [s.loss for s in sharded[rank][0]] == pytest.approx(
            [s.loss for s in plain[rank][0]], rel=2e-5
        )


def test_tokens_are_counted_once(trained: Told) -> None:
    for name in LAYOUTS:
        tokens = sum(rank[0][0].num_tokens for rank in trained[name])
        assert tokens == 4 * BASE.sequence_length, name


def test_parts_of_a_step_are_parts(trained: Told) -> None:
    for rank in trained["ddp"]:
        for step in rank[0]:
            assert 0 < step.optimizer_s < step.duration_s
            assert 0 <= step.comm_s < step.duration_s
            assert step.data_wait_s + step.optimizer_s + step.comm_s < step.duration_s


@pytest.mark.parametrize("read", ["in every step", "by the profiler"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_late_peer_is_waited_for_and_that_is_communication(
    strategy: str, read: str, trained: Told
) -> None:
    """Rank 1 sleeps before its forward pass. Rank 0 has nothing else to do meanwhile, so that its
    exposed communication is at least that long; the late one's is not."""
    first, late = trained[f"{strategy}, a late peer, profiled"]
    exposed: Callable[[Any], float] = (
        (lambda rank: rank[3])
        if read == "by the profiler"
        else (lambda rank: float(np.median([step.comm_s for step in rank[0][1:]])))
    )
    if strategy == "fsdp2" and read == "in every step":
        assert all(np.isnan(step.comm_s) for step in first[0])  # DDP alone can tell it so
        return
    assert exposed(first) > 0.8 * LATE_S
    assert exposed(first) - exposed(late) > 0.5 * LATE_S
