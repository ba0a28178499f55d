"""Two versions of the thing under test side by side: ``nightly --across``, and what it shares with
``bisect``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field

from harness.cli.exits import Exit
from harness.cli.live import Shown, progress
from harness.cli.nightly_work import NightAsk, across_label, night_at_work, past_runs
from harness.cli.output import print_json, stderr, stdout
from harness.errors import SpecError
from harness.model_identity import model_identity
from harness.nightly.confirm import Duel, Side, fight
from harness.nightly.journal import Journal, alone
from harness.nightly.night import Night
from harness.nightly.pairs_outlook import LEAST_FOR_A_VERDICT, PairsOutlook, outlook_across
from harness.nightly.subject import Subjects, Version, short_name
from harness.nightly.suite import Series, Suite, read_suite
from harness.plan import workload_hash
from harness.settings import read_settings
from reports.change_words import change_text, comparison_sentence, interval_text, verdict_text
from reports.compare import Comparison, Verdict
from reports.night_told import comparison_of
from reports.wording import find
from results.clock import SystemClock
from results.nights import NightRole, NightRun
from results.record import Failed, Invalid, new_run_id
from results.store_files import FileStore
from results.units import counted, format_value, metric_label

_MOST_WORDS = 300  # of what a run failed of


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """``comparison`` None: not one pair. ``failed``: the side whose run failed, which ended them;
    ``why``: what ended them before they decided, or ""."""

    comparison: Comparison | None
    runs: tuple[NightRun, ...] = ()
    failed: NightRole | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Two versions of a suite's subject, as they were named and as they are called."""

    suite: Suite
    subjects: Subjects
    good: str
    new: str
    words: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Under which runs in pairs are filed: they are no night of the suite's history."""
        return across_label(self.suite.name)


def sides_of(ask: NightAsk, good: str, new: str) -> Sides:
    """Raises SpecError for versions that are not there, or are one and the same."""
    suite = read_suite(ask.suite, ask.overrides)
    subjects = Subjects(suite, read_settings().home / "checkouts")
    names = subjects.name_of(good), subjects.name_of(new)
    if names[0] == names[1]:
        raise SpecError(
            f"{good} and {new} are the same version ({short_name(names[0])}): nothing to compare"
        )
    if suite.spec.confirm.max_pairs < LEAST_FOR_A_VERDICT:
        raise SpecError(
            f"confirm.max_pairs of {suite.name} is {suite.spec.confirm.max_pairs}; a verdict needs "
            f"{LEAST_FOR_A_VERDICT} pairs"
        )
    return Sides(
        suite=suite, subjects=subjects, good=names[0], new=names[1], words=subjects.words(names)
    )


def refuse_unlike(series: Series, subjects: Subjects, one: Version, other: Version) -> None:
    """Raises SpecError where the version changes what is asked: such runs are never compared."""
    specs = [subjects.at(series.spec, version) for version in (one, other)]
    if len({workload_hash(spec, model_identity(spec)) for spec in specs}) > 1:
        into = subjects.spec.into if subjects.spec else ""
        raise SpecError(
            f"{series.name}: {into} says what is asked, not what answers, so that its versions "
            "cannot be compared; a subject is put into a field such as workload.cwd, "
            "workload.python or workload.engine_args"
        )


@contextmanager
def sitting(
    ask: NightAsk, sides: Sides, store: FileStore, quiet: bool
) -> Iterator[tuple[Night, Shown]]:
    """A sitting of pairs under the home's lock. Checkouts are taken away afterwards, and those that
    a killed one left before."""
    clock, home = SystemClock(), read_settings().home
    store.prepare()
    with ExitStack() as stack:
        shown = stack.enter_context(progress(stderr(), clock, quiet))
        stack.enter_context(alone(home, f"pairs of {sides.suite.name}"))
        sides.subjects.clean()
        stack.callback(sides.subjects.clean)
        if sides.subjects.has_changes():
            shown.phase("versions", "changes that are not committed are not measured")
        night_id = new_run_id(clock.now_utc())
        night = night_at_work(
            ask,
            store,
            clock,
            shown,
            suite=sides.suite,
            subjects=sides.subjects,
            version=None,
            night_id=night_id,
            on=clock.now_utc().date(),
            journal=Journal(home, sides.label, night_id),
            begun_at=clock.now_utc(),
            filed_under=sides.label,
        )
        yield stack.enter_context(night), shown


def side_by_side(
    night: Night,
    series: Series,
    good: Version,
    new: Version,
    decided: Callable[[Comparison], bool],
) -> Pairs:
    """The two in pairs until they decide, or one of them fails."""
    name = f"{series.name}:{good.short}..{new.short}"

    def made(runs: Sequence[NightRun]) -> Comparison | None:
        return comparison_of(runs, good.short, new.short)

    def enough(runs: Sequence[NightRun]) -> bool:
        comparison = made(runs)
        return comparison is not None and decided(comparison)

    duel = Duel(
        name=name,
        series=series,
        good=Side(spec=night.subjects.at(series.spec, good), version=good),
        new=Side(spec=night.subjects.at(series.spec, new), version=new),
    )
    for _ in fight(night, duel, enough):
        pass
    runs = [run for run in night.made if run.suspect == name]
    comparison = made(runs)
    failed = [run for run in runs if isinstance(run.record.outcome, Failed)]
    if failed:
        role, why = failed[-1].role, _why_failed(failed[-1])
        return Pairs(comparison=comparison, runs=tuple(runs), failed=role, why=why)
    return Pairs(comparison=comparison, runs=tuple(runs), why=night.over_budget())


def why_missing(runs: Sequence[NightRun], name: str, statistic: str) -> str:
    """Why no run has a value of it, in the words of the first that says so."""
    for run in runs:
        if isinstance(outcome := run.record.outcome, Invalid):
            return f"{run.record.run_id} is invalid: {', '.join(outcome.reasons)}"
        found = find(run.record, name, statistic)
        if found is not None and found.reason:
            return found.reason
    return "no run has it"


def _why_failed(run: NightRun) -> str:
    outcome = run.record.outcome
    assert isinstance(outcome, Failed)
    words = " ".join(outcome.message.split())[:_MOST_WORDS]
    whose = "the good version's run" if run.role is NightRole.GOOD else "its run"
    return f"{whose} failed at {outcome.stage}: {words} (windtunnel runs show {run.record.run_id})"


# ---- every series of a suite ----


def across(
    ask: NightAsk,
    good: str,
    new: str,
    only: str,
    store: FileStore,
    *,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> Exit:
    """Every series of the suite (or ``only`` one), the two versions in turn."""
    sides = sides_of(ask, good, new)
    every = (sides.suite.named(only),) if only else sides.suite.series
    past = [r for one in every for r in past_runs(store, sides.suite).get(one.name, ())]
    outlook = outlook_across(every, sides.suite.spec.confirm, past)
    if dry_run:
        _tell_outlook(sides, every, outlook, as_json)
        return Exit.OK
    made: dict[str, Pairs] = {}
    with sitting(ask, sides, store, quiet) as (night, shown):
        before, after = (night.subjects.version(v) for v in (sides.good, sides.new))
        shown.phase("across", outlook_words(outlook))
        for one in every:
            if night.subjects.at(one.spec, before) == night.subjects.at(one.spec, after):
                continue  # has no field for the version
            refuse_unlike(one, night.subjects, before, after)
            made[one.name] = side_by_side(night, one, before, after, all_decided)
    _tell(sides, made, as_json)
    return _exit_of(made)


def all_decided(comparison: Comparison) -> bool:
    return not comparison.with_verdict(Verdict.INCONCLUSIVE)


def _exit_of(made: dict[str, Pairs]) -> Exit:
    """A regression first; then what could not be run; then what is open."""
    verdicts = {p.comparison.verdict if p.comparison else None for p in made.values()}
    if Verdict.REGRESSED in verdicts:
        return Exit.REGRESSION
    if any(p.failed for p in made.values()):
        return Exit.INFRASTRUCTURE
    told = verdicts <= {Verdict.IMPROVED, Verdict.UNCHANGED} and bool(made)
    return Exit.OK if told else Exit.INVALID


def _tell(sides: Sides, made: dict[str, Pairs], as_json: bool) -> None:
    if as_json:
        body = {
            "good": sides.good,
            "new": sides.new,
            "series": {n: asdict(p.comparison) if p.comparison else None for n, p in made.items()},
            "cut_short": {name: p.why for name, p in made.items() if p.why},
        }
        print_json("windtunnel.nightly-across/1", body)
        return
    console = stdout()
    console.print(f"good  {sides.words[sides.good]}", markup=False)
    console.print(f"new   {sides.words[sides.new]}", markup=False)
    for name, pairs in made.items():
        _print(name, pairs)
    if not made:
        console.print("no series has a field for the version")


def _print(name: str, pairs: Pairs) -> None:
    console, comparison = stdout(), pairs.comparison
    if pairs.why:
        console.print(f"{name}: cut short: {pairs.why}", markup=False)
    if comparison is None:
        console.print(f"{name}: no pair could be made", markup=False)
        return
    console.print(f"{name}: {comparison_sentence(comparison)}", markup=False)
    for change in comparison.changes:
        label = metric_label(change.metric, change.statistic)
        interval = interval_text(change)
        told = f"{change_text(change)} ({interval})" if interval else change.reason
        if change.verdict is Verdict.NOT_MEASURED:
            told = why_missing(pairs.runs, change.metric, change.statistic)
        console.print(f"  {label}: {told}, {verdict_text(change)}", markup=False)
    for d in comparison.differences:
        console.print(f"  answered differently: {d.key}: {d.a} → {d.b}", markup=False)


# ---- what it would take ----


def _tell_outlook(
    sides: Sides, every: Sequence[Series], outlook: PairsOutlook, as_json: bool
) -> None:
    if as_json:
        body = {
            "good": sides.good,
            "new": sides.new,
            "series": [one.name for one in every],
            **outlook_document(outlook),
        }
        print_json("windtunnel.nightly-across-plan/1", body)
        return
    console = stdout()
    console.print(f"good  {sides.words[sides.good]}", markup=False)
    console.print(f"new   {sides.words[sides.new]}", markup=False)
    console.print(f"of {', '.join(one.name for one in every)}", markup=False)
    console.print(outlook_words(outlook))


def outlook_document(outlook: PairsOutlook) -> dict[str, object]:
    return {**asdict(outlook), "fewest_s": outlook.fewest_s, "most_s": outlook.most_s}


def outlook_words(outlook: PairsOutlook) -> str:
    """``50 to 80 valid runs in 5 sets of pairs of some 4.2 s …: 3.5 min to 5.6 min``."""
    sets = counted(outlook.num_sets, "set")
    runs = f"{outlook.fewest_runs} to {outlook.most_runs} valid runs in {sets}"
    if outlook.most_sets > outlook.num_sets:
        most = 2 * outlook.most_sets * outlook.max_pairs
        runs += f" of pairs ({most} runs, should no version between be told)"
    else:
        runs += " of pairs"
    if outlook.run_s is None or outlook.fewest_s is None or outlook.most_s is None:
        return f"{runs}; how long one takes the first will tell"
    each = format_value(outlook.run_s, "s")
    source = (
        f"median of {counted(outlook.from_runs, 'earlier run')}"
        if outlook.from_runs
        else "its sending alone, without a startup"
    )
    low, high = (format_value(s, "s") for s in (outlook.fewest_s, outlook.most_s))
    return f"{runs}, {each} each ({source}): {low} to {high}"
