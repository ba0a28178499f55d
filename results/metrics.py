"""The metric registry: every number the program prints is declared here, once.

A metric has a unit, a direction, a legal range and a meaning. There is no metric per percentile:
a percentile is the ``statistic`` of a measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from results.errors import InvalidMeasurement, UnknownMetric
from results.metrics_collectives import COLLECTIVE_METRICS
from results.metrics_cost import COST_METRICS
from results.metrics_goodput import GOODPUT_METRICS
from results.metrics_server import SERVER_METRICS


class Unit(StrEnum):
    """The closed set of units; one per quantity, so that nothing is converted in passing."""

    SECONDS = "s"
    BYTES = "bytes"
    BYTES_PER_S = "bytes/s"
    S_PER_BYTE = "s/byte"
    TOKENS = "tokens"
    TOKENS_PER_S = "tokens/s"
    TOKENS_PER_S_PER_CHIP = "tokens/s/chip"
    REQUESTS = "requests"
    REQUESTS_PER_S = "requests/s"
    STEPS_PER_S = "steps/s"
    RATIO = "ratio"
    COUNT = "count"
    NATS = "nats"
    USD = "USD"
    CHIP_HOURS = "chip-hours"
    CPUS = "CPUs"
    WATTS = "W"
    JOULES = "J"
    JOULES_PER_TOKEN = "J/token"


class Direction(StrEnum):
    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"  # context, not a goal: an offered rate, a request count


class Area(StrEnum):
    """The table of a report that a metric stands in."""

    STARTUP = "startup"
    LATENCY = "latency"
    THROUGHPUT = "throughput"
    TRAINING = "training"
    COLLECTIVES = "collectives"
    CLIENT = "client"
    SERVER = "server"
    COST = "cost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One declared quantity. ``low``/``high`` bound its legal values, both inclusive.

    ``quiet_at_zero``: 0 says that something did not happen, which no table needs a row for.
    """

    name: str
    unit: Unit
    direction: Direction
    area: Area
    meaning: str
    low: float = 0.0
    high: float = math.inf
    quiet_at_zero: bool = False

    def check(self, value: float) -> None:
        """Raise InvalidMeasurement unless ``value`` is finite and within the legal range."""
        if not math.isfinite(value) or not self.low <= value <= self.high:
            raise InvalidMeasurement(
                f"{self.name} = {value!r} {self.unit}; legal values are {self.low} to {self.high}"
            )


_S, _LOWER, _HIGHER, _NEITHER = (
    Unit.SECONDS,
    Direction.LOWER,
    Direction.HIGHER,
    Direction.NEITHER,
)


def _metric(
    name: str,
    unit: Unit,
    direction: Direction,
    area: Area,
    meaning: str,
    high: float = math.inf,
) -> Metric:
    return Metric(name=name, unit=unit, direction=direction, area=area, meaning=meaning, high=high)


_DECLARED = (
    # Latency: from the *intended* send time, so that neither a slow client nor a queue hides.
    _metric(
        "ttft_s",
        _S,
        _LOWER,
        Area.LATENCY,
        "send intended → first non-empty token of a request",
    ),
    _metric(
        "ttfa_s",
        _S,
        _LOWER,
        Area.LATENCY,
        "send intended → first token of the answer, reasoning left out; none without an answer",
    ),
    _metric(
        "itl_s",
        _S,
        _LOWER,
        Area.LATENCY,
        "gap between consecutive output tokens, pooled over all gaps of all requests",
    ),
    _metric(
        "inter_chunk_s",
        _S,
        _LOWER,
        Area.LATENCY,
        "gap between consecutive non-empty stream chunks, whatever number of tokens each holds",
    ),
    _metric(
        "tpot_s",
        _S,
        _LOWER,
        Area.LATENCY,
        "per request: (e2e − TTFT) / (output tokens − 1); none for a single token",
    ),
    _metric("ntpot_s", _S, _LOWER, Area.LATENCY, "per request: e2e / output tokens"),
    _metric(
        "e2e_s", _S, _LOWER, Area.LATENCY, "send intended → last byte of the answer of a request"
    ),
    # Throughput: the denominator is the measured window, first intended send → last answer.
    _metric(
        "offered_rate",
        Unit.REQUESTS_PER_S,
        _NEITHER,
        Area.THROUGHPUT,
        "sends intended per second, from the first to the last intended send",
    ),
    _metric(
        "achieved_rate",
        Unit.REQUESTS_PER_S,
        _HIGHER,
        Area.THROUGHPUT,
        "requests answered in full, per second of the measured window",
    ),
    _metric(
        "output_throughput",
        Unit.TOKENS_PER_S,
        _HIGHER,
        Area.THROUGHPUT,
        "output tokens of requests answered in full, per second of the measured window",
    ),
    _metric(
        "output_throughput_per_chip",
        Unit.TOKENS_PER_S_PER_CHIP,
        _HIGHER,
        Area.THROUGHPUT,
        "output throughput / chips of the deployment; none where there is no accelerator",
    ),
    _metric(
        "prompt_throughput",
        Unit.TOKENS_PER_S,
        _HIGHER,
        Area.THROUGHPUT,
        "prompt tokens of requests answered in full, per second of the measured window",
    ),
    _metric(
        "goodput_rate",
        Unit.REQUESTS_PER_S,
        _HIGHER,
        Area.THROUGHPUT,
        "requests that met every limit of the SLO, per second of the measured window",
    ),
    _metric(
        "goodput_token_rate",
        Unit.TOKENS_PER_S,
        _HIGHER,
        Area.THROUGHPUT,
        "output tokens of requests that met every limit of the SLO, per second of the measured "
        "window",
    ),
    _metric(
        "slo_attainment",
        Unit.RATIO,
        _HIGHER,
        Area.THROUGHPUT,
        "requests that met every limit of the SLO / all requests sent, failures included",
        high=1.0,
    ),
    _metric(
        "error_share",
        Unit.RATIO,
        _LOWER,
        Area.THROUGHPUT,
        "requests not answered in full / all requests sent",
        high=1.0,
    ),
    _metric(
        "prompt_cache_hit_share",
        Unit.RATIO,
        _NEITHER,
        Area.THROUGHPUT,
        "prompt tokens that the server took from its prefix cache / prompt tokens, over the "
        "answered requests whose two counts are known",
        high=1.0,
    ),
    # The client doubts itself first.
    _metric(
        "dispatch_lag_s",
        _S,
        _LOWER,
        Area.CLIENT,
        "send intended → request handed to the socket: the client's own lateness",
    ),
    _metric(
        "client_lag_s",
        _S,
        _LOWER,
        Area.CLIENT,
        "data in the kernel → seen by the client, over sampled reads: how late its own clock was",
    ),
    _metric(
        "client_loop_stall_s",
        _S,
        _LOWER,
        Area.CLIENT,
        "the longest time that an event loop of the client was late",
    ),
    _metric(
        "client_cpu_share",
        Unit.RATIO,
        _LOWER,
        Area.CLIENT,
        "CPU time / wall time of the busiest sending process; near 1 the client was the limit",
    ),
    _metric(
        "client_ceiling_rate",
        Unit.REQUESTS_PER_S,
        _NEITHER,
        Area.CLIENT,
        "the highest rate that this client kept against a server that does nothing",
    ),
    _metric(
        "token_mismatch_share",
        Unit.RATIO,
        _LOWER,
        Area.CLIENT,
        "answered requests whose token counts by the server and by us differ / those for which "
        "both are known",
        high=1.0,
    ),
    # Startup.
    _metric(
        "startup_s",
        _S,
        _LOWER,
        Area.STARTUP,
        "workload asked for → first token, or end of the first training step, observed by us",
    ),
    _metric(
        "startup_unattributed_s",
        _S,
        _LOWER,
        Area.STARTUP,
        "the part of startup_s that no observed phase covers",
    ),
    # Training.
    _metric("step_time_s", _S, _LOWER, Area.TRAINING, "one optimizer step, slowest rank"),
    _metric(
        "training_throughput",
        Unit.TOKENS_PER_S,
        _HIGHER,
        Area.TRAINING,
        "tokens of all ranks per second, over the measured steps",
    ),
    _metric(
        "training_throughput_per_chip",
        Unit.TOKENS_PER_S_PER_CHIP,
        _HIGHER,
        Area.TRAINING,
        "training throughput / chips; none where there is no accelerator",
    ),
    _metric(
        "mfu",
        Unit.RATIO,
        _HIGHER,
        Area.TRAINING,
        "model FLOPs per second / peak FLOPs per second of the chips; the FLOPs follow from the "
        "model's shape, causal attention halved; none where the peak is not known",
        high=1.0,
    ),
    _metric(
        "data_stall_share",
        Unit.RATIO,
        _LOWER,
        Area.TRAINING,
        "time that ranks waited for their input / time of all their steps",
        high=1.0,
    ),
    _metric(
        "communication_share",
        Unit.RATIO,
        _LOWER,
        Area.TRAINING,
        "time in which ranks did nothing but communicate / time of all their steps; what overlaps "
        "with computing is not in it",
        high=1.0,
    ),
    _metric(
        "optimizer_time_s",
        _S,
        _LOWER,
        Area.TRAINING,
        "the optimizer's update of one step on one rank",
    ),
    _metric(
        "checkpoint_save_s",
        _S,
        _LOWER,
        Area.TRAINING,
        "a checkpoint asked for → the training goes on, slowest rank",
    ),
    _metric(
        "checkpoint_restore_s",
        _S,
        _LOWER,
        Area.TRAINING,
        "a checkpoint's files found → model and optimizer hold it, slowest rank",
    ),
    _metric(
        "final_loss",
        Unit.NATS,
        _LOWER,
        Area.TRAINING,
        "cross-entropy of the last measured step, mean of the ranks: a fast wrong run is visible",
    ),
    _metric(
        "peak_memory_bytes",
        Unit.BYTES,
        _LOWER,
        Area.TRAINING,
        "largest memory of one rank: device memory on an accelerator, resident set on a CPU",
    ),
    *(
        replace(
            _metric(row.name, Unit(row.unit), Direction(row.better), area, row.meaning, row.high),
            quiet_at_zero=row.quiet_at_zero,
        )
        for area, rows in (
            (Area.TRAINING, GOODPUT_METRICS),
            (Area.COLLECTIVES, COLLECTIVE_METRICS),
            (Area.SERVER, SERVER_METRICS),
            (Area.COST, COST_METRICS),
        )
        for row in rows
    ),
)

REGISTRY: dict[str, Metric] = {m.name: m for m in _DECLARED}


def metric(name: str) -> Metric:
    """The declared metric of that name, or UnknownMetric with the nearest known names."""
    try:
        return REGISTRY[name]
    except KeyError:
        import difflib

        near = difflib.get_close_matches(name, REGISTRY, n=3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise UnknownMetric(f"no metric is called {name!r}{hint}") from None
