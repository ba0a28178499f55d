"""What the detector does when nothing happens, and when something does: measured, not promised.

Made-up nights of every family of ``reports.noise`` go through the very functions that judge real
ones. A share comes with its 95 % interval (Clopper–Pearson), for it is a count of series. A
thousand series of every kind take some minutes of one core, and say how far they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.compare import MARGIN, Verdict, verdict_of
from reports.newest import JUMP
from reports.noise import OTHERS, PROMISED, SIGMA, Family, drifting
from reports.noise_unseen import UNSEEN
from reports.steps import judge, judge_newest
from reports.steps_null import ALPHA, p_values
from reports.tracks import threshold_of
from reports.young import young_jump
from results.intervals import share_interval
from results.metrics import Direction
from results.pairs import Floats, Shift, pair_up, paired_shift, unpaired_shift

PROMISE = 0.05  # of null series alarm in NIGHTS nights, at most
NIGHTS = 90
HISTORY = 60  # nights before them, where there is a history
AFTER = 30  # nights in which a step is to be found
STEPS = (0.03, 0.05, 0.10)
LEVELS = (0.01, 0.02, 0.03)  # what nights differ by, where the family says SIGMA
YOUNG_NIGHTS = 16  # of a young series: before a history judges
# Standard deviations between nights and between the repeats of one night.
YOUNG_NOISE = ((0.005, 0.01), (0.01, 0.01), (0.02, 0.01), (0.03, 0.01), (0.05, 0.01), (0.01, 0.05))
YOUNG_REPEATS, YOUNG_STEP, YOUNG_AT = 3, 0.10, (1, 7)
NUM_PAIRS = (5, 8)
PAIR_STEPS = (0.02, 0.03, 0.05)
NUM_SERIES, SEED = 1000, 20261124

# What is counted, of which noise, how many counts are done, and of how many.
Said = Callable[[str, str, int, int], None]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    count: int
    num: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.count / self.num


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseAlarms:
    """Null series that alarm in NIGHTS nights: ``young``, from a series' first night on; ``old``,
    with HISTORY nights before. ``jumps_per_series``: suspicions of one night alone in those of
    ``old``, which ask for a confirmation and are no alarms. ``unseen``: had no say in how the
    detector was made."""

    family: str
    promised: bool
    unseen: bool
    young: Share
    old: Share
    jumps_per_series: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Series with a step (a share) that are found within AFTER nights of it, and after how many
    nights half of those are; a false alarm before the step is not counted as finding it.
    ``level``: what a night differs by, as a standard deviation."""

    family: str
    level: float
    step: float
    found: Share
    median_nights: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class YoungAsked:
    """Series too young for a history that ask for a confirmation, of those whose nights differ by
    ``between`` and the runs of a night by ``within``: null ones in their second night (``second``)
    and in any of YOUNG_NIGHTS (``ever``); and in the night of a step of YOUNG_STEP, with as many
    nights before it as YOUNG_AT says (``found``)."""

    between: float
    within: float
    second: Share
    ever: Share
    found: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Comparisons under drift that call a change of ``step`` (0: there is none)."""

    design: str
    num_pairs: int
    step: float
    called: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    num_series: int
    seed: int
    false_alarms: tuple[FalseAlarms, ...]
    powers: tuple[Power, ...]
    young: tuple[YoungAsked, ...]
    pairs: tuple[Pairs, ...]

    @property
    def kept(self) -> bool:
        """Every promised family is at or below PROMISE, and interleaved pairs are not shown to be
        above it: their test is exact, so their count lies on either side."""
        null = [p for p in self.pairs if p.step == 0.0 and p.design == INTERLEAVED]
        return all(
            max(f.young.share, f.old.share) <= PROMISE for f in self.false_alarms if f.promised
        ) and all(p.called.low <= PROMISE for p in null)


INTERLEAVED, BLOCKED = "interleaved (ABBA)", "blocked (A…A B…B)"


def calibrate(
    num_series: int = NUM_SERIES, seed: int = SEED, say: Said = lambda *_: None
) -> Calibration:
    """``num_series`` of every family and step; the same seed, the same counts."""
    families: Mapping[str, Family] = {**PROMISED, **OTHERS, **UNSEEN}
    steps = [(i, f, x, s) for i, f in enumerate(PROMISED) for x in LEVELS for s in STEPS]
    total = len(families) + len(steps) + len(YOUNG_NOISE) + 1
    alarms: list[FalseAlarms] = []
    powers: list[Power] = []
    young: list[YoungAsked] = []
    for i, (name, made) in enumerate(families.items()):
        say("null series", name, i, total)
        rng = np.random.default_rng([seed, 1, i])
        alarms.append(_false_alarms(name, made, rng, num_series))
    for i, name, level, step in steps:
        told = f"{100 * step:.0f} % in nights of {100 * level:.0f} %, {name}"
        say("series with a step", told, len(alarms) + len(powers), total)
        rng = np.random.default_rng([seed, 2, i, round(1000 * level), round(1000 * step)])
        powers.append(_power(name, level, step, rng, num_series))
    for i, (between, within) in enumerate(YOUNG_NOISE):
        told = f"nights of {100 * between:.1f} %"
        say("series too young for a history", told, len(alarms) + len(powers) + i, total)
        rng = np.random.default_rng([seed, 4, i])
        young.append(_young_asked(between, within, rng, num_series))
    say("pairs under drift", "ABBA and blocks", total - 1, total)
    return Calibration(
        num_series=num_series,
        seed=seed,
        false_alarms=tuple(alarms),
        powers=tuple(powers),
        young=tuple(young),
        pairs=_pairs(seed, num_series),
    )


def alarms_of(values: Floats, since: int = 0) -> Bools:
    """(S, T): the nights in which each series, on its own, would be suspected of a step, until its
    first suspicion. ``since``: nights before that one are read and not judged."""
    panel = judge(values, np.zeros(values.shape, np.int64), since=since)
    p = p_values(panel.evidence, panel.noise)
    found: Bools = (p <= ALPHA) & (np.abs(panel.size) >= threshold_of(panel))
    return found


def _false_alarms(
    name: str, made: Family, rng: np.random.Generator, num_series: int
) -> FalseAlarms:
    values = made(rng, num_series, HISTORY + NIGHTS)
    alarms = alarms_of(values)
    panel = judge_newest(values, np.zeros(values.shape, np.int64))
    jumps = (panel.evidence >= JUMP) & (np.abs(panel.size) >= threshold_of(panel))
    return FalseAlarms(
        family=name,
        promised=name in PROMISED,
        unseen=name in UNSEEN,
        young=share_of(np.any(alarms[:, :NIGHTS], axis=1)),
        old=share_of(np.any(alarms[:, HISTORY:], axis=1)),
        jumps_per_series=float(jumps[:, HISTORY:].sum()) / num_series,
    )


def _power(
    name: str, level: float, step: float, rng: np.random.Generator, num_series: int
) -> Power:
    values = PROMISED[name](rng, num_series, HISTORY + AFTER) * (level / SIGMA)
    values[:, HISTORY:] += math.log1p(step)
    after = alarms_of(values, since=HISTORY)[:, HISTORY:]
    found: Bools = np.any(after, axis=1)
    nights = np.argmax(after[found], axis=1) + 1
    return Power(
        family=name,
        level=level,
        step=step,
        found=share_of(found),
        median_nights=float(np.median(nights)) if len(nights) else None,
    )


def _young_asked(
    between: float, within: float, rng: np.random.Generator, num_series: int
) -> YoungAsked:
    shape = (num_series, YOUNG_NIGHTS, YOUNG_REPEATS)
    runs = between * rng.standard_normal(shape[:2])[:, :, None]
    runs = runs + within * rng.standard_normal(shape)
    asked = np.array([[_asks(one, n) for n in range(1, YOUNG_NIGHTS)] for one in runs])
    stepped = runs + math.log1p(YOUNG_STEP)
    found = [
        np.array(
            [_asks(np.concatenate([a[:n], b[n:]]), n) for a, b in zip(runs, stepped, strict=True)]
        )
        for n in YOUNG_AT
    ]
    return YoungAsked(
        between=between,
        within=within,
        second=share_of(asked[:, 0]),
        ever=share_of(np.any(asked, axis=1)),
        found=tuple(share_of(f) for f in found),
    )


def _asks(runs: Floats, night: int) -> bool:
    """``runs`` (nights, repeats): whether ``night`` is called against those before it."""
    found = young_jump(list(runs[:night]), runs[night])
    return found is not None and found.called


def share_of(found: Bools) -> Share:
    count, num = int(np.sum(found)), len(found)
    interval = share_interval(count, num)
    return Share(count=count, num=num, low=interval.low, high=interval.high)


def _pairs(seed: int, num: int) -> tuple[Pairs, ...]:
    """Runs one after the other on a machine that drifts: 1 % a run, beside 1 % of white noise."""
    found = []
    for k in NUM_PAIRS:
        abba = np.resize([False, True, True, False], 2 * k)
        blocks = np.repeat([False, True], k)
        for step in (0.0, *PAIR_STEPS):
            for design, sides in ((INTERLEAVED, abba), (BLOCKED, blocks)):
                rng = np.random.default_rng([seed, 3, k, round(1000 * step)])
                runs = drifting()(rng, num, 2 * k) + sides * math.log1p(step)
                called = share_of(np.array([_called(row, sides) for row in runs]))
                found.append(Pairs(design=design, num_pairs=k, step=step, called=called))
    return tuple(found)


def _called(runs: Floats, sides: Bools) -> bool:
    pairing = pair_up([bool(s) for s in sides])
    shift: Shift | None
    if pairing.pairs:
        shift = paired_shift(
            np.array([runs[list(b)].mean() - runs[list(a)].mean() for a, b in pairing.pairs])
        )
    else:
        shift = unpaired_shift(runs[~sides], runs[sides])
    assert shift is not None
    verdict, _ = verdict_of(shift, shift.p_value, math.log1p(MARGIN), Direction.LOWER)
    return verdict in (Verdict.REGRESSED, Verdict.IMPROVED)
