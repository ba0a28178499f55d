"""Whether a trial is worth its full window: what its probe says, alone and beside that of the best
so far. Pure.

It is not where the goal is worse than that of the best so far by more than a margin, as far as the
pairs of the same requests can tell, or where the share of requests within limits loosened by the
same margin is proven too small. Two starts of one configuration differ by more than chance within
one of them: the margin is for that. What the best so far does not keep in its own probe, a probe
cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.capacity.evidence import share_bounds
from harness.capacity.judge import Condition, design_effect, settled, severity_of
from harness.capacity.paired import Compared, Probe, compared
from results.measure import request_metrics
from results.samples import FloatColumn
from results.units import counted

# Where not even one request came back in time: so many limits, at least.
_NEVER = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """``metric`` and ``statistic`` of the one goal; "": goals are not compared. ``conditions`` as
    the study has them. ``rival``: run id of the probe of the best so far at the load with this
    ``number``, ``value`` its goal as measured in full; "": there is none.

    ``error``: how often a trial that is not worse by ``margin`` may be stopped; each test has its
    share of it. ``slo``: what goodput counts, metric → seconds.
    """

    metric: str = ""
    statistic: str = "value"
    conditions: tuple[Condition, ...] = ()
    margin: float = 0.1
    error: float = 0.05
    rival: str = ""
    number: int = 0
    value: float | None = None
    slo: Mapping[str, float] = field(default_factory=dict)

    @property
    def error_each(self) -> float:
        return self.error / max(len(self.conditions) + bool(self.metric), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raced:
    """``stop``: "goal", "limits", or "" for a trial that is worth its window; ``why`` in words.

    Of the conditions that are proven broken, ``slowest``: what the metric is at least, over its
    limit, at the share wanted; ``attained``: the share of requests that meet it at most.
    """

    stop: str
    why: str
    compared: Compared
    slowest: Mapping[str, float] = field(default_factory=dict)
    attained: Mapping[str, float] = field(default_factory=dict)


def raced(race: Race, mine: Probe, theirs: Probe | None) -> Raced:
    """``theirs``: the rival's probe, None without one."""
    broken = _broken(race, mine)
    if broken and theirs is not None:
        beside = _broken(race, theirs)
        broken = {name: seen for name, seen in broken.items() if name not in beside}
    pairs = _pairs(race, mine, theirs)
    worse = pairs.at_most is not None and pairs.at_most < 1.0 - race.margin
    stop, why = "", pairs.why_none or "it may be as good as the best so far"
    if broken:
        name, (slowest, attained) = next(iter(broken.items()))
        stop = "limits"
        why = f"{name}: {attained:.0%} at most, and that share not before {slowest:.2f} times it"
    elif worse:
        stop = "goal"
        why = (
            f"{race.metric} is at most {pairs.at_most:.3f} times as good as the best so far, by "
            f"{counted(pairs.num_pairs, 'pair')} of the same requests"
        )
    return Raced(
        stop=stop,
        why=why,
        compared=pairs,
        slowest={name: slowest for name, (slowest, _) in broken.items()},
        attained={name: attained for name, (_, attained) in broken.items()},
    )


def _pairs(race: Race, mine: Probe, theirs: Probe | None) -> Compared:
    why = ""
    if not race.metric:
        why = "goals are compared where there is one"
    elif theirs is None:
        why = "nothing that keeps the limits was probed yet"
    if why or theirs is None:
        return Compared(ratio=None, at_most=None, num_pairs=0, why_none=why)
    return compared(mine, theirs, race.metric, race.statistic, error=race.error_each, slo=race.slo)


def _broken(race: Race, probe: Probe) -> dict[str, tuple[float, float]]:
    """The conditions that are broken even where each limit is loosened by the margin: (at least so
    many limits at the share wanted, the share within the limit at most)."""
    m = request_metrics(probe.samples)
    rows = settled(probe.samples, probe.duration_s)
    found = {}
    for condition in race.conditions:
        severity: FloatColumn = severity_of(m, condition.limits)[rows]
        if not len(severity):
            continue
        effect = design_effect(severity, 1.0 + race.margin, condition.wanted)
        slowest = _least_quantile(severity, condition.wanted, effect, race.error_each)
        if slowest > 1.0 + race.margin:
            good, n = float((severity <= 1.0).sum()), len(severity)
            _, attained = share_bounds(good / effect, n / effect, race.error_each)
            found[condition.name] = (slowest, float(attained))
    return found


def _least_quantile(severity: FloatColumn, wanted: float, effect: float, error: float) -> float:
    """A lower bound of the ``wanted`` quantile: the largest value below which a share of ``wanted``
    is ruled out (Clopper–Pearson). 0 where nothing is."""
    ordered, n = np.sort(severity), len(severity)
    below = np.arange(n, dtype=np.float64)  # of the k-th smallest, so many lie below
    _, high = share_bounds(below / effect, np.full(n, n / effect), error)
    ruled_out = ordered[high < wanted]
    if not len(ruled_out):
        return 0.0
    finite = ruled_out[np.isfinite(ruled_out)]
    # Requests that failed met nothing, and have no time.
    return float(ruled_out[-1]) if np.isfinite(ruled_out[-1]) else max([_NEVER, *finite])
