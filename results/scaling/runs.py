"""One training run as a point of a scaling curve: what it did, and where its steps' time went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from results.record import Evidence, Failed, Invalid, RunRecord, Succeeded
from results.samples import StepSamples

# Tags of a record that belongs to a scaling experiment; ``experiment_id`` ties them together.
TAG_WORKERS = "scale_workers"
TAG_ROUND = "scale_round"
TAG_ROLE = "scale_role"
TAG_ASK = "scale_ask"
CONTROL = "control"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepParts:
    """Shares of all ranks' step time, without warm-up. ``communication`` None: was not timed.

    ``imbalance``: what the slowest rank of each step took longer than the mean of the ranks. Where
    communication was timed it is taken off first, because a rank waits for a slow peer inside the
    exchange; that waiting is then imbalance and no longer ``communication``.
    """

    data: float
    imbalance: float
    communication: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleRun:
    """``throughput``: tokens of all workers per second; None with ``fault`` for an unusable run.

    ``is_control``: the same ranks on the same cores, each alone. ``num_cores`` 0: not known.
    """

    num_workers: int
    round_index: int
    is_control: bool
    run_id: str
    throughput: float | None
    fault: str = ""
    is_failed: bool = False  # it did not end; False for one that ended and is invalid
    startup_s: float | None = None
    training_s: float | None = None
    parts: StepParts | None = None
    num_cores: int = 0
    num_threads: int = 0
    accelerator: str = ""
    simulated: bool = False
    doubts: tuple[str, ...] = ()

    @property
    def per_worker(self) -> float | None:
        return None if self.throughput is None else self.throughput / self.num_workers


def parts_of(samples: StepSamples) -> StepParts | None:
    """None where no step was measured."""
    keep = ~samples.is_warmup
    duration = samples.duration_s[keep]
    total = float(duration.sum())
    if total <= 0:
        return None
    comm = samples.comm_s[keep]
    timed = not bool(np.isnan(comm).any())
    busy = duration - comm if timed else duration
    _, index = np.unique(samples.step[keep], return_inverse=True)
    longest = np.full(int(index.max()) + 1, -np.inf)
    np.maximum.at(longest, index, busy)
    waited = float((longest[index] - busy).sum()) / total
    communication = max(float(comm.sum()) / total - waited, 0.0) if timed else None
    return StepParts(
        data=float(samples.data_wait_s[keep].sum()) / total,
        imbalance=waited,
        communication=communication,
    )


def scale_run(record: RunRecord, samples: StepSamples | None) -> ScaleRun:
    """A record that carries the tags of a scaling experiment. Raises KeyError for another."""
    tags: Mapping[str, str] = record.spec["tags"]
    measured = {
        m.metric: m.value for m in record.measurements if m.statistic == "value" and not m.group
    }
    usable = isinstance(record.outcome, Succeeded)
    throughput = measured.get("training_throughput") if usable else None
    hardware = record.environment.hardware if record.environment else ()
    workload = record.spec.get("workload", {})
    return ScaleRun(
        num_workers=int(tags[TAG_WORKERS]),
        round_index=int(tags[TAG_ROUND]),
        is_control=tags[TAG_ROLE] == CONTROL,
        run_id=record.run_id,
        throughput=throughput,
        fault="" if throughput is not None else _fault(record),
        is_failed=isinstance(record.outcome, Failed),
        startup_s=record.startup.ready_s if record.startup else None,
        training_s=_span_s(samples) if samples is not None else None,
        parts=parts_of(samples) if samples is not None else None,
        num_cores=sum(h.num_cpus for h in hardware),
        num_threads=int(workload.get("threads_per_worker", 1)),
        accelerator=record.placement.accelerator if record.placement else "",
        simulated=record.evidence is Evidence.SIMULATED,
        doubts=tuple(f"{d.code}: {d.message}" for d in record.doubts),
    )


def _fault(record: RunRecord) -> str:
    outcome = record.outcome
    if isinstance(outcome, Failed):
        return f"{outcome.stage}: {outcome.message}"
    if isinstance(outcome, Invalid):
        return "invalid: " + ", ".join(outcome.reasons)
    return "no throughput was measured"


def _span_s(samples: StepSamples) -> float | None:
    """From the first step's start to the last one's end, warm-up included, on the longest rank."""
    ranks = np.unique(samples.rank)
    spans = [
        float((samples.start_s[r] + samples.duration_s[r]).max() - samples.start_s[r].min())
        for r in (samples.rank == rank for rank in ranks)
    ]
    return max(spans, default=None)
