"""``windtunnel study``: what studies found, from their runs alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from harness.cli.again import and_so
from harness.cli.exits import told
from harness.cli.options import Json, Store, store_of
from harness.cli.output import check_writable, print_json, stdout, writing
from harness.cli.study_kept import KeptStudy, kept_studies, kept_study, study_names_of
from harness.cli.study_space import space
from harness.cli.study_tables import (
    baseline_of,
    best_of,
    goal_words,
    outcome_document,
    race_words,
    restart_words,
    spent_document,
    trial_table,
    turn_words,
)
from harness.errors import SpecError
from harness.settings import read_settings
from harness.spec_errors import nearest
from results.store_files import FileStore
from tuners.loop import Phase, Spent, failures_by_kind
from tuners.outcome import Measured

app = typer.Typer(help="What studies found.", no_args_is_help=True)
app.command("space")(space)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The study's name.")]


@app.command("list")
def list_studies(store: Store = None, as_json: Json = False) -> None:
    """Every study that has runs in the store, one line each.

    Example: `windtunnel study list`
    """
    with told(as_json):
        studies = kept_studies(store_of(store))
    if as_json:
        print_json("windtunnel.studies/1", {"studies": [_summary(s) for s in studies.values()]})
        return
    if not studies:
        stdout().print("no study has runs here; `windtunnel tune STUDY.yaml` makes one")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in (
        "study", "state", "runs", "keep limits", "failed, invalid", "best that keeps the limits",
        "cost", "last run (UTC)",
    ):  # fmt: skip
        table.add_column(column, no_wrap=column in ("study", "state"))
    for study in studies.values():
        best = best_of(study.wish, study.trials)
        keeps, counted = _feasible(study)
        table.add_row(
            study.name,
            str(study.state),
            str(len(study.trials)),
            f"{keeps} of {counted}",
            str(sum(failures_by_kind(study.trials).values())),
            goal_words(best, study.wish) if best else "none",
            _cost_words(_spent(study)),
            f"{study.ended_at:%Y-%m-%d %H:%M}",
        )
    stdout().print(table)


@app.command("show")
def show(name: Name, store: Store = None, as_json: Json = False) -> None:
    """Every run of a study, what failed and why, and the best so far.

    Example: `windtunnel study show simulated-knobs`
    """
    with told(as_json):
        study = _found(store_of(store), name)
    if as_json:
        print_json("windtunnel.study/1", {**_summary(study), "runs": _runs(study)})
        return
    console = stdout()
    told_state = f"  {study.state}: {study.state_words}"
    console.print(Text.assemble("\n", (study.name, "bold"), told_state))
    console.print(trial_table(study.wish, study.trials))
    baseline, best = baseline_of(study.trials), best_of(study.wish, study.trials)
    keeps, counted = _feasible(study)
    console.print(f"\nbaseline  {goal_words(baseline, study.wish) if baseline else 'none'}")
    console.print(f"best      {goal_words(best, study.wish) if best else 'none keeps the limits'}")
    console.print(f"limits    {keeps} of {counted} trials keep them")
    failed = failures_by_kind(study.trials)
    if failed:
        console.print("failed    " + ", ".join(f"{n} {kind}" for kind, n in failed.items()))
    spent = _spent(study)
    console.print(f"cost      {_cost_words(spent)}")
    console.print(f"restarts  {restart_words(spent)}")
    if waited := turn_words(spent):
        console.print(f"waits     {waited}")
    if probed := race_words(study.trials, spent):
        console.print(f"probes    {probed}")
    page = f"windtunnel study report {shlex.quote(study.name)}{and_so('--store')}"
    console.print(f"page      `{page}`", markup=False, soft_wrap=True)


@app.command("report")
def report(
    name: Name,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Default: study-NAME.html with the reports."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Also as Markdown.")
    ] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Write a self-contained page about a study: the answer, what it traded, what mattered, what
    failed and why, what it cost. It opens offline, and a study that still runs has one too.

    Examples: `windtunnel study report simulated-knobs --html study.html`,
    `windtunnel study report simulated-knobs --json`
    """
    with told(as_json):
        check_writable("--html", html)
        check_writable("--markdown", markdown)
        study = _found(store_of(store), name)
        body, written = _written(study, html, markdown, only_json=as_json)
    if as_json:
        print_json("windtunnel.study-report/1", {**body, "written": [str(p) for p in written]})
    else:
        for path in written:
            print(path)  # noqa: T201


def _written(
    study: KeptStudy, html: Path | None, markdown: Path | None, *, only_json: bool
) -> tuple[Mapping[str, Any], list[Path]]:
    """The document, and the files written: a page where none is named, unless JSON was asked."""
    # Altair, scipy and optuna take seconds to import, and the other commands use none of them.
    from harness.cli.study_tell import study_told
    from reports.html import render_html
    from reports.markdown import render_markdown
    from reports.study_report import study_report, study_sentence

    known = study_told(study)
    document, written = study_report(known), []
    if html is None and markdown is None and not only_json:
        html = read_settings().reports_dir / f"study-{_file_name(study.name)}.html"
        with writing(html, "--html"):
            html.parent.mkdir(parents=True, exist_ok=True)
    for path, option, text in (
        (html, "--html", render_html),
        (markdown, "--markdown", render_markdown),
    ):
        if path is not None:
            with writing(path, option):
                path.write_text(text(document), encoding="utf-8")
            written.append(path.resolve())
    return {"sentence": study_sentence(known), **asdict(known)}, written


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def _found(store: FileStore, name: str) -> KeptStudy:
    """Raises SpecError, which names the studies there are."""
    study = kept_study(store, name)
    if study is None:
        names = study_names_of(store)
        known = f"there are {', '.join(names)}" if names else "there are none"
        raise SpecError(f"no study is called {name}{nearest(name, names)}; {known}")
    return study


def _feasible(study: KeptStudy) -> tuple[int, int]:
    """How many of the search's trials keep the limits with their margins, and of how many."""
    searched = [t for t in study.trials if t.phase in (Phase.SEED, Phase.SEARCH)]
    keeps = sum(
        isinstance(t.evaluated.outcome, Measured) and t.evaluated.outcome.reading.keeps(study.wish)
        for t in searched
    )
    return keeps, len(searched)


def _spent(study: KeptStudy) -> Spent:
    spent = Spent()
    for trial in study.trials:
        spent = spent.plus(trial.evaluated.spent)
    return spent


def _cost_words(spent: Spent) -> str:
    """``12 min of runs, 1.5 chip-hours, 3.10 USD``; no price, no money."""
    words = [f"{spent.wall_s:.0f} s of runs"]
    if spent.chip_hours:
        words.append(f"{spent.chip_hours:.3g} chip-hours")
        words.append("no price known" if spent.usd is None else f"{spent.usd:.2f} USD")
    return ", ".join(words)


def _summary(study: KeptStudy) -> dict[str, Any]:
    best, baseline = best_of(study.wish, study.trials), baseline_of(study.trials)
    keeps, counted = _feasible(study)
    spent = _spent(study)
    return {
        "name": study.name,
        "state": str(study.state),
        "state_words": study.state_words,
        "goals": [goal.name for goal in study.wish.goals],
        "bounds": {bound.name: bound.limit for bound in study.wish.bounds},
        "num_runs": len(study.trials),
        "num_trials": counted,
        "num_feasible": keeps,
        "feasible_share": keeps / counted if counted else None,
        "num_remeasured": sum(t.phase is Phase.REMEASURE for t in study.trials),
        "num_remembered": len(study.remembered),
        "num_foreseen": len(study.foreseen),
        "failures": dict(failures_by_kind(study.trials)),
        "baseline": dict(baseline.goals) if baseline else None,
        "best": dict(best.goals) if best else None,
        "spent": spent_document(spent, study.trials),
        "started_at": study.started_at.isoformat(),
        "ended_at": study.ended_at.isoformat(),
    }


def _runs(study: KeptStudy) -> list[dict[str, Any]]:
    return [
        {
            "run_ids": list(t.evaluated.run_ids),
            "phase": str(t.phase),
            "config": dict(t.config),
            "from_memory": t.evaluated.from_memory,
            "startup_s": t.evaluated.spent.startup_s,
            "startup_parts": asdict(t.evaluated.spent.startup_parts),
            "waited_s": t.evaluated.spent.waited_s,
            **outcome_document(t.evaluated, study.wish),
        }
        for t in study.trials
    ]
