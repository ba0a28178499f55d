"""Names that the GKE Inference Quickstart writes in another way than we do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from results.prices import plain_name

# Our accelerator types (Ray's) → GKE's: the values of cloud.google.com/gke-accelerator and
# cloud.google.com/gke-tpu-accelerator.
_ACCELERATORS: Final[Mapping[str, str]] = {
    "T4": "nvidia-tesla-t4",
    "V100": "nvidia-tesla-v100",
    "P100": "nvidia-tesla-p100",
    "L4": "nvidia-l4",
    "A100": "nvidia-tesla-a100",
    "A100-40G": "nvidia-tesla-a100",
    "A100-80G": "nvidia-a100-80gb",
    "H100": "nvidia-h100-80gb",
    "H200": "nvidia-h200-141gb",
    "B200": "nvidia-b200",
    "GB200": "nvidia-gb200",
    "RTX-PRO-6000": "nvidia-rtx-pro-6000",
    "TPU-V4": "tpu-v4-podslice",
    "TPU-V5P": "tpu-v5p-slice",
    "TPU-V5LITEPOD": "tpu-v5-lite-podslice",
    "TPU-V6E": "tpu-v6e-slice",
    "TPU-V7X": "tpu7x",
}
_GKE: Final = {plain_name(ours): gke for ours, gke in _ACCELERATORS.items()}

# Its pricing models → the capacity types of price tables.
_PRICING: Final[Mapping[str, str]] = {"3-years-cud": "3-year-cud"}


def accelerator_name(ours: str) -> str:
    """As GKE calls it; what GKE has no name for (a CPU, another cloud's) stays as it is."""
    return _GKE.get(plain_name(ours), ours)


def is_accelerator(ours: str, asked: str) -> bool:
    """Whether ``asked`` means the accelerator, by GKE's name or by ours."""
    wanted = plain_name(asked)
    return wanted in (plain_name(ours), plain_name(accelerator_name(ours)))


def capacity_of(pricing_model: str) -> str:
    return _PRICING.get(pricing_model, pricing_model)
