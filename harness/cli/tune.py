"""``windtunnel tune``: search a deployment's knobs, measure winners again, name one or none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from harness.cli.again import command_again
from harness.cli.exits import Exit, told
from harness.cli.options import Json, Pools, Prices, Quiet, Ray, Store, index_of, store_of
from harness.cli.output import print_json, stderr, stdout
from harness.cli.resolved import defaults_table, defaults_told
from harness.cli.session import deployer, price_table, run_context
from harness.cli.study_file import Study, prior, read_study
from harness.cli.study_tables import describe_config, found_document, found_tables
from harness.cli.tune_cost import check_budget, runs_like
from harness.cli.tune_keep import beating, kept_caches
from harness.cli.tune_live import study_live
from harness.cli.tune_loads import check_turns, doubts_beside, loads_document, loads_lines, longest
from harness.cli.tune_make import TrialMaker, ascent_of
from harness.cli.tune_memory import Memory
from harness.cli.tune_plan import StudyPlan, plan_document, plan_lines, study_plan
from harness.cli.tune_runs import configured
from harness.cli.tune_watch import Watch
from harness.errors import HarnessError, SpecError
from harness.runner import RunContext
from results.clock import SystemClock
from results.lost import seal_lost
from results.store_files import FileStore
from results.store_index import RunIndex
from results.study_log import StudyLog
from tuners.crew import Crew, InTurn
from tuners.errors import StorageLost, StudyError, TunerError
from tuners.guide import Guide, is_guided
from tuners.loop import Found, Part, Search
from tuners.outcome import Measured, Unusable
from tuners.prior import Prior
from tuners.remeasure import MIN_RUNS, Verdict
from tuners.storage_url import shown_storage
from tuners.study_spec import loads_in_turns
from tuners.trial import Evaluated, Phase

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

NUM_SEEDS = 8  # first trials of a branch, by the forecast where a sampler of Optuna's goes on


Storage = Annotated[
    str,
    typer.Option(
        "--storage",
        metavar="URL",
        help="Where Optuna keeps the study: a path, sqlite:///…, postgresql://…. Default: "
        "studies/NAME.journal beside the store.",
    ),
]
Parallel = Annotated[
    int | None,
    typer.Option("--parallel", min=1, metavar="N", help="Trials at once, as pools have room."),
]
LoadsAtOnce = Annotated[
    int | None,
    typer.Option(
        "--loads-at-once",
        min=1,
        metavar="N",
        help="Of the trials at once, load so many together; the others start, or wait.",
    ),
]
ShareCores = Annotated[
    bool, typer.Option("--share-cores", help="Even where they share CPUs, and say so.")
]


def tune(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A YAML file of one study.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study kept.")] = False,
    remeasure: Annotated[
        bool,
        typer.Option("--remeasure", help="Run what other studies have measured already, too."),
    ] = False,
    storage: Storage = "",
    parallel: Parallel = None,
    loads_at_once: LoadsAtOnce = None,
    share_cores: ShareCores = False,
    ray: Ray = "local",
    pools: Pools = None,
    prices: Prices = None,
    store: Store = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search a deployment's knobs for the best configuration that keeps its limits.

    What it would run, how long that takes and what it costs is said first. Crashes are told to the
    search, what memory cannot hold is not tried, the best are measured again with other requests,
    and no winner is named that would not keep its limits next time.

    Examples: `windtunnel tune examples/study-simulated.yaml --dry-run`,
    `windtunnel tune examples/study-simulated.yaml`, then `--resume` to go on,
    `windtunnel tune STUDY.yaml --parallel 2 --loads-at-once 1 --ray auto`
    """
    with told(as_json):
        try:
            made = _with(read_study(study, storage), parallel, loads_at_once, share_cores)
            check_budget(made.base, made.budget, price_table(prices), virtual=pools is not None)
            kept = store_of(store)
            index = index_of(kept)
            known = prior(made, index)
            plan = _plan(made, known, kept, index, prices)
            if dry_run:
                _print_plan(made, plan, as_json)
                raise typer.Exit(Exit.OK)
            kept.prepare()
            memory = Memory(kept, index, made.wish, made.spec.name, only_own=remeasure)
            _check_past(made, memory, resume)
            if not quiet:
                _say(stderr(), made, plan)
            found = _searched(made, known, memory, ray=ray, pools=pools, prices=prices, quiet=quiet)
        except StorageLost as error:
            raise HarnessError(str(error)) from None
        except TunerError as error:
            raise SpecError(str(error)) from None
        defaults = defaults_told(found, made.base, kept)
        if as_json:
            body = found_document(made.spec.name, made.wish, found)
            print_json("windtunnel.tune/1", {**body, "defaults": defaults})
        else:
            for part in found_tables(made.spec.name, made.wish, found):
                stdout().print(part)
            if defaults:
                stdout().print(defaults_table(defaults))
    raise typer.Exit(Exit.OK if found.winner is not None else Exit.INVALID)


def _with(
    study: Study, parallel: int | None, loads_at_once: int | None, share_cores: bool
) -> Study:
    """With what the command line says instead of the file. Raises SpecError."""
    spec = study.spec
    spec = replace(
        spec,
        parallel=spec.parallel if parallel is None else parallel,
        loads_at_once=spec.loads_at_once if loads_at_once is None else loads_at_once,
        share_cores=spec.share_cores or share_cores,
    )
    check_turns(spec, study.base)
    return replace(study, spec=spec)


def _check_past(study: Study, memory: Memory, resume: bool) -> None:
    """Raises SpecError where what this study has paid for is unexpected, or missing."""
    memory.refresh()
    num, url = len(memory.of_study()), memory.store.url
    if num and not resume:
        raise SpecError(
            f"a study {study.spec.name} with {num} runs is in {url}; --resume goes on "
            "with it, another name in the file begins anew"
        )
    if resume and not num:
        raise SpecError(f"no run of a study {study.spec.name} is in {url}; leave --resume out")


def _searched(
    study: Study,
    known: Prior,
    memory: Memory,
    *,
    ray: str,
    pools: Path | None,
    prices: Path | None,
    quiet: bool,
) -> Found:
    clock, store, spec = SystemClock(), memory.store, study.spec
    with study_live(stderr(), clock, quiet) as live, ExitStack() as stack:
        for record in seal_lost(store, clock):
            live.shown.phase("lost", f"sealed {record.run_id} ({record.name}): its driver died")
        ours = stack.enter_context(deployer(ray, pools, clock, live.shown))
        context = run_context(ours, store, clock, live.shown, prices)
        caches = stack.enter_context(kept_caches(spec, ray))
        context = replace(context, caches=caches, doubts=doubts_beside(spec, study.base, context))
        again = (spec.top + 1) * min(MIN_RUNS, spec.max_repeats)
        log = StudyLog(store.objects, spec.name)
        watch = Watch(live, log, clock, study.wish, study.budget, again)
        with watch.sitting(_asked(study), command_again(flags=("--resume",))) as found:
            if study.wish.waits_for_baseline:
                study = _against_baseline(study, memory, context)
                watch.wish, known = study.wish, prior(study, memory.index)
            maker = TrialMaker(spec, study.base, study.wish, study.space, context, memory)
            parts = stack.enter_context(_parts(study, known, len(memory.of_study())))
            stack.enter_context(beating(parts))
            search = Search(
                parts,
                study.wish,
                stack.enter_context(_crew(study, maker, context, store)),
                study.budget,
                clock,
                max_attempts=spec.max_attempts,
                on_trial=lambda trial: watch.on_trial(trial, search),
                others=maker.others,
            )
            search.resume(maker.past())
            found.append(_run(search, study))
        return found[0]


def _asked(study: Study) -> dict[str, Any]:
    """What the log keeps of the study's file."""
    asked = asdict(study.spec)
    asked["spec_path"] = str(study.path.parent / study.spec.spec)
    asked["wish"] = json.dumps(asdict(study.wish), sort_keys=True)
    return asked


@contextmanager
def _crew(study: Study, maker: TrialMaker, context: RunContext, store: FileStore) -> Iterator[Crew]:
    if study.spec.parallel == 1:
        yield InTurn(maker.evaluate)
        return
    from harness.cli.tune_crew import ray_crew  # Ray takes more than a second to import

    num_loads = loads_in_turns(study.spec)
    with ray_crew(study.spec.parallel, num_loads, maker, context, store) as crew:
        yield crew


def _against_baseline(study: Study, memory: Memory, context: RunContext) -> Study:
    """The study with the limits that are relative to the baseline as numbers: it is run first. The
    search then finds its record among what is paid for."""
    maker = TrialMaker(study.spec, study.base, study.wish, study.space, context, memory)
    baseline = maker.evaluate({}, Phase.BASELINE, 0)
    if not isinstance(baseline.outcome, Measured):
        _refuse_blind(baseline, study)
        raise StudyError(
            f"the baseline of {study.spec.name} (run {', '.join(baseline.run_ids)}) did not end "
            "well, and limits of the study are multiples of it; mend the run, or give the limits "
            "as numbers"
        )
    memory.wish = study.wish.against(baseline.outcome.reading)
    return replace(study, wish=memory.wish)


def _run(search: Search, study: Study) -> Found:
    spec = study.spec
    if not any(trial.phase is Phase.BASELINE for trial in search.trials):
        _refuse_blind(search.run_baseline({}).evaluated, study)
    stopped_by = search.search()
    candidates = search.candidates()
    winner, judged = search.remeasure(
        candidates, top=spec.top, probability=spec.probability, max_repeats=spec.max_repeats
    )
    if winner is not None:
        why_none = ""
    elif not candidates:
        why_none = "no configuration kept every limit with its margin"
    elif all(j.verdict is Verdict.INVALID for _, j in judged):
        why_none = f"the fresh runs of {len(judged)} candidates could not be used"
    else:
        why_none = (
            f"none of {len(judged)} candidates kept its limits again with probability "
            f"{spec.probability:g}"
        )
    return Found(
        trials=tuple(search.trials),
        num_foreseen=search.num_foreseen,
        stopped_by=stopped_by,
        winner=winner,
        gain=search.gain_of(winner) if winner is not None else None,
        judged=judged,
        why_none=why_none,
        spent=search.spent,
        took_s=search.took_s,
    )


def _refuse_blind(baseline: Evaluated, study: Study) -> None:
    """A study whose run never shows what is wanted would spend its budget on nothing."""
    outcome = baseline.outcome
    if isinstance(outcome, Unusable) and any(":" in reason for reason in outcome.reasons):
        raise StudyError(
            f"the baseline of {study.spec.name} (run {', '.join(baseline.run_ids)}) does "
            f"not show what the study wants: {'; '.join(outcome.reasons)}. Make {study.spec.spec} "
            "longer, or ask for another statistic"
        )


@contextmanager
def _parts(study: Study, known: Prior, num_before: int) -> Iterator[list[Part]]:
    """Imports optuna, and torch where its sampler needs it: not before it is sure to be used.
    ``num_before``: runs made until now; a sitting that goes on, or joins, draws other numbers."""
    from tuners.study_storage import kept_at

    with kept_at(study.storage) as storage:
        yield _parts_in(storage, study, known, num_before)


def _parts_in(storage: BaseStorage, study: Study, known: Prior, num_before: int) -> list[Part]:
    from tuners.optuna_study import OptunaSearcher, sampler_named

    spec, parts = study.spec, []
    seeds = 0 if study.foresight.why_no_forecast else NUM_SEEDS
    seed, num_trials = spec.seed + num_before, spec.budget.num_trials
    for branch in study.space.branches():
        sampler = sampler_named(
            spec.sampler, seed=seed, num_trials=num_trials, num_startup=seeds or 10
        )
        name = f"{spec.name}/{branch.name}" if branch.name else spec.name
        searcher = OptunaSearcher(branch, study.wish, name=name, sampler=sampler, storage=storage)
        seeder = known.seeder(branch, study.wish, study.foresight, spec.seed)
        guide = None
        if is_guided(spec.sampler, num_trials):
            guide = Guide(branch, study.wish, seeder, seed=seed)
        parts.append(
            Part(branch=branch, searcher=searcher, seeder=seeder, num_seeds=NUM_SEEDS, guide=guide)
        )
    return parts


def _plan(
    study: Study, known: Prior, store: FileStore, index: RunIndex, prices: Path | None
) -> StudyPlan:
    spec = study.spec
    return study_plan(
        name=spec.name,
        base=longest(study.base, ascent_of(study.spec, study.base)),
        branches=study.space.branches(),
        wish=study.wish,
        foresight=study.foresight,
        prior=known,
        spec_of=lambda config: configured(study.base, config),
        budget=study.budget,
        top=spec.top,
        max_repeats=spec.max_repeats,
        num_seeds=NUM_SEEDS,
        seed=spec.seed,
        prices=price_table(prices),
        past=runs_like(store, index, study.base),
        storage=shown_storage(study.storage),
        dropped=study.dropped,
        num_parallel=spec.parallel,
        num_loads=loads_in_turns(spec),
        guided=is_guided(spec.sampler, spec.budget.num_trials),
    )


def _print_plan(study: Study, plan: StudyPlan, as_json: bool) -> None:
    """What would be done; nothing is started."""
    if as_json:
        more = loads_document(study.spec, ascent_of(study.spec, study.base))
        print_json("windtunnel.tune-plan/2", {**plan_document(plan, study.wish), **more})
        return
    _say(stdout(), study, plan)


def _say(console: Console, study: Study, plan: StudyPlan) -> None:
    more = loads_lines(study.spec, study.base, ascent_of(study.spec, study.base))
    for line in (*plan_lines(plan, describe_config, study.wish), *more):
        console.print(line, markup=False, soft_wrap=True)
