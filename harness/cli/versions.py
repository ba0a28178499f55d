"""Two versions of the thing under test side by side: ``nightly --across``, and ``bisect``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.exits import Exit, told
from harness.cli.live import Shown, progress
from harness.cli.nightly_work import NightAsk, night_at_work
from harness.cli.options import Json, Pools, Prices, Quiet, Ray, Store, store_of
from harness.cli.output import print_json, stderr, stdout
from harness.errors import SpecError
from harness.nightly.bisect import Bisection, Found, bisect
from harness.nightly.confirm import Duel, Side, fight
from harness.nightly.journal import Journal, alone
from harness.nightly.night import Night
from harness.nightly.subject import Subjects, Version
from harness.nightly.suite import Series, read_suite
from harness.settings import read_settings
from reports.change_words import change_text, comparison_sentence, interval_text, verdict_text
from reports.compare import Comparison, Verdict
from reports.night_told import comparison_of
from results.clock import SystemClock
from results.measurement import one_statistic
from results.nights import NightRun
from results.record import new_run_id
from results.store_files import FileStore
from results.units import metric_label

_Opt = typer.Option
SuitePath = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite with a subject.")]
Good = Annotated[str, typer.Argument(metavar="GOOD", help="A version that is known to be good.")]
Bad = Annotated[str, typer.Argument(metavar="BAD", help="A later one that is known to be bad.")]
SeriesName = Annotated[str, _Opt("--series", metavar="NAME", help="The run of the suite to use.")]
MetricName = Annotated[str, _Opt("--metric", metavar="NAME", help="What got worse: ttft_p99.")]


def bisect_(
    suite: SuitePath,
    good: Good,
    bad: Bad,
    series: SeriesName = "",
    metric: MetricName = "",
    ray: Ray = "local",
    pools: Pools = None,
    prices: Prices = None,
    store: Store = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find the version that made a metric worse, between a good and a bad one.

    Each version that is asked about is measured against the good one in pairs, so that drift of
    the machine is not taken for it. Versions are commits, or the values that the suite's subject
    lists. Exit codes: 1 found, 4 not found.

    Example: `windtunnel bisect suite.yaml v1.2 HEAD --series train --metric step_time_p50`
    """
    with told(as_json):
        ask = NightAsk(suite=suite, ray=ray, pools=pools, prices=prices)
        with _session(ask, store_of(store), quiet) as (night, shown):
            one = _series_named(night, series)
            name, statistic = one_statistic(metric or one.metrics[0])
            versions = night.subjects.between(good, bad)
            base = night.subjects.version(good)
            shown.phase("bisect", f"{len(versions)} versions after {base.short}")

            def ask_about(text: str) -> Found:
                version = night.subjects.version(text)
                made = side_by_side(night, one, base, version, (name, statistic))
                found = found_of(made, name, statistic)
                shown.phase("bisect", f"{version.short} is {found}")
                return found

            found = bisect(versions, ask_about)
    _tell(found, f"{one.name}, {metric_label(name, statistic)}", as_json)
    raise typer.Exit(Exit.REGRESSION if found.first_bad else Exit.INVALID)


def across(
    ask: NightAsk, good: str, new: str, only: str, store: FileStore, *, quiet: bool, as_json: bool
) -> Exit:
    """Every series of the suite (or ``only`` one), the two versions in turn."""
    made: dict[str, Comparison | None] = {}
    with _session(ask, store, quiet) as (night, _):
        before, after = night.subjects.version(good), night.subjects.version(new)
        for one in night.suite.series if not only else (night.suite.named(only),):
            if night.subjects.at(one.spec, before) == night.subjects.at(one.spec, after):
                continue  # has no field for the version
            made[one.name] = side_by_side(night, one, before, after, None)
    if as_json:
        body = {name: None if c is None else asdict(c) for name, c in made.items()}
        print_json("windtunnel.nightly-across/1", {"good": good, "new": new, "series": body})
    else:
        for name, comparison in made.items():
            _print(name, comparison)
    verdicts = {c.verdict if c else Verdict.INCONCLUSIVE for c in made.values()}
    if Verdict.REGRESSED in verdicts:
        return Exit.REGRESSION
    return Exit.INVALID if Verdict.INCONCLUSIVE in verdicts or not made else Exit.OK


def side_by_side(
    night: Night, series: Series, good: Version, new: Version, only: tuple[str, str] | None
) -> Comparison | None:
    """The two in pairs until they decide (``only``: on that statistic); None without a pair."""

    def decided(runs: Sequence[NightRun]) -> bool:
        mine = comparison_of(runs)
        if mine is None:
            return False
        return not any(
            change.verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_MEASURED)
            for change in mine.changes
            if only in (None, (change.metric, change.statistic))
        )

    name = f"{series.name}:{good.short}..{new.short}"
    duel = Duel(
        name=name,
        series=series,
        good=Side(spec=night.subjects.at(series.spec, good), version=good),
        new=Side(spec=night.subjects.at(series.spec, new), version=new),
    )
    for _ in fight(night, duel, decided):
        pass
    return comparison_of([run for run in night.made if run.suspect == name])


@contextmanager
def _session(ask: NightAsk, store: FileStore, quiet: bool) -> Iterator[tuple[Night, Shown]]:
    """A sitting of pairs: its runs are kept, and are no night of the suite's history."""
    clock, home = SystemClock(), read_settings().home
    suite = read_suite(ask.suite, ask.overrides)
    store.prepare()
    with ExitStack() as stack:
        shown = stack.enter_context(progress(stderr(), clock, quiet))
        stack.enter_context(alone(home, f"pairs of {suite.name}"))
        night_id = new_run_id(clock.now_utc())
        label = f"{suite.name}:across"
        yield (
            stack.enter_context(
                night_at_work(
                    ask,
                    store,
                    clock,
                    shown,
                    suite=suite,
                    subjects=Subjects(suite, home / "checkouts"),
                    version=None,
                    night_id=night_id,
                    on=clock.now_utc().date(),
                    journal=Journal(home, label, night_id),
                    begun_at=clock.now_utc(),
                    filed_under=label,
                )
            ),
            shown,
        )


def _series_named(night: Night, name: str) -> Series:
    if name:
        return night.suite.named(name)
    if len(night.suite.series) == 1:
        return night.suite.series[0]
    names = ", ".join(one.name for one in night.suite.series)
    raise SpecError(f"--series: say which of {names}; one is looked at while halving")


def found_of(made: Comparison | None, name: str, statistic: str) -> Found:
    changes = made.changes if made else ()
    verdict = next(
        (c.verdict for c in changes if (c.metric, c.statistic) == (name, statistic)), None
    )
    if verdict is Verdict.REGRESSED:
        return Found.BAD
    return Found.GOOD if verdict in (Verdict.UNCHANGED, Verdict.IMPROVED) else Found.UNCLEAR


def _tell(found: Bisection, what: str, as_json: bool) -> None:
    if as_json:
        print_json("windtunnel.bisect/1", {"what": what, **asdict(found)})
        return
    console = stdout()
    for asked in found.asked:
        console.print(f"{asked.version}  {asked.found}", markup=False)
    if not found.first_bad:
        console.print(f"{what}: {found.why_none}", markup=False)
        return
    words = f"{what}: {found.first_bad} is the first that is worse"
    if found.unclear:
        words = (
            f"{what}: worse from {found.first_bad} on at the latest; not told of "
            f"{', '.join(found.unclear)}"
        )
    console.print(words, markup=False)


def _print(name: str, comparison: Comparison | None) -> None:
    console = stdout()
    if comparison is None:
        console.print(f"{name}: no pair could be made", markup=False)
        return
    console.print(f"{name}: {comparison_sentence(comparison)}", markup=False)
    for change in comparison.changes:
        label = metric_label(change.metric, change.statistic)
        console.print(
            f"  {label}: {change_text(change)} ({interval_text(change)}), {verdict_text(change)}",
            markup=False,
        )
