"""Ray Train on nodes that are already ours. The only module that knows Ray Train's insides.

``TorchTrainer.fit`` makes a placement group of its own. Between proving that a rung of the plan is
free and Ray Train's asking for the same nodes, anybody could take them; a virtual TPU slice would
be refused outright (Ray Train wants a real topology). Here the worker group is started *inside* the
group that the deployment already holds, so there is no such moment: Ray Train never asks for
resources at all. It never removes that group either: who made it does.

The controller runs in the process that calls ``fit``, not in an actor of its own, and only the
callbacks that a run needs are kept. What is left out, each a process: the actor around the
controller, DatasetManager, PreemptionWatcher, and two that outlive the run on a shared cluster
(AutoscalingCoordinator, PlacementGroupCleaner). Ray's own TorchTrainer would also import torch in
the driver and in the controller; the ranks are the only ones to do so here.

Written against ray 2.60 (pinned); ``tests/harness/test_train_actor.py`` fails when it changes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec
import pyarrow.fs
import ray
from ray.train import Result
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks import AcceleratorSetupCallback, BackendSetupCallback
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.failure_handling import FailureDecision, FailurePolicy
from ray.train.v2._internal.execution.scaling_policy import (
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import (
    WorkerGroup,
    WorkerGroupPollStatus,
    WorkerGroupState,
)
from ray.train.v2._internal.execution.worker_group.placement_group_handle import (
    DefaultPlacementGroupHandle,
)
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.placement_group import PlacementGroup, placement_group_table

from harness.faults import Restarts
from results.clock import SystemClock

POLL_S = 0.25  # how often the ranks are asked how they are
CONNECT_S = 2.0
SILENT_RANK_S = 30.0  # Ray's own patience with a node that no longer answers, and some


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldNodes:
    """The group to train in: rank i's worker stands in bundle ``bundle_indices[i]``.

    ``on_workers`` is told the actor handles, in order of rank, and their nodes as soon as there are
    any, so that they can be killed. ``on_failure`` is asked whether to start again. ``on_wait`` is
    told for how many seconds there had been no room, once there is.
    """

    group: PlacementGroup
    bundle_indices: tuple[int, ...]
    on_workers: Callable[[list[Any], tuple[str, ...]], None] = field(compare=False)
    on_failure: Callable[[Exception], bool] = field(compare=False)
    on_wait: Callable[[float], None] = field(compare=False)
    restarts: Restarts = field(default_factory=Restarts)

    def live_indices(self) -> tuple[int, ...]:
        """Of the bundles whose node is there. Ray moves a lost node's bundles to other nodes, where
        there is room for them."""
        nodes = placement_group_table(self.group)["bundles_to_node_id"]
        alive = live_nodes()
        return tuple(index for index in self.bundle_indices if nodes.get(index) in alive)


class _HeldGroup(DefaultPlacementGroupHandle):
    def wait(self, timeout_seconds: float = 30) -> bool:
        """Its bundles were there, and whether those that are needed still are has been seen to: a
        group that has lost one of several is not "ready" for Ray, and yet can be trained in."""
        return True

    def shutdown(self) -> None:
        """Nothing: the group was there before the training and stays after it."""


class _HeldWorkerGroup(WorkerGroup):
    held: HeldNodes

    def _create_placement_group(self, *_: Any) -> _HeldGroup:
        return _HeldGroup(self.held.group)

    def _create_workers(self, *args: Any, **kwargs: Any) -> list[Any]:
        num_workers = args[0] if args else kwargs["num_workers"]
        indices = self.held.live_indices()[:num_workers]
        if len(indices) < num_workers:
            raise WorkerGroupStartupTimeoutError(num_workers=num_workers)
        kwargs["placement_group_bundle_indices"] = list(indices)
        workers: list[Any] = super()._create_workers(*args, **kwargs)
        nodes = tuple(worker.metadata.node_id for worker in workers)
        self.held.on_workers([worker.actor for worker in workers], nodes)
        return workers

    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: Any) -> Any:
        """None instead of ``{"env_vars": {}}``: an environment of its own, though empty, keeps
        Ray from using the worker processes that it has already started."""
        return custom_runtime_env or None

    def poll_status(self, timeout: float | None = None) -> WorkerGroupPollStatus:
        """When one rank has failed and another does not answer, wait for that one's fate.

        A rank whose process or node is gone breaks its peers' connections at once, while Ray needs
        up to ``SILENT_RANK_S`` to be sure of a node. Without the wait the innocent peer's
        "connection closed" would be taken for the cause.
        """
        status = super().poll_status(timeout)
        if status.errors and self._world_rank_to_ongoing_poll:
            status = super().poll_status(SILENT_RANK_S)
        return status


class _Controller(TrainController):
    """``worker_group_cls`` is looked up on the instance, which is where the held nodes come in."""

    def __init__(self, held: HeldNodes, **kwargs: Any) -> None:
        class WorkerGroupHere(_HeldWorkerGroup):
            pass

        WorkerGroupHere.held = held
        self.worker_group_cls = WorkerGroupHere
        super().__init__(**kwargs)
        self._health_check_interval_s = POLL_S
        self._worker_group_callbacks_to_propagate = [
            callback
            for callback in self._worker_group_callbacks_to_propagate
            if type(callback).__name__ != "PreemptionCallback"
        ]


class _HeldScaling(FixedScalingPolicy):
    """How many workers the next attempt has. Nodes are held: the autoscaler is asked nothing."""

    def __init__(self, scaling: ScalingConfig, held: HeldNodes) -> None:
        super().__init__(scaling)
        self._held, self._clock = held, SystemClock()
        self._looked_at_s = self._clock.monotonic_s()
        self._no_room_since_s: float | None = None

    def after_controller_start(self, train_run_context: Any) -> None: ...

    def _maybe_send_resource_request(self) -> None: ...

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        wanted = len(self._held.bundle_indices)
        room = len(self._held.live_indices())
        least = self._held.restarts.min_workers or wanted
        now_s = self._clock.monotonic_s()
        if room < least:
            if self._no_room_since_s is None:
                self._no_room_since_s = now_s
            self._clock.sleep(POLL_S)  # Ray Train asks again at once
            return NoopDecision()
        if self._no_room_since_s is not None:
            self._held.on_wait(now_s - self._no_room_since_s)
            self._no_room_since_s = None
        self._looked_at_s = now_s
        return self._resize_to(min(room, wanted))

    def make_decision_for_running_worker_group(
        self, worker_group_state: WorkerGroupState, worker_group_status: WorkerGroupPollStatus
    ) -> ScalingDecision:
        """A job that goes on with fewer workers grows again when there is room."""
        restarts, wanted = self._held.restarts, len(self._held.bundle_indices)
        now_s = self._clock.monotonic_s()
        if (
            not restarts.min_workers
            or worker_group_state.num_workers >= wanted
            or now_s - self._looked_at_s < restarts.resize_check_s
        ):
            return NoopDecision()
        self._looked_at_s = now_s
        room = min(len(self._held.live_indices()), wanted)
        if room <= worker_group_state.num_workers:
            return NoopDecision()
        return self._resize_to(room)

    def _resize_to(self, num_workers: int) -> ResizeDecision:
        resources = self.scaling_config._resources_per_worker_not_none
        return ResizeDecision(num_workers=num_workers, resources_per_worker=resources)


class _AskingFailurePolicy(FailurePolicy):
    def __init__(self, config: FailureConfig, on_failure: Callable[[Exception], bool]) -> None:
        super().__init__(config)
        self._on_failure = on_failure

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        again = self._on_failure(training_failed_error)
        return FailureDecision.RETRY if again else FailureDecision.RAISE


class _DeviceBackend(Backend):
    """The ranks join their process group themselves; Ray Train only shows each GPU rank the GPUs
    of its node's other ranks, without which NCCL cannot use the links between them."""

    share_cuda_visible_devices = True


class _DeviceBackendConfig(BackendConfig):
    @property
    def backend_cls(self) -> type[Backend]:
        return _DeviceBackend


class HeldTrainer(DataParallelTrainer):
    """A data-parallel trainer whose ``fit`` blocks in this process, restarts and all."""

    def __init__(
        self,
        loop: Callable[[dict[str, Any]], None],
        config: Mapping[str, Any],
        held: HeldNodes,
        resources_per_worker: Mapping[str, float],
    ) -> None:
        self._held = held
        # Kept beside the base's own: Ray's annotations still speak of the first Ray Train's.
        self._scaling = ScalingConfig(
            num_workers=len(held.bundle_indices),
            resources_per_worker=dict(resources_per_worker),
            use_gpu="GPU" in resources_per_worker,
        )
        super().__init__(
            loop,
            train_loop_config=dict(config),
            backend_config=_DeviceBackendConfig(),
            scaling_config=self._scaling,
            run_config=RunConfig(  # type: ignore[arg-type]
                name="windtunnel",
                # Nothing is kept, so nothing is written: a file system in this process's memory.
                storage_path="/train",
                storage_filesystem=pyarrow.fs.PyFileSystem(
                    pyarrow.fs.FSSpecHandler(fsspec.filesystem("memory"))
                ),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )

    def _create_default_callbacks(self) -> list[Any]:
        return [
            AcceleratorSetupCallback(self.backend_config, self._scaling),
            BackendSetupCallback(self.backend_config),
        ]

    def _initialize_and_run_controller(self, **kwargs: Any) -> Result:
        kwargs["scaling_policy"] = _HeldScaling(self._scaling, self._held)
        kwargs["failure_policy"] = _AskingFailurePolicy(FailureConfig(), self._held.on_failure)
        controller = _Controller(self._held, **kwargs)
        asyncio.run(controller.run())  # type: ignore[no-untyped-call]
        return controller.get_result()


def live_nodes() -> frozenset[str]:
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return frozenset(node["NodeID"] for node in nodes if node["Alive"])


def dead_nodes(node_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the nodes that Ray knows to be gone, or no longer knows."""
    alive = live_nodes()
    return tuple(node_id for node_id in node_ids if node_id not in alive)


def all_take_connections(node_ids: tuple[str, ...]) -> bool:
    """Whether the raylets of these nodes still listen, as far as a connection tells."""
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["NodeID"] not in node_ids:
            continue
        where = (node["NodeManagerAddress"], node["NodeManagerPort"])
        try:
            socket.create_connection(where, timeout=CONNECT_S).close()
        except OSError:
            return False
    return True
