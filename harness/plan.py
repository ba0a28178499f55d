"""Spec and inventory in, plan out; or a refusal with both numbers. Pure.

The plan holds every decision: which rungs, in which order, for how long each is waited for, what is
placed on them. Nothing after it decides anything that could change a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from harness.errors import PlanRefused
from harness.fitting import (
    Fit,
    capacities,
    fit,
    is_cpu,
    is_tpu,
    num_chips,
    passed_over,
    same_accelerator,
)
from harness.plan_doubts import plan_doubts
from harness.pools import CPU, Capacity, Inventory, NodePool
from harness.spec import Hardware, RunSpec
from harness.spec_checks import require_valid
from harness.spec_errors import nearest
from harness.spec_shape import to_mapping
from results.environment import stable_hash
from workloads.base import Device
from workloads.errors import TrafficFileUnusable
from workloads.params import LATER
from workloads.registry import Role, role_of
from workloads.traffic.brought import Field, digests_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What one process group of the deployment takes from one node."""

    cpus: float
    chips: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One way to place the deployment, complete: the pool, its bundles, and how long to wait."""

    pool: NodePool
    capacity: Capacity
    bundles: tuple[Bundle, ...]
    strategy: str  # Ray's: PACK, STRICT_PACK, SPREAD, STRICT_SPREAD; "SLICE" gangs a TPU slice
    max_wait_s: float
    device: Device


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """``measuring_s`` is the asked measuring time, or None where a request or step count rules."""

    spec: RunSpec
    rungs: tuple[Rung, ...]
    workload_hash: str
    measuring_s: float | None
    doubts: tuple[str, ...] = ()


def make_plan(
    spec: RunSpec,
    inventory: Inventory,
    *,
    model_identity: str = "",
    host_cpus: float | None = None,
) -> RunPlan:
    """Every way to place ``spec`` on the pools of ``inventory``, in the order to try them.

    For each ask in order, for each capacity type in order, every pool that can ever hold it.
    ``model_identity`` stands in the workload hash for a model folder's path (see
    ``harness.model_identity``). ``host_cpus`` are those of the machine that virtual pools share.
    Raises SpecError (the spec is wrong in itself) or PlanRefused (no pool can hold it, or a file of
    its traffic is not there or not what it should be).
    """
    require_valid(spec)
    try:
        return _planned(spec, inventory, model_identity, host_cpus)
    except TrafficFileUnusable as error:
        raise PlanRefused(
            f"spec {spec.name} names a file that its traffic cannot be made of: {error}; the file "
            "has to be here and wherever the load is sent from"
        ) from error


def _planned(
    spec: RunSpec, inventory: Inventory, model_identity: str, host_cpus: float | None
) -> RunPlan:
    digests = digests_of(spec.traffic) if spec.traffic else {}
    rungs = _rungs(spec, inventory)
    if not rungs and role_of(spec.workload) is not Role.REMOTE:
        raise PlanRefused(_refusal(spec, inventory))
    return RunPlan(
        spec=spec,
        rungs=rungs,
        workload_hash=workload_hash(spec, model_identity, digests),
        measuring_s=spec.traffic.duration_s if spec.traffic else None,
        doubts=tuple(plan_doubts(spec, rungs, inventory, host_cpus)),
    )


def workload_hash(
    spec: RunSpec, model_identity: str = "", digests: Mapping[Field, str] | None = None
) -> str:
    """Hash of what was asked of the system under test; only runs with the same are compared.

    In it: the kind of workload, the model (and its revision), the traffic, the SLO, warm-up and
    stop rules, and for training everything that decides the arithmetic of a step. Not in it: how
    the question is answered (engine arguments, parallelism, environment variables, hardware: the
    environment hash has what came of them), who asked (name, tags), and what only bounds or repeats
    a run (deadlines, num_repeats, redeploy). What is not asked (null or empty, or a later knob at
    its default) is left out, so that a knob added later breaks no history as long as nobody turns
    it. A training's tensor parallelism is in it: it decides how many sequences a step has.
    ``digests`` stand for the paths of the traffic's files.
    """
    asked = _turned(spec.workload)
    for name in (_ANSWERS - _QUESTIONS_OF.get(role_of(spec.workload), set())) & asked.keys():
        arguments = asked.pop(name)
        if name == "engine_args" and arguments.get("revision") is not None:
            asked["revision"] = arguments["revision"]
    if model_identity:
        asked["model"] = model_identity
    traffic: dict[str, Any] | None = to_mapping(spec.traffic)
    for field, digest in (digests or {}).items():
        holder: Any = traffic
        for name in field[:-1]:
            holder = holder[name]
        holder[field[-1]] = digest
    question = {"workload": asked, "traffic": traffic, "slo": to_mapping(spec.slo)}
    if spec.faults:  # what is struck on purpose is compared with its like alone
        question["faults"] = to_mapping(spec.faults)
    return stable_hash(_without_empty(question))


def _turned(workload: Any) -> dict[str, Any]:
    """The workload's fields, less those of ``workloads.params.LATER`` that nobody turned."""
    asked: dict[str, Any] = to_mapping(workload)
    for knob in fields(workload):
        if knob.metadata == LATER and getattr(workload, knob.name) == knob.default:
            del asked[knob.name]
    return asked


def _without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kept = {key: _without_empty(inner) for key, inner in value.items()}
    return {key: inner for key, inner in kept.items() if inner not in (None, "", {}, [])}


# Fields of workloads that say how the work is done, not which work.
_ANSWERS = {
    "engine_args",
    "env",
    "python",
    "tensor_parallel_size",
    "cpus_per_worker",
    "threads_per_worker",
    "launcher",
    "cwd",
    "cpu_devices_per_worker",
    "url",
    "api_key_env",
    "metrics_url",
    "strategy",
    "activation_checkpointing",
    "compile",
    "loader_workers",
    "prefetch_batches",
    "global_batch_size",
    "checkpoint_dir",
    "resume",
    "watchdog_s",
}
_QUESTIONS_OF = {Role.TRAINING: {"tensor_parallel_size"}}


# Of those, what changes an answer's speed: part of the environment that a record is filed under.
_TUNING = _ANSWERS - {
    "url",
    "api_key_env",
    "metrics_url",
    "python",
    "cwd",
    "global_batch_size",
    "checkpoint_dir",
    "resume",
    "watchdog_s",
}


def tuning_of(spec: RunSpec) -> dict[str, Any]:
    """How the work was asked to be done: engine arguments, parallelism, environment, threads."""
    return {name: v for name, v in _turned(spec.workload).items() if name in _TUNING}


def plan_to_mapping(plan: RunPlan) -> dict[str, Any]:
    """The plan as JSON-like data, less the spec, which a record keeps beside it."""
    mapping: dict[str, Any] = to_mapping(plan)
    mapping.pop("spec")
    return mapping


def _rungs(spec: RunSpec, inventory: Inventory) -> tuple[Rung, ...]:
    if role_of(spec.workload) is Role.REMOTE:
        return ()
    return tuple(
        _rung(ask, pool, held)
        for ask in spec.hardware
        for capacity in capacities(ask)
        for pool in _in_order_asked(ask, inventory)
        if pool.capacity is capacity
        and not passed_over(ask, pool, any_cpus=_no_cpu_pool(inventory))
        if isinstance(held := fit(spec, ask, pool), Fit)
    )


def _in_order_asked(ask: Hardware, inventory: Inventory) -> list[NodePool]:
    """Named pools in the order they are named; otherwise as the inventory has them."""
    rank = {name: i for i, name in enumerate(ask.pools)}
    return sorted(inventory.pools, key=lambda pool: rank.get(pool.name, len(rank)))


def _no_cpu_pool(inventory: Inventory) -> bool:
    """On a machine with an accelerator there may be no other CPUs than those beside it."""
    return not any(is_cpu(pool.accelerator) for pool in inventory.pools)


def _rung(ask: Hardware, pool: NodePool, held: Fit) -> Rung:
    bundle = Bundle(cpus=held.cpus, chips=held.chips, memory_bytes=held.memory_bytes)
    chips = held.chips * held.num_bundles
    kind = "tpu" if is_tpu(pool.accelerator) else "gpu"
    device = Device(
        kind=kind if chips and not pool.virtual else "cpu",
        accelerator=pool.accelerator if chips else CPU,
        num_chips=chips,
        num_nodes=held.num_nodes,
        topology=pool.topology if held.strategy == "SLICE" else "",
        num_slices=held.num_bundles // pool.nodes_per_slice if held.strategy == "SLICE" else 1,
    )
    return Rung(
        pool=pool,
        capacity=pool.capacity,
        bundles=(bundle,) * held.num_bundles,
        strategy=held.strategy,
        max_wait_s=ask.max_wait_s,
        device=device,
    )


# ---- refusals ----


def _refusal(spec: RunSpec, inventory: Inventory) -> str:
    """Both numbers first, then each pool's reason, then what to do."""
    asks = ", or ".join(dict.fromkeys(_describe_ask(spec, ask) for ask in spec.hardware))
    if not inventory.pools:
        return f"spec {spec.name} asks {asks}; there are no pools at all"
    have = ", ".join(pool.describe() for pool in inventory.pools)
    lines = [f"spec {spec.name} asks {asks}; pools have {have}"]
    several = len(spec.hardware) > 1
    for i, ask in enumerate(spec.hardware):
        at = f"hardware.{i}, " if several else ""
        unknown_pools = [n for n in ask.pools if n not in {p.name for p in inventory.pools}]
        lines += [
            f"  {at}pool {name}: there is none of that name"
            f"{nearest(name, [p.name for p in inventory.pools])}"
            for name in unknown_pools
        ]
        for pool in inventory.pools:
            reason = passed_over(ask, pool, any_cpus=_no_cpu_pool(inventory)) or fit(
                spec, ask, pool
            )
            lines.append(f"  {at}pool {pool.name}: {reason}")
        if not any(same_accelerator(ask.accelerator, p.accelerator) for p in inventory.pools):
            hint = nearest(ask.accelerator, [p.accelerator for p in inventory.pools])
            lines += [f"  {at}{ask.accelerator}{hint}"] if hint else []
    lines.append(
        "Ask for what a pool has, or run where such a pool is (--ray auto, --ray ray://…); "
        "--pools FILE pretends one to try placement out."
    )
    return "\n".join(lines)


def _describe_ask(spec: RunSpec, ask: Hardware) -> str:
    chips = num_chips(spec, ask)
    workload: Any = spec.workload
    if chips:
        what = f"{chips} x {ask.accelerator}"
    elif role_of(workload) is Role.TRAINING:
        what = f"{workload.num_workers} x {workload.cpus_per_worker:g} CPUs"
    else:
        what = f"{ask.cpus:g} CPU{'s' if ask.cpus != 1 else ''}"
    shape = f" ({ask.topology})" if ask.topology else ""
    memory = f" with {ask.memory_gib:g} GiB each" if ask.memory_gib else ""
    of = f" [{' or '.join(ask.capacity)}]" if ask.capacity else ""
    return f"{what}{shape}{memory}{of}"
