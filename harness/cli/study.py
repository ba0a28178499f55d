"""``windtunnel study``: what studies found, from their runs alone."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from harness.cli.exits import told
from harness.cli.options import Json, Store, store_of
from harness.cli.output import print_json, stdout
from harness.cli.study_tables import (
    baseline_of,
    best_of,
    goal_words,
    outcome_document,
    trial_table,
)
from harness.cli.tune_runs import KeptStudy, kept_studies
from harness.errors import SpecError
from harness.spec_errors import nearest
from tuners.loop import Phase, failures_by_kind

app = typer.Typer(help="What studies found.", no_args_is_help=True)


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
    for column in ("study", "runs", "failed", "best that keeps the limits", "last run (UTC)"):
        table.add_column(column, no_wrap=column == "study")
    for study in studies.values():
        best = best_of(study.wish, study.trials)
        table.add_row(
            study.name,
            str(len(study.trials)),
            str(sum(failures_by_kind(study.trials).values())),
            goal_words(best, study.wish) if best else "none",
            f"{study.ended_at:%Y-%m-%d %H:%M}",
        )
    stdout().print(table)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The study's name.")],
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Every run of a study, what failed and why, and the best so far.

    Example: `windtunnel study show simulated-knobs`
    """
    with told(as_json):
        studies = kept_studies(store_of(store))
        if name not in studies:
            known = f"there are {', '.join(studies)}" if studies else "there are none"
            raise SpecError(f"no study is called {name}{nearest(name, studies)}; {known}")
        study = studies[name]
    if as_json:
        print_json("windtunnel.study/1", {**_summary(study), "runs": _runs(study)})
        return
    console = stdout()
    console.print(f"\n[bold]{study.name}[/bold]")
    console.print(trial_table(study.wish, study.trials))
    baseline, best = baseline_of(study.trials), best_of(study.wish, study.trials)
    console.print(f"\nbaseline  {goal_words(baseline, study.wish) if baseline else 'none'}")
    console.print(f"best      {goal_words(best, study.wish) if best else 'none keeps the limits'}")
    failed = failures_by_kind(study.trials)
    if failed:
        console.print("failed    " + ", ".join(f"{n} {kind}" for kind, n in failed.items()))


def _summary(study: KeptStudy) -> dict[str, Any]:
    best, baseline = best_of(study.wish, study.trials), baseline_of(study.trials)
    return {
        "name": study.name,
        "goals": [goal.name for goal in study.wish.goals],
        "bounds": {bound.name: bound.limit for bound in study.wish.bounds},
        "num_runs": len(study.trials),
        "num_remeasured": sum(t.phase is Phase.REMEASURE for t in study.trials),
        "failures": dict(failures_by_kind(study.trials)),
        "baseline": dict(baseline.goals) if baseline else None,
        "best": dict(best.goals) if best else None,
        "started_at": study.started_at.isoformat(),
        "ended_at": study.ended_at.isoformat(),
    }


def _runs(study: KeptStudy) -> list[dict[str, Any]]:
    return [
        {
            "run_ids": list(t.evaluated.run_ids),
            "phase": str(t.phase),
            "config": dict(t.config),
            **outcome_document(t.evaluated, study.wish),
        }
        for t in study.trials
    ]
