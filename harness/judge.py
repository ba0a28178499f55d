"""One load judged: what was asked of it, what may be doubted, what it measured. Pure.

The same for a run, a bench and a point of a sweep, so that no two of them disagree about a number.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.load.bodies import DIALECTS
from harness.spec_shape import to_mapping
from results.checks import doubts_of
from results.client import ClientReport
from results.environment import Environment
from results.measure import measure_models, measure_requests
from results.measure_client import measure_client
from results.measurement import Measurement
from results.record import Doubt, Placement
from results.request_checks import Expected
from results.samples import IntColumn, RequestSamples
from results.telemetry_doubts import shares_prefixes
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import Traffic

_PINS_LENGTH = {dialect.name for dialect in DIALECTS if dialect.pins_length}


def expected_of(traffic: Traffic, samples: RequestSamples, client: ClientReport | None) -> Expected:
    """What can be expected of these rows, where the traffic and the server's dialect fix it."""
    prompts = samples.own_prompt_tokens
    return Expected(
        prompt_tokens=prompts if np.any(prompts >= 0) else None,
        output_tokens=_asked_outputs(traffic, samples)
        if client is not None and client.dialect in _PINS_LENGTH
        else None,
        max_cached_share=None if shares_prefixes(to_mapping(traffic)) else 0.0,
    )


def _asked_outputs(traffic: Traffic, samples: RequestSamples) -> IntColumn:
    schedule = build_schedule(traffic)
    known = samples.index < schedule.num_requests
    asked = np.full(samples.num_requests, -1, dtype=np.int64)
    asked[known] = schedule.output_tokens[samples.index[known]]
    for row in np.flatnonzero(~known):  # of a closed loop that only the clock ends
        asked[row] = schedule.shape(int(samples.index[row]))[1]
    return asked


def judge_load(
    samples: RequestSamples,
    traffic: Traffic | None,
    client: ClientReport | None,
    environment: Environment | None = None,
    placement: Placement | None = None,
) -> tuple[Doubt, ...]:
    """Every doubt about one load, the gravest first."""
    expected = Expected() if traffic is None else expected_of(traffic, samples, client)
    return doubts_of(samples, environment, placement, client, expected=expected)


def measure_load(
    samples: RequestSamples,
    client: ClientReport | None,
    slo: Mapping[str, float],
    num_chips: int,
) -> tuple[Measurement, ...]:
    """All measurements of one load: the whole, each model of a mix, and the client itself."""
    return (
        *measure_requests(samples, slo, num_chips),
        *measure_models(samples, slo, num_chips),
        *measure_client(client),
    )
