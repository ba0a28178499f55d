"""``scale --simulate``: from options and records to a setup, and from a prediction to a record.

What it predicts is kept as one record with evidence ``simulated``: it can be listed and reported,
and nothing that answers from measured evidence will ever use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from math import inf
from typing import Any

from harness.errors import SpecError
from results.collective_time import Algorithm, Link
from results.environment import stable_hash
from results.goodput import BADPUT, Part
from results.measurement import Measurement
from results.record import Doubt, Evidence, RunRecord, Succeeded, new_run_id
from results.simulated_training import RANGE_SHARE, Range, ScalePredicted
from workloads.simulated.training.predict import Setup
from workloads.simulated.training.presets import preset

SCHEMA = "windtunnel.scale-simulated/1"
DEFAULT_PRESET = "maxtext-v5e-16b"
WORKLOAD = "simulated-training"
_LINK_METRICS = ("alpha_s", "beta_s_per_byte")
BEYOND = 4.0  # times the largest size seen: further out is said to be far


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedAsk:
    """What a person asked for; None: as the preset has it."""

    preset: str = DEFAULT_PRESET
    num_chips: int | None = None
    chips_per_domain: int | None = None
    algorithm: Algorithm | None = None
    checkpoint_s: float | None = None
    interval_s: float | None = None
    restart_s: float | None = None
    mtbf_chip_hours: float | None = None
    weibull_shape: float | None = None
    link_mtbf_hours: float | None = None
    num_spares: int | None = None
    days: float | None = None
    num_seeds: int = 20
    seed: int = 0


def setup_of(ask: SimulatedAsk, records: Sequence[RunRecord] = ()) -> Setup:
    """The preset, with what ``records`` measured and what was asked in place of its own.

    Raises SimulationRefused for an unknown preset or values that make no sense, SpecError for
    records that nothing can be taken from.
    """
    setup = preset(ask.preset)
    if records:
        setup = _calibrated(setup, records)
    setup = _asked(setup, ask)
    if ask.algorithm is not None:
        if setup.seen:
            raise SpecError(
                f"--algorithm {ask.algorithm}: the preset {ask.preset} draws ring or tree by how "
                "well each explains its published sizes; it goes with --calibrate"
            )
        setup = replace(setup, step=replace(setup.step, algorithm=ask.algorithm))
    return setup


def _asked(setup: Setup, ask: SimulatedAsk) -> Setup:
    failures, recovery = setup.failures, setup.recovery
    said = []

    def given(name: str, value: float | None, present: float, unit: str = "") -> float:
        if value is None:
            return present
        said.append(f"asked for: {name} {value:g}{unit}")
        return value

    failures = replace(
        failures,
        mtbf_chip_hours=given(
            "mtbf", ask.mtbf_chip_hours, failures.mtbf_chip_hours, " chip-hours per interruption"
        ),
        weibull_shape=given("Weibull shape", ask.weibull_shape, failures.weibull_shape),
        link_mtbf_hours=given(
            "domain's way out", ask.link_mtbf_hours, failures.link_mtbf_hours, " h per interruption"
        ),
        num_spares=int(given("spare units", ask.num_spares, failures.num_spares)),
    )
    recovery = replace(
        recovery,
        save_s=given("checkpoint", ask.checkpoint_s, recovery.save_s, " s"),
        restart_s=given("restart", ask.restart_s, recovery.restart_s, " s"),
    )
    return replace(
        setup,
        num_chips=ask.num_chips or setup.num_chips,
        chips_per_domain=ask.chips_per_domain or setup.chips_per_domain,
        failures=failures,
        recovery=recovery,
        interval_s=ask.interval_s,
        days=ask.days or setup.days,
        num_seeds=ask.num_seeds,
        seed=ask.seed,
        assumptions=(*setup.assumptions, *said),
    )


def _calibrated(setup: Setup, records: Sequence[RunRecord]) -> Setup:
    """The step of a training record, the outer network of a collectives record."""
    step, sources = setup.step, []
    for record in records:
        step_s, link = _value(record, "step_time_s", "mean"), _link(record)
        if step_s is None and link is None:
            raise SpecError(
                f"--calibrate {record.run_id}: has neither a mean step_time_s (a training's "
                "record) nor α and β of an all-reduce (a record of windtunnel collectives)"
            )
        if step_s is not None:
            share = _value(record, "communication_share", "value")
            step = replace(step, compute_s=step_s * (1.0 - (share or 0.0)))
            num_parameters = record.resolved.get("num_parameters")
            if num_parameters is not None:
                step = replace(step, gradient_bytes=4.0 * float(num_parameters))
            without = "without its communication" if share is not None else "communication and all"
            sources.append(f"step time of {record.run_id} ({record.evidence.value}), {without}")
        if link is not None:
            step = replace(step, outer=link)
            sources.append(
                f"α {link.alpha_s:.3g} s and β {link.beta_s_per_byte:.3g} s/byte of "
                f"{record.run_id} ({record.evidence.value})"
            )
    return replace(
        setup,
        name=f"{setup.name}, calibrated",
        step=step,
        seen=(),
        sources=(*sources, *setup.sources),
    )


def _value(record: RunRecord, metric: str, statistic: str) -> float | None:
    for m in record.measurements:
        if (m.metric, m.statistic, m.group) == (metric, statistic, ""):
            return m.value
    return None


def _link(record: RunRecord) -> Link | None:
    """α and β of the all-reduce over the most ranks, whose group is ``all_reduce/8 ranks``."""
    found: dict[int, dict[str, float]] = {}
    for m in record.measurements:
        collective, _, ranks = m.group.partition("/")
        if collective == "all_reduce" and m.metric in _LINK_METRICS and m.value is not None:
            found.setdefault(int(ranks.split()[0]), {})[m.metric] = m.value
    whole = [ranks for ranks, values in found.items() if len(values) == len(_LINK_METRICS)]
    if not whole:
        return None
    alpha_s, beta_s_per_byte = (found[max(whole)][name] for name in _LINK_METRICS)
    return Link(alpha_s=alpha_s, beta_s_per_byte=beta_s_per_byte)


def warnings_of(predicted: ScalePredicted) -> tuple[Doubt, ...]:
    """What the reader must know before believing any of it."""
    found = [
        Doubt(
            code="simulated",
            message="no number here was measured: each is a model's, as good as its assumptions",
        )
    ]
    seen = predicted.largest_seen
    if seen and predicted.num_chips > BEYOND * seen:
        found.append(
            Doubt(
                code="far_beyond_data",
                message=f"{predicted.num_chips:,} chips are {predicted.num_chips / seen:.1f} times "
                f"the largest published size ({seen:,}); a change of regime in between (a network "
                "that fills up, a collective that is chosen anew) is in no small run",
            )
        )
    if predicted.num_seeds < 19:
        found.append(
            Doubt(
                code="few_seeds",
                message=f"{predicted.num_seeds} seeds hold no {RANGE_SHARE:.0%} range; it takes 19",
            )
        )
    return tuple(found)


def record_of(
    setup: Setup, predicted: ScalePredicted, started_at: datetime, ended_at: datetime, took_s: float
) -> RunRecord:
    asked = asdict(setup)
    return RunRecord(
        run_id=new_run_id(started_at),
        experiment_id=f"simulated-{stable_hash(asked)}",
        name=setup.name,
        workload=WORKLOAD,
        evidence=Evidence.SIMULATED,
        workload_hash=stable_hash({"workload": WORKLOAD, **asked}),
        environment_hash="",
        started_at=started_at,
        ended_at=max(started_at, ended_at),
        duration_s=took_s,
        outcome=Succeeded(),
        spec={"simulated": _finite(asked)},
        seeds={"seed": setup.seed},
        measurements=tuple(_measurements(predicted)),
        doubts=warnings_of(predicted),
    )


def _finite(value: Any) -> Any:
    """As JSON can hold it: what never happens has no number."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if value == inf else value


def _measurements(predicted: ScalePredicted) -> list[Measurement]:
    n = predicted.num_seeds
    wall_s = predicted.days * 86_400.0

    def row(metric: str, found: Range, scale: float = 1.0, statistic: str = "value") -> Measurement:
        return Measurement(
            metric=metric,
            statistic=statistic,
            value=found.value * scale,
            n=n,
            low=None if found.low is None else found.low * scale,
            high=None if found.high is None else found.high * scale,
            confidence=RANGE_SHARE,
            method="simulated; mean over seeds, and where one more seed would fall",
        )

    return [
        row("scaling_efficiency", predicted.efficiency),
        row("training_goodput", predicted.goodput),
        row("step_time_s", predicted.step_s, statistic="mean"),
        row("communication_share", predicted.communication_share),
        row("goodput_productive_s", predicted.parts[Part.PRODUCTIVE], wall_s),
        *(row(f"badput_{part.value}_s", predicted.parts[part], wall_s) for part in BADPUT),
        row("num_restarts", predicted.failures_per_day, predicted.days),
        row("num_steps_lost", predicted.steps_lost_per_day, predicted.days),
        *(
            [row("time_to_recover_s", predicted.time_to_recover_s, statistic="mean")]
            if predicted.time_to_recover_s is not None
            else []
        ),
    ]


def document_of(predicted: ScalePredicted, run_id: str | None, took_s: float) -> dict[str, Any]:
    """The body of the JSON document; parts by name, every range as value, low and high."""
    return {
        "evidence": Evidence.SIMULATED.value,
        "run_id": run_id,
        "took_s": took_s,
        "doubts": [asdict(doubt) for doubt in warnings_of(predicted)],
        **asdict(replace(predicted, parts={})),
        "parts": {part.value: asdict(found) for part, found in predicted.parts.items()},
    }
