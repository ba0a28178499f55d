"""The deployer that stands on Ray: from a plan to something that answers, and back to nothing.

Everything that is taken is put on one ExitStack in the order it is taken, so an error, a Ctrl-C or
a SIGTERM at any point gives back exactly what was taken until then. What a killed driver cannot
give back is taken away by Ray (the actors of a dead driver die) and by the wardens (a server dies
with its actor).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from harness.deployment import Announce, Deployment
from harness.errors import DeadlineExceeded, DeploymentError
from harness.on_ray.ask import Ask, api_of, ask_nodes, describe
from harness.on_ray.inventory import read_inventory
from harness.on_ray.load_actor import Secret
from harness.on_ray.placement import Placed, place
from harness.on_ray.serving import load_driver, serve
from harness.on_ray.train_actor import RayTrainingRun, start_training
from harness.on_ray.train_coach import Care
from harness.plan import RunPlan
from harness.pools import Inventory
from harness.settings import secret
from harness.startup import before_the_job
from harness.telemetry.beside import LocalWatch
from harness.telemetry.sampling import DEFAULT_INTERVAL_S
from harness.telemetry.sources import of_endpoint
from results.clock import Clock, SystemClock
from results.record import Placement
from results.startup import StartupTimeline
from workloads.base import (
    Device,
    Launch,
    RemoteServer,
    Running,
    ServerTarget,
    TrainLaunch,
)
from workloads.registry import Role, role_of

ENDPOINT_CANARY_S = 30.0


class RayDeployer:
    """A ``Deployer`` on the Ray cluster that this process is connected to.

    ``read_secret`` gives the value of the environment variable that an endpoint names for its key.
    ``telemetry_interval_s``: between two looks of a training's ranks at their devices; 0: none.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        read_secret: Callable[[str], str | None] = secret,
        telemetry_interval_s: float = DEFAULT_INTERVAL_S,
    ) -> None:
        self._clock = clock or SystemClock()
        self._telemetry_interval_s = telemetry_interval_s
        self._read_secret = read_secret

    def inventory(self) -> Inventory:
        return read_inventory()

    @contextmanager
    def deploy(
        self, plan: RunPlan, launch_for: Callable[[Any], Launch], announce: Announce
    ) -> Iterator[Deployment]:
        ask = Ask(
            plan=plan,
            launch_for=launch_for,
            announce=announce,
            asked_s=self._clock.monotonic_s(),
            clock=self._clock,
            telemetry_interval_s=self._telemetry_interval_s,
        )
        role = role_of(plan.spec.workload)
        with ExitStack() as stack:
            if role is Role.REMOTE:
                yield self._endpoint(stack, ask)
                return
            placed = stack.enter_context(place(plan, clock=self._clock, announce=announce))
            start = train if role is Role.TRAINING else serve
            yield start(stack, ask, placed)

    def _endpoint(self, stack: ExitStack, ask: Ask) -> Deployment:
        """Nothing is started but the load client; one canary request shows that it answers."""
        launch = ask.launch_for(Device(kind="cpu", accelerator="cpu", num_chips=0))
        if not isinstance(launch, RemoteServer):
            raise TypeError(f"a workload of the role remote launched a {type(launch).__name__}")
        load = load_driver(stack, ask, "", self._key(launch))
        target = ServerTarget(
            base_url=launch.url, model=launch.model, api_key_env=launch.api_key_env
        )
        ask.announce("first token", f"asking {launch.url} for a first token")
        longest_s = min(ask.plan.spec.deadlines.startup_s, ENDPOINT_CANARY_S)
        token = load.first_token(target, longest_s, api_of(ask.plan))
        return Deployment(
            running=Running(target=target, load=load),
            placement=Placement(
                pool="endpoint", accelerator="unknown", num_chips=0, capacity="", nodes=()
            ),
            hardware=(),
            startup=None,
            simulated=token.simulated,
            check=lambda: None,
            log_tail=lambda: (),
            # The load is sent by another process: reading here holds up no event loop.
            watch=lambda interval_s: LocalWatch(
                of_endpoint(launch.url, launch.metrics_url), ask.clock.monotonic_s, interval_s
            ),
        )

    def _key(self, launch: RemoteServer) -> Secret | None:
        if not launch.api_key_env:
            return None
        value = self._read_secret(launch.api_key_env)
        if value is None:
            raise DeploymentError(
                "startup",
                "the endpoint's key is read from the environment variable "
                f"{launch.api_key_env}, which is not set: export it, or leave api_key_env out",
            )
        return Secret(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedTraining:
    """A ``TrainingRun`` with a deadline on the wait. Raises DeadlineExceeded, stage ``load``."""

    run: RayTrainingRun
    deadline_s: float

    def wait(self, on_progress: Callable[[int, int, float], None]) -> Any:
        def tell(num_done: int, num_total: int, elapsed_s: float) -> None:
            on_progress(num_done, num_total, elapsed_s)
            is_over = num_done >= num_total > 0  # 0: a script that does not say how many it makes
            if elapsed_s > self.deadline_s and not is_over:
                raise DeadlineExceeded(
                    "load",
                    f"{num_done} of {num_total or 'all'} steps were made within deadlines.load_s = "
                    f"{self.deadline_s:g} s; raise it, or ask for fewer steps",
                    self.run.log_tail(),
                )

        return self.run.wait(tell)


def train(stack: ExitStack, ask: Ask, placed: Placed) -> Deployment:
    """A training job that has made its first step. The facts of its nodes are gathered while it
    starts."""
    placed_s = ask.since_s()
    launch = ask.launch_for(placed.rung.device)
    if not isinstance(launch, TrainLaunch):
        raise TypeError(f"a workload of the role training launched a {type(launch).__name__}")
    prepared_s = ask.since_s()
    facts = ask_nodes(placed.bundle_node_ids)
    run = stack.enter_context(
        start_training(
            launch,
            placed,
            clock=ask.clock,
            deadline_s=ask.plan.spec.deadlines.startup_s,
            announce=ask.announce,
            asked_at_s=ask.asked_s,
            care=Care(
                restarts=ask.plan.spec.restarts,
                faults=ask.plan.spec.faults,
                telemetry_interval_s=ask.telemetry_interval_s,
            ),
        )
    )
    before = before_the_job(placed_s, prepared_s, describe(placed))
    return Deployment(
        running=Running(training=TimedTraining(run=run, deadline_s=ask.plan.spec.deadlines.load_s)),
        placement=placed.placement,
        hardware=tuple(node.hardware for node in facts()),
        startup=StartupTimeline(phases=(*before, *run.phases), ready_s=run.ready_s),
        packages={**run.packages, "ray": ray.__version__},
        resolved=run.resolved,
        observed=lambda: run.observed,
        check=run.check,
        log_tail=run.log_tail,
        goodput=run.goodput,
        attempts=run.attempts,
        telemetry=run.telemetry,
    )
