"""The run itself: plan, deploy, drive, measure, seal. Every run ends in exactly one record.

Each step is somebody else's function; this module only orders them and sees to it that whatever
happens — a refusal, a crash, an interrupt — is sealed as data before it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import psutil

from harness.deployment import Deployer, Deployment
from harness.draft import (
    Draft,
    failure,
    interruption,
    open_draft,
    refused,
    seal,
    traffic_of_repeat,
)
from harness.errors import ClientTooSlow, PlanRefused
from harness.model_identity import model_identity
from harness.plan import RunPlan, make_plan
from harness.plan_view import priced
from harness.pools import Inventory
from harness.progress import Progress
from harness.spec import RunSpec
from harness.telemetry.beside import on_load_axis, watch_over
from harness.telemetry.sampling import DEFAULT_INTERVAL_S
from results.clock import Clock
from results.errors import StoreUnwritable
from results.measurement import Measurement, of_group
from results.prices import PriceTable
from results.record import Failed, Invalid, Outcome, RunRecord, Succeeded, new_run_id
from results.samples import RequestSamples, Samples
from results.stopping import Stop, StopRule, decide_across
from results.store import RecordStore
from workloads.base import Device, Launch, RemoteServer, Workload
from workloads.registry import workload_for


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What a run stands on. ``models_dir`` is where models that a spec asks for are made.

    ``telemetry_interval_s``: between two looks at the server's side of a load; 0: none is taken.
    ``caches`` are variables that tell an engine where to keep what it compiles; those that the spec
    gives win, and every record names the others. ``doubts`` are added to every plan's own.
    """

    deployer: Deployer
    store: RecordStore
    clock: Clock
    progress: Progress
    models_dir: str
    image_digest: str = ""
    prices: PriceTable | None = None
    telemetry_interval_s: float = DEFAULT_INTERVAL_S
    caches: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


# What an engine that stays up is given for one token before it is sent another load.
ALIVE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """One run of a deployment. All of a group have the same workload and hardware."""

    plan: RunPlan
    index: int = 0


def run_spec(
    spec: RunSpec,
    context: RunContext,
    until: Sequence[StopRule] = (),
    *,
    experiment_id: str = "",
) -> Iterator[RunRecord]:
    """Run ``spec`` ``num_repeats`` times and yield each record once it is sealed.

    Stops after the first run that failed, or whose load the client cannot send: what failed once
    would only fail again, at the same price.
    With ``until`` it also stops once the valid runs so far meet every rule. ``experiment_id`` files
    the records under an experiment that has others; empty: one of their own.
    Raises StoreUnwritable when nothing can be kept, KeyboardInterrupt (after sealing) when asked
    to stop; every other trouble is in the record.
    """
    experiment_id = experiment_id or new_run_id(context.clock.now_utc())
    context.progress.phase("plan", f"planning {spec.name}")
    plan = _bound(spec, experiment_id, context)
    if isinstance(plan, RunRecord):
        yield plan
        return
    groups = (
        [range(i, i + 1) for i in range(spec.num_repeats)]
        if spec.redeploy
        else [range(spec.num_repeats)]
    )
    valid: list[tuple[Measurement, ...]] = []
    for group in groups:
        asks = iter([_Ask(plan=plan, index=index) for index in group])
        for record in _run_group(asks, experiment_id, context):
            yield record
            if isinstance(record.outcome, Failed) or _was_refused(record):
                return
            if isinstance(record.outcome, Succeeded):
                valid.append(of_group(record.measurements))
            if until and isinstance(decision := decide_across(until, valid), Stop):
                context.progress.phase("enough", decision.reason)
                return


def run_points(
    points: Iterator[RunSpec], context: RunContext, *, experiment_id: str
) -> Iterator[RunRecord]:
    """One deployment, and one run of it for each of ``points``, which differ by their traffic and
    tags alone. The next point is asked for once the last one's record was taken, and may depend on
    it. Nothing is deployed where there is no point; ends after the first run that failed.

    Before every later load the engine has to give a token: a dead one records no zeros.
    Raises what ``run_spec`` raises.
    """
    first = next(points, None)
    if first is None:
        return
    context.progress.phase("plan", f"planning {first.name}")
    plan = _bound(first, experiment_id, context)
    if isinstance(plan, RunRecord):
        yield plan
        return
    inventory = context.deployer.inventory()

    def asks() -> Iterator[_Ask]:
        yield _Ask(plan=plan)
        for spec in points:
            yield _Ask(plan=_doubted(bind(spec, inventory, context.prices), context))

    yield from _run_group(asks(), experiment_id, context)


def _bound(spec: RunSpec, experiment_id: str, context: RunContext) -> RunPlan | RunRecord:
    """The plan; the sealed record of its refusal where no pool can hold it."""
    try:
        return _doubted(bind(spec, context.deployer.inventory(), context.prices), context)
    except PlanRefused as refused:
        draft = _open(spec, None, 0, experiment_id, context)
        failed = Failed(stage="plan", error="plan_refused", message=str(refused))
        return _seal(draft, failed, context)


def _doubted(plan: RunPlan, context: RunContext) -> RunPlan:
    return replace(plan, doubts=(*plan.doubts, *context.doubts))


def _was_refused(record: RunRecord) -> bool:
    """Nothing was sent, because the client could not have kept up."""
    outcome = record.outcome
    return isinstance(outcome, Invalid) and outcome.reasons == (ClientTooSlow.error,)


def bind(spec: RunSpec, inventory: Inventory, prices: PriceTable | None) -> RunPlan:
    """``make_plan`` with what it does not look up itself: prices, the model folder, our CPUs."""
    return make_plan(
        spec,
        priced(inventory, prices) if prices is not None else inventory,
        model_identity=model_identity(spec),
        host_cpus=psutil.cpu_count(),
    )


def _run_group(
    asks: Iterator[_Ask], experiment_id: str, context: RunContext
) -> Iterator[RunRecord]:
    """One deployment and the runs that share it. A run is sealed before the deployment is taken
    down, so that a measured run survives whatever teardown brings."""
    first = next(asks)
    plan = first.plan
    workload = workload_for(plan.spec.workload)
    draft: Draft | None = _open(plan.spec, plan, first.index, experiment_id, context)
    caches: dict[str, str] = {}
    launch = _launcher(workload, context, caches)
    try:
        if plan.rungs:
            # Makes the model folder if the spec asks for one, before the startup's clock runs.
            context.progress.phase("prepare", f"preparing {plan.spec.name}")
            launch(plan.rungs[0].device)
        with context.deployer.deploy(plan, launch, context.progress.phase) as deployment:
            deployment = _with_caches(deployment, caches)
            for ask in chain([first], asks):
                if draft is None:
                    later = _open(ask.plan.spec, ask.plan, ask.index, experiment_id, context)
                    draft = replace(later, with_startup=False, deployment=deployment, stage="load")
                    deployment.check()
                    deployment.answers(ALIVE_S)
                draft = replace(draft, deployment=deployment, stage="load")
                draft = _driven(draft, workload, deployment, ask.index, ask.plan, context)
                deployment.check()  # what answered must have been alive to the end
                record = _seal(draft, Succeeded(), context)
                draft = None
                yield record
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        if draft is not None:
            _seal(draft, interruption(draft), context)
        raise
    except StoreUnwritable as error:
        if draft is not None:
            _seal_without_tables(draft, error, context)
        raise
    except ClientTooSlow as error:
        if draft is None:
            raise  # none of ours: a load has its draft
        yield _seal(refused(draft, error), Succeeded(), context)
    except Exception as error:  # sealed as data: a tuner learns from it, a report counts it
        if draft is None:
            raise  # the runs are sealed; only the teardown failed
        yield _seal(draft, failure(draft, error), context)


def _launcher(
    workload: Workload, context: RunContext, caches: dict[str, str]
) -> Callable[[Device], Launch]:
    """``caches`` is told which of the context's the launch has: its own variables win."""

    def launch(device: Device) -> Launch:
        made = workload.launch(device, context.models_dir)
        if isinstance(made, RemoteServer):
            return made
        caches.update({k: v for k, v in context.caches.items() if k not in made.env})
        return replace(made, env={**made.env, **caches})

    return launch


def _with_caches(deployment: Deployment, caches: Mapping[str, str]) -> Deployment:
    """The record says where compiled code was kept: a start that finds it is not a cold one."""
    if not caches:
        return deployment
    observed = deployment.observed
    return replace(deployment, observed=lambda: {**observed(), "caches": dict(caches)})


def _driven(
    draft: Draft,
    workload: Workload,
    deployment: Deployment,
    index: int,
    plan: RunPlan,
    context: RunContext,
) -> Draft:
    """With the load's columns, how its client did, and what was read beside it."""
    interval_s = context.telemetry_interval_s
    watch = deployment.watch(interval_s) if deployment.watch and interval_s > 0 else None
    samples, watched = watch_over(
        watch,
        context.clock.monotonic_s,
        lambda: _drive(workload, deployment, index, plan, context),
    )
    client = getattr(deployment.running.load, "last_report", None)
    telemetry = (
        on_load_axis(watched, samples, client)
        if isinstance(samples, RequestSamples)
        else deployment.telemetry()
    )
    traffic = traffic_of_repeat(plan.spec.traffic, index)
    return replace(draft, samples=samples, traffic=traffic, client=client, telemetry=telemetry)


def _drive(
    workload: Workload, deployment: Deployment, index: int, plan: RunPlan, context: RunContext
) -> Samples:
    context.progress.phase("load", _load_sentence(plan, index))
    traffic = traffic_of_repeat(plan.spec.traffic, index)
    return workload.drive(deployment.running, traffic, context.progress.advance)


def _load_sentence(plan: RunPlan, repeat_index: int) -> str:
    spec = plan.spec
    repeat = f" (run {repeat_index + 1} of {spec.num_repeats})" if spec.num_repeats > 1 else ""
    if spec.traffic is None:
        return f"training {spec.name}{repeat}"
    return f"sending {spec.traffic.arrivals.kind} traffic to {spec.name}{repeat}"


def _open(
    spec: RunSpec, plan: RunPlan | None, index: int, experiment_id: str, context: RunContext
) -> Draft:
    return open_draft(
        spec,
        plan,
        repeat_index=index,
        experiment_id=experiment_id,
        store=context.store,
        clock=context.clock,
    )


def _seal(draft: Draft, outcome: Outcome, context: RunContext) -> RunRecord:
    return seal(
        draft,
        outcome,
        store=context.store,
        clock=context.clock,
        image_digest=context.image_digest,
    )


def _seal_without_tables(draft: Draft, error: StoreUnwritable, context: RunContext) -> None:
    """The tables did not fit; the word that the run failed still may."""
    bare = replace(draft, samples=None)
    failed = Failed(stage="store", error="store_unwritable", message=str(error))
    try:
        _seal(bare, failed, context)
    except StoreUnwritable:
        # Nothing fits: the open run stays, and the next start seals it as lost.
        context.progress.phase("store", "not even the failure could be kept")
