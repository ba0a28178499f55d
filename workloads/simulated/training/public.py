"""Public figures that a simulation may start from, each with its source.

MaxText: TPU v5e in slices of 256 chips over DCN, weak scaling, bfloat16, sequences of 2048 tokens;
model FLOPs utilization in percent from the project's README at the parent of commit e7829012d, and
sequences per chip from MaxText/configs/v5e/{16,32,64,128}b.sh. Peak: 197 TFLOP/s per chip (Google's
page on TPU v5e).

Llama 3: "The Llama 3 Herd of Models", arXiv 2407.21783, section 3.3.4 and table 5: 419 unexpected
interruptions in 54 days on 16,384 H100 GPUs, more than 90 % effective training time; table 4:
400 TFLOP/s per GPU at 16,384 GPUs with 16 M tokens in a batch, tensor parallel 8, pipeline 16.
"""

from __future__ import annotations

from dataclasses import dataclass

from workloads.simulated.training.calibrate import SizeSeen

V5E_PEAK_FLOPS = 197e12
V5E_CHIPS_PER_SLICE = 256
MAXTEXT_SLICES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxTextRow:
    num_parameters: float
    sequences_per_chip: int
    mfu_percent: tuple[float, ...]  # at MAXTEXT_SLICES

    @property
    def seen(self) -> tuple[SizeSeen, ...]:
        return tuple(
            SizeSeen(num_domains=slices, rate=mfu)
            for slices, mfu in zip(MAXTEXT_SLICES, self.mfu_percent, strict=True)
        )

    @property
    def one_slice_step_s(self) -> float:
        """6 FLOPs per parameter and token; what attention adds is left out, so a few percent
        short. Only ratios of it reach the efficiency."""
        tokens = self.sequences_per_chip * 2048
        return 6.0 * self.num_parameters * tokens / (self.mfu_percent[0] / 100 * V5E_PEAK_FLOPS)


MAXTEXT_V5E = {
    "16b": MaxTextRow(
        num_parameters=16e9,
        sequences_per_chip=6,
        mfu_percent=(61.10, 59.37, 59.14, 58.27, 56.56, 54.65),
    ),
    "32b": MaxTextRow(
        num_parameters=32e9,
        sequences_per_chip=4,
        mfu_percent=(66.86, 64.81, 64.10, 63.67, 62.26, 60.40),
    ),
    "64b": MaxTextRow(
        num_parameters=64e9,
        sequences_per_chip=2,
        mfu_percent=(59.90, 56.66, 55.85, 54.96, 53.29, 50.18),
    ),
    "128b": MaxTextRow(
        num_parameters=128e9,
        sequences_per_chip=1,
        mfu_percent=(56.06, 55.82, 54.93, 52.93, 50.86, 46.25),
    ),
}

LLAMA3_NUM_GPUS = 16_384
LLAMA3_DAYS = 54.0
LLAMA3_INTERRUPTIONS = 419
LLAMA3_MIN_EFFECTIVE_SHARE = 0.90
LLAMA3_MTBF_CHIP_HOURS = LLAMA3_NUM_GPUS * LLAMA3_DAYS * 24.0 / LLAMA3_INTERRUPTIONS  # 50,676
