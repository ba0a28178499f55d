"""``windtunnel bisect``: which version made a metric worse, between a good and a bad one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.exits import Exit, told
from harness.cli.halving_tell import Question, tell, tell_plan, tell_range
from harness.cli.live import Shown
from harness.cli.nightly_work import NightAsk, past_runs
from harness.cli.options import Json, Pools, Prices, Quiet, Ray, Store, store_of
from harness.cli.versions import (
    Pairs,
    outlook_words,
    refuse_unlike,
    side_by_side,
    sides_of,
    sitting,
    why_missing,
)
from harness.errors import HarnessError, SpecError
from harness.nightly.bisect import Asked, Bisection, Found, Halving
from harness.nightly.night import Night
from harness.nightly.pairs_outlook import outlook_of_halving
from harness.nightly.subject import Version
from harness.nightly.suite import Series, Suite
from reports.change_words import change_text, interval_text
from reports.compare import Change, Comparison, Verdict
from reports.step_side import Side, side_of
from results.errors import UnknownMetric
from results.measurement import one_statistic
from results.nights import NightRole
from results.store_files import FileStore
from results.units import format_value

_Opt = typer.Option
SuitePath = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite with a subject.")]
Good = Annotated[str, typer.Argument(metavar="GOOD", help="A version that is known to be good.")]
Bad = Annotated[str, typer.Argument(metavar="BAD", help="A later one that is known to be bad.")]
SeriesName = Annotated[str, _Opt("--series", metavar="NAME", help="The run of the suite to use.")]
MetricName = Annotated[str, _Opt("--metric", metavar="NAME", help="What got worse: ttft_p99.")]
DryRun = Annotated[
    bool, _Opt("--dry-run", help="Print the versions, runs and duration; measure nothing.")
]


def bisect_(
    suite: SuitePath,
    good: Good,
    bad: Bad,
    series: SeriesName = "",
    metric: MetricName = "",
    dry_run: DryRun = False,
    ray: Ray = "local",
    pools: Pools = None,
    prices: Prices = None,
    store: Store = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find the version that made a metric worse, between a good and a bad one.

    Each version that is asked about is measured against the good one in pairs, so that drift of
    the machine is not taken for it. Versions are commits (of a merge its first parent's line), or
    the values that the suite's subject lists. A version that does not run is skipped and named.
    Exit codes: 1 found, 4 not found, 3 the good version does not run.

    Example: `windtunnel bisect suite.yaml v1.2 HEAD --series train --metric step_time_p50`
    """
    with told(as_json):
        ask = NightAsk(suite=suite, ray=ray, pools=pools, prices=prices)
        kept = store_of(store)
        question = _question(ask, good, bad, series, metric, kept)
        if dry_run:
            tell_plan(question, as_json)
            raise typer.Exit(Exit.OK)
        found = _halved(ask, question, kept, quiet)
        tell(question, found, as_json)
    told_one = found.first_bad and not found.doubt
    raise typer.Exit(Exit.REGRESSION if told_one else Exit.INVALID)


def _question(
    ask: NightAsk, good: str, bad: str, series: str, metric: str, store: FileStore
) -> Question:
    """Everything that can be wrong is found here, before anything is started."""
    sides = sides_of(ask, good, bad)
    one = _series_named(sides.suite, series)
    versions = sides.subjects.between(good, bad)
    try:
        metric = metric or one.metrics[0]
        name, statistic = one_statistic(metric)
    except UnknownMetric as error:
        raise SpecError(f"--metric {metric}: {error}") from None
    past = past_runs(store, sides.suite).get(one.name, ())
    return Question(
        sides=sides,
        asked_good=good,
        asked_bad=bad,
        series=replace(one, metrics=(metric,)),  # a verdict on it alone
        metric=name,
        statistic=statistic,
        versions=versions,
        words=sides.subjects.words([sides.good, *versions]),
        outlook=outlook_of_halving(len(versions), one, sides.suite.spec.confirm, past),
        suite_path=str(ask.suite),
        metric_text=metric,
    )


def _series_named(suite: Suite, name: str) -> Series:
    if name:
        return suite.named(name)
    if len(suite.series) == 1:
        return suite.series[0]
    names = ", ".join(one.name for one in suite.series)
    raise SpecError(f"--series: say which of {names}; one is looked at while halving")


def _halved(ask: NightAsk, question: Question, store: FileStore, quiet: bool) -> Bisection:
    halving = Halving(question.versions)
    try:
        with sitting(ask, question.sides, store, quiet) as (night, shown):
            shown.phase("bisect", outlook_words(question.outlook))
            base = night.subjects.version(question.sides.good)
            asker = _Asker(night=night, question=question, base=base)
            while (name := halving.next()) is not None:
                if why := night.over_budget():
                    return halving.result(why)
                _say_next(question, halving, name, night, shown)
                asked = asker.ask(name)
                halving.tell(asked)
                because = f" ({asked.why})" if asked.why else ""
                shown.phase("bisect", f"{question.words[name]}: {asked.found}{because}")
            found = halving.result()
            if not found.is_exact or not found.last_good:
                return found  # open, or the first bad one follows the one it was measured against
            shown.phase("bisect", "the last good one against the first bad one")
            return replace(found, doubt=asker.doubt_of(found))
    except KeyboardInterrupt:
        tell_range(question, halving.result("interrupted"))
        raise


def _say_next(question: Question, halving: Halving, name: str, night: Night, shown: Shown) -> None:
    number, most = len(halving.result().asked) + 1, question.outlook.num_sets
    ended = [run.record.duration_s for run in night.made]
    left = ""
    if ended:
        runs = 2 * max(most - number + 1, 1) * question.outlook.max_pairs
        left = f", at most some {format_value(sum(ended) / len(ended) * runs, 's')} more"
    shown.phase("bisect", f"question {number} of {most}: {question.words[name]}{left}")


@dataclass(slots=True, kw_only=True)
class _Asker:
    """``step``: the good version against the bad one, once that is measured."""

    night: Night
    question: Question
    base: Version
    step: Change | None = None

    def ask(self, name: str) -> Asked:
        """Raises HarnessError where the good version has never run: nothing can be compared."""
        question, night = self.question, self.night
        try:
            version = night.subjects.version(name)
            refuse_unlike(question.series, night.subjects, self.base, version)
        except SpecError as error:  # submodules, a folder that is not there yet
            if self.step is None:
                raise
            return Asked(version=name, found=Found.SKIPPED, why=str(error))
        made = side_by_side(night, question.series, self.base, version, self._decided())
        if made.failed is NightRole.GOOD and not self._good_ran():
            raise HarnessError(f"{question.words[question.sides.good]} does not run: {made.why}")
        change = change_of(made.comparison, question.metric, question.statistic)
        asked = asked_of(name, made, change, self.step)
        if self.step is None and asked.found is Found.BAD:
            self.step = change
        return asked

    def doubt_of(self, found: Bisection) -> str:
        """Neighbours were each measured against the good version; the answer says that they differ
        from each other, which has to hold of them side by side. "" where it does."""
        question, night = self.question, self.night
        assert self.step is not None
        good, bad = (night.subjects.version(v) for v in (found.last_good, found.first_bad))
        made = side_by_side(night, question.series, good, bad, self._decided())
        change = change_of(made.comparison, question.metric, question.statistic)
        if change is None or change.change is None:
            return made.why or "no pair of them could be made"
        if side_of(change, self.step) is Side.AFTER:
            return ""
        return made.why or f"{change_text(change)} ({interval_text(change)})"

    def _decided(self) -> Callable[[Comparison], bool]:
        def decided(comparison: Comparison) -> bool:
            change = change_of(comparison, self.question.metric, self.question.statistic)
            if change is None or change.verdict is Verdict.NOT_MEASURED:
                return True
            if self.step is None:
                return change.verdict is not Verdict.INCONCLUSIVE
            return side_of(change, self.step) is not Side.BETWEEN

        return decided

    def _good_ran(self) -> bool:
        runs = self.night.made
        return any(r.role is NightRole.GOOD and r.record.outcome.kind != "failed" for r in runs)


def change_of(made: Comparison | None, name: str, statistic: str) -> Change | None:
    changes = made.changes if made else ()
    return next((c for c in changes if (c.metric, c.statistic) == (name, statistic)), None)


def asked_of(name: str, made: Pairs, change: Change | None, step: Change | None) -> Asked:
    """What the pairs say of a version. ``step`` None: the bad one, which needs a verdict; any other
    is good or bad by the side of the step that it lies on."""
    if made.failed is NightRole.NEW:
        return Asked(version=name, found=Found.SKIPPED, why=made.why)
    if change is None:
        return Asked(version=name, found=Found.UNCLEAR, why=made.why or "no pair could be made")
    if step is None:
        found = _BY_VERDICT.get(change.verdict, Found.UNCLEAR)
    else:
        found = _BY_SIDE[side_of(change, step)]
    why = made.why
    if found is Found.UNCLEAR and not why:
        why = change.reason or "the pairs differ too much among each other"
    if change.verdict is Verdict.NOT_MEASURED:
        found = Found.SKIPPED
        why = made.why or why_missing(made.runs, change.metric, change.statistic)
    if step is None and change.verdict is Verdict.IMPROVED:
        why = "it is better"
    interval = interval_text(change)
    return Asked(
        version=name,
        found=found,
        why=why,
        change=change.change,
        low=change.low,
        high=change.high,
        num_pairs=change.num_pairs,
        told=f"{change_text(change)} ({interval})" if interval else change_text(change),
    )


_BY_VERDICT = {
    Verdict.REGRESSED: Found.BAD,
    Verdict.UNCHANGED: Found.GOOD,
    Verdict.IMPROVED: Found.GOOD,
}
_BY_SIDE = {Side.BEFORE: Found.GOOD, Side.AFTER: Found.BAD, Side.BETWEEN: Found.UNCLEAR}
