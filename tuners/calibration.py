"""How far the forecast is off on each hardware, as what was measured there shows. Pure.

A function of records and nothing else, so that it can be made again from the store at any time.
Each configuration counts once, however often it was run, and simulated runs never speak for
measured ones. The ratio is measured / forecast; a forecast that is wrong by a common factor still
ranks, and with the factor it also knows the limits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import SpecError
from harness.spec import RunSpec
from harness.specfile import spec_from_mapping
from results.brief import Brief
from results.measurement import of_group
from results.record import RunRecord, Succeeded
from tuners.predict import forecasts_of, serving_of

MIN_CONFIGS = 3  # fewer say nothing of a common factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """``evidence``: measured or simulated; the two never mix."""

    accelerator: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """``ratio``: the median of measured / forecast over configurations; ``spread``: the standard
    deviation of their logarithms."""

    ratio: float
    spread: float
    num_configs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """``factors`` by the name of a statistic: ``ttft_s_p99``, ``output_throughput``."""

    hardware: Hardware
    factors: Mapping[str, Factor]

    @property
    def num_configs(self) -> int:
        return max((factor.num_configs for factor in self.factors.values()), default=0)

    def ratios(self) -> dict[str, float]:
        return {name: factor.ratio for name, factor in self.factors.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One record beside its forecast: measured values and ratios by the name of a statistic."""

    hardware: Hardware
    spec: RunSpec
    run_id: str
    values: Mapping[str, float]
    ratios: Mapping[str, float]


def hardware_of(spec: RunSpec, evidence: str) -> Hardware | None:
    """Whose forecast a spec's is; None: it has none."""
    serving = serving_of(spec)
    if isinstance(serving, str):
        return None
    return Hardware(accelerator=serving.chip.name, evidence=evidence)


class Look:
    """Looks at records beside their forecasts. What is asked again and again is forecast once: a
    spec's own digest, where the record has one, or the spec less what forecasts nothing."""

    def __init__(self) -> None:
        self._by_digest: dict[str, _Foreseen | None] = {}
        self._by_text: dict[str, _Foreseen | None] = {}

    def seen(self, record: RunRecord) -> Seen | None:
        """None for a run that did not end well, or of which nothing can be forecast."""
        if not isinstance(record.outcome, Succeeded):
            return None
        found = self._foreseen(record)
        if found is None:
            return None
        values, ratios = {}, {}
        for m in of_group(record.measurements):
            predicted = found.forecast.get(m.metric, 0.0)
            if m.value is not None and m.value > 0 and predicted > 0:
                name = m.metric if m.statistic == "value" else f"{m.metric}_{m.statistic}"
                values[name], ratios[name] = m.value, m.value / predicted
        return Seen(
            hardware=Hardware(accelerator=found.accelerator, evidence=str(record.evidence)),
            spec=found.spec,
            run_id=record.run_id,
            values=values,
            ratios=ratios,
        )

    def _foreseen(self, record: RunRecord) -> _Foreseen | None:
        digest = record.spec_digest if isinstance(record, Brief) else ""
        if digest and digest in self._by_digest:
            return self._by_digest[digest]
        plain = _without_seeds(record.spec)
        text = json.dumps(plain, sort_keys=True, default=str)
        if text not in self._by_text:
            self._by_text[text] = _foreseen(plain)
        if digest:
            self._by_digest[digest] = self._by_text[text]
        return self._by_text[text]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Foreseen:
    accelerator: str
    spec: RunSpec  # less its tags and seeds
    forecast: Mapping[str, float]


def _without_seeds(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Less what differs from one run of a configuration to the next."""
    plain = {name: value for name, value in spec.items() if name not in ("tags", "name")}
    traffic = plain.get("traffic")
    if isinstance(traffic, Mapping):
        plain["traffic"] = {k: v for k, v in traffic.items() if k not in ("seed", "salt")}
    return plain


def _foreseen(mapping: Mapping[str, Any]) -> _Foreseen | None:
    try:
        spec = spec_from_mapping({"name": "seen", **mapping})
    except SpecError:
        return None  # of a kind, or of a time, that this program does not read
    serving, forecast = serving_of(spec), forecasts_of(spec)
    if isinstance(serving, str) or isinstance(forecast, str):
        return None
    return _Foreseen(accelerator=serving.chip.name, spec=spec, forecast=forecast)


def calibrations(every: Iterable[Seen]) -> dict[Hardware, Calibration]:
    """Of all hardware on which MIN_CONFIGS configurations or more were measured."""
    logs: dict[Hardware, dict[str, dict[str, list[float]]]] = {}
    keys: dict[int, str] = {}
    for found in (kept := list(every)):  # kept, so that no other object gets a spec's id
        # Alike specs of one look are one object, so the key of each is made once.
        config = keys.get(id(found.spec)) or keys.setdefault(
            id(found.spec), _config_key(found.spec)
        )
        for name, ratio in found.ratios.items():
            by_name = logs.setdefault(found.hardware, {}).setdefault(name, {})
            by_name.setdefault(config, []).append(math.log(ratio))
    del kept
    made = {hardware: _calibration(hardware, names) for hardware, names in logs.items()}
    return {hardware: found for hardware, found in made.items() if found.factors}


def _calibration(hardware: Hardware, names: Mapping[str, Mapping[str, list[float]]]) -> Calibration:
    factors = {}
    for name, by_config in sorted(names.items()):
        if len(by_config) < MIN_CONFIGS:
            continue
        middles = [float(np.median(logs)) for logs in by_config.values()]
        factors[name] = Factor(
            ratio=math.exp(float(np.median(middles))),
            spread=float(np.std(middles, ddof=1)),
            num_configs=len(middles),
        )
    return Calibration(hardware=hardware, factors=factors)


def _config_key(spec: RunSpec) -> str:
    """Of the deployment and its traffic, less the seeds: repeats are one configuration."""
    traffic = spec.traffic
    shape = (
        None
        if traffic is None
        else (repr(traffic.arrivals), repr(traffic.prompt_tokens), repr(traffic.output_tokens))
    )
    return json.dumps([repr(spec.workload), repr(spec.hardware), shape])
