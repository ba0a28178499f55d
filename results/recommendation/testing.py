"""Profiles that are made up: for tests, and for the benchmark of the lookup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from results.environment import stable_hash
from results.recommendation.over_runs import summarised
from results.recommendation.profile import (
    Configuration,
    Evidence,
    EvidenceKind,
    LoadPoint,
    Machine,
    Profile,
)

MEASURED_AT = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


def a_profile(
    *,
    model: str = "example/model-8b",
    accelerator: str = "H100",
    num_chips: int = 1,
    rate_rps: float | None = 4.0,
    values: Mapping[str, tuple[float, ...]] | None = None,
    input_tokens: float = 1000.0,
    output_tokens: float = 200.0,
    version: str = "0.32.0",
    engine_args: Mapping[str, Any] | None = None,
    machine: Mapping[str, Any] | None = None,
    measured_at: datetime = MEASURED_AT,
    kind: EvidenceKind = EvidenceKind.MEASURED,
    **changes: Any,
) -> Profile:
    """``values``: "ttft_s p99" → a value for each run. Throughputs follow from rate and lengths."""
    numbers = {"ttft_s p50": (0.2,), "ttft_s p99": (0.4,), "tpot_s p50": (0.02,)} | dict(
        values or {}
    )
    numbers |= _throughputs(rate_rps, input_tokens, output_tokens)
    repeats = max(len(v) for v in numbers.values())
    place = Machine(accelerator=accelerator, num_chips=num_chips, capacity="on-demand")
    place = replace(place, **dict(machine or {}))
    setting = stable_hash(
        [model, version, accelerator, num_chips, dict(engine_args or {}), dict(machine or {})]
    )
    ids = tuple(f"{measured_at:%Y%m%dT%H%M%SZ}-{setting[:8]}{i:02d}" for i in range(repeats))
    made = Profile(
        profile_id=stable_hash([setting, rate_rps, input_tokens, output_tokens]),
        configuration_id=setting,
        configuration=Configuration(
            model=model,
            model_server="vllm",
            model_server_version=version,
            engine_args=dict(engine_args or {}),
        ),
        machine=place,
        load=LoadPoint(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            rate_rps=rate_rps,
            concurrency=None,
            arrivals="poisson",
        ),
        statistics=tuple(
            summarised(key.partition(" ")[0], key.partition(" ")[2], runs)
            for key, runs in numbers.items()
        ),
        evidence=Evidence(
            kind=kind,
            run_ids=ids,
            repeats=repeats,
            first_measured=measured_at - timedelta(hours=1),
            last_measured=measured_at,
        ),
    )
    return replace(made, **changes)


def _throughputs(
    rate_rps: float | None, input_tokens: float, output_tokens: float
) -> dict[str, tuple[float, ...]]:
    if rate_rps is None:
        return {}
    return {
        "achieved_rate value": (rate_rps,),
        "prompt_throughput value": (rate_rps * input_tokens,),
        "output_throughput value": (rate_rps * output_tokens,),
    }


_ACCELERATORS = (
    ("A100", 1.0), ("H100", 2.2), ("H200", 2.9), ("B200", 4.6), ("L4", 0.25),
    ("TPU-V5LITEPOD", 0.6), ("TPU-V5P", 1.4), ("TPU-V6E", 1.9),
)  # fmt: skip
_SHAPES = ((256, 128), (1024, 128), (1024, 1024), (1024, 8192), (8192, 1024), (2048, 512))


def generated(num_models: int, settings: int, loads: int, seed: int = 0) -> Iterator[Profile]:
    """``num_models × settings × loads`` profiles of a made-up world, in the order of ``build``:
    latency rises with load as in a queue, three runs each. Nothing in it was measured."""
    rng = np.random.default_rng(seed)
    for m in range(num_models):
        model = f"generated/model-{m:03d}"
        size = float(np.exp(rng.normal(0.0, 1.0)))
        made = [_setting(rng, model, size, s, loads) for s in range(settings)]
        made.sort(key=lambda curve: curve[0].configuration_id)
        for curve in made:
            yield from curve


def _setting(
    rng: np.random.Generator, model: str, size: float, number: int, loads: int
) -> list[Profile]:
    accelerator, speed = _ACCELERATORS[int(rng.integers(len(_ACCELERATORS)))]
    chips = int(2 ** rng.integers(0, 4))
    inputs, outputs = _SHAPES[int(rng.integers(len(_SHAPES)))]
    power = speed * chips**0.9 / size * float(np.exp(rng.normal(0.0, 0.2)))
    most = 4000.0 * power / (outputs + inputs / 8.0)
    curve = []
    for k in range(loads):
        busy = 0.95 * (k + 1) / loads
        wait = 1.0 + busy / (1.0 - busy)
        noise = np.exp(rng.normal(0.0, 0.03, (4, 3)))
        ttft, tpot = 0.03 * inputs / 1000.0 / power * wait, 0.012 / power * (1.0 + 2.0 * busy)
        runs = {
            "ttft_s p50": ttft * noise[0],
            "ttft_s p99": 4.0 * ttft * noise[1],
            "itl_s p99": 3.0 * tpot * noise[2],
            "tpot_s p50": tpot * noise[3],
        }
        curve.append(
            a_profile(
                model=model,
                accelerator=accelerator,
                num_chips=chips,
                rate_rps=most * busy,
                input_tokens=float(inputs),
                output_tokens=float(outputs),
                version=f"0.{30 + number % 4}.0",
                engine_args={"max-num-seqs": 2 ** (5 + number % 5), "trial": number},
                values={key: tuple(map(float, values)) for key, values in runs.items()},
            )
        )
    return curve
