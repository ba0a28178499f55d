"""One optimizer step of one rank, and what of it can be timed from outside. Imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from workloads.base import TrainRank, TrainStep
from workloads.batches import Batches
from workloads.errors import LossNotFinite, OutOfDeviceMemory
from workloads.host_memory import resident_peak_bytes
from workloads.params import TorchWorkload
from workloads.torch_comm import BucketWatch, DeviceClock
from workloads.torch_compile import CompileWatch
from workloads.torch_parallel import Layout, Placed

_LOOK_EVERY_S = 0.5


@dataclass(slots=True, kw_only=True)
class Trainer:
    """What a step needs. ``tokens`` are the last step's, (G, B, T + 1) on the device."""

    params: TorchWorkload
    rank: TrainRank
    layout: Layout
    device: torch.device
    placed: Placed
    optimizer: torch.optim.Optimizer
    clock: DeviceClock
    buckets: BucketWatch | None = None
    compiles: CompileWatch | None = None
    looked_at_s: float = -math.inf
    peak_bytes: int = -1
    tokens: Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        if isinstance(self.placed.module, DistributedDataParallel):
            self.buckets = BucketWatch(self.placed.module, self.clock)

    def step(self, index: int, batches: Batches) -> TrainStep:
        """Timed from asking for the batch until the device is done. Raises LossNotFinite."""
        start_s = self.rank.now_s()
        self.tokens = torch.from_numpy(batches.next()).to(self.device)
        data_wait_s = self.rank.now_s() - start_s
        loss = self.gradients()
        computed = self.clock.mark()
        self.update()
        updated = self.clock.mark()
        loss_nats = float(loss.item())
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        duration_s = self.rank.now_s() - start_s
        if not math.isfinite(loss_nats):
            raise LossNotFinite(
                f"the loss of step {index} is {loss_nats} on rank {self.rank.rank}: lower "
                "workload.learning_rate, or train in float32"
            )
        return TrainStep(
            step=index,
            start_s=start_s,
            duration_s=duration_s,
            data_wait_s=data_wait_s,
            num_tokens=self._num_tokens(),
            loss=loss_nats,
            memory_bytes=self._peak_bytes(start_s, is_last=index == self.params.num_steps - 1),
            is_warmup=False,
            comm_s=self._exposed_s(computed),
            optimizer_s=self.clock.between_s(computed, updated),
        )

    def gradients(self) -> Tensor:
        """Of the mean loss over all micro batches, which is returned; exchanged in the last."""
        total = torch.zeros((), device=self.device)
        num = len(self.tokens)
        for index, tokens in enumerate(self.tokens):
            with self.placed.last(index == num - 1):
                with self._arithmetic():
                    logits = self.placed.module(tokens[:, :-1])
                loss = next_token_loss(logits, tokens[:, 1:]) / num
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def repeat(self) -> None:
        """The last step's work again, whatever it makes of the weights."""
        self.gradients()
        self.update()

    def _arithmetic(self) -> Any:
        """FSDP2 casts its parameters itself, when it gathers them."""
        if self.params.precision != "bfloat16" or self.params.strategy == "fsdp2":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _exposed_s(self, computed: Any) -> float:
        if not self.layout.exchanges:
            return 0.0
        if self.buckets is None:
            return math.nan  # found out after the last step
        return self.clock.between_s(self.buckets.handed_over, computed)

    def _peak_bytes(self, now_s: float, *, is_last: bool) -> int:
        """Looked up once in a while: it only grows, and looking costs as much as all the rest."""
        if is_last or now_s - self.looked_at_s >= _LOOK_EVERY_S:
            self.looked_at_s, self.peak_bytes = now_s, peak_memory_bytes(self.device)
        return self.peak_bytes

    def _num_tokens(self) -> int:
        """A rank's part of what it computes together with its tensor-parallel neighbours."""
        num, batch, length = self.tokens.shape
        share, rest = divmod(num * batch * (length - 1), self.layout.tensor_size)
        return share + (self.layout.tensor_index < rest)


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats, in float32. logits: (B, T, V); targets: (B, T)."""
    return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


@contextmanager
def memory_told(rank: int, device: torch.device) -> Iterator[None]:
    """Turns every way in which PyTorch says that memory is short into OutOfDeviceMemory, with the
    most that was held before."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _says_no_memory(error):
            raise
        held = peak_memory_bytes(device)
        most = f"at most {held / 2**30:.2f} GiB were held before" if held >= 0 else "peak not known"
        raise OutOfDeviceMemory(
            f"rank {rank} ran out of memory on {device}: {most}; lower micro_batch_size, or "
            f"turn on activation_checkpointing. {str(error).strip().splitlines()[0]}"
        ) from error


def _says_no_memory(error: RuntimeError) -> bool:
    """The CPU's allocator has no exception of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def peak_memory_bytes(device: torch.device) -> int:
    """The most this process has held so far: of device memory on a GPU, resident on a CPU. −1: not
    known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resident_peak_bytes()
