"""The seam between the search and what runs its configurations, one or several at once.

Contract (``tuners.testing.CrewContract`` is the same in code):

* ``has_room`` says whether one more may begin; with nothing under way it does.
* ``begin`` starts a job and returns; its ticket is never used again.
* ``wait`` returns when at least one job has ended, each ended one once, whatever became of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tuners.errors import StudyError
from tuners.outcome import Transient
from tuners.space import Config
from tuners.trial import Evaluate, Evaluated, Phase, Spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One configuration to run. ``repeat``: see ``Evaluate``."""

    ticket: int
    config: Config
    phase: Phase
    repeat: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    job: Job
    evaluated: Evaluated


class Crew(Protocol):
    @property
    def size(self) -> int:
        """How many it runs at once at most."""
        ...

    def has_room(self) -> bool: ...

    def begin(self, job: Job) -> None: ...

    def wait(self) -> Sequence[Done]: ...


class InTurn:
    """A crew of one: ``evaluate`` runs while it is waited for."""

    size = 1

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._job: Job | None = None

    def has_room(self) -> bool:
        return self._job is None

    def begin(self, job: Job) -> None:
        if self._job is not None:
            raise StudyError("one configuration is run at a time, and one is under way")
        self._job = job

    def wait(self) -> Sequence[Done]:
        job, self._job = self._job, None
        if job is None:
            raise StudyError("nothing is under way that could be waited for")
        return [Done(job=job, evaluated=self._evaluate(job.config, job.phase, job.repeat))]


class Attempts:
    """A crew whose transient failures are tried again, ``max_attempts`` times in all; what is told
    of a job has the cost of all its attempts. Hands out the tickets."""

    def __init__(self, crew: Crew, max_attempts: int) -> None:
        self._crew, self._max_attempts = crew, max_attempts
        self._next = 0
        self._tried: dict[int, tuple[int, Spent]] = {}  # ticket → attempts begun, spent on ended

    @property
    def size(self) -> int:
        return self._crew.size

    @property
    def is_busy(self) -> bool:
        return bool(self._tried)

    def has_room(self) -> bool:
        return self._crew.has_room()

    def begin(self, config: Config, phase: Phase, repeat: int = 0) -> int:
        """The job's ticket."""
        self._next += 1
        self._tried[self._next] = (1, Spent())
        self._crew.begin(Job(ticket=self._next, config=config, phase=phase, repeat=repeat))
        return self._next

    def wait(self) -> list[Done]:
        """Those that ended, and will not be tried again; at least one."""
        ended: list[Done] = []
        while not ended:
            for done in self._crew.wait():
                attempts, before = self._tried[done.job.ticket]
                spent = before.plus(done.evaluated.spent)
                transient = isinstance(done.evaluated.outcome, Transient)
                if transient and attempts < self._max_attempts:
                    self._tried[done.job.ticket] = (attempts + 1, spent)
                    self._crew.begin(done.job)
                    continue
                del self._tried[done.job.ticket]
                ended.append(replace(done, evaluated=replace(done.evaluated, spent=spent)))
        return ended

    def run(
        self,
        asked: Sequence[tuple[Config, Phase, int]],
        on_done: Callable[[Done], None] = lambda _: None,
    ) -> list[Done]:
        """All of them, as many at once as there is room for, in the order asked; ``on_done`` is
        told of each as it ends. Nothing else may be under way."""
        left, ended = list(asked), dict[int, Done]()
        tickets: list[int] = []
        while left or self.is_busy:
            while left and self.has_room():
                tickets.append(self.begin(*left.pop(0)))
            for done in self.wait():
                ended[done.job.ticket] = done
                on_done(done)
        return [ended[ticket] for ticket in tickets]
