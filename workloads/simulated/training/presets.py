"""Machines and models to start from: public figures where there are any, else said assumptions.

Nobody publishes how long a v5e slice runs between interruptions: the presets take the one public
rate of a job of this kind (Llama 3's, H100) for all chips; it is an assumption there and is listed
as one. How long saving and restarting takes is assumed everywhere.
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from results.collective_time import Link
from workloads.errors import SimulationRefused
from workloads.simulated.training import public
from workloads.simulated.training.model import FailureModel, Recovery, StepModel
from workloads.simulated.training.predict import Setup

_RECOVERY = Recovery(save_s=30.0, detect_s=60.0, restart_s=300.0, restore_s=60.0)
_RECOVERY_SAYS = (
    "a checkpoint stops the training for 30 s; a failure is noticed after 60 s, processes run and "
    "have compiled 300 s later, and reading the checkpoint takes 60 s"
)
_FAILURES = FailureModel(mtbf_chip_hours=public.LLAMA3_MTBF_CHIP_HOURS, num_spares=24)
_FAILURES_SAY = (
    "half of the interruptions take a unit of hardware away for a day; 24 units stand by"
)
_LLAMA3_SOURCE = (
    "Llama 3 (arXiv 2407.21783): 419 unexpected interruptions, 54 days, 16,384 H100 GPUs"
)


def _maxtext(size: str) -> Setup:
    row = public.MAXTEXT_V5E[size]
    return Setup(
        name=f"maxtext-v5e-{size}",
        num_chips=50_944,
        chips_per_domain=public.V5E_CHIPS_PER_SLICE,
        step=StepModel(
            compute_s=row.one_slice_step_s,
            gradient_bytes=2.0 * row.num_parameters,  # bfloat16
            chip_cv=0.0,  # what one slice's chips cost each other is in its own step
        ),
        seen=row.seen,
        failures=_FAILURES,
        recovery=_RECOVERY,
        assumptions=(
            "v5e chips are interrupted as often as the GPUs of Llama 3; nobody published their own",
            _FAILURES_SAY,
            _RECOVERY_SAYS,
            "the published rates have a noise of 1 %",
        ),
        sources=(
            "MaxText's README (before commit e7829012d): TPU v5e, 1 to 32 slices of 256 chips",
            _LLAMA3_SOURCE,
        ),
    )


def _llama3() -> Setup:
    tokens, flops_per_token = 16 * 2**20, 6.0 * 405e9
    step_s = tokens * flops_per_token / (public.LLAMA3_NUM_GPUS * 400e12)
    return Setup(
        name="llama3-405b-h100",
        num_chips=public.LLAMA3_NUM_GPUS,
        chips_per_domain=128,
        step=StepModel(
            compute_s=step_s,
            # Each GPU of a replica holds 1/128 of the model and exchanges its own gradients.
            gradient_bytes=4.0 * 405e9,
            outer=Link(alpha_s=20e-6, beta_s_per_byte=1.0 / 50e9),
            overlap_share=0.9,
            chip_cv=0.01,
        ),
        failures=replace(_FAILURES, num_spares=32),
        recovery=replace(_RECOVERY, save_s=10.0),
        days=public.LLAMA3_DAYS,
        assumptions=(
            "a domain is one replica of the model: tensor parallel 8 × pipeline 16 GPUs; what its "
            "GPUs cost each other is in the published 400 TFLOP/s",
            "between replicas 400 Gb/s per GPU, 20 µs per message, 90 % of the bytes overlapped, "
            "and 1 % noise of each GPU",
            "half of the interruptions take a unit of hardware away for a day; 32 units stand by",
            _RECOVERY_SAYS.replace("30 s", "10 s"),
        ),
        sources=(_LLAMA3_SOURCE + "; 400 TFLOP/s per GPU with 16 M tokens in a batch",),
    )


PRESETS = (*(f"maxtext-v5e-{size}" for size in public.MAXTEXT_V5E), "llama3-405b-h100")


def preset(name: str) -> Setup:
    """Raises SimulationRefused with the nearest names and all of them."""
    if name == "llama3-405b-h100":
        return _llama3()
    if name in PRESETS:
        return _maxtext(name.removeprefix("maxtext-v5e-"))
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"; did you mean {near[0]!r}" if near else ""
    raise SimulationRefused(f"no preset is called {name!r}; there are {', '.join(PRESETS)}{hint}")
