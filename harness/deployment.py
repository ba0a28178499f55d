"""The seam between a plan and running processes.

Contract of ``Deployer`` (``harness.testing.DeployerContract`` is the same in code):

* ``inventory`` lists the pools as they are now.
* ``deploy`` is a context manager. Inside it the workload answers (first token or first training
  step has been seen). On leaving it — by success, error or interrupt — no process, port or
  placement group of the deployment is left; if the driver itself is killed, they still go.
* What goes wrong before the body is a ``DeploymentError`` with stage ``placement`` or ``startup``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.plan import RunPlan
from harness.pools import Inventory
from harness.telemetry.beside import Watch
from results.environment import Hardware
from results.goodput import Goodput
from results.record import Placement
from results.startup import StartupTimeline
from results.telemetry import Telemetry
from workloads.base import Launch, Running


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A running workload. ``startup`` is None where nothing was started by us (an endpoint).

    ``check`` raises EngineDied or NodeLost, with the last log lines, when it no longer runs.
    ``answers`` raises DeadlineExceeded or another DeploymentError, stage ``load``, when it gives no
    token within so many seconds. ``log_tail`` returns the engine's last lines so far. ``watch``
    makes the sampler of one load.
    """

    running: Running
    placement: Placement
    hardware: tuple[Hardware, ...]
    startup: StartupTimeline | None
    packages: Mapping[str, str] = field(default_factory=dict)  # of the engine's own environment
    resolved: Mapping[str, Any] = field(default_factory=dict)
    # What it found out while it ran, asked when the load is over: kept, and in no hash.
    observed: Callable[[], Mapping[str, Any]] = dict
    simulated: bool = False  # what answers says that it is a simulation
    check: Callable[[], None]
    log_tail: Callable[[], tuple[str, ...]]
    answers: Callable[[float], None] = lambda _: None
    # Seconds between readings → what reads beside a load; None: there is no server to look at.
    watch: Callable[[float], Watch] | None = None
    # Of a training: where its time went, and its attempts, once it has ended; None: not known.
    goodput: Callable[[], Goodput | None] = lambda: None
    attempts: Callable[[], list[dict[str, Any]]] = list
    # Of a training: what its ranks read of their devices, on the axis of its steps.
    telemetry: Callable[[], Telemetry | None] = lambda: None


# Called with a phase's name and a sentence for the person who waits, as things happen.
Announce = Callable[[str, str], None]


class Deployer(Protocol):
    def inventory(self) -> Inventory: ...

    def deploy(
        self, plan: RunPlan, launch_for: Callable[[Any], Launch], announce: Announce
    ) -> AbstractContextManager[Deployment]:
        """``launch_for(device)`` is called once, with the device of the rung that was taken."""
        ...
