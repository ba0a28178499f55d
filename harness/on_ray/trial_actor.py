"""A trial's driver: a coarse actor that deploys, drives and seals one trial at a time.

It stands on the node of the process that asked for it, so that both see the same store, models and
folders, and takes no CPU: it waits, as the process would that runs one trial itself. What it
deploys is its own. If it dies, Ray takes its actors away, and whoever waits for it its placement
groups.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from harness.deployment import Deployer
from harness.on_ray.orphans import end_with_raylet
from harness.ray_deployer import RayDeployer
from harness.runner import RunContext
from harness.trial import TrialAsk, run_trial
from harness.turns import LoadedInTurn, Turn
from results.clock import Clock, SystemClock
from results.lost import ProcessIdentity, this_process
from results.prices import PriceTable
from results.store_files import FileStore


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSetup:
    """What every driver of a study stands on. ``cwd``: paths of specs are read from there."""

    store_url: str
    models_dir: str
    cwd: str
    image_digest: str = ""
    prices: PriceTable | None = None
    telemetry_interval_s: float = 1.0
    caches: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    in_turns: bool = False  # they are loaded when they are given their turn


class StoppableClock:
    """The machine's clock until ``stop``; the thread that works is then interrupted at its next
    reading, once, as Ctrl-C would. Everything that waits here reads the clock while it does."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._worker: int | None = None
        self._stopped = threading.Event()

    def work_here(self) -> None:
        """From now on the calling thread is the one that a stop interrupts."""
        self._worker = threading.get_ident()

    def stop(self) -> None:
        self._stopped.set()

    def monotonic_s(self) -> float:
        self._look()
        return self._clock.monotonic_s()

    def now_utc(self) -> datetime:
        return self._clock.now_utc()

    def sleep(self, duration_s: float) -> None:
        self._look()
        self._clock.sleep(duration_s)

    def _look(self) -> None:
        if self._stopped.is_set() and threading.get_ident() == self._worker:
            self._worker = None  # once: the teardown that follows reads the clock, too
            raise KeyboardInterrupt


class _Said:
    """A Progress that keeps its last sentence for whoever asks."""

    def __init__(self) -> None:
        self.sentence = "starting"

    def phase(self, name: str, sentence: str) -> None:
        self.sentence = sentence

    def advance(self, num_done: int, num_total: int, elapsed_s: float) -> None:
        """What is asked for is what it does, not how far it is."""


class TrialActor:
    """``run`` one trial at a time; the others may be called meanwhile."""

    def __init__(self, setup: DriverSetup) -> None:
        end_with_raylet()
        os.chdir(setup.cwd)
        self._setup = setup
        self._said = _Said()
        self._clock: StoppableClock | None = None
        self._is_stopped = False
        self._turns: dict[int, Turn] = {}
        self._lock = threading.Lock()

    def identity(self) -> ProcessIdentity:
        return this_process()

    def said(self) -> str:
        return self._said.sentence

    def wants_turn(self, number: int) -> bool:
        """Returns when trial ``number`` wants to load: True; or ends without: False."""
        return self._turn(number).wanted()

    def has_turn(self, number: int) -> None:
        """Trial ``number`` may load; returns when it has."""
        self._turn(number).given()

    def run(self, ask: TrialAsk, number: int) -> tuple[str, ...]:
        """Ids of the trial's records; () where it was stopped. ``number``: the trial's own."""
        try:
            return self._run(ask, self._turn(number))
        finally:
            self._turn(number).end()

    def _turn(self, number: int) -> Turn:
        """Kept when it is over: who asks for it afterwards is told so."""
        with self._lock:
            return self._turns.setdefault(number, Turn())

    def _run(self, ask: TrialAsk, turn: Turn) -> tuple[str, ...]:
        clock = self._clock = StoppableClock(SystemClock())
        clock.work_here()
        if self._is_stopped:
            return ()
        try:
            return tuple(record.run_id for record in run_trial(ask, self._context(clock, turn)))
        except KeyboardInterrupt:
            return ()

    def stop(self) -> None:
        """Ends the trial under way: sealed as interrupted, its deployment taken down."""
        self._is_stopped = True
        if self._clock is not None:
            self._clock.stop()

    def _context(self, clock: Clock, turn: Turn) -> RunContext:
        setup = self._setup
        deployer: Deployer = RayDeployer(clock=clock)
        if setup.in_turns:
            deployer = LoadedInTurn(deployer=deployer, turn=turn, clock=clock)
        return RunContext(
            deployer=deployer,
            store=FileStore(setup.store_url),
            clock=clock,
            progress=self._said,
            models_dir=setup.models_dir,
            image_digest=setup.image_digest,
            prices=setup.prices,
            telemetry_interval_s=setup.telemetry_interval_s,
            caches=setup.caches,
            doubts=setup.doubts,
        )
