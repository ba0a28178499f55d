"""A bench as a record, like that of a ``run`` against an endpoint: lists and reports show it.

Imported when the load is over: the store's libraries take as long to import as the load to start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import psutil

from harness.bench.begun import Begun
from harness.bench.measure import Ending, Measured
from harness.deployment import Deployment
from harness.draft import interruption, open_draft, seal
from harness.plan import make_plan
from harness.pools import Inventory
from harness.spec import RunSpec
from results.clock import Clock
from results.record import Outcome, Placement, RunRecord, Succeeded, new_run_id
from results.store import RecordStore
from workloads.base import Running


@dataclass(frozen=True, slots=True)
class _BeganThen:
    """A clock whose date is that of the beginning, for the record that is opened after the load."""

    begun: Begun
    clock: Clock

    def monotonic_s(self) -> float:
        return self.begun.at_s

    def now_utc(self) -> datetime:
        return self.begun.at

    def sleep(self, duration_s: float) -> None:
        self.clock.sleep(duration_s)


def keep(
    spec: RunSpec,
    measured: Measured,
    begun: Begun,
    *,
    store: RecordStore,
    clock: Clock,
    image_digest: str = "",
) -> RunRecord:
    """The record of one load, kept. Raises StoreUnwritable."""
    plan = make_plan(spec, Inventory(pools=()), host_cpus=psutil.cpu_count())
    draft = open_draft(
        spec,
        plan,
        repeat_index=0,
        experiment_id=new_run_id(begun.at),
        store=store,
        clock=_BeganThen(begun, clock),
    )
    draft = replace(
        draft,
        load_before=begun.load,
        deployment=_deployment(measured),
        samples=measured.samples,
        measured=measured.measurements,
        stage="load",
        traffic=spec.traffic,
        client=measured.client,
    )
    outcome: Outcome = Succeeded()
    if measured.ending is Ending.INTERRUPTED:
        outcome = interruption(draft)
    return seal(draft, outcome, store=store, clock=clock, image_digest=image_digest)


def _deployment(measured: Measured) -> Deployment:
    """Nothing was deployed: a server that was already there."""
    return Deployment(
        running=Running(),
        placement=Placement(
            pool="endpoint", accelerator="unknown", num_chips=0, capacity="", nodes=()
        ),
        hardware=(),
        startup=None,
        simulated=measured.simulated,
        check=lambda: None,
        log_tail=lambda: (),
    )
