"""Doubts: reasons to trust a run's numbers less, found in the run itself. Pure.

A doubt that ``invalidates`` makes the run ``Invalid``: it is kept and shown, and nothing ever
recommends or compares by it. The others stand beside the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from results.client import ClientReport
from results.collectives import collective_doubts
from results.environment import Environment
from results.record import Doubt, Placement
from results.request_checks import NOTHING_EXPECTED, Expected, request_doubts
from results.samples import LOSS_NOT_TOLD, CollectiveSamples, RequestSamples, Samples, StepSamples


def doubts_of(
    samples: Samples,
    environment: Environment | None,
    placement: Placement | None,
    client: ClientReport | None = None,
    *,
    expected: Expected = NOTHING_EXPECTED,
    observed: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Doubt, ...]:
    """Every doubt about one run's numbers, the gravest first. ``client`` tells how the load client
    itself did, ``expected`` what was asked of the server, ``observed`` what a training said of
    itself while it ran; what is not given is not checked."""
    found: list[Doubt] = []
    if isinstance(samples, RequestSamples):
        found += request_doubts(samples, client, expected)
    elif isinstance(samples, CollectiveSamples):
        found += collective_doubts(samples, environment, placement)
    else:
        found += _steps(samples)
        found += _training(samples, observed)
    if environment is not None:
        found += _host(environment)
    if placement is not None and placement.virtual:
        found.append(
            Doubt(
                code="virtual_pool",
                message=f"pool {placement.pool} is virtual: these numbers are this machine's, "
                f"not those of {placement.num_chips} x {placement.accelerator}",
            )
        )
    return tuple(sorted(found, key=lambda d: not d.invalidates))


def _steps(samples: StepSamples) -> Iterable[Doubt]:
    keep = ~samples.is_warmup
    if not keep.any():
        yield Doubt(code="no_steps", message="no step was measured", invalidates=True)
        return
    loss = samples.loss[keep]
    if np.all(loss == LOSS_NOT_TOLD):
        yield Doubt(
            code="loss_not_told",
            message="the training does not tell its loss: a fast wrong run would not be seen",
        )
        return
    if not np.all(np.isfinite(loss)):
        yield Doubt(
            code="loss_not_finite",
            message=f"{int((~np.isfinite(loss)).sum())} of {len(loss)} losses are not finite: "
            "a fast wrong run",
            invalidates=True,
        )
        return
    steps = samples.step[keep]
    first, last = loss[steps == steps.min()].mean(), loss[steps == steps.max()].mean()
    if last >= first:
        yield Doubt(
            code="loss_did_not_fall",
            message=f"the loss went from {first:.3f} to {last:.3f} nats over the measured steps",
        )
    if not samples.is_warmup.any():
        yield Doubt(code="no_warmup", message="no warm-up steps: the first one compiles and caches")


def _training(samples: StepSamples, observed: Mapping[str, Any]) -> Iterable[Doubt]:
    if observed.get("steps_numbered") is False and len(observed.get("attempts", ())) > 1:
        yield Doubt(
            code="steps_not_numbered",
            message="the script was started again and does not say which step it makes: all steps "
            "that it had made before count as lost; let it call step(number=…)",
        )
    measured = {int(step) for step in samples.step[~samples.is_warmup]}
    late = [one for one in observed.get("recompiled", ()) if one["step"] in measured]
    if late:
        told = sum(one["num"] for one in late)
        spent_s = sum(one["compile_s"] for one in late)
        steps = ", ".join(str(one["step"]) for one in late[:5]) + (", …" if late[5:] else "")
        yield Doubt(
            code="recompiled",
            message=f"torch.compile compiled {told} more times after the warm-up, {spent_s:.1f} s "
            f"in measured steps ({steps}): their times are not those of compiled code",
        )


def _host(environment: Environment) -> Iterable[Doubt]:
    if environment.software.git_dirty:
        yield Doubt(
            code="dirty_checkout",
            message="windtunnel runs from a checkout with uncommitted changes",
        )
    noise = environment.noise
    if noise is None or not environment.hardware:
        return
    num_cpus = environment.hardware[0].num_cpus
    if noise.load_1m_before > num_cpus:
        yield Doubt(
            code="host_busy",
            message=f"the host was busy before the run: load {noise.load_1m_before:.1f} on "
            f"{num_cpus} CPUs",
        )
