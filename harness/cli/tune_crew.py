"""A study's trials, several at once: each with a driver of its own on Ray, as many at a time as the
pools hold. Asking and telling stays in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.cli.tune_make import TrialMaker
from harness.errors import DeploymentError, PlanRefused, SpecError
from harness.on_ray.trial_actor import DriverSetup
from harness.on_ray.trial_drivers import Ended, TrialDrivers
from harness.on_ray.turn_keeper import TurnKeeper
from harness.plan import Rung, RunPlan
from harness.plan_view import describe_plan
from harness.runner import RunContext, bind
from harness.side_by_side import fit_together
from harness.trial import TrialAsk
from results.store_files import FileStore
from tuners.crew import Done, Job
from tuners.outcome import SEVERITY, Crashed, FailureKind, Transient
from tuners.trial import Evaluated, Spent

# Beyond the deadlines of the run itself: planning, sealing, a driver's own start.
MARGIN_S = 120.0


class RayCrew:
    """A ``Crew``. A job for which there is no room waits here, and while one waits there is room
    for no other. Alone it is begun whatever the room: the run's own ladder then waits, or says why
    not."""

    def __init__(
        self, size: int, maker: TrialMaker, drivers: TrialDrivers, context: RunContext
    ) -> None:
        self.size = size
        self._maker, self._drivers, self._context = maker, drivers, context
        self._asks: dict[int, tuple[Job, TrialAsk, Rung | None]] = {}  # by ticket, running
        self._waiting: tuple[Job, TrialAsk, RunPlan | None] | None = None
        self._done: list[Done] = []

    def has_room(self) -> bool:
        under_way = len(self._asks) + len(self._done)
        return under_way < self.size and self._waiting is None

    def begin(self, job: Job) -> None:
        ask = self._maker.ask(job.config, job.phase, job.repeat)
        if isinstance(ask, Evaluated):
            self._done.append(Done(job=job, evaluated=ask))
            return
        self._waiting = (job, ask, self._plan(ask))
        self._begin_waiting()

    def wait(self) -> Sequence[Done]:
        done, self._done = self._done, []
        if done:
            return done
        for ended in self._drivers.wait():
            job, ask, _ = self._asks.pop(ended.ticket)
            done.append(Done(job=job, evaluated=self._meaning(ask, ended)))
        self._begin_waiting()
        return done

    def _begin_waiting(self) -> None:
        if self._waiting is None:
            return
        job, ask, plan = self._waiting
        rung = plan.rungs[0] if plan and plan.rungs else None
        running = [r for _, _, r in self._asks.values() if r is not None]
        if rung is not None and running and not fit_together([*running, rung]):
            return
        self._waiting = None
        try:
            self._drivers.begin(job.ticket, ask, self._deadline_s(ask, plan))
        except DeploymentError as error:
            lost = Evaluated(outcome=Transient(message=error.message))
            self._done.append(Done(job=job, evaluated=lost))
            return
        self._asks[job.ticket] = (job, ask, rung)

    def _plan(self, ask: TrialAsk) -> RunPlan | None:
        """None for what no pool can hold: the trial's own record says why."""
        try:
            return bind(ask.spec, self._context.deployer.inventory(), self._context.prices)
        except (PlanRefused, SpecError):
            return None

    def _deadline_s(self, ask: TrialAsk, plan: RunPlan | None) -> float:
        """By then every deadline of every window is used up, and every wait for a place. A wait for
        its turn comes on top, when it is known."""
        if plan is None:
            return MARGIN_S
        wait_s = sum(rung.max_wait_s for rung in plan.rungs)
        num_loads = 2 * len(ask.ascent.loads) if ask.ascent is not None else 1
        more_s = (num_loads - 1) * ask.spec.deadlines.load_s
        return describe_plan(plan).at_most_s + wait_s + more_s + MARGIN_S

    def _meaning(self, ask: TrialAsk, ended: Ended) -> Evaluated:
        if not ended.why and ended.run_ids:
            return self._maker.told(ask, [self._context.store.get(i) for i in ended.run_ids])
        run_ids = tuple(record.run_id for record in ended.sealed)
        spent = Spent(wall_s=sum(record.duration_s for record in ended.sealed))
        if ended.hung:
            kind = FailureKind.HANG
            crash = Crashed(kind=kind, message=ended.why, severity=SEVERITY[kind])
            return Evaluated(outcome=crash, run_ids=run_ids, spent=spent)
        # What it had sealed before it died is in the store, and is taken from there when asked.
        why = ended.why or "the trial was stopped"
        return Evaluated(outcome=Transient(message=why), run_ids=run_ids, spent=spent)


@contextmanager
def ray_crew(
    size: int, num_loads: int, maker: TrialMaker, context: RunContext, store: FileStore
) -> Iterator[RayCrew]:
    """Its drivers live until the context is left; what they have under way then is sealed as
    interrupted and taken down. ``num_loads``: how many are loaded at once; 0: all of them."""
    setup = DriverSetup(
        store_url=store.url,
        models_dir=context.models_dir,
        cwd=str(Path.cwd()),
        image_digest=context.image_digest,
        prices=context.prices,
        telemetry_interval_s=context.telemetry_interval_s,
        caches=context.caches,
        doubts=context.doubts,
        in_turns=num_loads > 0,
    )
    turns = TurnKeeper(num_loads, context.clock) if num_loads else None
    drivers = TrialDrivers(
        setup=setup,
        store=store,
        clock=context.clock,
        say=lambda number, sentence: context.progress.phase(
            "trial", f"driver {number}: {sentence}"
        ),
        turns=turns,
    )
    try:
        yield RayCrew(size, maker, drivers, context)
    finally:
        drivers.close()
        if turns is not None:
            turns.close()
