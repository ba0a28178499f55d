"""Timing collectives on the placement of a training: what to launch, and the loop of each rank.

Every round visits every collective and size once, in an order of its own that is the same on all
ranks, so that whatever changes on the hosts meanwhile does not fall on one size alone. A visit is
a barrier, then ``calls_per_round`` calls back to back; its time is that of the calls together,
divided by their number, as nccl-tests time theirs. In the first and in the last round the result
of one more call, not timed, is looked at element by element.

What moves the bytes is a ``Mover``; ``workloads.torch_collectives`` is the one for gloo and NCCL.
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
from workloads.own_checks import refuse_faults
from workloads.params import CollectivesWorkload
from workloads.traffic.spec import Traffic
from workloads.training_job import group_launch, steps_of

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
# By backend: the module whose ``open_mover(params, rank)`` makes the mover.
MOVERS = {"gloo": "workloads.torch_collectives", "nccl": "workloads.torch_collectives"}


class Visit(NamedTuple):
    """One collective at one size in one round. ``size_bytes`` is S of ``results.collectives``."""

    round: int
    collective: str
    size_bytes: int


class Mover(Protocol):
    """One rank's side of the collectives. Buffers are its own and are reused by every visit."""

    def packages(self) -> Mapping[str, str]: ...

    def barrier(self) -> None:
        """Return when every rank has come here and the device has nothing to do."""
        ...

    def call(self, collective: str, size_bytes: int, times: int) -> None:
        """``times`` calls, one after the other; return when the last one's result is there."""
        ...

    def num_wrong(self, collective: str, size_bytes: int) -> int:
        """Call once with known input; the elements of the result that are not what they must be."""
        ...

    def close(self) -> None: ...


def whole_elements(size_bytes: int, params: CollectivesWorkload) -> int:
    """``size_bytes`` rounded down to what can be shared evenly by the ranks; at least one element
    for each."""
    unit = params.num_workers * DTYPE_BYTES[params.dtype]
    return max(size_bytes // unit, 1) * unit


def visits(params: CollectivesWorkload) -> tuple[Visit, ...]:
    """All visits in order; the same wherever it is asked."""
    sizes = sorted({whole_elements(size, params) for size in params.sizes_bytes})
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
        """gloo where the device is a CPU (a virtual pool's too), nccl on GPUs."""
        params = self.params
        refuse_faults(params)
        return group_launch("workloads.collectives:run", asdict(params), params, device)

    def drive(
        self,
        running: Running,
        traffic: Traffic | None,
        on_progress: Callable[[int, int, float], None],
    ) -> CollectiveSamples:
        return samples_of(steps_of(running, self.params.kind, on_progress), self.params)


def samples_of(steps: StepSamples, params: CollectivesWorkload) -> CollectiveSamples:
    """The inverse of how ``run`` reports: a visit is a step, and the wrong elements its loss."""
    made = visits(params)
    rows = [made[step] for step in steps.step]
    return CollectiveSamples(
        collective=np.array([v.collective for v in rows], dtype=object),
        size_bytes=np.array([v.size_bytes for v in rows], dtype=np.int64),
        num_ranks=np.full(len(rows), params.num_workers, dtype=np.int64),
        round=np.array([v.round for v in rows], dtype=np.int64),
        rank=steps.rank,
        start_s=steps.start_s,
        call_s=steps.duration_s,
        num_wrong=steps.loss.astype(np.int64),
    )


def run(config: Mapping[str, Any], rank: TrainRank) -> None:
    """The loop that the launch names; ``config`` is a ``CollectivesWorkload`` as a mapping."""
    values = {**config, **{name: tuple(config[name]) for name in ("collectives", "sizes_bytes")}}
    params = CollectivesWorkload(**values)
    with rank.phase("imports"):
        module = importlib.import_module(MOVERS[rank.backend])
    with rank.phase("process group"):
        mover: Mover = module.open_mover(params, rank)
    time_all(params, rank, mover)
    mover.close()


def time_all(params: CollectivesWorkload, rank: TrainRank, mover: Mover) -> None:
    """Warm up, then make and report every visit."""
    made = visits(params)
    facts = {
        "num_steps": len(made),
        "backend": rank.backend,
        "dtype": params.dtype,
        "packages": dict(mover.packages()),
    }
    rank.report(TrainFacts(facts))
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
                num_tokens=0,
                loss=float(wrong),
                memory_bytes=-1,
                is_warmup=False,
            )
        )
