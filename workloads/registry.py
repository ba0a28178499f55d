"""From a workload's parameters to the code that knows it. The only place that names them all.

Importing this imports no engine. A stranger's workload joins by an entry point of the group
``windtunnel.workloads`` whose name is its kind and whose value is a ``WorkloadKind``::

    [project.entry-points."windtunnel.workloads"]
    sleep = "sleepers.windtunnel:SLEEP"

    SLEEP = WorkloadKind(params=SleepParams, workload="sleepers.work:Sleep", role=Role.SERVER)

``SleepParams`` is a frozen dataclass with ``kind: Literal["sleep"] = "sleep"``; from then on a spec
may say ``workload: {kind: sleep, …}``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, cast

from workloads.base import Workload
from workloads.errors import WorkloadError
from workloads.params import (
    CollectivesWorkload,
    CommandWorkload,
    EndpointWorkload,
    JaxWorkload,
    SimulatedWorkload,
    TorchWorkload,
    VllmWorkload,
)

GROUP = "windtunnel.workloads"


class Role(StrEnum):
    """What a plan has to know about a workload: who starts it, and what drives it."""

    SERVER = "server"  # started by us on one bundle of ``tensor_parallel_size`` chips; has traffic
    REMOTE = "remote"  # already there: nothing is placed; has traffic
    TRAINING = "training"  # ``num_workers`` bundles of ``cpus_per_worker`` CPUs; has no traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadKind:
    """``workload`` is ``module:Class``, made with the parameters as its one argument.

    ``trains_on_tpus``: of the role training, whether real TPUs may be given to it.
    """

    params: type
    workload: str
    role: Role
    trains_on_tpus: bool = False


BUILT_IN: dict[str, WorkloadKind] = {
    "vllm": WorkloadKind(
        params=VllmWorkload, workload="workloads.vllm:VllmServing", role=Role.SERVER
    ),
    "endpoint": WorkloadKind(
        params=EndpointWorkload, workload="workloads.endpoint:Endpoint", role=Role.REMOTE
    ),
    "torch": WorkloadKind(
        params=TorchWorkload, workload="workloads.torch_train:TorchTraining", role=Role.TRAINING
    ),
    "jax": WorkloadKind(
        params=JaxWorkload,
        workload="workloads.jax_train:JaxTraining",
        role=Role.TRAINING,
        trains_on_tpus=True,
    ),
    "collectives": WorkloadKind(
        params=CollectivesWorkload,
        workload="workloads.collectives:Collectives",
        role=Role.TRAINING,
        trains_on_tpus=True,
    ),
    "command": WorkloadKind(
        params=CommandWorkload, workload="workloads.command:Command", role=Role.TRAINING
    ),
    "simulated": WorkloadKind(
        params=SimulatedWorkload,
        workload="workloads.simulated.serving:SimulatedServing",
        role=Role.SERVER,
    ),
}


def kind_names() -> tuple[str, ...]:
    """Every kind a spec may name, our own first. Loads nobody's code."""
    return tuple(dict.fromkeys((*BUILT_IN, *_strangers())))


def kind_named(name: str) -> WorkloadKind:
    """The kind of that name. Raises WorkloadError: nobody offers it, or what is offered is not a
    WorkloadKind or cannot be imported."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    entry = _strangers().get(name)
    if entry is None:
        raise WorkloadError(f"no workload is of kind {name!r}; known: {', '.join(kind_names())}")
    try:
        offered = entry.load()
    except Exception as error:  # a stranger's import may raise anything
        raise WorkloadError(
            f"workload kind {name!r} ({entry.value}) cannot be imported: {error!r}"
        ) from error
    if not isinstance(offered, WorkloadKind):
        raise WorkloadError(
            f"workload kind {name!r}: {entry.value} is a {type(offered).__name__}; "
            "an entry point of windtunnel.workloads names a WorkloadKind"
        )
    return offered


def role_of(params: Any) -> Role:
    return kind_named(params.kind).role


def trains_on_tpus(params: Any) -> bool:
    return kind_named(params.kind).trains_on_tpus


def workload_for(params: Any) -> Workload:
    """The workload that knows ``params``; its module is imported now, and no other."""
    module, _, name = kind_named(params.kind).workload.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise WorkloadError(
            f"workload kind {params.kind!r} needs {module}:{name}, which is not there: {error}; "
            "`windtunnel doctor` says what is missing"
        ) from error
    return cast(Workload, made(params))


def _strangers() -> dict[str, importlib.metadata.EntryPoint]:
    """Entry points by kind. Our own names cannot be taken over."""
    return _found_on(tuple(sys.path))


@lru_cache(1)
def _found_on(_path: tuple[str, ...]) -> dict[str, importlib.metadata.EntryPoint]:
    """A file of every installed package is opened for it: once is enough."""
    found = importlib.metadata.entry_points(group=GROUP)
    return {entry.name: entry for entry in found if entry.name not in BUILT_IN}
