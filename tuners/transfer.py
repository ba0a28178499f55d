"""What won on other hardware, as candidates here: scored again, never copied. Pure.

A configuration that was measured elsewhere is forecast here, times what the measurement there was
of the forecast there, over what is usual there. What it would break of a limit with a margin is not
proposed: on public data ten of ten raw winners broke their limit by 4 to 13 % on the next chip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.spec import RunSpec
from results.metrics import Direction, metric
from tuners.calibration import Calibration, Hardware, Seen
from tuners.goals import Wish
from tuners.seeds import Predict, key
from tuners.space import Branch, Config, Value

MARGIN = 0.10  # of each limit, beyond the study's own: a residual does not carry over whole
MOST = 10  # winners of each hardware that are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """``expected`` here, by name, on the scale of the forecast: the study's own calibration still
    multiplies it, and bounds have the margin in them."""

    config: Config
    hardware: Hardware
    run_id: str
    expected: Mapping[str, float]


def transferred(
    found: Iterable[Seen],
    branch: Branch,
    wish: Wish,
    predict: Predict,
    here: Hardware,
    usual: Mapping[Hardware, Calibration],
    base: RunSpec,
) -> tuple[Transferred, ...]:
    """The best configurations of each other hardware for the same model, as ``branch`` names them,
    each once. ``usual``: the calibration of each hardware."""
    winners: dict[Hardware, list[tuple[float, Seen, Config]]] = {}
    for seen in found:
        if seen.hardware == here or not _same_question(seen.spec, base):
            continue
        config = config_of(seen.spec, branch)
        names = (*(g.name for g in wish.goals), *(b.name for b in wish.bounds))
        if config is None or not all(name in seen.values for name in names):
            continue
        if any(b.slack(seen.values[b.name], 0.0) > 0 for b in wish.bounds):
            continue
        winners.setdefault(seen.hardware, []).append((wish.score(seen.values), seen, config))
    made: dict[object, Transferred] = {}
    for hardware, scored in winners.items():
        factors = usual[hardware].ratios() if hardware in usual else {}
        for _, seen, config in sorted(scored, key=lambda s: -s[0])[:MOST]:
            forecast = predict(config)
            if not isinstance(forecast, str) and key(config) not in made:
                made[key(config)] = Transferred(
                    config=config,
                    hardware=hardware,
                    run_id=seen.run_id,
                    expected=_rescored(forecast, seen, factors, wish),
                )
    return tuple(made.values())


def _rescored(
    forecast: Mapping[str, float], seen: Seen, usual: Mapping[str, float], wish: Wish
) -> dict[str, float]:
    expected = {
        name: value * seen.ratios.get(name, 1.0) / usual.get(name, seen.ratios.get(name, 1.0))
        for name, value in forecast.items()
    }
    for bound in wish.bounds:
        lower = metric(bound.metric).direction is Direction.LOWER
        expected[bound.name] *= 1.0 + MARGIN if lower else 1.0 / (1.0 + MARGIN)
    return expected


def _same_question(one: RunSpec, other: RunSpec) -> bool:
    """The same model under the same lengths, however many of them come."""
    if one.traffic is None or other.traffic is None:
        return False
    return (
        one.workload.kind == other.workload.kind
        and getattr(one.workload, "model", None) == getattr(other.workload, "model", None)
        and one.traffic.prompt_tokens == other.traffic.prompt_tokens
        and one.traffic.output_tokens == other.traffic.output_tokens
    )


def config_of(spec: RunSpec, branch: Branch) -> Config | None:
    """What ``branch`` calls the configuration that ``spec`` has; None where it is not of it."""
    config: dict[str, Value] = dict(branch.fixed)
    for path in (*branch.fixed, *(knob.path for knob in branch.knobs)):
        found = _at(spec, path.split("."))
        if not (found is None or isinstance(found, str | int | float | bool)):
            return None
        config[path] = found
    return config if branch.holds(config) else None


def _at(value: object, path: Sequence[str]) -> object:
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, tuple):
            value = value[int(part)] if part.isdecimal() and int(part) < len(value) else None
        else:
            value = getattr(value, part, None)
    return value
