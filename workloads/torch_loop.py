"""One rank's training, from joining the process group to its last step. Imports torch.

Nothing here knows Ray: all that the loop may know of the job around it is its ``TrainRank``.
"""

from __future__ import annotations

import hashlib
import math
import platform
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy
import torch
import torch._dynamo  # the first optimizer imports it (seconds): counted here, with the imports
import torch.distributed as dist
from torch import nn

from workloads import torch_comm
from workloads.base import TrainFacts, TrainPhase, TrainRank
from workloads.batches import Batches, batches_of
from workloads.params import TorchWorkload
from workloads.torch_checkpoint import Checkpoints
from workloads.torch_compile import CompileWatch, compiling_told, prepare
from workloads.torch_group import join_group
from workloads.torch_model import Transformer
from workloads.torch_parallel import layout_of, make_optimizer, place, whole
from workloads.torch_shape import FLOPS_RULE, shape_of
from workloads.torch_step import Trainer, memory_told


def run(params: TorchWorkload, rank: TrainRank) -> None:
    """Train up to ``params.num_steps`` steps and report each; then close the process group.

    A job that was started again, or that is asked to, goes on after its last whole checkpoint.
    After an error the group is left as it is: closing it waits for peers that may be gone, and the
    process is about to be ended anyway.

    Raises LossNotFinite, OutOfDeviceMemory, CompileFailed, CheckpointUnusable,
    TrainingDataUnusable.
    """
    torch.set_num_threads(params.threads_per_worker)
    device = torch.device(rank.device())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with rank.phase("process group"):
        join_group(rank)
    with ExitStack() as stack:
        stack.enter_context(compiling_told(rank.rank))
        stack.enter_context(memory_told(rank.rank, device))
        _train(params, rank, device, stack)
    dist.destroy_process_group()


def _train(params: TorchWorkload, rank: TrainRank, device: torch.device, stack: ExitStack) -> None:
    if params.compile:
        with rank.phase("compiler"):
            prepare(device, params.threads_per_worker, rank.rank)
    with rank.phase("model build"):
        trainer = make_trainer(params, rank, device)
    rank.report(TrainFacts(_what_runs(params, trainer)))
    checkpoints = _checkpoints(params, rank)
    first_step = checkpoints.num_steps if checkpoints else 0
    if checkpoints and first_step:
        _restore(rank, trainer, checkpoints)
    if first_step and not rank.attempt:
        rank.report(TrainFacts({"first_step": first_step}))
    if params.compile:
        with rank.phase("compile"):
            _compile(trainer, stack)
    with rank.phase("data"):
        batches = batches_of(
            params,
            shape_of(params.preset).vocab_size,
            trainer.layout.feed,
            first_step,
            params.num_steps,
        )
        if rank.world_size > 1:
            dist.barrier()  # all begin together, also those that never hear of each other again
    with closing(batches):
        for step in range(first_step, params.num_steps):
            _report_step(trainer, batches, step, first_step, checkpoints)
    rank.report(TrainFacts(_what_came_of_it(trainer)))


def make_trainer(params: TorchWorkload, rank: TrainRank, device: torch.device) -> Trainer:
    torch.manual_seed(params.seed)  # the same on every rank
    recompute = params.activation_checkpointing
    model = Transformer(shape_of(params.preset), params.sequence_length, recompute).to(device)
    layout = layout_of(params, rank.rank, rank.world_size)
    placed = place(model, params, layout, device)
    return Trainer(
        params=params,
        rank=rank,
        layout=layout,
        device=device,
        placed=placed,
        optimizer=make_optimizer(placed.module, params.learning_rate),
        clock=torch_comm.DeviceClock(device, rank.now_s),
    )


def _checkpoints(params: TorchWorkload, rank: TrainRank) -> Checkpoints | None:
    if not params.checkpoint_dir:
        return None
    goes_on = params.resume or rank.attempt > 0
    folder = Path(params.checkpoint_dir).expanduser()
    return Checkpoints(folder, rank.rank, rank.from_rank_zero, goes_on=goes_on)


def _restore(rank: TrainRank, trainer: Trainer, checkpoints: Checkpoints) -> None:
    begun_s = rank.now_s()
    with rank.phase("checkpoint restore"):
        checkpoints.restore(trainer.placed.module, trainer.optimizer)
    rank.report(TrainFacts({"checkpoint_restore_s": [rank.now_s() - begun_s]}))


def _compile(trainer: Trainer, stack: ExitStack) -> None:
    """Forward and backward of tokens that teach nothing: what compiles, compiles here. What it
    computed is thrown away, and no weight is changed. What compiles later is watched."""
    params = trainer.params
    trainer.compiles = stack.enter_context(closing(CompileWatch(trainer.rank.now_s)))
    size = (params.micro_batch_size, params.sequence_length + 1)
    trainer.tokens = torch.zeros(
        (params.gradient_accumulation_steps, *size), dtype=torch.long, device=trainer.device
    )
    trainer.gradients()
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.compiles.warmed_up()


def _report_step(
    trainer: Trainer,
    batches: Batches,
    step: int,
    first_step: int,
    checkpoints: Checkpoints | None,
) -> None:
    params, rank = trainer.params, trainer.rank
    seen = trainer.step(step, batches)
    if trainer.compiles is not None:
        trainer.compiles.stepped(step)
    if step == first_step:
        end_s = seen.start_s + seen.duration_s
        rank.report(TrainPhase("first step", seen.start_s, end_s))
    checkpoint_s = 0.0
    every = params.checkpoint_every_steps
    if checkpoints is not None and every and (step + 1) % every == 0:
        begun_s = rank.now_s()
        checkpoints.save(step + 1, trainer.placed.module, trainer.optimizer)
        checkpoint_s = rank.now_s() - begun_s
    rank.report(
        seen._replace(
            is_warmup=step - first_step < params.num_warmup_steps,
            checkpoint_s=checkpoint_s,
            attempt=rank.attempt,
        )
    )


def _what_runs(params: TorchWorkload, trainer: Trainer) -> dict[str, Any]:
    """What the rank really trains with, as it is and not as it was asked."""
    shape, device = shape_of(params.preset), trainer.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "backend": dist.get_backend(),
        "num_steps": params.num_steps,
        "num_threads": torch.get_num_threads(),
        "num_parameters": shape.num_parameters,
        "precision": params.precision,
        "data_parallel_ranks": trainer.layout.feed.num,
        "tensor_parallel_size": trainer.layout.tensor_size,
        "flops_per_token": shape.flops_per_token(params.sequence_length),
        "flops_rule": FLOPS_RULE,
        "comm_method": _comm_method(trainer),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "packages": {
            "torch": str(torch.__version__),
            "numpy": str(numpy.__version__),
            "python": platform.python_version(),
        },
    }


def _comm_method(trainer: Trainer) -> str:
    if not trainer.layout.exchanges:
        return torch_comm.NOTHING
    return torch_comm.BY_BUCKETS if trainer.buckets else torch_comm.BY_PROFILER


def _what_came_of_it(trainer: Trainer) -> dict[str, Any]:
    """What is known after the last step. The profiled steps come last: they change the weights."""
    module = trainer.placed.module
    told: dict[str, Any] = {
        "parameter_digest": parameter_digest(module),
        "parameter_norm": parameter_norm(module),
    }
    if trainer.compiles is not None:
        told |= trainer.compiles.facts()
    if trainer.layout.exchanges and trainer.buckets is None and trainer.tokens.numel():
        told["comm_s_per_step"] = torch_comm.profiled_exposed_s(trainer.repeat, trainer.device)
    return told


def parameter_digest(model: nn.Module) -> str:
    """The same on every rank, to the bit, or the replicas have drifted apart."""
    digest = hashlib.blake2b(digest_size=16)
    for parameter in model.parameters():
        digest.update(whole(parameter.detach()).float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def parameter_norm(model: nn.Module) -> float:
    """The Euclidean norm of all parameters, for comparisons that allow for rounding."""
    squares = [float(whole(p.detach()).double().pow(2).sum()) for p in model.parameters()]
    return math.sqrt(sum(squares))
