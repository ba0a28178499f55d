"""Anyone's own training script on a planned placement: what to launch.

Each worker of Ray Train stands for one rank: it starts the rank's process (or, under ``torchrun``,
the first worker of each node starts torchrun, which starts the node's ranks), relays its steps, and
ends it. Placement, deadlines, the death of a rank and the teardown are those of any training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from results.samples import StepSamples
from workloads.base import Device, Running, TrainLaunch, TrainRank
from workloads.own_checks import OF_A_RANK, refuse_faults
from workloads.params import CommandWorkload
from workloads.traffic.spec import Traffic
from workloads.training_job import group_launch, steps_of


@dataclass(frozen=True, slots=True)
class Command:
    """The ``command`` workload. Raises LaunchRefused before anything is started."""

    params: CommandWorkload

    def launch(self, device: Device, models_dir: str) -> TrainLaunch:
        params = self.params
        refuse_faults(params)
        return group_launch(
            "workloads.command:run",
            {**asdict(params), "started_in": str(Path.cwd())},
            params,
            device,
            num_reporting=num_reporting(params),
        )

    def drive(
        self,
        running: Running,
        traffic: Traffic | None,
        on_progress: Callable[[int, int, float], None],
    ) -> StepSamples:
        return steps_of(running, self.params.kind, on_progress)


def num_reporting(params: CommandWorkload) -> int:
    """The ranks that tell of steps: rank 0 of a log and of one file for all, else every rank."""
    if params.log_pattern:
        return 1
    if params.jsonl and not any(name in params.jsonl for name in OF_A_RANK):
        return 1
    return params.num_workers


def run(config: Mapping[str, Any], rank: TrainRank) -> None:
    """The loop that the launch names. ``config``: a ``CommandWorkload`` as a mapping, and the
    driver's folder ``started_in``, where relative paths begin."""
    from workloads import command_loop  # the driver never needs it

    values = {name: value for name, value in config.items() if name != "started_in"}
    params = CommandWorkload(**{**values, "argv": tuple(config["argv"])})
    cwd = Path(config["started_in"], params.cwd)
    # A folder that was asked for must be there; the driver's own may not be, on another node.
    if params.cwd or cwd.is_dir():
        params = replace(params, cwd=str(cwd))
    command_loop.run(params, rank)
