"""How much each knob mattered: Optuna's PED-ANOVA over the trials that were measured.

PED-ANOVA (Watanabe et al., IJCAI 2023, arXiv 2304.10255) asks by how much a knob's values among the
best trials differ from its values among all. It needs the trials alone: a study of any storage, or
of none, can be asked. With a few dozen trials it is a rough guide; its spread over resampled trials
is given with it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, create_trial

from tuners.goals import Reading, Wish
from tuners.space import Config, Value

MIN_TRIALS = 10
_RESAMPLED = 30
# What counts as the best: a tenth, as is usual, but at least five trials (Optuna's own advice).
_BEST_SHARE, _BEST_TRIALS = 0.1, 5

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """``share`` of all knobs' importance; ``low`` … ``high``: its middle 80 % over resampled
    trials."""

    path: str
    share: float
    low: float
    high: float


def importances(
    measured: Sequence[tuple[Config, Reading]], wish: Wish, *, seed: int = 0
) -> tuple[Importance, ...] | str:
    """The most important first, or why there are none. A trial that breaks a bound counts as worse
    than any that keeps them, the more it breaks the worse. Knobs that a trial does not have (of
    another branch), or that had one value only, are left out."""
    varied = _varied([config for config, _ in measured])
    if not varied:
        return "no knob had two values among the trials measured"
    if len(measured) < MIN_TRIALS:
        return f"{len(measured)} trials were measured; at least {MIN_TRIALS} are needed"
    scores = _scores([reading for _, reading in measured], wish)
    if scores.max() == scores.min():
        return "every trial measured the same"
    trials = [
        create_trial(
            params={path: _place(values, config[path]) for path, values in varied.items()},
            distributions={path: _distribution(values) for path, values in varied.items()},
            value=float(score),
        )
        for (config, _), score in zip(measured, scores, strict=True)
    ]
    shares = _evaluated(trials, list(varied))
    generator = np.random.default_rng([seed, len(trials)])
    again = [
        _evaluated([trials[i] for i in generator.integers(len(trials), size=len(trials))], varied)
        for _ in range(_RESAMPLED)
    ]
    found = [
        Importance(
            path=path,
            share=shares[path],
            low=float(np.quantile([a[path] for a in again], 0.1)),
            high=float(np.quantile([a[path] for a in again], 0.9)),
        )
        for path in varied
    ]
    return tuple(sorted(found, key=lambda i: -i.share))


def _varied(configs: Sequence[Config]) -> dict[str, list[Value]]:
    """Knobs that all trials have, with their values as tried: numbers in order, null first."""
    if not configs:
        return {}
    shared = set(configs[0]).intersection(*configs)
    found = {}
    for path in sorted(shared):
        seen = {(type(c[path]).__name__, c[path]) for c in configs}
        values = [value for _, value in sorted(seen, key=_order)]
        if len(values) > 1:
            found[path] = values
    return found


def _order(item: tuple[str, Value]) -> tuple[int, float, str]:
    value = item[1]
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, bool | str):
        return 2, 0.0, str(value)
    return 1, float(value), ""


def _is_ordered(values: Sequence[Value]) -> bool:
    return not any(isinstance(value, bool | str) for value in values)


def _distribution(values: Sequence[Value]) -> BaseDistribution:
    if _is_ordered(values):
        return IntDistribution(0, len(values) - 1)
    return CategoricalDistribution([str(i) for i in range(len(values))])


def _place(values: Sequence[Value], value: Value) -> int | str:
    place = next(
        i
        for i, v in enumerate(values)
        if v == value and isinstance(v, bool) is isinstance(value, bool)
    )
    return place if _is_ordered(values) else str(place)


def _scores(
    readings: Sequence[Reading], wish: Wish
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    broken = np.array(
        [sum(max(0.0, s) for s in reading.slacks(wish).values()) for reading in readings]
    )
    goals = np.array([wish.score(reading.goals) for reading in readings])
    return np.where(broken > 0, goals.min() - 1.0 - broken, goals)


def _evaluated(
    trials: Sequence[FrozenTrial], paths: Mapping[str, object] | Sequence[str]
) -> dict[str, float]:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few trials are few
        found = get_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(
                target_quantile=max(_BEST_SHARE, min(0.5, _BEST_TRIALS / len(trials)))
            ),
            params=list(paths),
            normalize=False,
        )
    total = sum(found.values())
    return {path: found.get(path, 0.0) / total if total > 0 else 0.0 for path in paths}
