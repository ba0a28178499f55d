"""Make the runs of a scaling experiment that are not yet there, one record each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness.errors import PlanRefused, SpecError
from harness.runner import RunContext, bind, run_spec
from harness.scale.ask import Cell, ScaleAsk, cells_of
from results.record import Failed, RunRecord
from results.samples import StepSamples
from results.scaling.runs import TAG_ASK, ScaleRun, scale_run
from results.store import RecordStore


def measure_scaling(
    ask: ScaleAsk, context: RunContext, experiment_id: str, done: Sequence[ScaleRun] = ()
) -> Iterator[ScaleRun]:
    """Yield each run once its record is sealed; runs in ``done`` are not made again.

    A size that failed is left alone in later rounds: what failed once would fail again, at the same
    price. Raises SpecError before anything is deployed when a size cannot be placed, and what
    ``run_spec`` raises.
    """
    have = {(r.num_workers, r.round_index, r.is_control) for r in done}
    cells = [cell for cell in cells_of(ask) if cell.key not in have]
    _require_places(cells, context)
    failed: set[tuple[int, bool]] = set()
    for i, cell in enumerate(cells):
        if (cell.num_workers, cell.is_control) in failed:
            continue
        context.progress.phase("point", f"{cell.words} ({i + 1} of {len(cells)})")
        for record in run_spec(cell.spec, context, experiment_id=experiment_id):
            if isinstance(record.outcome, Failed):
                failed.add((cell.num_workers, cell.is_control))
            yield run_of(record, context.store)


def runs_before(
    records: Iterable[RunRecord], store: RecordStore, ask: ScaleAsk, experiment_id: str
) -> tuple[ScaleRun, ...]:
    """What an experiment has already measured; failed runs are made again.

    Raises SpecError when there is nothing under that id, or it was asked otherwise.
    """
    found = list(records)
    if not found:
        raise SpecError(f"--resume {experiment_id}: the store has no run of that experiment")
    if any(r.spec.get("tags", {}).get(TAG_ASK) != ask.ask_hash for r in found):
        raise SpecError(
            f"--resume {experiment_id}: its runs were made from another spec or --mode; give the "
            "same ones (sizes and repeats may be more)"
        )
    return tuple(run_of(r, store) for r in found if not isinstance(r.outcome, Failed))


def run_of(record: RunRecord, store: RecordStore) -> ScaleRun:
    table = store.table(record, "steps")
    return scale_run(record, StepSamples.from_table(table) if table is not None else None)


def _require_places(cells: Sequence[Cell], context: RunContext) -> None:
    """Every size is planned before the first is deployed."""
    inventory = context.deployer.inventory()
    for n, cell in {cell.num_workers: cell for cell in cells}.items():
        try:
            bind(cell.spec, inventory, context.prices)
        except PlanRefused as refused:
            raise SpecError(f"--workers {n} has no place: {refused}") from None
