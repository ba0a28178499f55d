"""What the devices of a training did and drew in its measured steps. Pure.

Each rank reads its own devices on its own clock, which is also that of its steps; its readings are
told under its number as their replica. So nothing has to be brought together but sums.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from results.distributions import single
from results.measurement import Measurement
from results.record import Doubt
from results.samples import StepSamples
from results.telemetry import Series, Telemetry
from results.telemetry_doubts import gaps, throttled
from results.telemetry_energy import DEVICE_POWER, Energy, Window, energy_in, together
from results.telemetry_measure import (
    DEVICE_MEMORY,
    DEVICE_THROTTLED,
    DEVICE_UTILISATION,
    energy_measured,
    gauge,
)

_NOTHING = "no device of the training told it"


def windows_of(samples: StepSamples) -> dict[int, Window]:
    """By rank: from the start of its first measured step to the end of its last one; pauses
    between steps are within, as they are in the throughput."""
    keep = ~samples.is_warmup
    end_s = samples.start_s + samples.duration_s
    return {
        int(rank): (
            float(samples.start_s[keep & (samples.rank == rank)].min()),
            float(end_s[keep & (samples.rank == rank)].max()),
        )
        for rank in np.unique(samples.rank[keep])
    }


def measure_step_telemetry(
    telemetry: Telemetry | None, samples: StepSamples, num_chips: int
) -> tuple[Measurement, ...]:
    """The energy of a token; where there are chips also what they did. ``num_chips`` 0: none."""
    keep = ~samples.is_warmup
    n = len(np.unique(samples.step[keep]))
    if not num_chips:
        why = "no accelerator chips: nothing tells what was drawn"
        return (single("energy_per_token_j", None, n, why),)
    tokens = samples.num_tokens[keep]
    num_tokens = 0 if np.any(tokens < 0) else int(tokens.sum())
    energy = _energy(telemetry, samples, num_chips)
    known, why = (None, energy) if isinstance(energy, str) else (energy, "")
    per_token = energy_measured(
        "energy_per_token_j",
        known,
        n,
        num_tokens,
        why or "the training does not say how many tokens a step has",
    )
    if telemetry is None:
        return (per_token,)
    windows = windows_of(samples)
    return (
        _spread("device_utilisation_mean", telemetry, DEVICE_UTILISATION, windows),
        _spread("device_memory_max_bytes", telemetry, DEVICE_MEMORY, windows),
        _spread("device_power_mean_w", telemetry, DEVICE_POWER, windows),
        energy_measured("device_energy_j", known, n, 1, why),
        per_token,
    )


def doubts_of_step_telemetry(
    telemetry: Telemetry, samples: StepSamples, num_chips: int
) -> tuple[Doubt, ...]:
    """Devices that were slowed down in the measured steps, and readings that failed."""
    readings = [
        series.within(*window)
        for rank, window in windows_of(samples).items()
        for series in telemetry.of_replica(str(rank)).series(DEVICE_THROTTLED).values()
    ]
    return (*throttled(readings), *gaps(telemetry, num_chips))


def _energy(telemetry: Telemetry | None, samples: StepSamples, num_chips: int) -> Energy | str:
    """Of all devices, each in its own rank's window; or why it is not known."""
    windows = windows_of(samples)
    if telemetry is None:
        return "nothing was read of the devices"
    if not windows:
        return "no step was measured"
    if np.any(samples.attempt):
        return "the job was started again, and its devices may be others than before"
    devices = {(replica, label) for _, replica, label in _told(telemetry)}
    if len(devices) < num_chips:
        return f"{len(devices)} of {num_chips} chips told what they drew"
    silent = sorted({replica for replica, _ in devices} - {str(rank) for rank in windows})
    if silent:
        return (
            f"the ranks {', '.join(silent)} have chips and tell of no steps, so that nobody knows "
            "when on their clocks they were measured"
        )
    found = []
    for rank, window in windows.items():
        energy = energy_in(telemetry.of_replica(str(rank)), window)
        if energy is None:
            return f"the readings of rank {rank} do not cover its measured steps"
        found.append(energy)
    return together(found)


def _told(telemetry: Telemetry) -> Iterator[tuple[str, str, str]]:
    """The keys of the series that tell of power or energy."""
    yield from telemetry.series(DEVICE_POWER)
    yield from telemetry.series("device_energy_j")


def _spread(
    metric: str, telemetry: Telemetry, name: str, windows: dict[int, Window]
) -> Measurement:
    """The mean (power, memory: the sum) over ranks of what ``gauge`` makes of each rank's."""
    reduce = np.max if metric.endswith("_max_bytes") else np.mean
    share = metric == "device_utilisation_mean"
    found = []
    for rank, window in windows.items():
        own = telemetry.of_replica(str(rank))
        series: Series | None = own.mean(name) if share else own.total(name)
        found.append(gauge(metric, series, window, reduce, _NOTHING))
    missing = next((one for one in found if one.value is None), None)
    if missing is not None or not found:
        return missing or single(metric, None, 0, "no step was measured")
    total = sum(one.value for one in found if one.value is not None)
    return single(metric, total / len(found) if share else total, min(one.n for one in found))
