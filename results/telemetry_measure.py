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
DEVICE_POWER = "device_power_w"
DEVICE_ENERGY = "device_energy_j"
DEVICE_THROTTLED = "device_throttled"
CPU_BUSY, CPU_STEAL = "cpu_busy", "cpu_steal"
ENGINE_CPU = "engine_cpu_s"

# A mean of a single look is no mean.
MIN_READINGS = 2


def window_of(samples: RequestSamples) -> tuple[float, float]:
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
        _gauge("server_running_mean", telemetry.total(RUNNING), window, np.mean),
        _gauge("server_running_max", telemetry.total(RUNNING), window, np.max),
        _gauge("server_waiting_mean", telemetry.total(WAITING), window, np.mean),
        _gauge("server_waiting_max", telemetry.total(WAITING), window, np.max),
        _gauge("kv_cache_usage_mean", telemetry.mean(KV_USAGE), window, np.mean),
        _gauge("kv_cache_usage_max", _largest(telemetry, KV_USAGE), window, np.max),
        _hit_ratio(telemetry, window),
        _preemptions(telemetry, window),
        _gauge("host_cpu_busy_mean", _whole_host(telemetry), window, np.mean),
        _engine_cpus(telemetry, window),
    ]
    if num_chips or telemetry.series(DEVICE_UTILISATION) or telemetry.series(DEVICE_POWER):
        out += _devices(telemetry, samples, window)
    return tuple(out)


def _devices(
    telemetry: Telemetry, samples: RequestSamples, window: tuple[float, float]
) -> list[Measurement]:
    power = telemetry.total(DEVICE_POWER)
    energy_j = energy_of(telemetry, window)
    tokens = samples.output_tokens[~samples.is_warmup & (samples.error == "")]
    num_tokens = int(tokens[tokens > 0].sum())
    n = 0 if power is None else len(power.within(*window))
    no_energy = "" if energy_j is not None else "no device told its power or energy in the window"
    per_token = energy_j / num_tokens if energy_j is not None and num_tokens else None
    no_tokens = no_energy or ("" if num_tokens else "no output token is known")
    return [
        _gauge("device_utilisation_mean", telemetry.mean(DEVICE_UTILISATION), window, np.mean),
        _gauge("device_memory_max_bytes", telemetry.total(DEVICE_MEMORY), window, np.max),
        _gauge("device_power_mean_w", power, window, np.mean),
        single("device_energy_j", energy_j, n, no_energy),
        single("energy_per_output_token_j", per_token, num_tokens, no_tokens),
    ]


def _gauge(
    metric: str,
    series: Series | None,
    window: tuple[float, float],
    reduce: Callable[[FloatColumn], np.floating],
) -> Measurement:
    if series is None:
        return single(metric, None, 0, "nothing on the server's side told it")
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


def grown_in(series: Series | None, window: tuple[float, float]) -> float | None:
    """How much a counter grew in the window, interpolated at both ends; None where the readings do
    not cover it or the counter went back."""
    if series is None or len(series.t_s) < 2 or np.any(np.diff(series.value) < 0):
        return None
    start, end = window
    if end <= start or series.t_s[0] > start or series.t_s[-1] < end:
        return None
    at = np.interp([start, end], series.t_s, series.value)
    return float(at[1] - at[0])


def energy_of(telemetry: Telemetry, window: tuple[float, float]) -> float | None:
    """Joules of all devices in the window: from their own energy counters where every device has
    one, else the trapezoidal integral of their power."""
    power = telemetry.series(DEVICE_POWER)
    counters = telemetry.series(DEVICE_ENERGY)
    if counters and len(counters) >= len(power):
        grown = [grown_in(series, window) for series in counters.values()]
        known = [more for more in grown if more is not None]
        if len(known) == len(grown):
            return sum(known)
    total = telemetry.total(DEVICE_POWER)
    start, end = window
    if total is None or end <= start or total.t_s[0] > start or total.t_s[-1] < end:
        return None
    inside = (total.t_s > start) & (total.t_s < end)
    times = np.concatenate([[start], total.t_s[inside], [end]])
    return float(np.trapezoid(np.interp(times, total.t_s, total.value), times))


def _hit_ratio(telemetry: Telemetry, window: tuple[float, float]) -> Measurement:
    queries = grown_in(telemetry.total(PREFIX_QUERIES), window)
    hits = grown_in(telemetry.total(PREFIX_HITS), window)
    if queries is None or hits is None:
        why = "the server told no prefix-cache counters that cover the window"
        return single("prefix_hit_ratio", None, 0, why)
    if not queries:
        return single("prefix_hit_ratio", None, 0, "no prompt token was looked up in the cache")
    return single("prefix_hit_ratio", min(hits / queries, 1.0), round(queries))


def _preemptions(telemetry: Telemetry, window: tuple[float, float]) -> Measurement:
    grown = grown_in(telemetry.total(PREEMPTIONS), window)
    if grown is None:
        why = "the server told no preemption counter that covers the window"
        return single("server_preemptions", None, 0, why)
    return single("server_preemptions", grown, 1)


def _engine_cpus(telemetry: Telemetry, window: tuple[float, float]) -> Measurement:
    grown = grown_in(telemetry.total(ENGINE_CPU), window)
    if grown is None:
        return single("engine_cpus_mean", None, 0, "the engine's processes were not watched by us")
    return single("engine_cpus_mean", grown / (window[1] - window[0]), 1)
