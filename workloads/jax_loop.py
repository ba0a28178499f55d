"""One rank's training with JAX, from joining its peers to its last step. Imports JAX.

Nothing here knows Ray: all that the loop may know of the job around it is its ``TrainRank``.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy
import optax

from workloads.base import TrainFacts, TrainPhase, TrainRank, TrainStep
from workloads.errors import CheckpointUnusable, LossNotFinite, OutOfDeviceMemory
from workloads.jax_checkpoint import Checkpoints, job_folder
from workloads.jax_comm import Trained, communication, is_out_of_memory
from workloads.jax_feed import MeshFeed, tokens_shape
from workloads.jax_group import choose_devices, join, leave, peak_memory_bytes
from workloads.jax_layout import MeshLayout, layout_of, refuse_uneven
from workloads.jax_step import Program, TrainState, first_state, make_program
from workloads.params import JaxWorkload
from workloads.torch_shape import FLOPS_RULE, shape_of


def run(
    params: JaxWorkload, rank: TrainRank, *, device: str, num_local_devices: int, num_slices: int
) -> None:
    """Train ``params.num_steps`` steps and report each; the group is left at the end.

    ``device``: cpu, gpu or tpu. Raises LossNotFinite, OutOfDeviceMemory, CheckpointUnusable and
    TrainingDataUnusable; LaunchRefused where a job that was started again with fewer workers cannot
    be laid out over them. After an error the group is left as it is: leaving waits for peers that
    may be gone, and the process is about to be ended anyway.
    """
    choose_devices(device, num_local_devices)
    if params.precision == "float32":
        # Else GPUs and TPUs multiply float32 in fewer bits, and it would not be what was asked.
        jax.config.update("jax_default_matmul_precision", "highest")
    with rank.phase("process group"):
        join(rank, device)
    params = replace(params, num_workers=rank.world_size)
    layout = layout_of(params, num_local_devices, num_slices)
    refuse_uneven(params, layout)
    with _memory_errors():
        with rank.phase("model build"):
            program = make_program(params, layout)
            state = first_state(program, shape_of(params.preset), params.seed)
        compiled = _compile(rank, program, state, tokens_shape(params, layout))
        rank.report(TrainFacts(_what_runs(params, layout, program)))
        checkpoints, state, first = _where_to_begin(params, rank, state)
        with rank.phase("data"):
            feed = MeshFeed(params, layout, program.tokens, first)
        with closing(feed):
            done = _train(params, rank, compiled, state, feed, checkpoints, first)
        norm = float(optax.global_norm(done.state.params))
        rank.report(TrainFacts({"parameter_norm": norm}))
    rank.report(TrainFacts(communication(params, rank, layout, program, compiled, done)))
    leave(rank)


def _compile(
    rank: TrainRank, program: Program, state: TrainState, size: tuple[int, int, int]
) -> Any:
    """The step, compiled before it is first made: tracing and XLA have phases of their own."""
    tokens = jax.ShapeDtypeStruct(size, jnp.int32, sharding=program.tokens)
    with rank.phase("trace"):
        traced = program.step.trace(state, tokens)
    with rank.phase("lower"):
        lowered = traced.lower()
    with rank.phase("compile"):
        return lowered.compile()


def _train(
    params: JaxWorkload,
    rank: TrainRank,
    compiled: Any,
    state: TrainState,
    feed: MeshFeed,
    checkpoints: Checkpoints | None,
    first: int,
) -> Trained:
    """All steps from ``first`` on."""
    every = params.checkpoint_every_steps
    busy_s = []
    for step in range(first, params.num_steps):
        start_s = rank.now_s()
        tokens = feed.next()
        data_wait_s = rank.now_s() - start_s
        state, loss = jax.block_until_ready(compiled(state, tokens))
        seen = TrainStep(
            step=step,
            start_s=start_s,
            duration_s=rank.now_s() - start_s,
            data_wait_s=data_wait_s,
            num_tokens=feed.num_tokens_of(rank.rank, rank.world_size),
            loss=_mean_here(loss),
            memory_bytes=peak_memory_bytes(),
            is_warmup=step - first < params.num_warmup_steps,
            checkpoint_s=0.0,
            attempt=rank.attempt,
        )
        if not math.isfinite(seen.loss):
            rank.report(seen)
            raise LossNotFinite(
                f"the loss of step {step} is {seen.loss}; a lower workload.learning_rate than "
                f"{params.learning_rate:g} may help"
            )
        if checkpoints and every and (step + 1) % every == 0:
            asked_s = rank.now_s()
            checkpoints.save(step + 1, state)
            seen = seen._replace(checkpoint_s=rank.now_s() - asked_s)
        if step == first:
            rank.report(TrainPhase("first step", seen.start_s, seen.start_s + seen.duration_s))
        rank.report(seen)
        if not seen.is_warmup:
            busy_s.append(seen.duration_s - seen.data_wait_s)
    return Trained(state, tokens, busy_s)


def _where_to_begin(
    params: JaxWorkload, rank: TrainRank, state: TrainState
) -> tuple[Checkpoints | None, TrainState, int]:
    """The state and the step to begin with: those of the last whole checkpoint where the job was
    restarted or asked to resume. No checkpoints: neither asked for nor wanted."""
    goes_on = params.resume or rank.attempt > 0
    if not params.checkpoint_dir or not (goes_on or params.checkpoint_every_steps):
        return None, state, 0
    folder = Path(params.checkpoint_dir) / "jax"
    name = rank.from_rank_zero(job_folder(folder, goes_on=goes_on) if rank.rank == 0 else "")
    checkpoints = Checkpoints(folder / name, rank.rank, rank.world_size)
    newest = int(rank.from_rank_zero(str(max(checkpoints.steps(), default=0))))
    if not newest:
        return checkpoints, state, 0
    if newest >= params.num_steps:
        raise CheckpointUnusable(
            f"the checkpoint in {params.checkpoint_dir} is of {newest} steps, and num_steps is "
            f"{params.num_steps}: nothing is left to train; ask for more steps, or not to resume"
        )
    found_s = rank.now_s()
    state = checkpoints.restore(newest, state)
    restored_s = rank.now_s() - found_s
    rank.report(TrainFacts({"checkpoint_restore_s": (restored_s,), "first_step": newest}))
    return checkpoints, state, newest


def _mean_here(loss: jax.Array) -> float:
    """Of all ranks, where the program takes the mean over the mesh; else of this one's devices."""
    return float(numpy.mean([numpy.asarray(part.data) for part in loss.addressable_shards]))


@contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        first = str(error).splitlines()[0]
        raise OutOfDeviceMemory(
            f"{first}; the peak until then was {peak_memory_bytes()} bytes; ask for a smaller "
            "micro_batch_size, for activation_checkpointing, or for fsdp over more devices"
        ) from error


def _what_runs(params: JaxWorkload, layout: MeshLayout, program: Program) -> dict[str, Any]:
    """What the rank really trains with, as it is and not as it was asked."""
    first = program.mesh.devices.flat[0]
    shape = shape_of(params.preset)
    return {
        "device": first.device_kind,
        "backend": f"xla:{first.platform}",
        "num_steps": params.num_steps,
        "precision": params.precision,
        "strategy": params.strategy,
        "mesh": dict(program.mesh.shape),
        "num_devices_per_worker": layout.num_local,
        "num_slices": layout.num_slices,
        "num_parameters": shape.num_parameters,
        "flops_per_token": shape.flops_per_token(params.sequence_length),
        "flops_rule": FLOPS_RULE,
        "optimizer_method": "not timed: the update is part of the step's one program",
        "packages": {
            "jax": jax.__version__,
            "jaxlib": importlib.metadata.version("jaxlib"),
            "optax": optax.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
    }
