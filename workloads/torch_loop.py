"""One rank's training, from joining the process group to its last step. Imports torch.

Nothing here knows Ray: all that the loop may know of the job around it is its ``TrainRank``.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import Any

import numpy
import torch
import torch._dynamo  # the first optimizer imports it (seconds): counted here, with the imports
import torch.distributed as dist
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from workloads.base import TrainFacts, TrainPhase, TrainRank, TrainStep
from workloads.params import TorchWorkload
from workloads.torch_data import TokenStream
from workloads.torch_group import join_group
from workloads.torch_model import Transformer
from workloads.torch_shape import shape_of


def run(params: TorchWorkload, rank: TrainRank) -> None:
    """Train ``params.num_steps`` steps and report each; the process group is closed at the end.

    After an error it is left as it is: closing it waits for peers that may be gone, and the
    process is about to be ended anyway.
    """
    torch.set_num_threads(params.threads_per_worker)
    device = torch.device(rank.device())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with rank.phase("process group"):
        join_group(rank)
    with rank.phase("model build"):
        model = _build(params, device, rank.world_size)
        optimizer = make_optimizer(model, params.learning_rate)
        stream = TokenStream.make(shape_of(params.preset).vocab_size, params.seed)
    rank.report(TrainFacts(_what_runs(params, device)))
    for step in range(params.num_steps):
        seen = _one_step(params, rank, model, optimizer, stream, device, step)
        if step == 0:
            end_s = seen.start_s + seen.duration_s
            rank.report(TrainPhase("first step", seen.start_s, end_s))
        rank.report(seen)
    rank.report(
        TrainFacts(
            {"parameter_digest": parameter_digest(model), "parameter_norm": parameter_norm(model)}
        )
    )
    dist.destroy_process_group()


def _build(params: TorchWorkload, device: torch.device, world_size: int) -> nn.Module:
    torch.manual_seed(params.seed)  # the same on every rank; DDP then sends rank 0's to be sure
    model = Transformer(shape_of(params.preset), params.sequence_length).to(device)
    if world_size == 1:
        return model
    return DistributedDataParallel(
        model, device_ids=[device.index] if device.type == "cuda" else None
    )


def make_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.1
    )


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats, in float32. logits: (B, T, V); targets: (B, T)."""
    return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def _one_step(
    params: TorchWorkload,
    rank: TrainRank,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    stream: TokenStream,
    device: torch.device,
    step: int,
) -> TrainStep:
    """One optimizer step, timed from asking for its batch until the device has nothing to do."""
    start_s = rank.now_s()
    batch = stream.batch(step, rank.rank, params.micro_batch_size, params.sequence_length)
    tokens = torch.from_numpy(batch).to(device)  # (B, T + 1)
    data_wait_s = rank.now_s() - start_s
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=params.precision == "bfloat16"):
        logits = model(tokens[:, :-1])
    loss = next_token_loss(logits, tokens[:, 1:])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    loss_nats = loss.item()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return TrainStep(
        step=step,
        start_s=start_s,
        duration_s=rank.now_s() - start_s,
        data_wait_s=data_wait_s,
        num_tokens=params.micro_batch_size * params.sequence_length,
        loss=loss_nats,
        memory_bytes=_peak_memory_bytes(device),
        is_warmup=step < params.num_warmup_steps,
    )


def _peak_memory_bytes(device: torch.device) -> int:
    """The most this process has held so far: of device memory on a GPU, resident on a CPU.

    The kernel's high-water mark is read, not ``getrusage``: that one counts what the process's
    parent held when it was forked. −1: not known.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").split("\n"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return -1


def parameter_digest(model: nn.Module) -> str:
    """The same on every rank, to the bit, or the replicas have drifted apart."""
    digest = hashlib.blake2b(digest_size=16)
    for parameter in model.parameters():
        digest.update(parameter.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def parameter_norm(model: nn.Module) -> float:
    """The Euclidean norm of all parameters, for comparisons that allow for rounding."""
    squares = [parameter.detach().double().pow(2).sum() for parameter in model.parameters()]
    return float(torch.stack(squares).sum().sqrt().item())


def _what_runs(params: TorchWorkload, device: torch.device) -> dict[str, Any]:
    """What the rank really trains with, as it is and not as it was asked."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "backend": dist.get_backend(),
        "num_steps": params.num_steps,
        "num_threads": torch.get_num_threads(),
        "num_parameters": shape_of(params.preset).num_parameters,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "packages": {
            "torch": str(torch.__version__),
            "numpy": str(numpy.__version__),
            "python": platform.python_version(),
        },
    }
