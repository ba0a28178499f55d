"""What the training workloads share: one rank per GPU or on CPUs, and the steps of all ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from results.samples import StepSamples
from workloads.base import Device, Running, TrainLaunch
from workloads.errors import LaunchRefused


class Grouped(Protocol):
    """The parameters of a workload whose ranks make a torch process group."""

    @property
    def kind(self) -> str: ...

    @property
    def num_workers(self) -> int: ...

    @property
    def cpus_per_worker(self) -> float: ...


def group_launch(
    train_loop: str,
    config: Mapping[str, Any],
    params: Grouped,
    device: Device,
    *,
    watchdog_s: float = 0.0,
    num_reporting: int = 0,
) -> TrainLaunch:
    """gloo where the device is a CPU (a virtual pool's too), NCCL with one GPU a rank on GPUs.

    Raises LaunchRefused for another device, and for more or fewer GPUs than ranks."""
    given = f"{device.num_chips} x {device.accelerator}"
    if device.kind not in ("cpu", "gpu"):
        raise LaunchRefused(
            f"the {params.kind} workload runs on CPUs and NVIDIA GPUs; the plan gives {given} "
            f"({device.kind})"
        )
    on_gpus = device.kind == "gpu"
    if on_gpus and device.num_chips != params.num_workers:
        raise LaunchRefused(
            f"each rank has one GPU: workload.num_workers is {params.num_workers}, the plan gives "
            f"{given}"
        )
    return TrainLaunch(
        train_loop=train_loop,
        config=config,
        num_workers=params.num_workers,
        cpus_per_worker=params.cpus_per_worker,
        backend="nccl" if on_gpus else "gloo",
        watchdog_s=watchdog_s,
        num_reporting=num_reporting,
        chip="GPU" if on_gpus else "",
        chips_per_worker=1 if on_gpus else 0,
    )


def steps_of(
    running: Running, kind: str, on_progress: Callable[[int, int, float], None]
) -> StepSamples:
    """All steps of all ranks; ``on_progress`` counts steps that every rank has made."""
    if running.training is None:
        raise LaunchRefused(f"the {kind} workload was given a server instead of a training job")
    samples: StepSamples = running.training.wait(on_progress)
    return samples
