"""The seam between the study and whatever proposes configurations.

Contract (``tuners.testing.SearcherContract`` is the same in code):

* ``ask`` hands out a configuration of the branch and a number that is never used again.
* Every number is answered once: ``tell`` with a measurement, a permanent failure or the bounds of a
  trial that was stopped, or ``forget`` where nothing was learned. After either the number is
  closed; a second answer raises StudyError.
* ``want`` makes the next asks hand out these configurations first, in this order; one that was
  wanted or told before is not handed out again.
* ``open_trials`` are those that were asked and not answered, by whomever, dead or alive.
* ``reclaim`` closes the open trials of processes that are gone, and makes the next asks hand their
  configurations out again; of two that reclaim the same trial one does. Trials of a process that
  lives, this one too, stay as they are. It returns how many it has closed.
* ``beat`` says that this process lives, to others that share the storage. To be called from time to
  time, from any thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tuners.outcome import Told
from tuners.space import Config

# The names that a study may ask for; ``tuners.optuna_study`` makes them.
SAMPLERS = ("auto", "gp", "tpe", "nsga2", "random", "sobol")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """``number`` counts within the searcher, from 0."""

    number: int
    config: Config


class Searcher(Protocol):
    def ask(self) -> Asked: ...

    def tell(self, number: int, outcome: Told) -> None: ...

    def forget(self, number: int, why: str) -> None: ...

    def want(self, configs: Sequence[Config]) -> None: ...

    def open_trials(self) -> Mapping[int, Config]: ...

    def reclaim(self) -> int: ...

    def beat(self) -> None: ...
