"""``windtunnel tune``: search a deployment's knobs, measure winners again, name one or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.exits import Exit, told
from harness.cli.live import Shown, progress
from harness.cli.options import Json, Pools, Prices, Quiet, Ray, Store, store_of
from harness.cli.output import print_json, stderr, stdout
from harness.cli.session import deployer, run_context
from harness.cli.study_tables import describe_config, found_document, found_tables, trial_line
from harness.cli.tune_runs import (
    RunnerEvaluate,
    configured,
    remembered,
    trials_of,
)
from harness.errors import SpecError
from harness.settings import read_settings
from harness.spec import RunSpec
from harness.specfile import read_specs, read_yaml_as
from results.clock import SystemClock
from results.lost import seal_lost
from results.store_files import FileStore
from tuners.errors import StudyError, TunerError
from tuners.goals import Wish
from tuners.loop import Budget, Found, Part, Phase, Search, Trial
from tuners.outcome import Unusable
from tuners.predict import predictor
from tuners.seeds import Predict, Seeder
from tuners.space import Config, Space
from tuners.study_spec import StudySpec, check_study, space_of, wish_of

NUM_SEEDS = 8  # what the replay bench found best; docs/tuning.md has the figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study's file and everything that follows from it before anything runs."""

    spec: StudySpec
    base: RunSpec
    space: Space
    wish: Wish
    predict: Predict | str  # a sentence: why there is no forecast
    storage: str

    @property
    def budget(self) -> Budget:
        asked = self.spec.budget
        return Budget(
            num_trials=asked.num_trials,
            wall_s=asked.wall_s or None,
            chip_hours=asked.chip_hours or None,
            usd=asked.usd or None,
        )


def tune(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A YAML file of one study.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study kept.")] = False,
    storage: Annotated[
        str,
        typer.Option(
            "--storage",
            metavar="URL",
            help="Where Optuna keeps the study: a path, sqlite:///…, postgresql://…. Default: "
            "studies/NAME.journal beside the store.",
        ),
    ] = "",
    ray: Ray = "local",
    pools: Pools = None,
    prices: Prices = None,
    store: Store = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search a deployment's knobs for the best configuration that keeps its limits.

    Crashes are told to the search, what memory cannot hold is not tried, the best are measured
    again with other requests, and no winner is named that would not keep its limits next time.

    Examples: `windtunnel tune examples/study-simulated.yaml --dry-run`,
    `windtunnel tune examples/study-simulated.yaml`,
    `windtunnel tune examples/study-simulated.yaml --resume`
    """
    with told(as_json):
        try:
            made = read_study(study, storage)
            kept = store_of(store)
            if dry_run:
                _print_plan(made, as_json)
                raise typer.Exit(Exit.OK)
            kept.prepare()
            past = _past(made, kept, resume)
            found = _searched(made, kept, past, ray=ray, pools=pools, prices=prices, quiet=quiet)
        except TunerError as error:
            raise SpecError(str(error)) from None
        if as_json:
            print_json("windtunnel.tune/1", found_document(made.spec.name, made.wish, found))
        else:
            for part in found_tables(made.spec.name, made.wish, found):
                stdout().print(part)
    raise typer.Exit(Exit.OK if found.winner is not None else Exit.INVALID)


def read_study(path: Path, storage: str = "") -> Study:
    """Raises SpecError (the file or the run's file) and TunerError."""
    spec = read_yaml_as(str(path), StudySpec, check_study)
    specs = read_specs(str(path.parent / spec.spec))
    if len(specs) != 1:
        raise SpecError(
            f"{spec.spec} holds {len(specs)} specs; a study varies one: put it in a file of its own"
        )
    base = specs[0]
    space, wish = space_of(spec), wish_of(spec)
    for branch in space.branches():  # a knob that leads nowhere is found before anything runs
        first = {**branch.fixed, **{k.path: _some(k.domain) for k in branch.knobs}}
        configured(base, first)
    return Study(
        spec=spec,
        base=base,
        space=space,
        wish=wish,
        predict=predictor(lambda config: configured(base, config), wish, base),
        storage=storage or str(read_settings().home / "studies" / f"{spec.name}.journal"),
    )


def _some(domain: Any) -> Any:
    """A value that is not null, where there is one."""
    values = [v for v in getattr(domain, "values", ()) if v is not None]
    return values[0] if values else getattr(domain, "low", None)


def _past(study: Study, store: FileStore, resume: bool) -> list[Trial]:
    """What this study has paid for. Raises SpecError where that is unexpected, or missing."""
    past = list(trials_of(store, study.spec.name, study.space, study.wish))
    if past and not resume:
        raise SpecError(
            f"a study {study.spec.name} with {len(past)} runs is in {store.url}; --resume goes on "
            "with it, another name in the file begins anew"
        )
    if resume and not past:
        raise SpecError(
            f"no run of a study {study.spec.name} is in {store.url}; leave --resume out"
        )
    return past


def _searched(
    study: Study,
    store: FileStore,
    past: Sequence[Trial],
    *,
    ray: str,
    pools: Path | None,
    prices: Path | None,
    quiet: bool,
) -> Found:
    clock = SystemClock()
    with progress(stderr(), clock, quiet) as shown:
        for record in seal_lost(store, clock):
            shown.phase("lost", f"sealed {record.run_id} ({record.name}): its driver died")
        with deployer(ray, pools, clock, shown) as ours:
            context = run_context(ours, store, clock, shown, prices)
            evaluate = RunnerEvaluate(
                study.base, study.wish, context, study.spec.name, remembered(store, study.wish)
            )
            search = Search(
                _parts(study),
                study.wish,
                evaluate,
                study.budget,
                clock,
                max_attempts=study.spec.max_attempts,
                on_trial=lambda trial: _tell(shown, study, trial, search),
            )
            search.resume(past)
            return _run(search, study)


def _run(search: Search, study: Study) -> Found:
    spec = study.spec
    if not any(trial.phase is Phase.BASELINE for trial in search.trials):
        _refuse_blind(search.run_baseline({}), study)
    stopped_by = search.search()
    candidates = search.candidates()
    winner, judged = search.remeasure(
        candidates, top=spec.top, probability=spec.probability, max_repeats=spec.max_repeats
    )
    if winner is not None:
        why_none = ""
    elif not candidates:
        why_none = "no configuration kept every limit with its margin"
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
    )


def _refuse_blind(baseline: Trial, study: Study) -> None:
    """A study whose run never shows what is wanted would spend its budget on nothing."""
    outcome = baseline.evaluated.outcome
    if isinstance(outcome, Unusable) and any(":" in reason for reason in outcome.reasons):
        raise StudyError(
            f"the baseline of {study.spec.name} (run {', '.join(baseline.evaluated.run_ids)}) does "
            f"not show what the study wants: {'; '.join(outcome.reasons)}. Make {study.spec.spec} "
            "longer, or ask for another statistic"
        )


def _parts(study: Study) -> list[Part]:
    """Imports optuna, and torch where its sampler needs it: not before it is sure to be used."""
    from tuners.optuna_study import OptunaSearcher, sampler_named, storage_at

    storage, spec, parts = storage_at(study.storage), study.spec, []
    for branch in study.space.branches():
        seeder = (
            None
            if isinstance(study.predict, str)
            else Seeder(branch, study.wish, study.predict, seed=spec.seed)
        )
        sampler = sampler_named(
            spec.sampler,
            seed=spec.seed,
            num_trials=spec.budget.num_trials,
            num_startup=NUM_SEEDS if seeder else 10,
        )
        name = f"{spec.name}/{branch.name}" if branch.name else spec.name
        searcher = OptunaSearcher(branch, study.wish, name=name, sampler=sampler, storage=storage)
        parts.append(Part(branch=branch, searcher=searcher, seeder=seeder, num_seeds=NUM_SEEDS))
    return parts


def _tell(shown: Shown, study: Study, trial: Trial, search: Search) -> None:
    line = trial_line(trial, study.wish, search.trials, study.budget)
    shown.phase("trial", line)


def _print_plan(study: Study, as_json: bool) -> None:
    """What would be searched, and by which first trials; nothing is started."""
    branches = study.space.branches()
    forecast: list[dict[str, Any]] = []
    if not isinstance(study.predict, str):
        for branch in branches:
            seeder = Seeder(branch, study.wish, study.predict, seed=study.spec.seed)
            first: Config | None = seeder.propose([])
            forecast.append(
                {"branch": branch.name, "fit": seeder.num_candidates, "first": dict(first or {})}
            )
    body = {
        "name": study.spec.name,
        "branches": [
            {"name": b.name, "knobs": len(b.knobs), "configurations": _count(b.num_points)}
            for b in branches
        ],
        "goals": [goal.name for goal in study.wish.goals],
        "bounds": [
            {"name": b.name, "limit": b.limit, "margin": b.margin} for b in study.wish.bounds
        ],
        "forecast": forecast,
        "why_no_forecast": study.predict if isinstance(study.predict, str) else "",
        "num_trials_at_most": study.spec.budget.num_trials,
        "num_remeasured_at_least": study.spec.top * min(3, study.spec.max_repeats),
        "load_s_per_trial": study.base.traffic.duration_s if study.base.traffic else None,
        "storage": study.storage,
    }
    if as_json:
        print_json("windtunnel.tune-plan/1", body)
        return
    console = stdout()
    console.print(f"\n[bold]{study.spec.name}[/bold]  varies {study.base.name}")
    for branch in branches:
        shape = (
            f"{len(branch.knobs)} knobs, {_count(branch.num_points) or 'endless'} configurations"
        )
        console.print(f"  {branch.name or 'space'}: {shape}")
    for entry in forecast:
        console.print(
            f"  {entry['fit']} of them fit the memory; first: {describe_config(entry['first'])}"
        )
    if isinstance(study.predict, str):
        console.print(f"  no forecast: {study.predict}", markup=False)
    load = body["load_s_per_trial"]
    each = f", each a start and {load:g} s of load" if load else ""
    console.print(
        f"  at most {study.spec.budget.num_trials} trials{each}; then the best {study.spec.top} "
        f"again, {min(3, study.spec.max_repeats)} to {study.spec.max_repeats} times each"
    )


def _count(points: float) -> int | None:
    return int(points) if points != float("inf") else None
