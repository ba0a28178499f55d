"""The latency–throughput curve: which loads, in which order, and where it bends. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import SpecError
from results.capacity import Knee, Point, falls_behind
from results.measurement import Measurement
from results.units import counted

_NUM_AUTO = 8
# From where the server falls behind down to this much of it: there the curve is flat.
_AUTO_SPAN = 16.0
_NEAR_PEAK = 0.95
_MAX_LOADS = 200
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One point to measure: a rate or a number of users; with neither the load is the run's own, as
    its file says it."""

    rate_rps: float | None = None
    num_users: int | None = None
    repeat: int = 0

    @property
    def is_own(self) -> bool:
        return self.rate_rps is None and self.num_users is None

    @property
    def words(self) -> str:
        if self.num_users is not None:
            return f"{self.num_users} user{'' if self.num_users == 1 else 's'}"
        return "" if self.rate_rps is None else f"{self.rate_rps:g}/s"


def rates_of(text: str) -> tuple[float, ...]:
    """``1,2,4`` as they are; ``1:64:8`` eight rates from 1 to 64, evenly on a log scale.

    Raises SpecError.
    """
    if ":" not in text:
        rates = tuple(_number(part, text, "--rates") for part in text.split(","))
    else:
        parts = text.split(":")
        if len(parts) not in (2, 3):
            raise SpecError(f"--rates {text!r}: write LOW:HIGH:COUNT, for example 1:64:8")
        low, high = (_number(p, text, "--rates") for p in parts[:2])
        if low > high:
            raise SpecError(f"--rates {text!r}: a range goes up; write {parts[1]}:{parts[0]}:COUNT")
        count = int(_number(parts[2], text, "--rates")) if len(parts) == 3 else _NUM_AUTO
        _check_count(count, f"--rates {text!r}")
        rates = tuple(float(f"{r:.3g}") for r in np.geomspace(low, high, max(count, 1)))
    return _checked(rates, f"--rates {text!r}")


def users_of(text: str) -> tuple[int, ...]:
    """``1,8,64`` as they are; ``1:256`` doubles from 1 to 256; ``1:256:5`` five of them.

    Raises SpecError.
    """
    parts = text.split(":")
    if len(parts) == 1:
        users = [_number(part, text, "--concurrency") for part in text.split(",")]
    else:
        low, high = (_number(p, text, "--concurrency") for p in parts[:2])
        if len(parts) > 3:
            raise SpecError(f"--concurrency {text!r}: write LOW:HIGH or LOW:HIGH:COUNT")
        if low > high:
            raise SpecError(f"--concurrency {text!r}: a range goes up; write {parts[1]}:{parts[0]}")
        count = (
            int(_number(parts[2], text, "--concurrency"))
            if len(parts) == 3
            else math.floor(math.log2(high / low)) + 1
        )
        _check_count(count, f"--concurrency {text!r}")
        users = [float(round(u)) for u in np.geomspace(low, high, count)]
        if len(parts) == 2:
            users = [low * 2.0**k for k in range(count)]
            users += [high] if users[-1] != high else []
    if any(u != int(u) for u in users):
        raise SpecError(f"--concurrency {text!r}: users are whole numbers")
    return tuple(int(u) for u in _checked(tuple(users), f"--concurrency {text!r}"))


def _number(part: str, text: str, option: str) -> float:
    if not _NUMBER.fullmatch(part.strip()) or float(part) <= 0:
        raise SpecError(f"{option} {text!r}: {part!r} is no number above zero")
    return float(part)


def _checked(loads: tuple[float, ...], option: str) -> tuple[float, ...]:
    found = tuple(sorted(set(loads)))
    _check_count(len(found), option)
    return found


def _check_count(count: int, option: str) -> None:
    if count > _MAX_LOADS:
        raise SpecError(f"{option} names {count} loads; at most {_MAX_LOADS} are measured")


def in_order(loads: Sequence[Load], repeats: int, seed: int) -> tuple[Load, ...]:
    """Every load once per repeat, each repeat in a random order of its own, so that a server that
    changes over time is not taken for one that changes with load."""
    rng = np.random.default_rng(seed)
    order = []
    for repeat in range(repeats):
        shuffled = [loads[i] for i in rng.permutation(len(loads))]
        order += [
            Load(rate_rps=one.rate_rps, num_users=one.num_users, repeat=repeat) for one in shuffled
        ]
    return tuple(order)


def next_scout(points: Sequence[Point], start_rps: float = 1.0) -> float | None:
    """Without rates to measure: double until the server falls behind, or the client does."""
    if not points:
        return start_rps
    last = points[-1]
    if falls_behind([last]) or not last.is_usable:
        return None
    return 2.0 * (last.rate_rps or start_rps)


def auto_rates(points: Sequence[Point]) -> tuple[float, ...]:
    """Rates for the curve, from what scouting found: up to where the server fell behind, or to the
    last one before the client did."""
    usable = [p.rate_rps for p in points if p.is_usable and p.rate_rps is not None]
    if not usable:
        return ()
    top = max(usable)
    return tuple(float(f"{r:.3g}") for r in np.geomspace(top / _AUTO_SPAN, top, _NUM_AUTO))


def knee_of(points: Sequence[Point]) -> Knee:
    """Open loop: the highest rate below the first one at which the server fell behind. Closed loop:
    the fewest users that give 95 % of the highest throughput seen."""
    usable = [p for p in points if p.is_usable]
    if any(p.num_users is not None for p in usable):
        return _closed_knee(usable)
    rule = "the highest rate that the server kept up with"
    by_rate: dict[float, list[Point]] = {}
    for p in usable:
        by_rate.setdefault(p.rate_rps or 0.0, []).append(p)
    behind = min((rate for rate, found in by_rate.items() if falls_behind(found)), default=math.inf)
    kept = [rate for rate in by_rate if rate < behind]
    if not by_rate:
        return Knee(load=None, rule=rule, why="no point says anything about the server")
    if not kept:
        return Knee(load=None, rule=rule, why="it fell behind at every rate measured")
    if behind == math.inf:
        return Knee(
            load=None, rule=rule, why=f"at no rate measured, up to {max(kept):g}/s, it fell behind"
        )
    return Knee(load=max(kept), rule=rule)


def _closed_knee(points: Sequence[Point]) -> Knee:
    rule = "the fewest users that give 95 % of the highest throughput seen"
    by_users: dict[int, list[float]] = {}
    for p in points:
        rate = value_of(p.measurements, "achieved_rate")
        if p.num_users is not None and rate is not None:
            by_users.setdefault(p.num_users, []).append(rate)
    means = {users: sum(rates) / len(rates) for users, rates in sorted(by_users.items())}
    if not means:
        return Knee(load=None, rule=rule, why="no request was answered")
    peak = max(means.values())
    knee = next(users for users, rate in means.items() if rate >= _NEAR_PEAK * peak)
    if knee == max(means):
        return Knee(
            load=None,
            rule=rule,
            why=f"throughput still grew at {counted(knee, 'user')}, the most measured",
        )
    return Knee(load=float(knee), rule=rule)


def value_of(
    measurements: Sequence[Measurement], metric: str, statistic: str = "value"
) -> float | None:
    for m in measurements:
        if (m.metric, m.statistic) == (metric, statistic):
            return m.value
    return None
