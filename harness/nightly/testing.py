"""Nights without waiting: the runner and the night are the real ones, the engine is its model in
virtual time, and the machine's mood is what the test says. Every record is ``simulated``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.deployment import Announce, Deployment
from harness.plan import RunPlan
from harness.pools import Inventory, NodePool
from results.environment import Hardware
from results.record import Placement
from results.samples import Samples
from results.startup import StartupTimeline
from results.testing import FakeClock
from workloads.base import Device, Launch, RemoteServer, Running
from workloads.params import SimulatedWorkload
from workloads.simulated.engine_request import EngineConfig
from workloads.simulated.roofline import Roofline
from workloads.simulated.serving import deployed_on
from workloads.simulated.simulate import SimulatedLoad, simulate
from workloads.simulated.sizing import engine_config
from workloads.traffic.arrivals import poisson_times
from workloads.traffic.spec import Traffic

STARTUP_S = 20.0


@dataclass
class Mood:
    """How fast the machine is: every step of a run takes ``factor`` times ``noise`` (a draw of its
    own for each run, log-normal of this spread) times what the model says."""

    factor: float = 1.0
    spread: float = 0.01
    seed: int = 0
    driver: str = "570"
    _rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def draw(self) -> float:
        return self.factor * float(np.exp(self._rng.normal(0.0, self.spread)))


@dataclass
class VirtualDeployer:
    """``pools``: their names; each has eight H100s, or the topology that ``tpus`` gives it of
    TPU-V6E. ``fails``: called with each plan, may raise."""

    clock: FakeClock
    mood: Mood
    pools: tuple[str, ...] = ("h100",)
    tpus: Mapping[str, str] = field(default_factory=dict)
    fails: Callable[[RunPlan], None] | None = None

    def inventory(self) -> Inventory:
        return Inventory(
            pools=tuple(
                NodePool(
                    name=name,
                    accelerator="TPU-V6E" if name in self.tpus else "H100",
                    topology=self.tpus.get(name, ""),
                    num_nodes=1,
                    chips_per_node=8,
                    cpus_per_node=64.0,
                    memory_bytes_per_node=1 << 40,
                )
                for name in self.pools
            )
        )

    @contextmanager
    def deploy(
        self, plan: RunPlan, launch_for: Callable[[Any], Launch], announce: Announce
    ) -> Iterator[Deployment]:
        if self.fails is not None:
            self.fails(plan)
        rung, workload = plan.rungs[0], plan.spec.workload
        assert isinstance(workload, SimulatedWorkload), "only the engine's model is virtual"
        self.clock.advance(STARTUP_S * self.mood.draw())
        yield Deployment(
            running=Running(),
            placement=Placement(
                pool=rung.pool.name,
                accelerator=rung.pool.accelerator,
                num_chips=rung.device.num_chips,
                capacity="on-demand",
                topology=rung.pool.topology,
                nodes=("n",),
            ),
            hardware=(
                Hardware(
                    node="n",
                    cpu_model="c",
                    num_cpus=64,
                    memory_bytes=1 << 40,
                    kernel="k",
                    driver=self.mood.driver,
                ),
            ),
            startup=StartupTimeline(phases=(), ready_s=STARTUP_S),
            resolved=dict(workload.engine_args),
            simulated=True,
            check=lambda: None,
            log_tail=tuple,
        )


@dataclass
class VirtualServing:
    """A ``Workload`` that answers from the engine's model at once and moves the clock by as much
    as the load would have taken."""

    params: SimulatedWorkload
    clock: FakeClock
    mood: Mood
    device: Device | None = None  # once it is launched

    def launch(self, device: Device, models_dir: str) -> Launch:
        self.device = device
        return RemoteServer(url="http://127.0.0.1:1", model=self.params.model)

    def drive(
        self, running: Running, traffic: Traffic | None, on_progress: Callable[..., None]
    ) -> Samples:
        assert traffic is not None and traffic.num_requests is not None
        arrivals: Any = traffic.arrivals
        prompt: Any = traffic.prompt_tokens
        output: Any = traffic.output_tokens
        count = traffic.num_requests
        load = SimulatedLoad(
            arrived_s=poisson_times(arrivals.rate_rps, count, traffic.seed),
            prompt_tokens=np.full(count, prompt.tokens, dtype=np.int64),
            output_tokens=np.full(count, output.tokens, dtype=np.int64),
        )
        assert self.device is not None
        config = _slowed(engine_config(deployed_on(self.params, self.device)), self.mood.draw())
        samples = simulate(load, config, keeps_tokens=True).to_samples()
        self.clock.advance(float(samples.done_s.max()))
        return samples


def virtual_workloads(clock: FakeClock, mood: Mood) -> Callable[[Any], VirtualServing]:
    """In the place of ``workloads.registry.workload_for``."""
    return lambda params: VirtualServing(params=params, clock=clock, mood=mood)


def _slowed(config: EngineConfig, factor: float) -> EngineConfig:
    times: Mapping[str, float] = dataclasses.asdict(config.roofline)
    slowed = Roofline(**{name: value * factor for name, value in times.items()})
    return dataclasses.replace(config, roofline=slowed)
