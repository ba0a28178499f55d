"""The drivers of several trials at once, as the process that asks sees them: begun, waited for,
found dead or hung, ended.

A trial's result is what it left in the store. A driver that dies takes nothing with it but the run
under way, which is sealed here, at once, as lost; one that hangs is killed, and its run sealed as a
hang.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.errors import DeploymentError
from harness.on_ray.gcs import ask_gcs, await_ends
from harness.on_ray.placement import remove_groups_of
from harness.on_ray.trial_actor import DriverSetup, TrialActor
from harness.on_ray.turn_keeper import TurnKeeper
from harness.trial import TrialAsk
from results.clock import Clock
from results.lost import ProcessIdentity, process_alive, seal_as
from results.record import Failed, RunRecord
from results.store import RecordStore

NUM_THREADS = 4  # a trial, its turn, a stop, a question
POLL_S = 0.5
SAID_S = 0.2  # for a driver to say what it does; another time, if it is busy
START_S = 60.0  # for a driver's process to start
DEATH_S = 10.0  # for the kernel to take a killed one away
STOP_S = 90.0  # to seal and to take down what was deployed


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a trial ended. ``why`` is "" where its driver has answered; else its driver is gone, and
    ``hung`` says whether it was killed for its silence. ``sealed``: what it left open."""

    ticket: int
    run_ids: tuple[str, ...] = ()
    why: str = ""
    hung: bool = False
    sealed: tuple[RunRecord, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Driver:
    number: int
    actor: Any  # Ray's own types do not know the methods of an actor made with options
    who: ProcessIdentity
    ticket: int = 0
    trial: int = 0  # its number among all that were begun
    answer: Any = None
    gives_up_s: float = 0.0
    said: str = ""


@dataclass(slots=True, kw_only=True)
class TrialDrivers:
    """Not for several threads. ``say(number, sentence)``: what driver ``number`` does now.
    ``turns`` hands out their turns where ``setup`` says that they are loaded in turns; a wait for
    one moves a trial's deadline. Close it by whatever way it is left."""

    setup: DriverSetup
    store: RecordStore
    clock: Clock
    say: Callable[[int, str], None]
    turns: TurnKeeper | None = None
    _busy: list[_Driver] = field(default_factory=list, init=False)
    _idle: list[_Driver] = field(default_factory=list, init=False)
    _num_started: int = field(default=0, init=False)
    _num_begun: int = field(default=0, init=False)

    def begin(self, ticket: int, ask: TrialAsk, deadline_s: float) -> None:
        """``deadline_s``: after it the trial is taken for hung. Raises DeploymentError, stage
        ``placement``, where no driver can be started."""
        try:
            driver = self._idle.pop() if self._idle else self._started()
        except RayError as error:
            raise DeploymentError(
                "placement", f"no driver could be started for the trial: {error}"
            ) from error
        driver.ticket, driver.gives_up_s = ticket, self.clock.monotonic_s() + deadline_s
        self._num_begun += 1
        driver.trial = self._num_begun
        driver.answer = driver.actor.run.remote(ask, driver.trial)
        if self.turns is not None:
            self.turns.begin(driver.trial, driver.actor)
        self._busy.append(driver)

    def wait(self) -> list[Ended]:
        """At least one that ended. Raises what a trial raised that is no failure of the trial, such
        as StoreUnwritable."""
        while True:
            answers = [driver.answer for driver in self._busy]
            ready, _ = ray.wait(answers, num_returns=1, timeout=POLL_S)
            now_s = self.clock.monotonic_s()
            over = [d for d in self._busy if d.answer in ready or now_s > self._gives_up_s(d)]
            if over:
                return [self._ended(driver, driver.answer in ready) for driver in over]
            self._listen()

    def close(self) -> None:
        """Stops what is under way, waits until it is sealed and taken down, and ends the drivers.
        A second interrupt ends the wait."""
        try:
            for driver in self._busy:
                with suppress(RayError):
                    driver.actor.stop.remote()
            with suppress(RayError):
                await_ends([driver.answer for driver in self._busy], STOP_S, self.clock)
        finally:
            left, busy = [*self._busy, *self._idle], list(self._busy)
            self._busy, self._idle = [], []
            for driver in left:
                self._kill(driver)
            for driver in busy:
                self._seal(driver, _lost("the study was ended while it ran"))

    def _gives_up_s(self, driver: _Driver) -> float:
        waited_s = self.turns.waited_s(driver.trial) if self.turns is not None else 0.0
        return driver.gives_up_s + waited_s

    def _started(self) -> _Driver:
        here = ray.get_runtime_context().get_node_id()
        actor: Any = (
            ray.remote(TrialActor)
            .options(
                num_cpus=0,
                max_restarts=0,
                max_concurrency=NUM_THREADS,
                scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
            )
            .remote(self.setup)
        )
        self._num_started += 1
        who: ProcessIdentity = ray.get(actor.identity.remote(), timeout=START_S)
        return _Driver(number=self._num_started, actor=actor, who=who)

    def _ended(self, driver: _Driver, answered: bool) -> Ended:
        self._busy.remove(driver)
        if not answered:
            self._kill(driver)
            why = "the trial did not end by the deadlines of its run, and its driver was killed"
            hung = Failed(stage="load", error="hang", message=why)
            sealed = self._seal(driver, hung)
            return Ended(ticket=driver.ticket, why=why, hung=True, sealed=sealed)
        try:
            run_ids: tuple[str, ...] = ray.get(driver.answer)
        except RayActorError as error:
            self._kill(driver)
            why = f"the trial's driver (pid {driver.who.pid}) died: {_first_line(error)}"
            return Ended(ticket=driver.ticket, why=why, sealed=self._seal(driver, _lost(why)))
        except RayTaskError as error:
            self._idle.append(driver)
            raise error.cause from error
        self._idle.append(driver)
        return Ended(ticket=driver.ticket, run_ids=run_ids)

    def _kill(self, driver: _Driver) -> None:
        with suppress(RayError):
            ray.kill(driver.actor, no_restart=True)
        until_s = self.clock.monotonic_s() + DEATH_S
        while process_alive(driver.who.pid, driver.who.process_started_s):
            if self.clock.monotonic_s() > until_s:
                break
            self.clock.sleep(0.05)
        with suppress(RayError, ConnectionError):
            ask_gcs(lambda: remove_groups_of(driver.who))

    def _seal(self, driver: _Driver, outcome: Failed) -> tuple[RunRecord, ...]:
        """What the driver began and can seal no more."""
        who = driver.who
        mine = [
            run
            for run in self.store.open_runs()
            if (run.host, run.boot_id, run.pid) == (who.host, who.boot_id, who.pid)
        ]
        now = self.clock.now_utc()
        return tuple(r for r in (seal_as(self.store, run, outcome, now) for run in mine) if r)

    def _listen(self) -> None:
        """Say what each driver does, where it is another thing than before."""
        asked = {driver.number: driver.actor.said.remote() for driver in self._busy}
        for driver in self._busy:
            with suppress(GetTimeoutError, RayError):
                sentence = ray.get(asked[driver.number], timeout=SAID_S)
                if sentence != driver.said:
                    driver.said = sentence
                    self.say(driver.number, sentence)


def _lost(why: str) -> Failed:
    return Failed(stage="lost", error="driver_died", message=why)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
