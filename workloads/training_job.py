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


class MeshGrouped(Grouped, Protocol):
    @property
    def threads_per_worker(self) -> int: ...


_CHIP = {"gpu": "GPU", "tpu": "TPU", "cpu": ""}  # Ray's names of what a worker takes


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


def mesh_launch(
    train_loop: str,
    config: Mapping[str, Any],
    params: MeshGrouped,
    device: Device,
    *,
    cpu_devices_per_worker: int = 1,
    watchdog_s: float = 0.0,
) -> TrainLaunch:
    """XLA: one process per worker, with all chips of its bundle. On a virtual pool each has as many
    CPU devices as chips are pretended, so that the mesh is that of the real pool.

    ``config`` is given ``num_local_devices`` and ``num_slices``. Raises LaunchRefused.
    """
    chips, rest = divmod(device.num_chips, params.num_workers)
    if rest:
        raise LaunchRefused(
            f"each worker has the same number of chips: workload.num_workers is "
            f"{params.num_workers}, the plan gives {device.num_chips} x {device.accelerator}"
        )
    on_chips = device.kind != "cpu"
    mesh = {
        "num_local_devices": chips or cpu_devices_per_worker,
        "num_slices": device.num_slices,
    }
    return TrainLaunch(
        train_loop=train_loop,
        config={**config, **mesh},
        num_workers=params.num_workers,
        cpus_per_worker=params.cpus_per_worker,
        backend="xla",
        watchdog_s=watchdog_s,
        chip=_CHIP[device.kind],
        chips_per_worker=chips if on_chips else 0,
        num_slices=device.num_slices,
        # The size of XLA's thread pool on a CPU; there is no option for it.
        env={} if on_chips else {"PJRT_NPROC": str(params.threads_per_worker)},
    )


def steps_of(
    running: Running, kind: str, on_progress: Callable[[int, int, float], None]
) -> StepSamples:
    """All steps of all ranks; ``on_progress`` counts steps that every rank has made."""
    if running.training is None:
        raise LaunchRefused(f"the {kind} workload was given a server instead of a training job")
    samples: StepSamples = running.training.wait(on_progress)
    return samples
