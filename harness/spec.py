"""The spec: what a person asks for, as a frozen value. Read by ``specfile``, bound by ``plan``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.faults import Fault, Restarts
from harness.pools import CPU, Capacity
from workloads.params import WorkloadParams
from workloads.traffic.spec import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One rung's ask. An empty ``pools`` means any pool of that accelerator; an empty ``capacity``
    means any, in the order reservation → on-demand → spot → flex-start.

    ``num_chips`` are those of the whole deployment; 0 means one per tensor-parallel part, per
    training worker, or those of the ``topology``. ``cpus`` and ``memory_gib`` are per bundle: the
    server's, its part's on each host of a slice, or (memory) each training worker's.
    """

    accelerator: str = CPU
    num_chips: int = 0
    cpus: float = 1.0
    memory_gib: float = 0.0
    topology: str = ""
    pools: tuple[str, ...] = ()
    capacity: tuple[Capacity, ...] = ()
    max_wait_s: float = 60.0  # how long this ask's pools are each waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """In seconds; passing one ends the run with ``Failed(stage, deadline_exceeded)``."""

    startup_s: float = 600.0  # placed → first token or step
    load_s: float = 1800.0  # the whole load, warm-up included
    teardown_s: float = 60.0


# {"ttft_s": 0.5}: a request is good when every named metric is within; {"ttft_p99_s": 0.5}: the
# run's p99 has to be; "attainment": the share of requests that have to be good.
SLO = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One measurement, asked for. ``hardware`` is a ladder: the first ask that fits is used.

    ``num_repeats`` runs are made and kept as one record each; with ``redeploy`` each has a
    deployment of its own, otherwise they share one and only the first has a startup. ``faults`` are
    struck at a training on purpose; ``restarts`` is what it does about a loss, meant or not.
    """

    name: str
    workload: WorkloadParams
    traffic: Traffic | None = None
    hardware: tuple[Hardware, ...] = (Hardware(),)
    slo: SLO = field(default_factory=dict)
    num_repeats: int = 1
    redeploy: bool = True
    deadlines: Deadlines = field(default_factory=Deadlines)
    restarts: Restarts = field(default_factory=Restarts)
    faults: tuple[Fault, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
