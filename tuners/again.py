"""Candidates measured again, several at once where there is room, with the baseline beside them.

Which candidate needs another run, and which has passed, is decided by ``tuners.remeasure``; this
only runs what was decided, repeat by repeat, so that what is compared was measured side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tuners.crew import Attempts, Done
from tuners.goals import Reading, Wish
from tuners.outcome import Crashed, Measured, Transient, Unusable
from tuners.remeasure import Candidate, Judged, Verdict, choose, judge, may_beat
from tuners.space import Config
from tuners.trial import Phase


class Again:
    """``on_done`` is told of every run. ``with_baseline``: each repeat runs it once too."""

    def __init__(
        self,
        crew: Attempts,
        wish: Wish,
        on_done: Callable[[Done], None],
        *,
        with_baseline: bool,
        probability: float,
        max_repeats: int,
    ) -> None:
        self._crew, self._wish, self._on_done = crew, wish, on_done
        self._with_baseline = with_baseline
        self._probability, self._max_repeats = probability, max_repeats
        self.reference: list[Reading | None] = []  # the baseline measured again, by repeat

    def remeasure(
        self, candidates: Sequence[Candidate], top: int
    ) -> tuple[Candidate | None, tuple[tuple[Candidate, Judged], ...]]:
        """The first ``top``, as many at once as the crew has places; where none of them passes the
        next ones, one by one, until one does. Where some did, at most as many again that are
        believed to be better: the first may have passed by being slow."""
        judged: list[tuple[Candidate, Judged]] = []
        left, first = list(candidates[top:]), list(candidates[:top])
        while first:
            judged += self._judged(first[: self._crew.size])
            first = first[self._crew.size :]
        while left and not _passed(judged):
            judged += self._judged([left.pop(0)])
        for candidate in left[:top]:
            best = choose(_passed(judged), self._wish)
            again = [one for one, _ in judged]
            if best is None or not may_beat(candidate, again, best, self._wish):
                break
            judged += self._judged([candidate])
        return choose(_passed(judged), self._wish), tuple(judged)

    def _judged(self, group: Sequence[Candidate]) -> list[tuple[Candidate, Judged]]:
        """A group whose repeats are run side by side, each candidate until its own verdict."""
        found = [(c, self._verdict(c)) for c in group]
        while asked := [i for i, (_, j) in enumerate(found) if j.verdict is Verdict.MEASURE]:
            repeat = {i: len(found[i][0].fresh) + 1 for i in asked}
            missing = self._missing(max(repeat.values()))
            baselines: list[Config] = [{} for _ in missing]
            configs = [*baselines, *(found[i][0].config for i in asked)]
            repeats = [*missing, *(repeat[i] for i in asked)]
            runs = [(c, Phase.REMEASURE, n) for c, n in zip(configs, repeats, strict=True)]
            done = self._crew.run(runs, self._on_done)
            self._refer(done[: len(missing)])
            for i, one in zip(asked, done[len(missing) :], strict=True):
                found[i] = self._after(*found[i], one)
        return found

    def _after(self, candidate: Candidate, before: Judged, done: Done) -> tuple[Candidate, Judged]:
        match done.evaluated.outcome:
            case Measured(reading=reading):
                candidate = replace(candidate, fresh=(*candidate.fresh, reading))
            case Crashed():
                candidate = replace(candidate, num_failed=candidate.num_failed + 1)
            case Transient() | Unusable():
                return candidate, replace(before, verdict=Verdict.INVALID)
        return candidate, self._verdict(candidate)

    def _verdict(self, candidate: Candidate) -> Judged:
        return judge(candidate, self._wish, self._probability, self._max_repeats)

    def _missing(self, repeat: int) -> list[int]:
        """Repeats of the baseline up to this one that are still to be made: each once, begun just
        before the first candidate that needs it."""
        return list(range(len(self.reference) + 1, repeat + 1)) if self._with_baseline else []

    def _refer(self, done: Sequence[Done]) -> None:
        for one in done:
            outcome = one.evaluated.outcome
            self.reference.append(outcome.reading if isinstance(outcome, Measured) else None)


def _passed(judged: Sequence[tuple[Candidate, Judged]]) -> list[Candidate]:
    return [candidate for candidate, j in judged if j.verdict is Verdict.PASSED]
