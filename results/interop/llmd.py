"""One record out as an llm-d Benchmark Report, schema 0.2, accepted by that project's own model.

Schema: https://github.com/llm-d/llm-d-benchmark, package ``llmd-benchmark-report`` 0.2. Only fields
of its first revision are written, so the report declares ``0.2`` and every reader of that line
takes it. What we do not know is left out, what a required field cannot have is said to be unknown,
and what the schema has no place for (SLO, goodput, doubts) stands under ``load.native``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from results.environment import stable_hash
from results.errors import NotExportable
from results.interop.foreign import mapping, number, text
from results.measure import request_metrics
from results.measurement import Measurement
from results.record import Evidence, Failed, Invalid, RunRecord
from results.samples import FloatColumn, RequestSamples

SCHEMA = "0.2"
UNKNOWN = "unknown"
_PERCENTILES = {"p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99", "p99.9": "p99p9"}
_LATENCIES = (
    ("ttft_s", "time_to_first_token", "s"),
    ("tpot_s", "time_per_output_token", "s/token"),
    ("ntpot_s", "normalized_time_per_output_token", "s/token"),
    ("itl_s", "inter_token_latency", "s/token"),
    ("e2e_s", "request_latency", "s"),
)
_RATES = (
    ("achieved_rate", "request_rate", "queries/s"),
    ("output_throughput", "output_token_rate", "tokens/s"),
    ("prompt_throughput", "input_token_rate", "tokens/s"),
)
# The schema's serving reports have no place for these; a reader of ``native`` finds them.
_OURS_ALONE = ("goodput_rate", "slo_attainment", "dispatch_lag_s", "inter_chunk_s", "startup_s")


def llmd_report(
    record: RunRecord, samples: RequestSamples | None, *, allow_invalid: bool = False
) -> dict[str, Any]:
    """The report as JSON values, validated. Raises NotExportable: for a run that failed, that is
    invalid (unless allowed, and then it says so), that served nothing, or without the package."""
    _check(record, allow_invalid)
    document = _without_none(
        {
            "version": SCHEMA,
            "run": _run(record),
            "scenario": {"stack": _stack(record), "load": _load(record, samples)},
            "results": {"request_performance": {"aggregate": _aggregate(record, samples)}},
        }
    )
    return _validated(document)


def _validated(document: dict[str, Any]) -> dict[str, Any]:
    try:
        # Optional, and half a second to import: only an export pays for it.
        from llmd_benchmark_report import load_benchmark_report
    except ImportError:
        raise NotExportable(
            "llm-d's report package is not installed (this project's extra `interop`): "
            "pip install 'llmd-benchmark-report>=0.2,<0.3'"
        ) from None
    return load_benchmark_report(document).dump()


def _check(record: RunRecord, allow_invalid: bool) -> None:
    match record.outcome:
        case Failed(stage=stage, error=error):
            raise NotExportable(f"run {record.run_id} failed during {stage} ({error}): no numbers")
        case Invalid(reasons=reasons) if not allow_invalid:
            raise NotExportable(
                f"run {record.run_id} is invalid ({', '.join(reasons)}): its numbers must not be "
                "used. --allow-invalid writes them all the same, and says so in the report"
            )
    if _value(record, "achieved_rate") is None:
        raise NotExportable(
            f"run {record.run_id} ({record.workload}) answered no requests: a benchmark report of "
            "llm-d is about serving"
        )


def _run(record: RunRecord) -> dict[str, Any]:
    return {
        "uid": record.run_id,
        "eid": record.experiment_id,
        "time": {
            "start": record.started_at.isoformat(),
            "end": record.ended_at.isoformat(),
            "duration": f"PT{record.duration_s:.6g}S",
        },
        "description": _description(record),
        "keywords": ["windtunnel", record.evidence.value, record.outcome.kind],
    }


def _description(record: RunRecord) -> str:
    """What must be known before any number is read stands first."""
    words = [record.name]
    if record.evidence is Evidence.SIMULATED:
        words.insert(0, "SIMULATED, nothing was measured:")
    if record.evidence is Evidence.IMPORTED:
        tool = text(mapping(record.spec, "imported").get("tool"))
        words.insert(0, f"IMPORTED from {tool or 'another tool'}, not measured by windtunnel:")
    if isinstance(record.outcome, Invalid):
        words.insert(0, f"INVALID ({', '.join(record.outcome.reasons)}), not to be used:")
    if record.placement is not None and record.placement.virtual:
        words.append("(virtual pool: the hardware it names was pretended)")
    return " ".join(words)


def _model(record: RunRecord) -> str:
    asked = mapping(record.spec, "workload").get("model", record.spec.get("model"))
    if isinstance(asked, Mapping):
        return f"{asked.get('preset', UNKNOWN)} (made by windtunnel, random weights)"
    return text(asked) or UNKNOWN


def _stack(record: RunRecord) -> list[dict[str, Any]]:
    """One component: the engine we deployed, or the endpoint that we know by its model alone."""
    config = dict(record.resolved)
    arguments = dict(mapping(record.spec, "workload", "engine_args"))
    engine = record.workload == "vllm" and record.evidence is Evidence.MEASURED
    standardized = _engine(record, arguments) if engine else _endpoint(record)
    return [
        {
            "metadata": {
                "label": f"{record.workload}-0",
                "cfg_id": record.environment_hash or stable_hash(config),
            },
            "standardized": standardized,
            "native": {"args": arguments, "config": config} if engine else {},
        }
    ]


def _engine(record: RunRecord, arguments: Mapping[str, Any]) -> dict[str, Any]:
    packages = record.environment.software.packages if record.environment else {}
    place = record.placement
    # What a virtual pool pretends is no accelerator.
    real = place is not None and not place.virtual and place.num_chips > 0
    tensor = mapping(record.spec, "workload").get("tensor_parallel_size")
    parallelism = {
        "tp": tensor or arguments.get("tensor-parallel-size"),
        "pp": arguments.get("pipeline-parallel-size"),
        "dp": arguments.get("data-parallel-size"),
    }
    return {
        "kind": "inference_engine",
        "tool": "vllm",
        "tool_version": packages.get("vllm", UNKNOWN),
        "role": "replica",
        "replicas": 1,
        "model": {"name": _model(record)},
        "accelerator": {
            "model": place.accelerator if real and place else "cpu",
            "count": place.num_chips if real and place else 0,
            "parallelism": {k: v for k, v in parallelism.items() if isinstance(v, int)},
        },
    }


def _endpoint(record: RunRecord) -> dict[str, Any]:
    simulated = record.evidence is Evidence.SIMULATED
    return {
        "kind": "generic",
        "tool": "simulated server" if simulated else "OpenAI-compatible endpoint",
        "tool_version": UNKNOWN,
        "model": {"name": _model(record)},
    }


def _load(record: RunRecord, samples: RequestSamples | None) -> dict[str, Any] | None:
    """None where not even the length of a prompt is known: the schema must have one."""
    traffic = mapping(record.spec, "traffic")
    prompt = _length(mapping(traffic, "prompt_tokens")) or _seen(samples, "prompt_tokens")
    if prompt is None:
        return None
    arrivals = mapping(traffic, "arrivals")
    imported = mapping(record.spec, "imported")
    software = record.environment.software if record.environment else None
    ours = software.windtunnel if software is not None else UNKNOWN
    rate = number(arrivals.get("rate_rps")) or _value(record, "offered_rate")
    # A closed loop offers no rate: it takes what the server gives.
    closed = "num_users" in arrivals
    return {
        "metadata": {"cfg_id": record.workload_hash, "description": _timing(record)},
        "standardized": {
            "tool": text(imported.get("tool")) or "windtunnel",
            "tool_version": text(imported.get("version")) or ours,
            "parallelism": max(len(record.client.workers), 1) if record.client else None,
            "source": "random" if mapping(traffic, "prompt_tokens") else UNKNOWN,
            "input_seq_len": prompt,
            "output_seq_len": _length(mapping(traffic, "output_tokens")),
            "rate_qps": None if closed else rate,
            "concurrency": arrivals.get("num_users"),
        },
        "native": {"config": _native(record)},
    }


def _timing(record: RunRecord) -> str:
    if record.evidence is Evidence.IMPORTED:
        return "latencies count from where the doubts under native.config say"
    return "latencies count from the intended send time of each request"


def _length(asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """A length distribution of a spec, in the schema's words."""
    tokens, low, high = (number(asked.get(k)) for k in ("tokens", "low", "high"))
    if tokens is not None:
        return {"distribution": "fixed", "value": tokens}
    if low is not None and high is not None:
        span = {"min": int(low), "max": int(high)}
        return {"distribution": "uniform", "value": (low + high) / 2.0, **span}
    mean, spread = number(asked.get("mean")), number(asked.get("std_dev", asked.get("stddev")))
    if mean is not None:
        kind = "gaussian" if asked.get("kind") == "normal" else "other"
        return {"distribution": kind, "value": mean, "std_dev": spread}
    return None


def _seen(samples: RequestSamples | None, column: str) -> dict[str, Any] | None:
    """What was sent or answered, where the spec does not say what was asked."""
    if samples is None:
        return None
    values = getattr(samples, column)[~samples.is_warmup]
    values = values[values >= 0]
    if not len(values):
        return None
    span = {"min": int(values.min()), "max": max(int(values.max()), 1)}
    return {"distribution": "other", "value": float(values.mean()), **span}


def _native(record: RunRecord) -> dict[str, Any]:
    ours = {
        f"{m.metric} {m.statistic}": m.value
        for m in record.measurements
        if m.metric in _OURS_ALONE and m.value is not None
    }
    return {
        "traffic": dict(mapping(record.spec, "traffic")) or None,
        "asked": dict(mapping(record.spec, "asked")) or None,
        "slo": dict(mapping(record.spec, "slo")) or None,
        "seeds": dict(record.seeds) or None,
        "evidence": record.evidence.value,
        "outcome": record.outcome.kind,
        "doubts": [{"code": d.code, "message": d.message} for d in record.doubts],
        "measurements": ours,
    }


def _aggregate(record: RunRecord, samples: RequestSamples | None) -> dict[str, Any]:
    latency = {name: _statistics(record, ours, unit) for ours, name, unit in _LATENCIES}
    rates = {name: _rate(_value(record, ours), unit) for ours, name, unit in _RATES}
    output, prompt = _value(record, "output_throughput"), _value(record, "prompt_throughput")
    if output is not None and prompt is not None:
        rates["total_token_rate"] = _rate(output + prompt, "tokens/s")
    return {"requests": _requests(record, samples), "latency": latency, "throughput": rates}


def _requests(record: RunRecord, samples: RequestSamples | None) -> dict[str, Any] | None:
    share = _find(record, "error_share", "value")
    if share is None or share.value is None:
        return None
    found = request_metrics(samples) if samples is not None else None
    return {
        "total": share.n,
        "failures": round(share.value * share.n),
        "input_length": _lengths(found.prompt_tokens[found.answered]) if found else None,
        "output_length": _lengths(found.output_tokens[found.answered]) if found else None,
    }


def _lengths(values: FloatColumn) -> dict[str, Any] | None:
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    quantiles = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
    return {
        "units": "count",
        "mean": float(values.mean()),
        "stddev": float(values.std()),
        "min": float(values.min()),
        # A count has no error of measurement: these describe what was sent and answered.
        **{name: float(np.quantile(values, q)) for name, q in quantiles.items()},
        "max": float(values.max()),
    }


def _statistics(record: RunRecord, metric: str, unit: str) -> dict[str, Any] | None:
    """The schema must have a mean; a metric without one is left out. So is a percentile that the
    samples could not support."""
    mean = _value(record, metric, "mean")
    if mean is None:
        return None
    percentiles = {name: _value(record, metric, ours) for ours, name in _PERCENTILES.items()}
    return {"units": unit, "mean": mean, **percentiles}


def _rate(value: float | None, unit: str) -> dict[str, Any] | None:
    return None if value is None else {"units": unit, "mean": value}


def _find(record: RunRecord, metric: str, statistic: str) -> Measurement | None:
    wanted = (metric, statistic)
    return next((m for m in record.measurements if (m.metric, m.statistic) == wanted), None)


def _value(record: RunRecord, metric: str, statistic: str = "value") -> float | None:
    found = _find(record, metric, statistic)
    return found.value if found is not None else None


def _without_none(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {k: _without_none(v) for k, v in tree.items() if v is not None}
    if isinstance(tree, list | tuple):
        return [_without_none(v) for v in tree]
    return tree
