"""A confirmed regression makes evidence stale: what was measured before it is flagged; the runs of
the night itself are its re-measurement."""

from __future__ import annotations

from harness.cli.options import fresh_index
from harness.nightly.journal import Journal
from reports.confirm import Decision, Finding
from reports.night_told import NightTold
from results.clock import Clock
from results.index_rows import RunRow
from results.recommendation.flags import EvidenceFlag, FlagKind, append_flag
from results.record import Succeeded
from results.store_files import FileStore
from results.store_index import RunIndex
from results.units import format_change

FLAGGED = "flagged"  # the journal's event: the evidence of ``series`` was flagged


def flag_evidence(told: NightTold, store: FileStore, journal: Journal, clock: Clock) -> int:
    """How many runs were flagged. A night that goes on flags nothing twice."""
    before = {said["series"] for said in journal.read().all(FLAGGED)}
    tonight = [
        decision
        for decision in told.found(Finding.REGRESSION)
        if decision.confirmation is not None
        and decision.confirmation.night == told.date
        and decision.suspicion.series not in before
    ]
    if not tonight:
        return 0
    index = fresh_index(store)
    num = 0
    for decision in tonight:
        evidence = _evidence(decision, index)
        now = clock.now_utc()
        if evidence:
            append_flag(
                store.objects,
                EvidenceFlag(
                    kind=FlagKind.DRIFT,
                    run_ids=tuple(sorted(evidence)),
                    message=_message(told, decision),
                    at=now,
                ),
            )
        journal.append(now, FLAGGED, series=decision.suspicion.series, num_runs=len(evidence))
        num += len(evidence)
    return num


def _evidence(decision: Decision, index: RunIndex) -> set[str]:
    """Runs that asked the same of the same pool's accelerator before the step, whoever made them
    and under whatever name."""
    assert decision.confirmation is not None
    fresh = {*decision.confirmation.a_runs, *decision.confirmation.b_runs}
    good = index.briefs(decision.confirmation.a_runs, ())
    rows = [r for h in {g.workload_hash for g in good} for r in index.list(0, workload_hash=h)]
    alike = {_of(row) for row in rows if row.run_id in decision.confirmation.a_runs}
    return {
        row.run_id
        for row in rows
        if _of(row) in alike
        and row.outcome == Succeeded().kind
        and row.run_id not in fresh
        and row.started_at.date() < decision.suspicion.earliest
    }


def _of(row: RunRow) -> tuple[str, str, str, int]:
    return row.workload_hash, row.environment_hash, row.accelerator, row.num_chips


def _message(told: NightTold, decision: Decision) -> str:
    s, c = decision.suspicion, decision.confirmation
    change = c.change.change if c is not None else s.change
    return (
        f"{s.metric} {s.statistic} {format_change(change)} since {s.likely}, confirmed in pairs by "
        f"night {told.night_id}"
    )
