"""Every point as a record of its own, so that it can be listed, opened and compared later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import psutil

from harness.bench.measure import Interrupted, Measured
from harness.capacity.measure import MeasurePoint, PointMeasured
from harness.deployment import Deployment
from harness.draft import Draft, failure, interruption, open_draft, seal
from harness.plan import make_plan
from harness.pools import Inventory
from harness.spec import RunSpec
from results.clock import Clock
from results.record import Outcome, Placement, Succeeded
from results.store import RecordStore
from workloads.base import Running, ServerTarget
from workloads.params import EndpointWorkload
from workloads.traffic.spec import Traffic


def kept_points(
    measure: MeasurePoint,
    target: ServerTarget,
    *,
    name: str,
    slo: Mapping[str, float],
    experiment_id: str,
    store: RecordStore,
    clock: Clock,
    image_digest: str = "",
) -> MeasurePoint:
    """``measure``, with one record in ``store`` for each call, failed and interrupted ones too.

    ``experiment_id`` ties the points of one search together. Raises StoreUnwritable.
    """

    def kept(traffic: Traffic) -> PointMeasured:
        spec = RunSpec(
            name=name,
            workload=EndpointWorkload(
                url=target.base_url, model=target.model, api_key_env=target.api_key_env
            ),
            traffic=traffic,
            slo=dict(slo),
        )
        plan = make_plan(spec, Inventory(pools=()), host_cpus=psutil.cpu_count())
        draft = open_draft(
            spec, plan, repeat_index=0, experiment_id=experiment_id, store=store, clock=clock
        )
        draft = replace(draft, stage="load", traffic=traffic)

        def sealed(draft: Draft, outcome: Outcome) -> str:
            kept = seal(draft, outcome, store=store, clock=clock, image_digest=image_digest)
            return kept.run_id

        try:
            measured = measure(traffic)
        except KeyboardInterrupt as stop:
            if isinstance(stop, Interrupted):
                draft = _with(draft, stop.measured)
            sealed(draft, interruption(draft))
            raise
        except Exception as error:
            sealed(draft, failure(draft, error))
            raise
        if measured.samples is None:
            # Invalid, as any run whose client was too slow: the server had no part in it.
            draft = replace(draft, refusal=measured.doubts[0])
            return replace(measured, run_id=sealed(draft, Succeeded()))
        return replace(measured, run_id=sealed(_with(draft, measured), Succeeded()))

    return kept


def _with(draft: Draft, measured: PointMeasured | Measured) -> Draft:
    return replace(
        draft,
        deployment=_deployment(measured.simulated),
        samples=measured.samples,
        client=measured.client,
    )


def _deployment(simulated: bool) -> Deployment:
    """Nothing was deployed: the server was already there."""
    return Deployment(
        running=Running(),
        placement=Placement(
            pool="endpoint", accelerator="unknown", num_chips=0, capacity="", nodes=()
        ),
        hardware=(),
        startup=None,
        simulated=simulated,
        check=lambda: None,
        log_tail=lambda: (),
    )
