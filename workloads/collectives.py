"""Timing collectives on the placement of a training: what to launch, and the loop of each rank.

Every round visits every collective and size once, in an order of its own that is the same on all
ranks, so that whatever changes on the hosts meanwhile does not fall on one size alone. A visit is
a barrier, then ``calls_per_round`` calls back to back; its time is that of the calls together,
divided by their number, as nccl-tests time theirs. In the first and in the last round the result
of one more call, not timed, is looked at element by element.

What moves the bytes is a ``Mover``: ``workloads.torch_collectives`` for gloo and NCCL,
``workloads.jax_collectives`` for XLA. A rank is what takes part in a collective: of the first two
a process, of XLA a device, of which a process may have several.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from results.samples import CollectiveSamples, StepSamples
from workloads.base import (
    Device,
    Running,
    TrainFacts,
    TrainLaunch,
    TrainPhase,
    TrainRank,
    TrainStep,
)
from workloads.errors import LaunchRefused
from workloads.own_checks import refuse_faults
from workloads.params import CollectivesWorkload
from workloads.traffic.spec import Traffic
from workloads.training_job import group_launch, mesh_launch, steps_of

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
# By backend: the module whose ``open_mover(params, rank, place)`` makes the mover.
MOVERS = {
    "gloo": "workloads.torch_collectives",
    "nccl": "workloads.torch_collectives",
    "xla": "workloads.jax_collectives",
}
# By backend: the kinds of device whose memory it moves.
_MOVES = {"gloo": ("cpu",), "nccl": ("gpu",), "xla": ("cpu", "gpu", "tpu")}
_USUAL = {"cpu": "gloo", "gpu": "nccl", "tpu": "xla"}


class Visit(NamedTuple):
    """One collective at one size in one round. ``size_bytes`` is S of ``results.collectives``."""

    round: int
    collective: str
    size_bytes: int


class Place(NamedTuple):
    """What a process stands on: ``device`` is cpu, gpu or tpu."""

    device: str
    num_local_devices: int = 1
    num_slices: int = 1


class Mover(Protocol):
    """One process's side of the collectives. Buffers are its own, reused by every visit."""

    @property
    def num_ranks(self) -> int:
        """Of all processes together."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """``backend``, ``packages`` and what else is the same in every run."""
        ...

    def observed(self) -> Mapping[str, Any]:
        """What it found out while it was used."""
        ...

    def barrier(self) -> None:
        """Return when every rank has come here and the device has nothing to do."""
        ...

    def call(self, collective: str, size_bytes: int, times: int) -> None:
        """``times`` calls, one after the other; return when the last one's result is there."""
        ...

    def num_wrong(self, collective: str, size_bytes: int) -> int:
        """Call once with known input; the elements of this process's results that are not what
        they must be."""
        ...

    def close(self) -> None: ...


def whole_elements(size_bytes: int, dtype: str, num_ranks: int) -> int:
    """``size_bytes`` rounded down to what can be shared evenly by the ranks; at least one element
    for each."""
    unit = num_ranks * DTYPE_BYTES[dtype]
    return max(size_bytes // unit, 1) * unit


def visits(params: CollectivesWorkload, num_ranks: int) -> tuple[Visit, ...]:
    """All visits in order; the same wherever it is asked."""
    sizes = sorted({whole_elements(size, params.dtype, num_ranks) for size in params.sizes_bytes})
    cases = [(name, size) for name in params.collectives for size in sizes]
    order = random.Random(params.seed)
    found = []
    for index in range(params.num_rounds):
        shuffled = order.sample(cases, len(cases))
        found += [Visit(index, name, size) for name, size in shuffled]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Collectives:
    """The ``collectives`` workload. Raises LaunchRefused before anything is started."""

    params: CollectivesWorkload

    def launch(self, device: Device, models_dir: str) -> TrainLaunch:
        """What was not asked for is gloo where the device is a CPU (a virtual pool's too), nccl on
        GPUs and xla on TPUs."""
        params = self.params
        refuse_faults(params)
        backend = _USUAL[device.kind] if params.backend == "usual" else params.backend
        if device.kind not in _MOVES[backend]:
            raise LaunchRefused(
                f"workload.backend is {backend}, which runs on {' and '.join(_MOVES[backend])}; "
                f"the plan gives {device.num_chips} x {device.accelerator} ({device.kind}): "
                f"{_USUAL[device.kind]} runs there"
            )
        config = {"params": asdict(params), "device": device.kind}
        if backend == "xla":
            if device.kind == "cpu" and params.dtype == "bfloat16":
                raise LaunchRefused(
                    "workload.dtype is bfloat16, which XLA sends between CPUs as float32, twice "
                    "the bytes: accepted with backend xla on CPUs: float32"
                )
            return mesh_launch("workloads.collectives:run", config, params, device)
        return group_launch("workloads.collectives:run", config, params, device)

    def drive(
        self,
        running: Running,
        traffic: Traffic | None,
        on_progress: Callable[[int, int, float], None],
    ) -> CollectiveSamples:
        return samples_of(steps_of(running, self.params.kind, on_progress), self.params)


def samples_of(steps: StepSamples, params: CollectivesWorkload) -> CollectiveSamples:
    """The inverse of how ``run`` reports: a visit is a step, the wrong elements its loss, and the
    ranks of the collectives its tokens."""
    num_ranks = int(steps.num_tokens[0]) if steps.num_rows else params.num_workers
    made = visits(params, num_ranks)
    rows = [made[step] for step in steps.step]
    return CollectiveSamples(
        collective=np.array([v.collective for v in rows], dtype=object),
        size_bytes=np.array([v.size_bytes for v in rows], dtype=np.int64),
        num_ranks=np.full(len(rows), num_ranks, dtype=np.int64),
        round=np.array([v.round for v in rows], dtype=np.int64),
        rank=steps.rank,
        start_s=steps.start_s,
        call_s=steps.duration_s,
        num_wrong=steps.loss.astype(np.int64),
    )


def run(config: Mapping[str, Any], rank: TrainRank) -> None:
    """The loop that the launch names; ``config`` has ``params``, a ``CollectivesWorkload`` as a
    mapping, and the fields of a ``Place``."""
    told = config["params"]
    values = {**told, **{name: tuple(told[name]) for name in ("collectives", "sizes_bytes")}}
    params = CollectivesWorkload(**values)
    place = Place(**{name: value for name, value in config.items() if name != "params"})
    with rank.phase("imports"):
        module = importlib.import_module(MOVERS[rank.backend])
    with rank.phase("process group"):
        mover: Mover = module.open_mover(params, rank, place)
    time_all(params, rank, mover)
    mover.close()


def time_all(params: CollectivesWorkload, rank: TrainRank, mover: Mover) -> None:
    """Warm up, then make and report every visit."""
    made = visits(params, mover.num_ranks)
    facts = {"num_steps": len(made), "num_ranks": mover.num_ranks, "dtype": params.dtype}
    rank.report(TrainFacts({**facts, **mover.facts()}))
    with rank.phase("warm-up"):
        for visit in made:
            if visit.round == 0:
                mover.call(visit.collective, visit.size_bytes, max(params.num_warmup_calls, 1))
    for index, visit in enumerate(made):
        mover.barrier()
        start_s = rank.now_s()
        mover.call(visit.collective, visit.size_bytes, params.calls_per_round)
        took_s = rank.now_s() - start_s
        looked_at = visit.round in (0, params.num_rounds - 1)
        wrong = mover.num_wrong(visit.collective, visit.size_bytes) if looked_at else -1
        if index == 0:
            rank.report(TrainPhase("first step", start_s, rank.now_s()))
        rank.report(
            TrainStep(
                step=index,
                start_s=start_s,
                duration_s=took_s / params.calls_per_round,
                data_wait_s=0.0,
                num_tokens=mover.num_ranks,
                loss=float(wrong),
                memory_bytes=-1,
                is_warmup=False,
            )
        )
    if found := mover.observed():
        rank.report(TrainFacts(found))
