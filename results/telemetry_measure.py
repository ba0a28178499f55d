"""Telemetry in, one number per run out: what the server, its devices and its host did. Pure.

The window is the load's own: from its zero to the last answer. Readings outside it (warm-up, the
last look) serve as ends of counters and are in no mean.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from results.distributions import single
from results.errors import InvalidMeasurement
from results.measurement import Measurement
from results.samples import FloatColumn, RequestSamples
from results.telemetry import Series, Telemetry
from results.telemetry_energy import DEVICE_POWER, Energy, Window, energy_in, grown_in

# vLLM's own names (0.32); older ones are brought to these when they are read.
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
KV_USAGE = "vllm:kv_cache_usage_perc"
PREFIX_QUERIES, PREFIX_HITS = "vllm:prefix_cache_queries", "vllm:prefix_cache_hits"
PREEMPTIONS = "vllm:num_preemptions"
PROMPT_TOKENS, OUTPUT_TOKENS = "vllm:prompt_tokens", "vllm:generation_tokens"
TTFT = "vllm:time_to_first_token_seconds"
ITL = "vllm:inter_token_latency_seconds"
E2E = "vllm:e2e_request_latency_seconds"

# Ours, of whatever library told them.
DEVICE_UTILISATION = "device_utilisation"
DEVICE_MEMORY = "device_memory_used_bytes"
DEVICE_THROTTLED = "device_throttled"
CPU_BUSY, CPU_STEAL = "cpu_busy", "cpu_steal"
ENGINE_CPU = "engine_cpu_s"

NO_ENERGY = "no device told its power or energy in the window"
# A mean of a single look is no mean.
MIN_READINGS = 2


def window_of(samples: RequestSamples) -> Window:
    """From the load's zero to the last answer or failure of a measured request."""
    done = samples.done_s[~samples.is_warmup]
    known = done[~np.isnan(done)]
    return (0.0, float(known.max()) if len(known) else 0.0)


def measure_telemetry(
    telemetry: Telemetry, samples: RequestSamples, num_chips: int
) -> tuple[Measurement, ...]:
    """Every server-side measurement of one run; those of devices only where chips or a device's
    readings are."""
    window = window_of(samples)
    out = [
        gauge("server_running_mean", telemetry.total(RUNNING), window, np.mean),
        gauge("server_running_max", telemetry.total(RUNNING), window, np.max),
        gauge("server_waiting_mean", telemetry.total(WAITING), window, np.mean),
        gauge("server_waiting_max", telemetry.total(WAITING), window, np.max),
        gauge("kv_cache_usage_mean", telemetry.mean(KV_USAGE), window, np.mean),
        gauge("kv_cache_usage_max", _largest(telemetry, KV_USAGE), window, np.max),
        _hit_ratio(telemetry, window),
        _preemptions(telemetry, window),
        gauge("host_cpu_busy_mean", _whole_host(telemetry), window, np.mean),
        _engine_cpus(telemetry, window),
    ]
    if num_chips or telemetry.series(DEVICE_UTILISATION) or telemetry.series(DEVICE_POWER):
        out += _devices(telemetry, samples, window)
    return tuple(out)


def _devices(telemetry: Telemetry, samples: RequestSamples, window: Window) -> list[Measurement]:
    power = telemetry.total(DEVICE_POWER)
    tokens = samples.output_tokens[~samples.is_warmup & (samples.error == "")]
    num_tokens = int(tokens[tokens > 0].sum())
    energy = energy_in(telemetry, window)
    n = 0 if power is None else len(power.within(*window))
    return [
        gauge("device_utilisation_mean", telemetry.mean(DEVICE_UTILISATION), window, np.mean),
        gauge("device_memory_max_bytes", telemetry.total(DEVICE_MEMORY), window, np.max),
        gauge("device_power_mean_w", power, window, np.mean),
        energy_measured("device_energy_j", energy, n, 1, NO_ENERGY),
        energy_measured(
            "energy_per_output_token_j",
            energy,
            num_tokens,
            num_tokens,
            NO_ENERGY if energy is None else "no output token is known",
        ),
    ]


def energy_measured(
    metric: str, energy: Energy | None, n: int, per: int, why_none: str
) -> Measurement:
    """``energy`` divided by ``per``; ``why_none`` where there is no energy or nothing to divide
    by."""
    if energy is None or not per:
        return single(metric, None, n, why_none)
    return Measurement(
        metric=metric,
        statistic="value",
        value=energy.joules / per,
        n=n,
        low=None if energy.low is None else energy.low / per,
        high=None if energy.high is None else energy.high / per,
        method=energy.method,
    )


def gauge(
    metric: str,
    series: Series | None,
    window: Window,
    reduce: Callable[[FloatColumn], np.floating],
    why_none: str = "nothing on the server's side told it",
) -> Measurement:
    if series is None:
        return single(metric, None, 0, why_none)
    values = series.within(*window)
    if len(values) < MIN_READINGS:
        why = f"{len(values)} readings in the measured window; needs at least {MIN_READINGS}"
        return single(metric, None, len(values), why)
    return _legal(metric, float(reduce(values)), len(values))


def _legal(metric: str, value: float, n: int) -> Measurement:
    """A source that tells nonsense costs its own number, not the run."""
    try:
        return single(metric, value, n)
    except InvalidMeasurement as error:
        return single(metric, None, n, f"the source told nonsense: {error}")


def _largest(telemetry: Telemetry, name: str) -> Series | None:
    """At each time the largest of all series: one full replica is not hidden by an empty one."""
    found = [s for s in telemetry.series(name).values() if len(s.t_s)]
    if not found:
        return None
    times = np.concatenate([s.t_s for s in found])
    order = np.argsort(times, kind="stable")
    return Series(times[order], np.concatenate([s.value for s in found])[order])


def _whole_host(telemetry: Telemetry) -> Series | None:
    """All cores together; each core is a series of its own with a label."""
    for (_, _, label), series in telemetry.series(CPU_BUSY).items():
        if not label:
            return series
    return None


def _hit_ratio(telemetry: Telemetry, window: Window) -> Measurement:
    queries = grown_in(telemetry.total(PREFIX_QUERIES), window)
    hits = grown_in(telemetry.total(PREFIX_HITS), window)
    if queries is None or hits is None:
        why = "the server told no prefix-cache counters that cover the window"
        return single("prefix_hit_ratio", None, 0, why)
    if not queries:
        return single("prefix_hit_ratio", None, 0, "no prompt token was looked up in the cache")
    return single("prefix_hit_ratio", min(hits / queries, 1.0), round(queries))


def _preemptions(telemetry: Telemetry, window: Window) -> Measurement:
    grown = grown_in(telemetry.total(PREEMPTIONS), window)
    if grown is None:
        why = "the server told no preemption counter that covers the window"
        return single("server_preemptions", None, 0, why)
    return single("server_preemptions", grown, 1)


def _engine_cpus(telemetry: Telemetry, window: Window) -> Measurement:
    grown = grown_in(telemetry.total(ENGINE_CPU), window)
    if grown is None:
        return single("engine_cpus_mean", None, 0, "the engine's processes were not watched by us")
    return single("engine_cpus_mean", grown / (window[1] - window[0]), 1)
