"""Load points of one server, upward until its limits are broken: the next window, or the end. Pure,
and without memory: same windows seen, same answer.

A *probe* is a short window, a *full* one as long as a run. Each load is probed first. It is worth a
full window unless the probe shows that it breaks the limits, or that its goal could not beat what
is the best so far even at the better end of its interval. The first load that breaks the limits
ends the ascent: more load never helps. Then a full window is wanted at the highest load that seemed
to keep them, and downward from there until one does keep them: that is what the server is worth.
A window that the client spoiled is measured once more, since a passing disturbance is no limit; a
spoiled probe is as good as none.

With a *race* a trial may end without any full window: where no load that was probed is worth one.
What its probes rule out is then all that is known of it, and it can be no winner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.capacity.curve import Load
from harness.capacity.evidence import judged_rates, leans_to_fail
from harness.capacity.judge import Condition
from harness.capacity.race import Race, Raced
from results.capacity import Point, Verdict, falls_behind
from results.measurement import Measurement

# That a window which breaks the limits by chance alone is not taken at its word: one decision each.
_ERROR = 0.05
# Where a probe has no interval for the goal, its value may be off by so much.
_DOUBT = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The best so far: what a full window has to be able to beat."""

    metric: str
    statistic: str
    maximize: bool
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ascent:
    """``loads`` rise, all rates or all users. ``probe_s`` 0: no probes. ``conditions`` ():
    nothing ends it but the last load. ``target`` None: every load that may keep the limits gets
    its full window. ``race`` None: at least one full window is measured."""

    loads: tuple[Load, ...]
    duration_s: float
    probe_s: float = 0.0
    think_s: float = 0.0
    conditions: tuple[Condition, ...] = ()
    target: Target | None = None
    race: Race | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """``number``: the load's place in the ascent. ``again``: the first said nothing of the
    server."""

    number: int
    is_probe: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """``raced``: what a usable probe says in a race."""

    window: Window
    point: Point
    raced: Raced | None = None


def next_window(ascent: Ascent, seen: Sequence[Seen]) -> Window | str:
    """What to measure now; or why it is enough, in words."""
    if seen and _is_to_repeat(seen[-1]):
        return replace(seen[-1].window, again=True)
    why = _ended(ascent, seen)
    if not why:
        return _upward(ascent, seen)
    full = [s for s in seen if not s.window.is_probe]
    bad = [s.window.number for s in seen if _stops(ascent, seen, s)]
    if any(s.window.number not in bad and s.point.is_usable for s in full):
        return why
    if gave_up := given_up(ascent, seen):
        return gave_up
    tried = {s.window.number for s in full}
    left = [n for n in range(min(bad, default=len(ascent.loads))) if n not in tried]
    if not left and not tried:
        left = [0]  # by how much it breaks them is worth knowing, too
    return Window(number=max(left)) if left else why


def given_up(ascent: Ascent, seen: Sequence[Seen]) -> str:
    """Why no load is worth a full window, in words; "" where one is, or was measured, or without a
    race."""
    if ascent.race is None or not seen or any(not s.window.is_probe for s in seen):
        return ""
    if any(_is_open(ascent, seen, s) for s in seen):
        return ""
    said = [s.raced.why for s in seen if s.raced is not None and s.raced.stop]
    return said[-1] if said else "no load that keeps the limits could beat the best so far"


def _is_open(ascent: Ascent, seen: Sequence[Seen], probe: Seen) -> bool:
    """Whether a full window there could still say something. Where a higher load only just breaks
    the limits, the one below it answers; of the lowest, by how much is worth knowing."""
    if not _wants_full(ascent, probe):
        return False
    return probe.window.number == 0 or not _stops(ascent, seen, probe)


def _upward(ascent: Ascent, seen: Sequence[Seen]) -> Window:
    if not seen:
        return _first(ascent, 0)
    last = seen[-1]
    if _wants_full(ascent, last):
        return Window(number=last.window.number)
    return _first(ascent, last.window.number + 1)


def _first(ascent: Ascent, number: int) -> Window:
    return Window(number=number, is_probe=ascent.probe_s > 0)


def _ended(ascent: Ascent, seen: Sequence[Seen]) -> str:
    """Why no higher load is measured; "" while one may be."""
    for s in seen:
        load = ascent.loads[s.window.number]
        if s.window.again and not s.point.is_usable:
            return f"twice at {load.words} the load was not the one asked for: {s.point.faults[0]}"
        if _stops(ascent, seen, s):
            return f"at {load.words} the limits are broken, and more load never helps"
    if not seen or seen[-1].window.number + 1 < len(ascent.loads):
        return ""
    if _wants_full(ascent, seen[-1]):
        return ""
    words = ascent.loads[-1].words
    return f"{words} is the highest load asked for" if words else "its load was measured"


def _is_to_repeat(last: Seen) -> bool:
    return not (last.point.is_usable or last.window.is_probe or last.window.again)


def _wants_full(ascent: Ascent, last: Seen) -> bool:
    if not last.window.is_probe:
        return False
    if last.raced is not None and last.raced.stop:
        return False
    if last.raced is not None and last.raced.compared.at_most is not None:
        return True  # pairs of the same requests know better than two figures
    return not last.point.is_usable or _may_win(ascent.target, last.point.measurements)


def _stops(ascent: Ascent, seen: Sequence[Seen], one: Seen) -> bool:
    """Whether this window shows that its load breaks the limits. A probe has to prove it; of a full
    window it is enough that it looks so: it is the one that counts."""
    if not one.point.is_usable:
        return one.window.again
    if not ascent.conditions:
        return False
    upto = [s for s in seen if s.point.is_usable and s.window.number <= one.window.number]
    same = [s.point for s in upto if s.window == one.window]
    if one.point.num_users is None and falls_behind(same):
        return True
    kind = [s for s in upto if s.window.is_probe == one.window.is_probe]
    rates = judged_rates([_as_rate(s.point) for s in kind], _ERROR)
    judged = next(r for r in rates if r.rate_rps == _as_rate(one.point).rate_rps)
    if one.window.is_probe:
        return judged.verdict is Verdict.FAIL
    return leans_to_fail(judged)


def _as_rate(point: Point) -> Point:
    """Users rise as rates do; evidence is judged by what rises."""
    if point.num_users is None:
        return point
    return replace(point, rate_rps=float(point.num_users), num_users=None)


def _may_win(target: Target | None, measurements: Sequence[Measurement]) -> bool:
    """Whether the goal could be better than the target, as far as a probe can tell."""
    if target is None:
        return True
    found = [
        m for m in measurements if (m.metric, m.statistic) == (target.metric, target.statistic)
    ]
    value = found[0].value if found else None
    if value is None:
        return True
    if target.maximize:
        high = found[0].high
        return (value * (1.0 + _DOUBT) if high is None else high) > target.value
    low = found[0].low
    return (value * (1.0 - _DOUBT) if low is None else low) < target.value
