"""The capacity search: points measured so far in, what to do next out. Pure, and without memory.

Three stages, each a question to the same evidence:

1. *scout*: double the rate until it looks bad, then halve the bracket on a log scale, with short
   points that only lean one way or the other;
2. *decide*: measure the rates nearest to the edge for as long as it takes to pass or to fail them.
   Close to the true capacity no length suffices, so a rate whose decision costs more than is left
   gives way to the next one outwards;
3. *refine*: with what is left, try again between the highest pass and the lowest fail.

So the answer is an interval whose ends were each decided, as narrow as the budget allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.capacity.answer import answer, spoiled_rate
from harness.capacity.evidence import error_share, judged_rates, leans_to_fail, least_n
from harness.capacity.forecast import Forecast, Guess
from harness.capacity.judge import SETTLE_SHARE
from results.capacity import Capacity, Point, Verdict

_FACTOR = 2.0  # from one scouted rate to the next
_SCOUT_REQUESTS, _BISECT_REQUESTS = 60, 200
# Of the budget, at most this for one short point.
_SCOUT_BUDGET, _BISECT_BUDGET = 1 / 30, 1 / 15
_SHORTEST_S = 2.0
_MAX_POINTS_OF_A_RATE = 6
# Scouting ends at a bracket this narrow: from there on only decisions help.
_SCOUTED = 1.25
_NUM_CANDIDATES = 14
# One decision takes at most this share of what is left, if there is one that cheap.
_SHARE_OF_REST = 0.4
# The last resort: guesses are careful, and what is left is worth nothing unspent.
_HOPE = 4.0
# A guess of what a decision takes is short half of the time.
_SURPLUS = 1.2
# What moving to another rate is worth, so that the search does not creep.
_MOVE_BUDGET = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """``shares``: what the conditions of the SLO want. ``shortest_pass_s``: no rate passes on
    points that are all shorter (see ``slowest_queue_s``). ``budget_s`` counts wall clock."""

    shares: tuple[float, ...]
    start_rps: float = 1.0
    min_rps: float | None = None
    max_rps: float | None = None
    tolerance: float = 0.05
    confidence: float = 0.95
    budget_s: float = 600.0
    max_points: int = 60
    shortest_pass_s: float = 0.0

    @property
    def error(self) -> float:
        return error_share(self.confidence)

    @property
    def lowest_rps(self) -> float:
        """No rate below can be passed within the budget: not even without a single miss."""
        if self.min_rps is not None:
            return self.min_rps
        return min(_round(self.needed_requests / self.budget_s), self.max_rps or math.inf)

    @property
    def needed_requests(self) -> int:
        """Requests that pass a rate when none of them misses and each is independent."""
        return math.ceil(least_n(max(self.shares), self.error) / (1.0 - SETTLE_SHARE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Offer ``rate_rps`` for ``duration_s``; ``number`` salts it, so that no cache can help."""

    rate_rps: float
    duration_s: float
    number: int
    why: str


Action = Measure | Capacity


def next_action(question: Question, points: Sequence[Point]) -> Action:
    """The next point to measure, or the answer. Same points, same action."""
    return _Search(question, tuple(points)).next()


def result_now(question: Question, points: Sequence[Point], why: str) -> Capacity:
    """What is known when the search is stopped from outside."""
    return _Search(question, tuple(points)).end(why)


class _Search:
    """One look at the evidence; made anew for every action."""

    def __init__(self, question: Question, points: tuple[Point, ...]) -> None:
        self.q = question
        self.points = points
        self.rates = judged_rates(points, question.error, question.shortest_pass_s)
        self.left_s = question.budget_s - sum(p.took_s for p in points)
        overheads = [p.took_s - p.duration_s for p in points if p.is_usable]
        self.overhead_s = max(sum(overheads) / len(overheads), 0.0) if overheads else 0.0
        failed = [r.rate_rps for r in self.rates if r.verdict is Verdict.FAIL]
        self.fail_rps = min(failed, default=None)
        passed = [r.rate_rps for r in self.rates if r.verdict is Verdict.PASS]
        below = [r for r in passed if self.fail_rps is None or r < self.fail_rps]
        self.pass_rps = max(below, default=None)
        self.stray_passes = [r for r in passed if self.fail_rps is not None and r > self.fail_rps]

    def next(self) -> Action:
        again = self._spoiled_again()
        if again is not None:
            return again
        low, high = self.pass_rps, self.fail_rps
        if low is not None and high is not None and high / low <= 1.0 + self.q.tolerance:
            return self.end("the bracket is within the tolerance")
        if len(self.points) >= self.q.max_points:
            return self.end(f"the search's {self.q.max_points} points are used up")
        if low is not None and low == self.q.max_rps:
            return self.end(f"{low:g}/s is the highest rate allowed")
        if high is not None and high <= self.q.lowest_rps * (1 + 1e-9):
            return self.end(self._why_not_lower())
        action = self._recheck() or self._scout() or self._decide()
        if action is not None:
            return action
        if self.left_s < _SHORTEST_S + self.overhead_s:
            return self.end(f"the budget of {self.q.budget_s:.0f} s is spent")
        return self.end(f"no decision nearer to the edge fits into the {self.left_s:.0f} s left")

    def end(self, why: str) -> Capacity:
        return answer(
            self.rates,
            passed=self.pass_rps,
            failed=self.fail_rps,
            stray_passes=self.stray_passes,
            points=self.points,
            estimate_rps=self._estimate(),
            why=why,
            tolerance=self.q.tolerance,
            confidence=self.q.confidence,
            max_rps=self.q.max_rps,
            min_rps=self.q.min_rps,
        )

    def _estimate(self) -> float | None:
        """Where the shares seen cross what is wanted: half way between two neighbouring rates that
        a smoothed curve puts on either side."""
        if not self.rates:
            return None
        forecast = Forecast(self.rates, self.q.error)
        grid = np.geomspace(self.rates[0].rate_rps, self.rates[-1].rate_rps, 256)
        passes = [forecast.passes(float(rate)) for rate in grid]
        first_bad = passes.index(False) if False in passes else 0
        if not first_bad:
            return None
        return _round(float(np.sqrt(grid[first_bad - 1] * grid[first_bad])))

    def _why_not_lower(self) -> str:
        if self.q.min_rps is not None:
            return f"{self.fail_rps:g}/s is the lowest rate allowed"
        return (
            f"below {self.q.lowest_rps:g}/s the {self.q.needed_requests} requests that a pass "
            f"needs at least do not fit into {self.q.budget_s:.0f} s; raise the budget, lower the "
            "attainment, or name a lowest rate"
        )

    # -- what spoils a point is no part of the answer

    def _spoiled_again(self) -> Action | None:
        """A point that says nothing about the server is measured once more: a passing disturbance
        is no limit. Spoiled twice in a row, it ends the search."""
        spoiled = spoiled_rate(self.points, self.fail_rps)
        if spoiled is not None:
            why = next(p.faults[0] for p in reversed(self.points) if p.rate_rps == spoiled)
            return self.end(f"two points in a row at {spoiled:g}/s are invalid: {why}")
        last = self.points[-1] if self.points else None
        if last is None or last.is_usable or last.rate_rps is None:
            return None
        if self.fail_rps is not None and last.rate_rps >= self.fail_rps:
            return None
        return self._measure(last.rate_rps, last.duration_s, "the last point was invalid: again")

    def _recheck(self) -> Action | None:
        """A lower rate failed and a higher one passed: look at the lower one once more."""
        if not self.stray_passes or self.fail_rps is None:
            return None
        at = [i for i, p in enumerate(self.points) if p.rate_rps == self.fail_rps]
        passed = [i for i, p in enumerate(self.points) if p.rate_rps in self.stray_passes]
        if at and at[-1] > max(passed):
            return None
        longest = max(self.points[i].duration_s for i in at)
        return self._measure(self.fail_rps, longest, "a higher rate passed: is it really bad?")

    # -- scout

    def _scout(self) -> Action | None:
        good, bad = self._leaning()
        if not self.rates:
            start = self.q.start_rps if self.q.min_rps is None else self.q.min_rps
            start = max(start, self.q.lowest_rps)
            start = start if self.q.max_rps is None else min(start, self.q.max_rps)
            return self._short(start, _SCOUT_REQUESTS, _SCOUT_BUDGET, "where to begin")
        if bad is None:
            assert good is not None
            if self.q.max_rps is not None and good >= self.q.max_rps:
                return None
            rate = good * _FACTOR if self.q.max_rps is None else min(good * 2.0, self.q.max_rps)
            return self._short(rate, _SCOUT_REQUESTS, _SCOUT_BUDGET, "no limit in sight")
        if good is None:
            if bad <= self.q.lowest_rps * (1 + 1e-9):
                return None
            rate = max(bad / _FACTOR, self.q.lowest_rps)
            return self._short(rate, _SCOUT_REQUESTS, _SCOUT_BUDGET, "too much already")
        if bad / good <= max(_SCOUTED, 1.0 + self.q.tolerance):
            return None
        middle = _round(math.sqrt(good * bad))
        return self._short(
            middle, _BISECT_REQUESTS, _BISECT_BUDGET, f"between {good:g} and {bad:g}"
        )

    def _leaning(self) -> tuple[float | None, float | None]:
        """(highest rate that looks good, lowest that looks bad), the first below the second."""
        bad = min((r.rate_rps for r in self.rates if leans_to_fail(r)), default=None)
        good = [r.rate_rps for r in self.rates if not leans_to_fail(r)]
        return max((r for r in good if bad is None or r < bad), default=None), bad

    def _short(self, rate: float, requests: int, share: float, why: str) -> Action | None:
        longest = max(self.q.budget_s * share, _SHORTEST_S)
        return self._measure(rate, min(max(requests / rate, _SHORTEST_S), longest), why)

    # -- decide

    def _decide(self) -> Action | None:
        """The rate whose decision narrows the interval most for what it costs."""
        return self._worth_most(_SHARE_OF_REST * self.left_s) or self._worth_most(
            self.left_s, _HOPE
        )

    def _worth_most(self, most_s: float, hope: float = 1.0) -> Measure | None:
        """What is guessed to take up to ``hope`` times as long as ``most_s`` may be tried."""
        best: Measure | None = None
        best_score = 0.0
        forecast = Forecast(self.rates, self.q.error)
        for rate in self._candidates():
            guess = forecast.guess(rate)
            gain = self._gain(rate, guess.passes)
            if guess.num_requests is None or gain < math.log1p(self.q.tolerance) / 2.0:
                continue
            cost_s = self._cost_s(rate, guess)
            try_s = min(cost_s, most_s - self.overhead_s)
            if try_s < _SHORTEST_S or try_s * hope < cost_s:
                continue
            score = gain / (cost_s + self.overhead_s + _MOVE_BUDGET * self.q.budget_s)
            if score > best_score:
                word = "does it pass?" if guess.passes else "does it fail?"
                best_score, best = score, self._measure(rate, try_s, word)
        return best

    def _candidates(self) -> list[float]:
        """Undecided rates between the highest pass and the lowest fail, measured ones and new."""
        measured = [r.rate_rps for r in self.rates]
        low = self.pass_rps if self.pass_rps is not None else min(measured) / _FACTOR
        low = max(low, self.q.lowest_rps)
        high = self.fail_rps if self.fail_rps is not None else max(measured)
        grid = {_round(r) for r in np.geomspace(low, high, _NUM_CANDIDATES)}
        full = {r.rate_rps for r in self.rates if r.num_points >= _MAX_POINTS_OF_A_RATE}
        return sorted(r for r in {*grid, *measured} - full if self._is_open(r))

    def _is_open(self, rate: float) -> bool:
        low = self.pass_rps is None or rate > self.pass_rps
        return low and (self.fail_rps is None or rate < self.fail_rps)

    def _gain(self, rate: float, passes: bool) -> float:
        """How much shorter the interval would be, on the log scale."""
        measured = [r.rate_rps for r in self.rates]
        if passes:
            return math.log(rate / (self.pass_rps or min(measured) / _FACTOR))
        return math.log((self.fail_rps or max(measured) * _FACTOR) / rate)

    def _cost_s(self, rate: float, guess: Guess) -> float:
        assert guess.num_requests is not None
        cost_s = guess.num_requests * _SURPLUS / (1.0 - SETTLE_SHARE) / rate
        seen = next((r for r in self.rates if r.rate_rps == rate), None)
        if seen is not None and seen.growing:
            cost_s = max(cost_s, seen.measured_s)
        return max(cost_s, _SHORTEST_S, self.q.shortest_pass_s if guess.passes else 0.0)

    def _measure(self, rate: float, duration_s: float, why: str) -> Measure | None:
        """None when what is left of the budget cannot hold it."""
        if duration_s + self.overhead_s > self.left_s:
            return None
        return Measure(rate_rps=rate, duration_s=duration_s, number=len(self.points), why=why)


def _round(rate: float) -> float:
    """Three digits: rates are read by people, and nothing is known more exactly."""
    return float(f"{rate:.3g}")
