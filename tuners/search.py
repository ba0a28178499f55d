"""The seam between the study and whatever proposes configurations.

Contract (``tuners.testing.SearcherContract`` is the same in code):

* ``ask`` hands out a configuration of the branch and a number that is never used again.
* Every number is answered once: ``tell`` with a measurement or a permanent failure, or ``forget``
  where nothing was learned. After either the number is closed; a second answer raises StudyError.
* ``want`` makes the next asks hand out these configurations first, in this order; one that was
  wanted or told before is not handed out again.
* ``open_trials`` are those that were asked and not answered, by this process or by a dead one that
  used the same storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tuners.outcome import Crashed, Measured
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

    def tell(self, number: int, outcome: Measured | Crashed) -> None: ...

    def forget(self, number: int, why: str) -> None: ...

    def want(self, configs: Sequence[Config]) -> None: ...

    def open_trials(self) -> Mapping[int, Config]: ...
