"""Accelerators as GKE labels its nodes: Ray's accelerator type → the value of
``cloud.google.com/gke-accelerator`` and of ``cloud.google.com/gke-tpu-accelerator``.

Source: https://docs.cloud.google.com/kubernetes-engine/docs/how-to/gpus and …/how-to/tpus.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

GPUS: Final[Mapping[str, str]] = {
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
}
TPUS: Final[Mapping[str, str]] = {
    "TPU-V4": "tpu-v4-podslice",
    "TPU-V5P": "tpu-v5p-slice",
    "TPU-V5LITEPOD": "tpu-v5-lite-podslice",
    "TPU-V6E": "tpu-v6e-slice",
    "TPU-V7X": "tpu7x",
}
