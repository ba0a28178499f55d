"""A ``Searcher`` on an Optuna study: with ``study_storage`` and ``optuna_importance``
all that imports optuna.

What Optuna cannot do by itself, and is done here:

- A failed trial is invisible to its samplers. A permanent failure is therefore a completed trial
  whose constraint ``works`` is violated by its severity, with the worst value of each goal seen so
  far, and with the typical slack of every other bound, about which a crash says nothing.
- A trial that its probe stopped has no value but a bound. It is told at that bound, the best that
  it can be, and what its probe did not tell at the typical value, as of a crash.
- A sampler that models constraints needs each of them on every trial, in one order.
- Its heartbeats run under ``optimize`` only; who asked and died is found out by ``tuners.lease``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from results.clock import SystemClock
from tuners.dashboard import Attribute, shown_config, shown_outcome
from tuners.errors import NoSampler, StudyError
from tuners.goals import Wish
from tuners.guide import is_guided
from tuners.lease import Leases
from tuners.outcome import Crashed, Measured, Stopped, Told
from tuners.search import SAMPLERS, Asked
from tuners.space import Branch, Categorical, Config, Domain, Integers, Ordinal, Value

WORKS = "works"  # the constraint that a crash violates
_OWNER, _BEAT = "owner", "beat:"  # who asked for a trial; the study's attributes of heartbeats
_WORKS_WELL = -1.0  # its value for a trial that ran
_CONFIG, _WHY = "config", "why"
optuna.logging.set_verbosity(optuna.logging.WARNING)


class OptunaSearcher:
    """One branch of a space, one Optuna study. See ``tuners.search`` for the contract."""

    def __init__(
        self,
        branch: Branch,
        wish: Wish,
        *,
        name: str,
        sampler: optuna.samplers.BaseSampler,
        storage: BaseStorage | None = None,
        leases: Leases | None = None,
    ) -> None:
        self._branch, self._wish = branch, wish
        self._leases = leases or Leases(SystemClock())
        self._beats = 0
        self._asked: set[int] = set()  # by this searcher, and not answered
        self._distributions = {knob.path: distribution(knob.domain) for knob in branch.knobs}
        self._study = optuna.create_study(
            study_name=name,
            storage=storage or InMemoryStorage(),
            sampler=sampler,
            directions=["maximize" if g.maximize else "minimize" for g in wish.goals],
            load_if_exists=True,
        )
        with _experimental():
            self._study.set_metric_names([goal.name for goal in wish.goals])
        self._refuse_another_question()

    def ask(self) -> Asked:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the sampler's optimiser, about its own steps
            trial = self._study.ask(self._distributions)
        trial.set_user_attr(_OWNER, self._leases.me.dumps())
        config = self._config_of(trial.params)
        trial.set_user_attr(_CONFIG, dict(config))
        self._asked.add(trial.number)
        _show(trial, shown_config(config))
        return Asked(number=trial.number, config=config)

    def tell(self, number: int, outcome: Told) -> None:
        """A crash or a stop before the first measurement waits for one: until then nothing is
        worse, nor typical."""
        trial = self._open(number)
        if trial is None:
            return
        _show(trial, shown_outcome(outcome, self._wish))
        if isinstance(outcome, Measured):
            slacks = outcome.reading.slacks(self._wish)
            values = [outcome.reading.goals[goal.name] for goal in self._wish.goals]
            self._complete(trial, values, {**slacks, WORKS: _WORKS_WELL})
            self._tell_waiting()
            return
        why = _why(outcome)
        trial.set_user_attr(_WHY, why)
        if self._measured():
            self._tell_bounds(trial, why)

    def forget(self, number: int, why: str) -> None:
        trial = self._open(number)
        if trial is not None:
            trial.set_user_attr(_WHY, {"message": why[:2000]})
            self._study.tell(trial, state=TrialState.FAIL)

    def want(self, configs: Sequence[Config]) -> None:
        for config in configs:
            if not self._branch.holds(config):
                raise StudyError(f"{dict(config)} is not a configuration of {self._branch.name!r}")
            self._study.enqueue_trial(self._params_of(config), skip_if_exists=True)

    def open_trials(self) -> Mapping[int, Config]:
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return {
            trial.number: self._config_of(trial.params)
            for trial in running
            if _WHY not in trial.user_attrs
        }

    def reclaim(self) -> int:
        running = [
            trial
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if _WHY not in trial.user_attrs
        ]
        if not running:
            return 0
        beats = {
            name.removeprefix(_BEAT): int(value)
            for name, value in self._study.user_attrs.items()
            if name.startswith(_BEAT)
        }
        gone = [t for t in running if self._is_gone(t, beats)]
        return sum(self._close_gone(trial) for trial in gone)

    def beat(self) -> None:
        self._beats += 1
        self._study.set_user_attr(_BEAT + self._leases.me.name, self._beats)

    def _is_gone(self, trial: FrozenTrial, beats: Mapping[str, int]) -> bool:
        name = f"{self._study.study_name} {trial.number}"
        return self._leases.is_gone(name, trial.user_attrs.get(_OWNER, ""), beats)

    def _close_gone(self, trial: FrozenTrial) -> bool:
        """The storage lets one of several close it: that one has the configuration asked again."""
        held = optuna.Trial(self._study, trial._trial_id)
        try:
            held.set_user_attr(_WHY, {"message": "the process that asked for it is gone"})
            self._study.tell(held, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return False  # another process was quicker
        if set(trial.params) == set(self._distributions):
            self._study.enqueue_trial(trial.params)
        return True

    # ---- telling ----

    def _open(self, number: int) -> optuna.Trial | None:
        """None where another process took this one for dead, and has closed its trial."""
        trials = self._study.get_trials(deepcopy=False)
        is_open = number < len(trials) and number in self.open_trials()
        if not is_open and number not in self._asked:
            raise StudyError(f"trial {number} of {self._study.study_name} is not open")
        self._asked.discard(number)
        return optuna.Trial(self._study, trials[number]._trial_id) if is_open else None

    def _complete(
        self, trial: optuna.Trial, values: Sequence[float], constraints: Mapping[str, float]
    ) -> None:
        for name in (*(bound.name for bound in self._wish.bounds), WORKS):
            trial.set_constraint(name, constraints[name])
        self._study.tell(trial, list(values))

    def _tell_bounds(self, trial: optuna.Trial, why: Mapping[str, Any]) -> None:
        """Of a trial without a measurement of its own."""
        ran = self._measured()
        seen = np.array([t.values for t in ran])
        slacks = {
            bound.name: float(np.median([t.constraints[bound.name] for t in ran]))
            for bound in self._wish.bounds
        }
        if "severity" in why:
            worst = [
                float(column.min() if goal.maximize else column.max())
                for goal, column in zip(self._wish.goals, seen.T, strict=True)
            ]
            self._complete(trial, worst, {**slacks, WORKS: float(why["severity"])})
            return
        at_best, goals = why["bounds"], why["goals"]
        slacks |= {b.name: b.slack(at_best[b.name]) for b in self._wish.bounds if b.name in at_best}
        values = [
            float(goals.get(goal.name, middle))
            for goal, middle in zip(self._wish.goals, np.median(seen, axis=0), strict=True)
        ]
        self._complete(trial, values, {**slacks, WORKS: _WORKS_WELL})

    def _tell_waiting(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            why = trial.user_attrs.get(_WHY)
            if why is not None and ("severity" in why or "bounds" in why):
                held = optuna.Trial(self._study, trial._trial_id)
                with suppress(UpdateFinishedTrialError, ValueError):  # another process did it
                    self._tell_bounds(held, why)

    def _measured(self) -> list[FrozenTrial]:
        done = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [
            trial
            for trial in done
            if trial.constraints.get(WORKS, 0.0) < 0 and _WHY not in trial.user_attrs
        ]

    # ---- configurations and Optuna's parameters ----

    def _config_of(self, params: Mapping[str, Any]) -> dict[str, Value]:
        free = {
            knob.path: knob.domain.values[params[knob.path]]
            if isinstance(knob.domain, Ordinal)
            else params[knob.path]
            for knob in self._branch.knobs
            if knob.path in params
        }
        return {**self._branch.fixed, **free}

    def _params_of(self, config: Config) -> dict[str, Any]:
        return {
            knob.path: knob.domain.values.index(config[knob.path])
            if isinstance(knob.domain, Ordinal)
            else config[knob.path]
            for knob in self._branch.knobs
        }

    def _refuse_another_question(self) -> None:
        """A study kept in a storage answers one question; another under its name is refused."""
        asked = json.dumps(
            {
                "knobs": {path: repr(d) for path, d in sorted(self._distributions.items())},
                "ordinals": {
                    k.path: list(k.domain.values)
                    for k in self._branch.knobs
                    if isinstance(k.domain, Ordinal)
                },
                "bounds": [[b.name, b.of_baseline or b.limit, b.margin] for b in self._wish.bounds],
                "goals": [goal.name for goal in self._wish.goals],
            },
            sort_keys=True,
        )
        kept = self._study.user_attrs.get("question")
        if kept is not None and kept != asked:
            raise StudyError(
                f"a study {self._study.study_name} is kept already, with other knobs, goals or "
                "bounds; give this one another name, or the old question"
            )
        self._study.set_user_attr("question", asked)


def _why(outcome: Crashed | Stopped) -> dict[str, Any]:
    if isinstance(outcome, Crashed):
        crash = {"kind": str(outcome.kind), "severity": outcome.severity}
        return {**crash, "message": outcome.message[:2000]}
    at_best = {"goals": dict(outcome.goals), "bounds": dict(outcome.bounds)}
    return {"stopped": outcome.rule, **at_best, "message": outcome.why[:2000]}


def _show(trial: optuna.Trial, attributes: Mapping[str, Attribute]) -> None:
    for name, value in attributes.items():
        trial.set_user_attr(name, value)


@contextmanager
def _experimental() -> Iterator[None]:
    """Optuna warns that these may change; its version is pinned, and its contract tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def distribution(domain: Domain) -> BaseDistribution:
    """An ordinal becomes the places of its values: 0 … n − 1."""
    if isinstance(domain, Ordinal):
        return IntDistribution(0, len(domain.values) - 1)
    if isinstance(domain, Categorical):
        return CategoricalDistribution(domain.values)
    if isinstance(domain, Integers):
        return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def sampler_named(
    name: str, *, seed: int, num_trials: int, num_startup: int = 10
) -> optuna.samplers.BaseSampler:
    """``auto``: TPE, or what is asked only where a guide (``tuners.guide``) has nothing left to
    propose. Raises NoSampler."""
    if name == "auto":
        name = "random" if is_guided(name, num_trials) else "tpe"
    samplers = optuna.samplers
    match name:
        case "gp":
            if find_spec("torch") is None:
                raise NoSampler("the sampler gp needs torch, which is not installed; or take tpe")
            return samplers.GPSampler(
                seed=seed, n_startup_trials=num_startup, warn_independent_sampling=False
            )
        case "tpe":
            return samplers.TPESampler(seed=seed, n_startup_trials=num_startup)
        case "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=20)
        case "random":
            return samplers.RandomSampler(seed=seed)
        case "sobol":
            with _experimental():
                return samplers.QMCSampler(
                    seed=seed, scramble=True, warn_independent_sampling=False
                )
    raise NoSampler(f"no sampler is called {name!r}; there are: {', '.join(SAMPLERS)}")
