"""What is shown and logged of a study while it runs, and how its end is told to whoever asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from harness.cli.tune_live import StudyLive, StudyNow
from results.clock import Clock
from results.study_log import StudyEventKind, StudyLog
from tuners.goals import Wish
from tuners.loop import Budget, Found, Phase, Search, Trial
from tuners.outcome import Stopped

MAX_FORESEEN = 50  # kept in the log; a page shows a dozen


class Watch:
    """One sitting of a study. ``num_again``: re-measurements to expect at least. ``wish`` may be
    set once more, when the baseline has made its limits numbers."""

    def __init__(
        self,
        live: StudyLive,
        log: StudyLog,
        clock: Clock,
        wish: Wish,
        budget: Budget,
        num_again: int,
    ) -> None:
        self._live, self._log, self._clock = live, log, clock
        self.wish, self._budget, self._num_again = wish, budget, num_again
        self._begun_s = clock.monotonic_s()
        self._num_made = self._num_remeasured = self._num_logged = 0

    def on_trial(self, trial: Trial, search: Search) -> None:
        self._log_foreseen(search)
        again = trial.phase is Phase.REMEASURE
        if trial.evaluated.from_memory:
            body = {
                "run_id": trial.evaluated.run_ids[0],
                "phase": str(trial.phase),
                "config": dict(trial.config),
            }
            self._log.append(StudyEventKind.REMEMBERED, self._clock.now_utc(), body)
        else:
            self._num_made += 1
        outcome = trial.evaluated.outcome
        if isinstance(outcome, Stopped) and trial.evaluated.run_ids:
            body = {"run_id": trial.evaluated.run_ids[-1], **asdict(outcome)}
            self._log.append(StudyEventKind.STOPPED, self._clock.now_utc(), body)
        self._num_remeasured += again
        now = StudyNow(
            wish=self.wish,
            budget=self._budget,
            trials=tuple(search.trials),
            spent=search.spent,
            num_foreseen=search.num_foreseen,
            elapsed_s=self._clock.monotonic_s() - self._begun_s,
            num_made=self._num_made,
            num_again=max(self._num_again - self._num_remeasured, 0),
            searching=not again,
        )
        self._live.trial(trial, now)

    def _log_foreseen(self, search: Search) -> None:
        new = search.foreseen[self._num_logged : MAX_FORESEEN]
        for config, why in new:
            body = {"config": dict(config), "why": why}
            self._log.append(StudyEventKind.FORESEEN, self._clock.now_utc(), body)
        self._num_logged += len(new)

    @contextmanager
    def sitting(self, asked: Mapping[str, Any], command: str) -> Iterator[list[Found]]:
        """Log that the study begins and how it ends; put what it found into the list."""
        self._log.begun(self._clock.now_utc(), asked, command)
        found: list[Found] = []
        try:
            yield found
        except KeyboardInterrupt:
            self._end({"stopped_by": "it was stopped; --resume goes on", "interrupted": True})
            raise
        except Exception as error:
            words = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._end({"stopped_by": words, "why_none": words, "interrupted": True})
            raise
        (last,) = found
        self._end(
            {
                "stopped_by": last.stopped_by,
                "why_none": last.why_none,
                "num_foreseen": last.num_foreseen,
            }
        )

    def _end(self, body: Mapping[str, Any]) -> None:
        self._log.append(StudyEventKind.ENDED, self._clock.now_utc(), body)
