"""How a study goes, while it goes: a few lines on a terminal, a line after each trial elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress as RichProgress
from rich.table import Table

from harness.cli.live import DRAWS_PER_S, Shown, TerminalLines, phase_bars, progress
from harness.cli.study_tables import (
    baseline_of,
    best_of,
    describe_config,
    gain_over,
    goal_words,
    outcome_words,
)
from results.clock import Clock
from results.units import format_value
from tuners.goals import Wish
from tuners.loop import Budget, Phase, Spent, Trial, failures_by_kind
from tuners.outcome import Measured, Stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyNow:
    """A study between two trials. ``elapsed_s`` and ``num_made`` are of this sitting: trials that
    an earlier one made, or that were known, say nothing about how fast this one goes.

    ``num_again``: re-measurements still to come, at least; ``searching``: false once they begin."""

    wish: Wish
    budget: Budget
    trials: Sequence[Trial] = ()
    spent: Spent = field(default_factory=Spent)
    num_foreseen: int = 0
    elapsed_s: float = 0.0
    num_made: int = 0
    num_again: int = 0
    searching: bool = True

    @property
    def searched(self) -> tuple[Trial, ...]:
        return tuple(t for t in self.trials if t.phase in (Phase.SEED, Phase.SEARCH))

    @property
    def num_keeping(self) -> int:
        return sum(
            isinstance(t.evaluated.outcome, Measured)
            and t.evaluated.outcome.reading.keeps(self.wish)
            for t in self.searched
        )

    @property
    def eta_s(self) -> float | None:
        """Until the budget's trials are made and the best measured again, at the pace of this
        sitting; sooner where another limit comes first. None before the first trial."""
        if not self.num_made:
            return None
        each_s = self.elapsed_s / self.num_made
        left: float = max(self.budget.num_trials - len(self.trials), 0)
        if not self.searching:
            left = 0.0
        if self.budget.wall_s is not None:
            left = min(left, max(self.budget.wall_s - self.elapsed_s, 0.0) / each_s)
        for limit, spent in (
            (self.budget.chip_hours, self.spent.chip_hours),
            (self.budget.usd, self.spent.usd),
        ):
            if limit is not None and spent and self.trials:
                left = min(left, max(limit - spent, 0.0) / (spent / len(self.trials)))
        return each_s * (left + self.num_again)


def status_rows(now: StudyNow) -> list[tuple[str, str]]:
    """Label and words; the same on a terminal and in a log."""
    best, baseline = best_of(now.wish, now.trials), baseline_of(now.trials)
    searched, failed = now.searched, failures_by_kind(now.trials)
    words = "none keeps the limits yet" if searched else "the baseline comes first"
    if best is not None:
        words = f"{goal_words(best, now.wish)}{gain_over(best, baseline, now.wish)}"
    rows = [("best", words)]
    if searched:
        kept = f"{now.num_keeping} of {len(searched)} keep the limits"
        rows.append(("limits", f"{kept} ({now.num_keeping / len(searched):.0%})"))
    stopped = [t for t in now.trials if isinstance(t.evaluated.outcome, Stopped)]
    if stopped:
        rows.append(("stopped", f"{len(stopped)} after their probe"))
    told = ", ".join(f"{n} {kind}" for kind, n in failed.items()) or "none"
    foreseen = f"; {now.num_foreseen} foreseen, never started" if now.num_foreseen else ""
    rows.append(("failed", told + foreseen))
    eta = "" if now.eta_s is None else f"; about {format_value(now.eta_s, 's')} to go"
    rows.append(("left", budget_left(now) + eta))
    return rows


def budget_left(now: StudyNow) -> str:
    """``18 of 30 trials, 0.4 of 2 chip-hours``: every limit that was set."""
    budget = now.budget
    words = [f"{max(budget.num_trials - len(now.trials), 0)} of {budget.num_trials} trials"]
    if budget.wall_s is not None:
        left = max(budget.wall_s - now.elapsed_s, 0.0)
        words.append(f"{format_value(left, 's')} of {format_value(budget.wall_s, 's')}")
    if budget.chip_hours is not None:
        left = max(budget.chip_hours - now.spent.chip_hours, 0.0)
        words.append(f"{left:.3g} of {budget.chip_hours:g} chip-hours")
    if budget.usd is not None:
        left = max(budget.usd - (now.spent.usd or 0.0), 0.0)
        words.append(f"{left:.2f} of {budget.usd:g} USD")
    return ", ".join(words)


def trial_words(trial: Trial, now: StudyNow) -> str:
    """``trial 5 of 30 (search) max-num-seqs=8: ttft_s p50 96 ms, keeps its limits``."""
    head = "measured again"
    if trial.phase is not Phase.REMEASURE:
        head = f"trial {trial.number} of {now.budget.num_trials} ({trial.phase})"
    known = ", known from an earlier run" if trial.evaluated.from_memory else ""
    if trial.phase is Phase.BASELINE or not trial.config:
        what = "the run as it stands"
    else:
        what = describe_config(trial.config)
    return f"{head} {what}: {outcome_words(trial.evaluated, now.wish)}{known}"


class StudyLive:
    """Shows a study: the phases of its runs as any run's, and where the whole stands."""

    def __init__(self, shown: Shown, live: _Status | None) -> None:
        self.shown, self._live = shown, live

    def trial(self, trial: Trial, now: StudyNow) -> None:
        """A trial is over."""
        rows = status_rows(now)
        if self._live is not None:
            self._live.show(trial_words(trial, now), rows)
            return
        words = "; ".join(f"{label}: {text}" for label, text in rows)
        self.shown.phase("trial", f"{trial_words(trial, now)}; {words}")


class _Status:
    """The rows above a terminal's progress line."""

    def __init__(self, live: Live, bars: RichProgress) -> None:
        self._live, self._bars = live, bars

    def show(self, last: str, rows: Sequence[tuple[str, str]]) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True, min_width=6)
        table.add_column(overflow="fold")
        for label, text in (("last", last), *rows):
            table.add_row(label, text)
        self._live.update(Group(table, self._bars))


@contextmanager
def study_live(console: Console, clock: Clock, quiet: bool = False) -> Iterator[StudyLive]:
    """What fits ``console``; a live region is cleared on leaving."""
    if not console.is_terminal or quiet:
        with progress(console, clock, quiet) as shown:
            yield StudyLive(shown, None)
        return
    bars = phase_bars(console)
    with Live(bars, console=console, transient=True, refresh_per_second=DRAWS_PER_S) as live:
        yield StudyLive(TerminalLines(bars), _Status(live, bars))
