"""How long each rank did nothing but communicate. Two ways, by what a strategy lets one see.

DDP exchanges gradients in buckets while the backward pass computes. When the last bucket is handed
over everything has been computed, so the time from there to the end of the backward pass is exposed
communication, waiting for slower ranks included. It is timed in every step, at the price of two
readings of a clock.

FSDP2 and tensor parallelism communicate all along, from inside the framework. A few steps more are
made after the measured ones under PyTorch's profiler, and ``workloads.exposed`` says what of their
communication had no computing beside it.
"""

# Without postponed annotations: DDP looks at those of its hook.

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch._C._autograd import DeviceType
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from workloads.exposed import Span, exposed_s

NUM_PROFILED_STEPS = 3

NOTHING = "nothing is communicated"
BY_BUCKETS = (
    "timed in every step: from the hand-over of the last gradient bucket to the end of the "
    "backward pass, waits for slower ranks included; what overlaps with computing is not counted"
)
BY_PROFILER = (
    f"mean of {NUM_PROFILED_STEPS} further steps under torch.profiler, the same for every step of "
    "a rank: time in which communication was under way and nothing was computed, waits for slower "
    "ranks included"
)
_COMPILED = ("Torch-Compiled Region", "CompiledFunction", "## Call CompiledFxGraph")
_COLLECTIVE = ("c10d::", "_c10d_functional::", "gloo:", "nccl:")


class DeviceClock:
    """Marks in the order in which the device comes by them. On a GPU a mark is an event in its
    stream: nothing waits for it, and it is read when the step has been waited for anyway."""

    def __init__(self, device: torch.device, now_s: Callable[[], float]) -> None:
        self._on_gpu, self._now_s = device.type == "cuda", now_s

    def mark(self) -> Any:
        if not self._on_gpu:
            return self._now_s()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def between_s(self, first: Any, second: Any) -> float:
        """After a synchronisation."""
        if not self._on_gpu:
            return float(second - first)
        return float(first.elapsed_time(second)) / 1e3


class BucketWatch:
    """Notes when a step's last bucket was handed over. Exchanges as DDP does by itself."""

    def __init__(self, ddp: DistributedDataParallel, clock: DeviceClock) -> None:
        self._clock = clock
        self.handed_over: Any = None
        ddp.register_comm_hook(ddp.process_group, self._exchange)

    def _exchange(
        self,
        group: dist.ProcessGroup,
        bucket: dist.GradBucket,  # type: ignore[name-defined] # exported at run time only
    ) -> torch.futures.Future[torch.Tensor]:
        if bucket.is_last():
            self.handed_over = self._clock.mark()
        return allreduce_hook(group, bucket)


def profiled_exposed_s(step: Callable[[], object], device: torch.device) -> float:
    """Mean exposed communication of a step, over ``NUM_PROFILED_STEPS``."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        for _ in range(NUM_PROFILED_STEPS):
            step()
    events = profiler.events() or []
    found = _on_gpu(events) if device.type == "cuda" else _on_cpu(events)
    return exposed_s(*found) / NUM_PROFILED_STEPS


def _on_gpu(events: Any) -> tuple[list[Span], list[Span]]:
    """NCCL's kernels against all others; the profiler's own annotations are no kernels."""
    kernels = [e for e in events if e.device_type == DeviceType.CUDA]
    kernels = [e for e in kernels if not getattr(e, "is_user_annotation", False)]
    return (
        [_span(e) for e in kernels if "nccl" in e.name.lower()],
        [_span(e) for e in kernels if "nccl" not in e.name.lower()],
    )


def _on_cpu(events: Any) -> tuple[list[Span], list[Span], list[Span]]:
    """Gloo's operations run on threads of its own; the rank's thread computes in between, or stands
    in a collective's call."""
    communication = [e for e in events if e.name.startswith(_COLLECTIVE)]
    computing = [e for e in events if e.name.startswith(("aten::", *_COMPILED))]
    threads = {e.thread for e in computing}
    return (
        [_span(e) for e in communication],
        [_span(e) for e in computing],
        [_span(e) for e in communication if e.thread in threads],
    )


def _span(event: Any) -> Span:
    return Span(event.time_range.start / 1e6, event.time_range.end / 1e6)
