"""What a deployment would do on hardware where it was never measured, as evidence of its own kind.

Two kinds. *Transferred*: the same configuration was measured on other hardware; what it did there
of the forecast there is taken over to the forecast here. *Analytic*: it was measured nowhere; the
forecast is multiplied with what is usual, here if enough is known, else elsewhere. Either way every
figure is made worse by a margin, because limits are where optimists fail: raw winners of one chip
broke their limits on the next by 4 to 13 % on public data (``tuners.transfer``). Pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from harness.spec import Hardware, RunSpec
from harness.specfile import spec_to_mapping
from results.environment import Environment
from results.metrics import Direction, metric
from results.recommendation.estimate import Estimate
from results.recommendation.observation import LeftOut, Observation
from results.recommendation.observe import observe
from results.recommendation.profile import UNSTATED, Estimated, EvidenceKind, Statistic
from results.record import Evidence, Placement, RunRecord, Succeeded
from tuners.calibration import Look, Seen
from tuners.predict import forecasts_of, model_shape, refusal
from tuners.residuals import Ratio, Residuals, Rule, config_key, half_width, residuals_of
from tuners.transfer import MARGIN
from workloads.params import VllmWorkload
from workloads.simulated.accelerators import ACCELERATORS
from workloads.traffic.lengths import mean_length
from workloads.traffic.spec import ClosedLoop, Traffic

SIZES = (1, 2, 4, 8)  # tensor-parallel sizes that are looked at beside those measured
MOST_RUNS = 50  # named as what an analytic estimate rests on: the newest

# What the table of recommendations compares, by metric.
_LATENCIES = ("ttft_s", "itl_s", "tpot_s", "ntpot_s", "e2e_s")
_THROUGHPUT = "output_throughput"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """``sources``: successful measured runs beside their forecasts, of every model. ``errors``:
    those of ``residuals``."""

    sources: tuple[tuple[RunRecord, Seen], ...]
    residuals: Residuals
    errors: Mapping[tuple[Rule, str], Sequence[float]]
    now: datetime

    def estimates(
        self, specs: Iterable[RunSpec], accelerators: Sequence[str]
    ) -> tuple[tuple[Estimate, ...], Counter[str]]:
        """Of every spec on every accelerator, in other sizes too; and how many there are none of,
        by reason. A configuration that was measured on the accelerator is not estimated."""
        made: list[Estimate] = []
        none: Counter[str] = Counter()
        done: set[tuple[str, str]] = set()
        measured = {(s.hardware.accelerator, config_key(s.spec)) for _, s in self.sources}
        for spec in specs:
            for accelerator in accelerators:
                for varied in _sizes(spec, accelerator):
                    place = (accelerator, config_key(varied))
                    if place in done:
                        continue
                    done.add(place)
                    if place in measured:
                        none["measured there already"] += 1
                        continue
                    found = self._one(varied, accelerator)
                    if isinstance(found, str):
                        none[found] += 1
                    else:
                        made.append(found)
        return tuple(made), none

    def _one(self, spec: RunSpec, accelerator: str) -> Estimate | str:
        """Or why there is none."""
        if refusal(spec):
            return "does not fit, or the engine refuses it"
        forecast = forecasts_of(spec)
        if isinstance(forecast, str) or not forecast:
            return forecast if isinstance(forecast, str) else "nothing forecasts it"
        config = config_key(spec)
        ratios = {
            name: self.residuals.expected(accelerator, name, config)
            for name in sorted(self.residuals.names)
        }
        transferred = {n: r for n, r in ratios.items() if r.source}
        # Of a configuration that was measured elsewhere only what was measured there is taken over.
        used = transferred or {n: r for n, r in ratios.items() if r.rule is not Rule.NONE}
        placed = _placed(spec, accelerator, self._environment(spec), self.now)
        if isinstance(placed, LeftOut):
            return placed.reason
        return self._estimate(spec, placed, forecast, used)

    def _estimate(
        self,
        spec: RunSpec,
        placed: Observation,
        forecast: Mapping[str, float],
        used: Mapping[str, Ratio],
    ) -> Estimate:
        traffic = spec.traffic
        assert traffic is not None  # or nothing had been forecast
        inputs, outputs = mean_length(traffic.prompt_tokens), mean_length(traffic.output_tokens)
        statistics = list(_statistics(forecast, used, self.errors))
        throughput = next((s for s in statistics if s.metric == _THROUGHPUT), None)
        rate = _rate(traffic, throughput, outputs)
        runs = self._basis(spec, used)
        kind = (
            EvidenceKind.TRANSFERRED
            if any(r.source for r in used.values())
            else EvidenceKind.ANALYTIC
        )
        return Estimate(
            kind=kind,
            configuration=placed.configuration,
            machine=placed.machine,
            traffic=replace(placed.traffic, input_tokens=inputs, output_tokens=outputs),
            rate_rps=rate,
            concurrency=_in_flight(traffic, rate, statistics),
            statistics=(*_capped(statistics, traffic, outputs), *_of_rate(rate, inputs)),
            estimated=self._how(kind, used, statistics),
            run_ids=tuple(r.run_id for r in runs),
            first_measured=min((r.started_at for r in runs), default=self.now),
            last_measured=max((r.ended_at for r in runs), default=self.now),
        )

    def _how(
        self, kind: EvidenceKind, used: Mapping[str, Ratio], statistics: Sequence[Statistic]
    ) -> Estimated:
        one = max(used.values(), key=lambda r: r.num_configs, default=Ratio(log=0, rule=Rule.NONE))
        checked = max((len(self.errors.get((r.rule, n), ())) for n, r in used.items()), default=0)
        return Estimated(
            made_at=self.now,
            margin=MARGIN,
            transferred_from=one.source,
            calibrated_on=one.calibrated_on,
            num_calibrating=one.num_configs,
            num_checked=checked,
            words=_words(kind, one, checked, any(s.low is not None for s in statistics)),
        )

    def _basis(self, spec: RunSpec, used: Mapping[str, Ratio]) -> list[RunRecord]:
        """The runs that a transfer comes from; else those that the calibration is of."""
        config = config_key(spec)
        sources = {r.source for r in used.values() if r.source}
        calibrating = {r.calibrated_on for r in used.values() if r.calibrated_on}
        if sources:
            found = [
                r
                for r, s in self.sources
                if s.hardware.accelerator in sources and config_key(s.spec) == config
            ]
        else:
            found = [r for r, s in self.sources if s.hardware.accelerator in calibrating]
        return sorted(found, key=lambda r: r.run_id)[-MOST_RUNS:]

    def _environment(self, spec: RunSpec) -> Environment | None:
        """Of the newest run of the model: the engine's version comes from it."""
        model = getattr(spec.workload, "model", None)
        runs = [r for r, s in self.sources if getattr(s.spec.workload, "model", None) == model]
        return max(runs, key=lambda r: r.run_id).environment if runs else None


def estimator(records: Iterable[RunRecord], now: datetime) -> Estimator:
    """Of measured runs alone: a simulation is a model itself, and no guide to hardware."""
    kept = (r for r in records if r.evidence is Evidence.MEASURED and r.workload == "vllm")
    look = Look()
    sources = tuple((r, found) for r in kept if (found := look.seen(r)) is not None)
    residuals = residuals_of(one for _, one in sources)
    return Estimator(sources=sources, residuals=residuals, errors=residuals.errors(), now=now)


def measured_specs(found: Estimator, model: str) -> list[RunSpec]:
    """The different deployments and loads of ``model`` that were measured, on any hardware."""
    specs: dict[str, RunSpec] = {}
    for _, one in found.sources:
        if getattr(one.spec.workload, "model", None) == model:
            specs.setdefault(config_key(one.spec), one.spec)
    return list(specs.values())


def _sizes(spec: RunSpec, accelerator: str) -> Iterator[RunSpec]:
    """As it is, and with other tensor-parallel sizes that the model's heads divide into."""
    workload = spec.workload
    if not isinstance(workload, VllmWorkload):
        return
    shape = model_shape(workload.model)
    fixed = "tensor-parallel-size" in workload.engine_args or shape is None
    sizes = dict.fromkeys((workload.tensor_parallel_size, *(() if fixed else SIZES)))
    for size in sizes:
        if shape is not None and shape.num_heads % size:
            continue
        chips = size * _stages(workload)
        yield replace(
            spec,
            workload=replace(workload, tensor_parallel_size=size),
            hardware=(Hardware(accelerator=accelerator, num_chips=chips),),
        )


def _stages(workload: VllmWorkload) -> int:
    found = workload.engine_args.get("pipeline-parallel-size")
    return found if isinstance(found, int) else 1


def _placed(
    spec: RunSpec, accelerator: str, environment: Environment | None, now: datetime
) -> Observation | LeftOut:
    """As the database would see a run of the spec there: the same configuration, the same load."""
    return observe(
        RunRecord(
            run_id="estimate",
            experiment_id="",
            name=spec.name,
            workload=spec.workload.kind,
            evidence=Evidence.MEASURED,
            workload_hash="",
            environment_hash="",
            started_at=now,
            ended_at=now,
            duration_s=0.0,
            outcome=Succeeded(),
            spec=spec_to_mapping(spec),
            placement=Placement(
                pool="",
                accelerator=ACCELERATORS[accelerator].name,
                num_chips=spec.hardware[0].num_chips,
                capacity="",
                nodes=(),
            ),
            environment=environment,
        )
    )


def _statistics(
    forecast: Mapping[str, float],
    used: Mapping[str, Ratio],
    errors: Mapping[tuple[Rule, str], Sequence[float]],
) -> Iterator[Statistic]:
    """With the margin in every value. Bare arithmetic does not say which statistic it is of."""
    if not used:
        for name in (*_LATENCIES, _THROUGHPUT):
            statistic = "value" if name == _THROUGHPUT else UNSTATED
            yield _statistic(name, statistic, forecast[name], None, "nothing measured is a guide")
        return
    for full_name, ratio in used.items():
        name, statistic = _split(full_name, forecast)
        if name not in (*_LATENCIES, _THROUGHPUT):
            continue
        checked = errors.get((ratio.rule, full_name), ())
        why = f"no interval: {len(checked)} estimates of this kind could be checked"
        value = forecast[name] * math.exp(ratio.log)
        yield _statistic(name, statistic, value, half_width(checked), why)


def _split(full_name: str, forecast: Mapping[str, float]) -> tuple[str, str]:
    """``ttft_s_p99`` → (``ttft_s``, ``p99``)."""
    if full_name in forecast:
        return full_name, "value"
    name, _, statistic = full_name.rpartition("_")
    return name, statistic


def _statistic(
    name: str, statistic: str, value: float, half: float | None, why_none: str
) -> Statistic:
    lower = metric(name).direction is Direction.LOWER
    worse = value * (1.0 + MARGIN) if lower else value / (1.0 + MARGIN)
    low = high = None
    if half is not None:
        low, high = min(value * math.exp(-half), worse), max(value * math.exp(half), worse)
    return Statistic(
        metric=name,
        statistic=statistic,
        value=worse,
        low=low,
        high=high,
        method=f"estimated, {MARGIN:.0%} worse than expected"
        + ("; 95 % interval from how far estimates of this kind were off" if half else ""),
        reason="" if half is not None else why_none,
    )


def _rate(traffic: Traffic, throughput: Statistic | None, outputs: float) -> float | None:
    """Requests per second of one replica: never more than are sent."""
    if throughput is None or throughput.value is None:
        return None
    done = throughput.value / outputs
    offered = getattr(traffic.arrivals, "rate_rps", None)
    return done if offered is None else min(done, float(offered))


def _in_flight(
    traffic: Traffic, rate: float | None, statistics: Sequence[Statistic]
) -> float | None:
    if isinstance(traffic.arrivals, ClosedLoop):
        return float(traffic.arrivals.num_users)
    e2e = next((s for s in statistics if s.metric == "e2e_s" and s.statistic == "mean"), None)
    return None if rate is None or e2e is None or e2e.value is None else rate * e2e.value


def _capped(
    statistics: Sequence[Statistic], traffic: Traffic, outputs: float
) -> Iterator[Statistic]:
    """No more tokens come out than are asked for."""
    offered = getattr(traffic.arrivals, "rate_rps", None)
    for one in statistics:
        if one.metric == _THROUGHPUT and offered is not None:
            most = float(offered) * outputs
            cut = [None if v is None else min(v, most) for v in (one.value, one.low, one.high)]
            yield replace(one, value=cut[0], low=cut[1], high=cut[2])
        else:
            yield one


def _of_rate(rate: float | None, inputs: float) -> Iterator[Statistic]:
    if rate is not None:
        for name, value in (("achieved_rate", rate), ("prompt_throughput", rate * inputs)):
            yield Statistic(
                metric=name, statistic="value", value=value, method="from the output throughput"
            )


_BY: Mapping[Rule, str] = {
    Rule.SHARED: "what {source} measured of this configuration, scored again with what is usual of "
    "{num} configurations measured on {on}",
    Rule.CARRIED: "what {source} measured of this configuration, scored again by the arithmetic of "
    "both chips; too little was measured here to calibrate it",
    Rule.USUAL: "arithmetic, calibrated with {num} other configurations measured on this hardware",
    Rule.BORROWED: "arithmetic, calibrated with {num} configurations measured on {on}, for too "
    "little was measured here",
    Rule.NONE: "arithmetic alone: nothing was measured that could calibrate it",
}


def _words(kind: EvidenceKind, one: Ratio, checked: int, has_interval: bool) -> str:
    how = _BY[one.rule].format(source=one.source, num=one.num_configs, on=one.calibrated_on)
    interval = (
        f"intervals from {checked} estimates of this kind that were measured too"
        if has_interval
        else "how far it may be off is not known"
    )
    return f"{kind}: {how}; {MARGIN:.0%} margin in every figure; {interval}"
