"""A run under way, and its sealing: everything known so far becomes one record.

Numbers are computed here, from the samples alone; nothing is fetched later from a deployment that
has changed.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from harness import provenance
from harness.deployment import Deployment
from harness.errors import ClientTooSlow, DeploymentError
from harness.judge import judge_load, measure_load
from harness.model_identity import model_identity
from harness.plan import RunPlan, plan_to_mapping, tuning_of, workload_hash
from harness.spec import RunSpec
from harness.specfile import spec_to_mapping
from results.checks import doubts_of
from results.client import ClientReport
from results.clock import Clock
from results.collectives import measure_collectives
from results.environment import Environment, environment_hash
from results.goodput import kept, measure_goodput
from results.lost import this_process
from results.measure import measure_cost, measure_startup, measure_token_cost
from results.measure_steps import StepContext, measure_steps
from results.measurement import Measurement
from results.record import (
    Doubt,
    Evidence,
    Failed,
    Invalid,
    Outcome,
    Placement,
    RunRecord,
    Succeeded,
    new_run_id,
)
from results.samples import CollectiveSamples, RequestSamples, Samples, StepSamples
from results.slo import Slo, slo_of
from results.slo_verdict import LimitVerdict, judge_slo
from results.store import OpenRun, RecordStore
from results.telemetry import Telemetry
from results.telemetry_doubts import doubts_of_telemetry, shares_prefixes
from results.telemetry_measure import measure_telemetry
from results.telemetry_steps import doubts_of_step_telemetry, measure_step_telemetry
from workloads.simulated.accelerators import ACCELERATORS
from workloads.traffic.spec import Traffic

LOG_TAIL_LINES = 40
# By what kind of samples a run has: the table that the record keeps them in.
_TABLES: Mapping[type, str] = {
    RequestSamples: "requests",
    StepSamples: "steps",
    CollectiveSamples: "collectives",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is known of a record so far. ``stage`` is what a failure now would be a failure of."""

    open_run: OpenRun
    tuning: Mapping[str, Any]
    asked_s: float  # monotonic
    load_before: tuple[float, float | None]
    stage: str = "placement"
    deployment: Deployment | None = None
    with_startup: bool = True
    samples: Samples | None = None
    measured: tuple[Measurement, ...] | None = None  # of these samples, where they were told before
    traffic: Traffic | None = None  # that of this repeat
    client: ClientReport | None = None
    telemetry: Telemetry | None = None  # on the load's axis
    refusal: Doubt | None = None  # why no load was sent, though nothing failed


def open_draft(
    spec: RunSpec,
    plan: RunPlan | None,
    *,
    repeat_index: int,
    experiment_id: str,
    store: RecordStore,
    clock: Clock,
) -> Draft:
    """Store the plan before anything is deployed, so that even a killed driver leaves a trace.

    ``plan`` is None for a spec that no pool can hold. Raises StoreUnwritable.
    """
    now = clock.now_utc()
    me = this_process()
    open_run = OpenRun(
        run_id=new_run_id(now),
        experiment_id=experiment_id,
        name=spec.name,
        workload=spec.workload.kind,
        workload_hash=plan.workload_hash if plan else workload_hash(spec, model_identity(spec)),
        started_at=now,
        repeat_index=repeat_index,
        num_repeats=spec.num_repeats,
        spec=spec_to_mapping(spec),
        plan=plan_to_mapping(plan) if plan else {},
        host=me.host,
        boot_id=me.boot_id,
        pid=me.pid,
        process_started_s=me.process_started_s,
    )
    store.begin(open_run)
    return Draft(
        open_run=open_run,
        tuning=tuning_of(spec),
        asked_s=clock.monotonic_s(),
        load_before=provenance.host_load(),
    )


def seal(
    draft: Draft, outcome: Outcome, *, store: RecordStore, clock: Clock, image_digest: str = ""
) -> RunRecord:
    """Compute, judge, keep. A run that succeeded becomes Invalid when a doubt says so."""
    deployment, run = draft.deployment, draft.open_run
    held_s = clock.monotonic_s() - draft.asked_s
    environment = _environment(draft, image_digest)
    doubts: tuple[Doubt, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    limits: tuple[LimitVerdict, ...] = ()
    tables = {}
    if deployment is not None and draft.samples is not None:
        found = _doubts(
            draft, draft.samples, environment, deployment.placement, _observed(deployment)
        )
        doubts = (*found, *_planned_doubts(run))
        measurements = _measurements(draft, deployment, draft.samples, held_s)
        limits = judge_slo(_slo(draft), measurements)
        tables = {_TABLES[type(draft.samples)]: draft.samples.to_table()}
        if draft.telemetry is not None:
            doubts = (*doubts, *_telemetry_doubts(draft, deployment))
            tables["telemetry"] = draft.telemetry.to_table()
    if draft.refusal is not None:
        doubts = (*doubts, draft.refusal)
    resolved = _resolved(draft, deployment) if deployment else {}
    record = RunRecord(
        run_id=run.run_id,
        experiment_id=run.experiment_id,
        name=run.name,
        workload=run.workload,
        evidence=Evidence.SIMULATED
        if deployment is not None and deployment.simulated
        else Evidence.MEASURED,
        workload_hash=run.workload_hash,
        environment_hash=environment_hash(environment, resolved) if environment else "",
        started_at=run.started_at,
        ended_at=_not_before(run.started_at, clock.now_utc()),
        duration_s=held_s,
        outcome=_judge(doubts) if isinstance(outcome, Succeeded) else outcome,
        repeat_index=run.repeat_index,
        num_repeats=run.num_repeats,
        spec=run.spec,
        plan=run.plan,
        resolved=resolved,
        seeds=_seeds(run),
        placement=deployment.placement if deployment else None,
        environment=environment,
        startup=deployment.startup if deployment and draft.with_startup else None,
        client=draft.client,
        measurements=measurements,
        slo=limits,
        doubts=doubts,
    )
    return store.seal(record, tables)


def failure(draft: Draft, error: Exception) -> Failed:
    """An exception as data, with the engine's last lines, or ours where there is no engine."""
    if isinstance(error, DeploymentError):
        tail = error.log_tail or log_tail(draft)
        return Failed(stage=error.stage, error=error.error, message=str(error), log_tail=tail)
    lines = "".join(traceback.format_exception(error)).splitlines()
    return Failed(
        stage=draft.stage,
        error=type(error).__name__,
        message=str(error) or repr(error),
        log_tail=tuple(lines[-LOG_TAIL_LINES:]),
    )


def refused(draft: Draft, error: ClientTooSlow) -> Draft:
    """A load that our own client could not have sent is no failure of what it was meant for: the
    run is invalid, as one is whose client turns out to have been late."""
    doubt = Doubt(code=error.error, message=str(error), invalidates=True)
    return replace(draft, refusal=doubt)


def interruption(draft: Draft) -> Failed:
    return Failed(
        stage="interrupted",
        error="interrupted",
        message=f"stopped by the user or the system during {draft.stage}",
        log_tail=log_tail(draft),
    )


def log_tail(draft: Draft) -> tuple[str, ...]:
    if draft.deployment is None:
        return ()
    try:
        return draft.deployment.log_tail()[-LOG_TAIL_LINES:]
    except DeploymentError as error:  # the node that holds the log may be what was lost
        return error.log_tail


def seeds_of(spec: Mapping[str, Any]) -> dict[str, int]:
    """Every seed that a spec holds, by dotted path."""
    found: dict[str, int] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else str(key))
        elif path.rpartition(".")[2] == "seed" and isinstance(value, int):
            found[path] = value

    walk(spec, "")
    return found


def _planned_doubts(run: OpenRun) -> tuple[Doubt, ...]:
    """What the plan already doubted, before anything ran."""
    return tuple(Doubt(code="planned", message=text) for text in run.plan.get("doubts", ()))


def traffic_of_repeat(traffic: Traffic | None, repeat_index: int) -> Traffic | None:
    """Each repeat sends prompts of its own, or a server that stays up would answer the second from
    its prefix cache. The first repeat has the spec's own seed."""
    return None if traffic is None else replace(traffic, seed=traffic.seed + repeat_index)


def _seeds(run: OpenRun) -> dict[str, int]:
    seeds = seeds_of(run.spec)
    if "traffic.seed" in seeds:
        seeds["traffic.seed"] += run.repeat_index  # as ``traffic_of_repeat`` does
    return seeds


def _environment(draft: Draft, image_digest: str) -> Environment | None:
    if draft.deployment is None:
        return None
    return Environment(
        software=provenance.software(draft.deployment.packages, image_digest),
        hardware=draft.deployment.hardware,
        noise=provenance.noise(draft.load_before, provenance.host_load()),
    )


def _measurements(
    draft: Draft, deployment: Deployment, samples: Samples, held_s: float
) -> tuple[Measurement, ...]:
    placement = deployment.placement
    chips = 0 if placement.virtual else placement.num_chips
    startup = deployment.startup if draft.with_startup else None
    why = "the deployment was already up" if deployment.startup else "nothing was started by us"
    load = draft.measured
    if load is None:
        load = _measured(draft, deployment, samples, chips)
    price = _usd_per_chip_hour(draft, placement.pool)
    cost = (*measure_cost(chips, held_s, price), *measure_token_cost(chips, price, load))
    server: tuple[Measurement, ...] = ()
    if isinstance(samples, StepSamples):
        server = measure_step_telemetry(draft.telemetry, kept(samples), chips)
    elif isinstance(samples, RequestSamples) and draft.telemetry is not None:
        server = measure_telemetry(draft.telemetry, samples, chips)
    goodput = deployment.goodput() if isinstance(samples, StepSamples) else None
    where = measure_goodput(goodput) if goodput is not None else ()
    return (*measure_startup(startup, why), *load, *where, *server, *cost)


def _measured(
    draft: Draft, deployment: Deployment, samples: Samples, chips: int
) -> tuple[Measurement, ...]:
    match samples:
        case RequestSamples():
            return measure_load(samples, draft.client, _slo(draft).per_request, chips)
        case CollectiveSamples():
            return measure_collectives(samples)
        case StepSamples():
            return measure_steps(kept(samples), _step_context(deployment, chips))


def _slo(draft: Draft) -> Slo:
    return slo_of(draft.open_run.spec.get("slo") or {})


def _resolved(draft: Draft, deployment: Deployment) -> dict[str, Any]:
    """What ran as it was asked and as it was; ``observed`` is what no hash may hold."""
    observed = _observed(deployment)
    resolved = {**deployment.resolved, "asked": dict(draft.tuning)}
    return {**resolved, "observed": observed} if observed else resolved


def _observed(deployment: Deployment) -> dict[str, Any]:
    observed = {**deployment.resolved.get("observed", {}), **deployment.observed()}
    attempts = deployment.attempts()
    return {**observed, "attempts": attempts} if attempts else observed


def _step_context(deployment: Deployment, num_chips: int) -> StepContext:
    """What rank 0 said of its model, and the peak of the chips where the one table has it."""
    facts = {**deployment.resolved, **deployment.observed()}
    chip = ACCELERATORS.get(deployment.placement.accelerator) if num_chips else None
    if not num_chips:
        why = "no accelerator chips"
    elif chip is None:
        why = f"no table has the peak of {deployment.placement.accelerator}"
    elif facts.get("precision") != "bfloat16":
        chip, why = None, "the table's peaks are of bfloat16, and another precision was used"
    else:
        why = ""
    reasons = {
        reason: str(facts[fact])
        for reason, fact in (
            ("why_no_communication", "comm_method"),
            ("why_no_optimizer", "optimizer_method"),
        )
        if fact in facts
    }
    return StepContext(
        **reasons,
        num_chips=num_chips,
        flops_per_token=facts.get("flops_per_token"),
        peak_flops_per_chip=chip.flops if chip else None,
        why_no_peak=why,
        checkpoint_restore_s=tuple(facts.get("checkpoint_restore_s", ())),
    )


def _doubts(
    draft: Draft,
    samples: Samples,
    environment: Environment | None,
    placement: Placement,
    observed: Mapping[str, Any],
) -> tuple[Doubt, ...]:
    if not isinstance(samples, RequestSamples):
        return doubts_of(samples, environment, placement, observed=observed)
    return judge_load(samples, draft.traffic, draft.client, environment, placement)


def _telemetry_doubts(draft: Draft, deployment: Deployment) -> tuple[Doubt, ...]:
    placement = deployment.placement
    chips = 0 if placement.virtual else placement.num_chips
    if draft.telemetry is None:
        return ()
    match draft.samples:
        case RequestSamples():
            return doubts_of_telemetry(
                draft.telemetry,
                draft.samples,
                expects_prefix_hits=shares_prefixes(draft.open_run.spec.get("traffic") or {}),
                num_chips=chips,
            )
        case StepSamples():
            return doubts_of_step_telemetry(draft.telemetry, kept(draft.samples), chips)
        case _:
            return ()


def _usd_per_chip_hour(draft: Draft, pool_name: str) -> float | None:
    """The price that the plan has for the pool that was taken."""
    for rung in draft.open_run.plan.get("rungs", ()):
        if rung["pool"]["name"] == pool_name:
            price: float | None = rung["pool"].get("usd_per_chip_hour")
            return price
    return None


def _judge(doubts: tuple[Doubt, ...]) -> Outcome:
    grave = tuple(d.code for d in doubts if d.invalidates)
    return Invalid(reasons=grave) if grave else Succeeded()


def _not_before(start: datetime, end: datetime) -> datetime:
    """UTC may step back during a run; a run never ends before it began."""
    return max(start, end)
