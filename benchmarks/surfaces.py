"""Synthetic surfaces with a known best, of other families than the forecast's step model. Nothing
in them was measured, and every name says so.

Each is a function of a seeded generator: knobs on 0 … 1, a goal, one or two times with a limit at a
quantile of them, and a part that crashes, cut off by a half-space so that the best lies near it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """``shape``: x (n, ordinals), c (n, choices) of whole numbers, generator → (goal, time), both
    logarithms. ``crash_share``: of all; ``limit``: the quantile of the time that is still kept."""

    shape: Callable[[Array, Array, np.random.Generator], tuple[Array, Array]]
    ordinals: Mapping[str, Sequence[float]]
    choices: Mapping[str, Sequence[str]]
    seed: int
    crash_share: float = 0.2
    limit: float = 0.5
    noise: tuple[float, float, float] = (0.02, 0.10, 0.1)
    goal: str = "output_throughput"
    time: str = "e2e"


def _smooth(x: Array, generator: np.random.Generator, num_pairs: int) -> Array:
    """Each knob with a hump of its own, and ``num_pairs`` pairs whose product matters as much."""
    peaks, widths = generator.uniform(0.2, 0.9, x.shape[1]), generator.uniform(0.3, 0.9, x.shape[1])
    weights = generator.uniform(0.2, 0.8, x.shape[1])
    alone = -(((x - peaks) / widths) ** 2) @ weights
    for _ in range(num_pairs):
        a, b = generator.choice(x.shape[1], 2, replace=False)
        alone = alone + generator.uniform(-1.2, 1.2) * (x[:, a] - 0.5) * (x[:, b] - 0.5) * 2
    return alone


def interactions(x: Array, c: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """Pairs of knobs matter as much as knobs, and a choice turns the best of two of them round."""
    turned = np.where(c[:, :1] == 1, 1.0 - x[:, :2], x[:, :2])
    x = np.hstack([turned, x[:, 2:]])
    goal = _smooth(x, generator, 4) + 0.15 * c[:, -1]
    time = -0.6 * _smooth(x, generator, 3) + 0.8 * x[:, 0] + 0.1 * c[:, 0]
    return goal, time


def plateaus(x: Array, c: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """The least of several resources sets the pace: wide areas where most knobs change nothing."""
    supply = [
        math.log(0.2) + 1.8 * x[:, at] * generator.uniform(0.7, 1.3) for at in range(x.shape[1])
    ]
    goal = np.minimum.reduce([*supply, np.full(len(x), 0.55)]) + 0.1 * (c[:, 0] == 2)
    time = np.maximum(0.9 * x[:, 0] + 0.5 * x[:, 1], 0.6) - 0.2 * c[:, -1]
    return goal, time


def cliffs(x: Array, c: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """As smooth as nothing: three edges behind which a third of the goal is lost, or the time is
    twice as long."""
    goal, time = _smooth(x, generator, 1), 0.7 * x[:, 0] + 0.4 * x[:, -1]
    for _ in range(2):
        a, b = generator.choice(x.shape[1], 2, replace=False)
        behind = (x[:, a] > generator.uniform(0.5, 0.8)) & (x[:, b] > generator.uniform(0.3, 0.7))
        goal = goal - 1.1 * behind
    time = time + 0.7 * ((x[:, 1] < 0.3) & (c[:, 0] == 0))
    return goal + 0.1 * c[:, -1], time


def rugged(x: Array, c: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """Several hills: waves of each knob on a slope, so that the nearest best is rarely the best."""
    frequency = generator.uniform(2.0, 5.0, x.shape[1])
    phase = generator.uniform(0.0, 2 * math.pi, x.shape[1])
    goal = 0.25 * np.sin(frequency * x * 2 + phase).sum(axis=1) + 0.8 * x[:, 0]
    return goal + 0.2 * (c[:, 0] == 1), 0.9 * x[:, 0] + 0.3 * np.cos(4 * x[:, 1])


def training(x: Array, c: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """Like a training layout: micro-batches fill the chip until communication of the sharding and
    what is computed again cost more; the time is a step's."""
    del generator
    batch, shard, loaders = x[:, 0], x[:, 1], x[:, 2]
    again, compiled = (c[:, 0] > 0) * 0.25, (c[:, 1] == 1) * 0.18
    fill = 1 - np.exp(-3.5 * (batch + 0.08))
    goal = np.log(fill) - 0.5 * shard * (1 - 0.6 * batch) - again * (c[:, 0] / 2) + compiled
    goal = goal - 0.3 * np.maximum(0, 0.35 - loaders)
    return goal, 1.6 * batch - goal


_SIZES = tuple(float(2**n) for n in range(8))
_SIX = {"a": _SIZES, "b": _SIZES[:6], "c": _SIZES[:5], "d": (1.0, 2.0, 3.0, 4.0)}
_WORDS = {"kind": ("x", "y", "z"), "mode": ("off", "on")}

SURFACES: dict[str, Surface] = {
    "synthetic-interactions": Surface(
        shape=interactions, ordinals=_SIX, choices=_WORDS, seed=11, crash_share=0.25
    ),
    "synthetic-plateaus": Surface(
        shape=plateaus, ordinals=_SIX, choices=_WORDS, seed=12, crash_share=0.1, limit=0.6
    ),
    "synthetic-cliffs": Surface(
        shape=cliffs, ordinals=_SIX, choices=_WORDS, seed=13, crash_share=0.4, limit=0.6
    ),
    "synthetic-rugged": Surface(
        shape=rugged, ordinals=_SIX, choices=_WORDS, seed=14, crash_share=0.15
    ),
    "synthetic-noisy": Surface(
        shape=interactions, ordinals=_SIX, choices=_WORDS, seed=15, noise=(0.1, 0.1, 0.0)
    ),
    "synthetic-quiet": Surface(
        shape=interactions, ordinals=_SIX, choices=_WORDS, seed=16, noise=(0.01, 0.01, 0.0)
    ),
    "synthetic-training": Surface(
        shape=training,
        ordinals={
            "micro_batch": _SIZES[:7],
            "shards": (1.0, 2.0, 4.0, 8.0),
            "loaders": (0.0, 1.0, 2.0, 4.0, 8.0),
        },
        choices={
            "recompute": ("none", "some", "all"),
            "compile": ("off", "on"),
            "precision": ("bf16", "fp8"),
        },
        seed=17,
        crash_share=0.3,
        limit=0.7,
        goal="mfu",
        time="step",
    ),
}


def surface(name: str) -> tuple[Rows, dict[str, Any]]:
    """The rows and the header of ``SURFACES[name]``, as a file would have them."""
    made = SURFACES[name]
    generator = np.random.default_rng(made.seed)
    sizes = [range(len(v)) for v in (*made.ordinals.values(), *made.choices.values())]
    places = np.array(list(itertools.product(*sizes)), dtype=np.float64)
    split = len(made.ordinals)
    x = places[:, :split] / np.array([len(v) - 1 for v in made.ordinals.values()])
    c = places[:, split:]
    goal, time = made.shape(x, c, generator)
    tilt = x @ generator.uniform(0.2, 1.0, split) + 0.4 * (c[:, 0] == 0)
    crashed = tilt > np.quantile(tilt, 1 - made.crash_share)
    scale = 0.5 / math.exp(goal.max()) if made.goal == "mfu" else 1000.0
    rows = []
    for at, place in enumerate(places.astype(int)):
        values = [v[i] for v, i in zip(made.ordinals.values(), place[:split], strict=True)]
        words = [v[i] for v, i in zip(made.choices.values(), place[split:], strict=True)]
        knobs = dict(zip((*made.ordinals, *made.choices), (*values, *words), strict=True))
        found = {made.goal: math.exp(goal[at]) * scale, made.time: 1000.0 * math.exp(time[at])}
        rows.append({**knobs, "ok": not crashed[at], **({} if crashed[at] else found)})
    limit = 1000.0 * math.exp(float(np.quantile(time[~crashed], made.limit)))
    return rows, {
        "goals": [made.goal],
        "limits": {made.time: limit},
        "noise": list(made.noise),
    }
