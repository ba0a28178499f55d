"""A record in, what the recommendation database takes of it out. Pure.

Servings are taken, and trainings of the models that we make ourselves (``trained``). A run on a
virtual pool is left out, whatever it measured: the pool is pretended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from results.environment import stable_hash
from results.interop.foreign import number
from results.measurement import of_group
from results.prices import plain_name, region_of
from results.recommendation.observation import (
    LATENCIES,
    SINGLES,
    STATISTICS,
    TRAINING_SINGLES,
    TRAINING_SPREADS,
    Key,
    LeftOut,
    Observation,
    Traffic,
)
from results.recommendation.profile import Configuration, EvidenceKind, Machine, TrainingStep
from results.recommendation.trained import TRAINED, step_traffic, trained
from results.record import Failed, Invalid, RunRecord
from results.serving import SERVING, Serving

_SERVED = ("vllm", "simulated", "endpoint")
_KINDS = {
    "measured": EvidenceKind.MEASURED,
    "simulated": EvidenceKind.SIMULATED,
    "imported": EvidenceKind.IMPORTED,
}
# Of the traffic, what changes nothing about the load itself.
_NOT_THE_LOAD = (
    "seed",
    "salt",
    "duration_s",
    "num_requests",
    "num_warmup_requests",
    "request_timeout_s",
    "tokenizer",
)
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|API_?KEY", re.IGNORECASE)
_PARALLEL: Final = {
    "tensor_parallel_size": "tensor",
    "pipeline_parallel_size": "pipeline",
    "data_parallel_size": "data",
}

NameFailure = Callable[[Failed], str]


def error_of(failed: Failed) -> str:
    """The record's own short name of what failed."""
    return failed.error


def observe(record: RunRecord, name_failure: NameFailure = error_of) -> Observation | LeftOut:
    """``name_failure`` may read more out of a failure than its record's own word."""
    found = _what_ran(record)
    if isinstance(found, str):
        return LeftOut(run_id=record.run_id, reason=found)
    configuration, machine, model_key, source, step = found
    traffic = _traffic(record) if step is None else step_traffic(configuration.model, step)
    tags: Mapping[str, str] = record.spec.get("tags") or {}
    made = Observation(
        run_id=record.run_id,
        kind=_KINDS[record.evidence.value],
        started_at=record.started_at,
        ended_at=record.ended_at,
        duration_s=record.duration_s,
        configuration=configuration,
        machine=machine,
        traffic=traffic,
        setting="",
        lineage="",
        error=_error(record, name_failure),
        environment_hash=record.environment_hash,
        source=source,
        study=tags.get("study", ""),
        phase=tags.get("study.phase", ""),
        goal=_goal(tags),
        values=_values(record),
        reasons=_reasons(record),
        doubts=tuple(dict.fromkeys(d.code for d in record.doubts)),
        training=step,
        **_environment(record),
    )
    return _with_load(_identified(made, model_key))


def _is_probe(record: RunRecord) -> bool:
    """A short look of a study (``harness.trial``), which only decides what is measured."""
    try:
        load = (record.spec.get("tags") or {}).get("study.load", "{}")
        return bool(json.loads(load).get("window") == "probe")
    except (ValueError, AttributeError):
        return False


_Ran = tuple[Configuration, Machine, str, str, TrainingStep | None]


def _what_ran(record: RunRecord) -> _Ran | str:
    """(configuration, machine, what tells its model from others of the name, source, step of a
    training), or why it is no evidence."""
    if record.workload not in (*_SERVED, *TRAINED):
        return f"{record.workload} is no serving workload, and no training of a model of ours"
    if record.placement is not None and record.placement.virtual:
        return "measured on a virtual pool"
    if _is_probe(record) and not isinstance(record.outcome, Failed):
        return "a study's probe, and no measurement"
    if record.workload in TRAINED:
        training = trained(record, _version(record, record.workload))
        if isinstance(training, str):
            return training
        configuration, step = training
        machine = _machine(record, record.spec["workload"])
        return configuration, machine, f"training:{configuration.model}", "", step
    found = _imported(record) if "imported" in record.spec else _ours(record)
    if found is None:
        return "its spec does not say what was served"
    return found[0], found[1], found[2], found[3], None


def _identified(made: Observation, model_key: str) -> Observation:
    c, m = made.configuration, made.machine
    lineage = {
        "model": model_key,
        "server": c.model_server,
        "engine_args": dict(c.engine_args),
        "env": dict(c.env),
        # Of a training it follows from the knobs and the chips, and one that failed did not say it.
        "parallelism": {} if made.training else dict(c.parallelism),
        "machine": [plain_name(m.accelerator), m.num_chips, m.topology, m.machine_type],
        "source": made.source,
        "kind": made.kind.value,
        # Nothing tells whether two imports of unknown hardware are repeats of each other.
        "alone": made.run_id if made.kind is EvidenceKind.IMPORTED and not m.accelerator else "",
    }
    setting = {
        "lineage": lineage,
        "version": c.model_server_version,
        "image": c.image,
        "environment": made.environment_hash,
    }
    return replace(made, lineage=stable_hash(lineage), setting=stable_hash(setting))


def _ours(record: RunRecord) -> tuple[Configuration, Machine, str, str] | None:
    workload = record.spec.get("workload")
    if not isinstance(workload, Mapping):
        return None
    model, model_key = _model(workload.get("model"))
    image = record.environment.software.image_digest if record.environment else ""
    server = workload.get("kind", record.workload)
    parallel = {
        name: int(workload[key])
        for key, name in _PARALLEL.items()
        if isinstance(workload.get(key), int) and workload[key] != 1
    }
    configuration = Configuration(
        model=model,
        model_server="" if server == "endpoint" else server,
        model_server_version=_version(record, server),
        engine_args={k: v for k, v in (workload.get("engine_args") or {}).items() if v is not None},
        env=_env(workload.get("env") or {}),
        image=image,
        parallelism=parallel,
        resolved={k: v for k, v in record.resolved.items() if k not in ("observed", "asked")},
    )
    return configuration, _machine(record, workload), model_key, ""


def _version(record: RunRecord, server: str) -> str:
    if record.environment is not None:
        found = record.environment.software.packages.get(server)
        if found:
            return found
    said = record.resolved.get("version")
    return said if isinstance(said, str) else ""


def _env(env: Mapping[str, Any]) -> dict[str, str]:
    """What looks like a secret keeps its name only."""
    return {k: "(left out)" if _SECRET.search(k) else str(v) for k, v in env.items()}


def _model(said: Any) -> tuple[str, str]:
    """(name, what tells it from others of the name)."""
    if isinstance(said, Mapping):
        preset = str(said.get("preset", ""))
        return f"preset:{preset}", f"preset:{preset}:{said.get('seed', 0)}"
    text = str(said or "")
    if text.startswith(("/", "./", "../", "~")):  # a folder of one machine means nothing elsewhere
        return text.rstrip("/").rpartition("/")[2], text
    return text, text


def _machine(record: RunRecord, workload: Mapping[str, Any]) -> Machine:
    """Where it was placed, or, for what failed before that, where it was to be."""
    placed = record.placement
    if record.workload == "simulated" and workload.get("accelerator"):
        return Machine(
            accelerator=str(workload["accelerator"]),
            num_chips=int(workload.get("tensor_parallel_size") or 1),
        )
    if placed is not None:
        return Machine(
            accelerator=placed.accelerator,
            num_chips=placed.num_chips,
            topology=placed.topology,
            machine_type=placed.machine_type,
            capacity=placed.capacity,
            region=region_of(placed.zone),
            zone=placed.zone,
            num_nodes=max(1, len(set(placed.nodes))),
        )
    rungs: Sequence[Any] = record.plan.get("rungs") or ({},)
    rung: Mapping[str, Any] = rungs[0] if isinstance(rungs[0], Mapping) else {}
    device, pool = rung.get("device"), rung.get("pool")
    if not isinstance(device, Mapping):
        return Machine(accelerator="", num_chips=0)
    return Machine(
        accelerator=str(device.get("accelerator", "")),
        num_chips=int(device.get("num_chips") or 0),
        topology=str(device.get("topology") or ""),
        machine_type=str(pool.get("machine_type") or "") if isinstance(pool, Mapping) else "",
    )


def _imported(record: RunRecord) -> tuple[Configuration, Machine, str, str] | None:
    """Another tool's result: what it says of its deployment, and what somebody noted in it."""
    about = record.spec["imported"]
    labels = about.get("labels") or {}
    told = Serving(**record.spec.get(SERVING, {}))
    model, model_key = _model(record.spec.get("model"))
    placed = record.placement
    chips = number(_as_number(labels.get("num_chips")))
    configuration = Configuration(
        model=model,
        model_server=told.model_server or labels.get("model_server", ""),
        model_server_version=told.version or labels.get("model_server_version", ""),
        engine_args=told.engine_args,
        image=told.image or labels.get("image", ""),
        parallelism=told.parallelism,
        resolved=told.resolved,
    )
    if told.resolved:
        model_key = f"{model_key} {stable_hash(dict(told.resolved))}"
    machine = Machine(
        accelerator=placed.accelerator if placed else labels.get("accelerator", ""),
        num_chips=placed.num_chips if placed else int(chips or 0),
        topology=placed.topology if placed else labels.get("topology", ""),
        machine_type=labels.get("machine_type", "") or (placed.machine_type if placed else ""),
        capacity=placed.capacity if placed else labels.get("capacity", ""),
        region=labels.get("region", ""),
    )
    source = f"{about.get('tool', '')}:{told.setting}" if told.setting else about.get("tool", "")
    return configuration, machine, model_key, source


def _as_number(text: Any) -> Any:
    return int(text) if isinstance(text, str) and text.isdecimal() else text


def _traffic(record: RunRecord) -> Traffic:
    told = Serving(**record.spec.get(SERVING, {}))
    tags = record.spec.get("tags") or {}
    if "imported" in record.spec:
        return Traffic(
            key=stable_hash(record.spec.get("asked") or {}),
            arrivals=told.arrivals,
            input_tokens=told.input_tokens,
            output_tokens=told.output_tokens,
            num_users=told.concurrency,
        )
    traffic: Mapping[str, Any] = record.spec.get("traffic") or {}
    arrivals: Mapping[str, Any] = traffic.get("arrivals") or {}
    load = {k: v for k, v in traffic.items() if k not in _NOT_THE_LOAD}
    return Traffic(
        key=stable_hash(load),
        arrivals=str(arrivals.get("kind", "")),
        input_tokens=_mean_length(traffic.get("prompt_tokens")),
        output_tokens=_mean_length(traffic.get("output_tokens")),
        num_users=number(arrivals.get("num_users")),
        use_case=str(tags.get("use_case", "")),
    )


def _mean_length(length: Any) -> float | None:
    """Of a spec's fixed or uniform lengths; the others are taken from what was measured."""
    if not isinstance(length, Mapping):
        return None
    if length.get("kind") == "uniform":
        low, high = number(length.get("low")), number(length.get("high"))
        return None if low is None or high is None else (low + high) / 2.0
    return number(length.get("tokens"))


def _with_load(made: Observation) -> Observation:
    """Mean lengths as they were, and of rate and concurrency the one that Little's law gives."""
    values, traffic = dict(made.values), made.traffic
    rate = values.get("achieved_rate value")
    if rate:
        lengths = [
            tokens / rate if (tokens := values.get(f"{metric} value")) else asked
            for metric, asked in (
                ("prompt_throughput", traffic.input_tokens),
                ("output_throughput", traffic.output_tokens),
            )
        ]
        traffic = replace(traffic, input_tokens=lengths[0], output_tokens=lengths[1])
    derived = made.derived
    users, output = traffic.num_users, traffic.output_tokens
    if not rate and users and output:
        ttft, tpot = (_typical(values, name) for name in ("ttft_s", "tpot_s"))
        if ttft is not None and tpot is not None:
            rate = users / (ttft + tpot * max(output - 1.0, 0.0))
            values["achieved_rate value"] = rate
            derived = "rate = concurrency / (TTFT + TPOT × (output tokens − 1)), by Little's law"
    if users is None and rate and (e2e := values.get("e2e_s mean")) is not None:
        traffic = replace(traffic, num_users=rate * e2e)
        derived = derived or "concurrency = rate × mean end-to-end time, by Little's law"
    return replace(made, values=values, traffic=traffic, derived=derived)


def _typical(values: Mapping[str, float], metric: str) -> float | None:
    for statistic in ("p50", "mean", "unstated"):
        if (found := values.get(f"{metric} {statistic}")) is not None:
            return found
    return None


def _wanted(metric: str, statistic: str) -> bool:
    if metric in LATENCIES or metric in TRAINING_SPREADS:
        return statistic in STATISTICS
    return metric in (*SINGLES, *TRAINING_SINGLES) and statistic == "value"


def _values(record: RunRecord) -> dict[str, float]:
    return {
        f"{m.metric} {m.statistic}": m.value
        for m in of_group(record.measurements)
        if m.value is not None and _wanted(m.metric, m.statistic)
    }


def _reasons(record: RunRecord) -> dict[str, str]:
    return {
        f"{m.metric} {m.statistic}": m.reason
        for m in of_group(record.measurements)
        if m.value is None and _wanted(m.metric, m.statistic)
    }


def _error(record: RunRecord, name_failure: NameFailure) -> str:
    match record.outcome:
        case Failed() as failed:
            return name_failure(failed) or "failed"
        case Invalid():
            return "invalid"
    return ""


def _goal(tags: Mapping[str, str]) -> Key | None:
    """The first goal of the study's wish, which its runs carry as JSON."""
    try:
        goal = json.loads(tags["study.wish"])["goals"][0]
        return str(goal["metric"]), str(goal["statistic"])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _environment(record: RunRecord) -> dict[str, str]:
    if record.environment is None:
        return {}
    software, nodes = record.environment.software, record.environment.hardware
    words: dict[str, None] = {}
    for node in nodes:
        for said in (
            node.cpu_model,
            f"kernel {node.kernel}" if node.kernel else "",
            f"driver {node.driver}" if node.driver else "",
        ):
            words.setdefault(said)
    dirty = "+changes" if software.git_dirty else ""
    return {
        "environment": ", ".join(filter(None, words)),
        "driver": next((n.driver for n in nodes if n.driver), ""),
        "git_sha": f"{software.git_sha}{dirty}",
    }
