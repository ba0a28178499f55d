"""The metrics of the server's side, as rows of the registry in ``results.metrics``.

Read about once a second while the load runs; a mean is over the readings between the load's zero
and the last answer (the window).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple


class ServerMetric(NamedTuple):
    """``unit`` and ``better`` are values of ``results.metrics``' ``Unit`` and ``Direction``."""

    name: str
    unit: str
    better: str
    meaning: str
    high: float = math.inf
    quiet_at_zero: bool = False


SERVER_METRICS: Final = (
    ServerMetric(
        "server_running_mean",
        "requests",
        "neither",
        "requests in the engine's batches, all replicas together, mean over the readings",
    ),
    ServerMetric(
        "server_running_max",
        "requests",
        "neither",
        "largest reading of the requests in the engine's batches, all replicas together",
    ),
    ServerMetric(
        "server_waiting_mean",
        "requests",
        "lower",
        "requests waiting in the engine's queue, all replicas together, mean over the readings",
    ),
    ServerMetric(
        "server_waiting_max",
        "requests",
        "lower",
        "largest reading of the requests in the engine's queue, all replicas together",
    ),
    ServerMetric(
        "kv_cache_usage_mean",
        "ratio",
        "neither",
        "KV-cache blocks in use / all, mean of the replicas and of the readings",
        high=1.0,
    ),
    ServerMetric(
        "kv_cache_usage_max",
        "ratio",
        "neither",
        "the largest reading of any replica",
        high=1.0,
    ),
    ServerMetric(
        "prefix_hit_ratio",
        "ratio",
        "neither",
        "prompt tokens found in the prefix cache / prompt tokens looked up, in the window",
        high=1.0,
    ),
    ServerMetric(
        "server_preemptions",
        "count",
        "lower",
        "times the engine took a running request's KV cache away, in the window "
        "(its counter interpolated at both ends)",
    ),
    ServerMetric(
        "device_utilisation_mean",
        "ratio",
        "neither",
        "time a kernel ran / time, by NVML or libtpu (duty cycle), mean of devices and readings; "
        "says nothing of how much of a device was used",
        high=1.0,
    ),
    ServerMetric(
        "device_memory_max_bytes",
        "bytes",
        "neither",
        "memory in use on all devices together, largest reading",
    ),
    ServerMetric(
        "device_power_mean_w",
        "W",
        "lower",
        "power of all devices together, mean over the readings",
    ),
    ServerMetric(
        "device_energy_j",
        "J",
        "lower",
        "energy of all devices in the window (of a training: its measured steps, each rank's own): "
        "their own counters, else the integral of their power",
    ),
    ServerMetric(
        "energy_per_output_token_j",
        "J/token",
        "lower",
        "device_energy_j / output tokens of requests answered in full; idle power included",
    ),
    ServerMetric(
        "host_cpu_busy_mean",
        "ratio",
        "neither",
        "busy time of all cores of the server's host / time, whoever used them",
        high=1.0,
    ),
    ServerMetric(
        "engine_cpus_mean",
        "CPUs",
        "neither",
        "CPU seconds of the engine's process tree per second of the window",
    ),
)
