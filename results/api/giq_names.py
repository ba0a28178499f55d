"""Names that the GKE Inference Quickstart writes in another way than we do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from results.gke_names import GPUS, TPUS
from results.prices import plain_name

_GKE: Final = {plain_name(ours): gke for ours, gke in {**GPUS, **TPUS}.items()}

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
