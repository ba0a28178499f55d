"""Ray's own processes, started and ended by us: the one module that leans on Ray's private parts.

``ray.init(address="local")`` starts eight processes, four of which nobody here asks for anything
(usage report, autoscaler, log monitor, a worker per CPU kept waiting). Left out, a start takes
about half the time. Pinned to one Ray release; the tests start real clusters.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray._private import ray_constants, services
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray._private.resource_and_label_spec import ResourceAndLabelSpec
from ray._raylet import AuthenticationTokenLoader, Config, NodeID  # type: ignore[attr-defined]  # compiled
from ray.core.generated import gcs_service_pb2

from harness.on_ray.virtual import NODE_GROUP, VirtualNode
from results.clock import SystemClock

MIB = 1 << 20
LOCAL_OBJECT_STORE_BYTES = 512 * MIB  # taken from /dev/shm only as it fills
VIRTUAL_OBJECT_STORE_BYTES = 80 * MIB  # Ray's least is 75
REGISTER_DEADLINE_S = 30.0  # and 30 more by Ray itself
REGISTER_POLL_S = 0.02
END_GRACE_S = 3.0
END_DEADLINE_S = 10.0
LOCAL_POOL = "local"
_STARTING = threading.Lock()


class Raylet(Node):
    """Ray's ``Node`` without its usage reporter, and exactly what a virtual node declares.

    Enters ``started`` before its first process, so that a start that is interrupted halfway can
    be ended all the same.
    """

    def __init__(
        self,
        params: RayParams,
        *,
        head: bool,
        index: int,
        declared: VirtualNode | None,
        started: list[Raylet],
    ) -> None:
        self._declared = declared
        self._index = index
        started.append(self)
        # spawn_reaper: on Linux every process it starts gets SIGKILL from the kernel when the
        # thread that started it ends, and so also when this process is killed.
        super().__init__(params, head=head, shutdown_at_exit=False, spawn_reaper=True)

    def start_api_server(self, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        self._webui_url = ""
        self.get_gcs_client().internal_kv_put(  # type: ignore[no-untyped-call]
            b"webui:url",  # the other nodes read it
            b"",
            True,
            ray_constants.KV_NAMESPACE_DASHBOARD,
        )

    def start_ray_processes(self) -> None:
        # One at a time: Ray tries an import to see whether its dashboard is installed, and a thread
        # that tries it while another one's attempt is failing believes that it is.
        with _STARTING:
            super().start_ray_processes()  # type: ignore[no-untyped-call]
        # Ray looks for the node next, once in a second. Here it is seen as it comes.
        clock = SystemClock()
        started_s = clock.monotonic_s()
        while not self._is_registered() and clock.monotonic_s() - started_s < REGISTER_DEADLINE_S:
            clock.sleep(REGISTER_POLL_S)

    def _is_registered(self) -> bool:
        client = self.get_gcs_client()  # type: ignore[no-untyped-call]
        node_id = NodeID.from_hex(str(self._node_id)).binary()
        request = gcs_service_pb2.GetAllNodeInfoRequest  # type: ignore[attr-defined]  # generated
        wanted = request.NodeSelector(node_id=node_id)
        return bool(client.get_all_node_info(timeout=REGISTER_DEADLINE_S, node_selectors=[wanted]))

    def _make_inc_temp(self, suffix: str = "", prefix: str = "", directory_name: Any = None) -> str:
        """A file of this raylet's own. Ray takes the first name that does not exist yet, which two
        that start together both find."""
        number = f".{self._index}" if self._index else ""
        return str(Path(directory_name or self._logs_dir) / f"{prefix}{number}{suffix}")

    def get_resource_and_label_spec(self) -> Any:
        """For a virtual node nothing is detected: Ray would ask this machine's GPUs, its
        CUDA_VISIBLE_DEVICES and Google's metadata server what the node has."""
        if self._declared is None:
            return super().get_resource_and_label_spec()  # type: ignore[no-untyped-call]
        declared = self._declared
        resources = {**declared.resources, f"node:{self._node_ip_address}": 1.0}
        if self.head:
            resources[HEAD_NODE_RESOURCE_NAME] = 1.0
        spec = ResourceAndLabelSpec(
            declared.cpus,  # type: ignore[arg-type]  # fractions are fine
            declared.gpus,
            declared.memory_bytes,
            self._ray_params.object_store_memory,
            resources,
            dict(declared.labels),
        )
        spec._is_resolved = True
        return spec


class _Apart(services.ConsolePopen):
    """A process of Ray's in a group of its own: what a terminal, ``timeout`` or a supervisor sends
    to ours must reach this process alone, which then takes Ray down in order. A GCS that goes first
    leaves every call of Ray's waiting for a minute, and then ends the driver unsealed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, process_group=0, **options)


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """What Ray starts meanwhile, in any thread, is started apart. Ray has no option for it."""
    theirs = services.ConsolePopen
    services.ConsolePopen = _Apart  # type: ignore[misc]
    try:
        yield
    finally:
        services.ConsolePopen = theirs  # type: ignore[misc]


HEAD_OF_VIRTUAL = VirtualNode(name="head", cpus=0, gpus=0, memory_bytes=1 << 30)


@contextlib.contextmanager
def cluster_of(nodes: tuple[VirtualNode, ...], folder: Path) -> Iterator[str]:
    """A cluster of this machine's own; yields the address of its GCS. On leaving, this process
    leaves it and it ends.

    Without nodes its head is the pool ``local`` with all that this machine has. With nodes the
    head has nothing to place on. Every process ends with the context or with this process.
    """
    started: list[Raylet] = []
    with _quiet_logger(), _private_token(), contextlib.ExitStack() as stack:
        # Its threads must outlive the raylets that they start: see ``Raylet.__init__``.
        threads = stack.enter_context(ThreadPoolExecutor(max(1, min(len(nodes), _cores()))))
        stack.callback(_end, started)
        apart = stack.enter_context(contextlib.ExitStack())
        apart.enter_context(_apart())
        head = Raylet(
            _params(folder, 0, HEAD_OF_VIRTUAL if nodes else None, gcs=None),
            head=True,
            index=0,
            declared=HEAD_OF_VIRTUAL if nodes else None,
            started=started,
        )
        address = str(head.gcs_address)
        starting = [
            threads.submit(
                Raylet,
                _params(folder, index, node, gcs=address),
                head=False,
                index=index,
                declared=node,
                started=started,
            )
            for index, node in enumerate(nodes, start=1)
        ]
        stack.callback(_settle, starting)
        for future in starting:
            future.result()
        apart.close()
        yield address


def _settle(starting: list[Future[Raylet]]) -> None:
    """After an interrupt: the threads finish the raylets they are at and start no more."""
    for future in starting:
        future.cancel()
    wait(starting)


@contextlib.contextmanager
def _private_token() -> Iterator[None]:
    """Ray listens on all of this machine's addresses, and whoever reaches it can run anything: for
    this cluster's time this process and all it starts use a token that nobody else knows.

    ``ray.init`` does alike with a token of the user's, and leaves the environment changed.
    """
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    _read_token_again()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_token_again()


def _read_token_again() -> None:
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _params(folder: Path, index: int, node: VirtualNode | None, gcs: str | None) -> RayParams:
    """Ports are the system's to choose, so that any number of clusters share a machine; sockets lie
    where their paths are short."""
    common: dict[str, Any] = {
        "temp_dir": str(folder),
        "plasma_store_socket_name": str(folder / f"store-{index}"),
        "raylet_socket_name": str(folder / f"raylet-{index}"),
        "include_dashboard": False,
        "include_log_monitor": False,
        "no_monitor": True,
        "min_worker_port": 0,
        "max_worker_port": 0,
        "node_manager_port": 0,
        "dashboard_agent_listen_port": 0,
        "metrics_export_port": 0,
    }
    if gcs is None:
        # Ray would start a worker per CPU and keep the driver waiting for them.
        common["_system_config"] = {
            "prestart_worker_first_driver": False,
            # Ray would make its workers nice (15), and with them the load client and the engine:
            # whatever else the machine did would be in the latencies.
            "worker_niceness": 0,
            # Nobody reads its task events; Ray would wait 5 s for a GCS that is gone to take them.
            "task_events_shutdown_flush_timeout_ms": 200,
        }
    else:
        common |= {"gcs_address": gcs, "redis_address": gcs}
    if node is None:
        return RayParams(
            object_store_memory=LOCAL_OBJECT_STORE_BYTES,
            labels={NODE_GROUP: LOCAL_POOL},
            **common,
        )
    return RayParams(
        object_store_memory=VIRTUAL_OBJECT_STORE_BYTES,
        node_name=node.name,
        env_vars=dict(node.env),
        **common,
    )


def _end(raylets: list[Raylet]) -> None:
    """Leaves the cluster, ends its processes and everything below them, waits until they are gone.

    What is below is looked up before the actors go: a child of an actor may outlive it.
    """
    below = processes_below(raylets)
    ray.shutdown()
    below = list({*below, *processes_below(raylets)})
    for raylet in raylets:
        for info in raylet.all_processes.get(ray_constants.PROCESS_TYPE_RAYLET, ()):
            info.process.terminate()  # it ends its workers and tells the others that it leaves
    psutil.wait_procs(below, timeout=END_GRACE_S)
    for raylet in reversed(raylets):  # the head, which has the GCS, last
        raylet.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
    _, alive = psutil.wait_procs(below, timeout=END_GRACE_S)
    end_processes(alive)


def end_processes(processes: list[psutil.Process]) -> None:
    """SIGKILL, and a wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=END_DEADLINE_S)


def processes_below(raylets: list[Raylet]) -> list[psutil.Process]:
    """The raylets' workers and agents, and what those started."""
    found: dict[int, psutil.Process] = {}
    for raylet in raylets:
        for infos in list(raylet.all_processes.values()):
            for info in infos:
                with contextlib.suppress(psutil.NoSuchProcess):
                    children = psutil.Process(info.process.pid).children(recursive=True)
                    found |= {child.pid: child for child in children}
    return list(found.values())


@contextlib.contextmanager
def _quiet_logger() -> Iterator[None]:
    """Ray says on standard error that a node is not up yet, which it is about to be."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
