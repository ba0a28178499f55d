"""What a trial shows to whoever opens the storage with another program, such as optuna-dashboard.

There an ordinal is the place of its value, and a limit that Optuna keeps by name is not shown at
all (0.21 reads the older form). Each trial therefore carries, as attributes of its own, the knobs
as people know them, what was seen of each limit, and whether all were kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from tuners.goals import Wish
from tuners.outcome import Crashed, Stopped, Told
from tuners.space import Config

KEEPS = "keeps limits"
Attribute = str | int | float | bool


def shown_config(config: Config) -> Mapping[str, Attribute]:
    """By the knob's last word where that is enough; null is the engine's own default."""
    last = [path.rpartition(".")[2] for path in config]
    return {
        f"knob {short if last.count(short) == 1 else path}": "default" if value is None else value
        for (path, value), short in zip(config.items(), last, strict=True)
    }


def shown_outcome(outcome: Told, wish: Wish) -> Mapping[str, Attribute]:
    if isinstance(outcome, Crashed):
        return {KEEPS: False, "failed": str(outcome.kind)}
    if isinstance(outcome, Stopped):
        at_best = {**outcome.goals, **outcome.bounds}
        bounds = {f"at best {name}": value for name, value in at_best.items()}
        return {**bounds, KEEPS: False, "stopped": outcome.rule}
    seen = {f"limit {name}": value for name, value in outcome.reading.bounds.items()}
    return {**seen, KEEPS: outcome.reading.keeps(wish)}
