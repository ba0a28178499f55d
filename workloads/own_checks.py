"""What the parameters of ``collectives`` and ``command`` cannot mean. Pure; all of it is told."""

from __future__ import annotations

import math
from collections.abc import Iterator

from results.collectives import COLLECTIVES
from workloads.errors import LaunchRefused
from workloads.params import CollectivesWorkload, CommandWorkload
from workloads.step_lines import compiled

# The field (empty: the workload as a whole) and what is wrong with it.
Fault = tuple[tuple[str, ...], str]
OF_A_RANK = ("{rank}", "{local_rank}")


def refuse_faults(params: CollectivesWorkload | CommandWorkload) -> None:
    """Raises LaunchRefused with everything that is wrong."""
    wrong = [f"workload.{'.'.join(field)}: {text}" for field, text in faults_of(params)]
    if wrong:
        raise LaunchRefused("; ".join(wrong))


def faults_of(params: CollectivesWorkload | CommandWorkload) -> Iterator[Fault]:
    if not (math.isfinite(params.cpus_per_worker) and params.cpus_per_worker > 0):
        yield ("cpus_per_worker",), f"found {params.cpus_per_worker}; accepted: more than 0"
    if isinstance(params, CollectivesWorkload):
        yield from _of_collectives(params)
    else:
        yield from _of_command(params)


def _of_collectives(params: CollectivesWorkload) -> Iterator[Fault]:
    lows = {"num_workers": 1, "num_rounds": 1, "calls_per_round": 1, "threads_per_worker": 1}
    yield from _at_least(params, {**lows, "num_warmup_calls": 0, "seed": 0})
    unknown = [name for name in params.collectives if name not in COLLECTIVES]
    if unknown or not params.collectives:
        found = ", ".join(unknown) or "none"
        yield ("collectives",), f"found {found}; accepted: {', '.join(COLLECTIVES)}"
    if params.backend == "xla" and "broadcast" in params.collectives:
        yield (
            ("collectives",),
            "found broadcast; XLA has none on every kind of device: leave it out, or use gloo or "
            "nccl",
        )
    if not params.sizes_bytes or min(params.sizes_bytes) < 1:
        yield ("sizes_bytes",), "accepted: at least one size, each 1 byte or more"


def _of_command(params: CommandWorkload) -> Iterator[Fault]:
    lows = {"num_workers": 1, "num_steps": 0, "tokens_per_step": 0}
    yield from _at_least(params, lows)
    if not params.argv or not params.argv[0].strip():
        yield ("argv",), "is empty; give the script and its arguments, like [train.py, --x, '1']"
    if params.log_pattern and params.jsonl:
        yield ("jsonl",), "is given beside log_pattern; steps are read in one way: leave one out"
    if params.log_pattern:
        try:
            compiled(params.log_pattern)
        except LaunchRefused as error:
            yield ("log_pattern",), str(error)
    texts = (*params.argv, *params.env.values())
    if params.launcher == "torchrun" and any(n in text for text in texts for n in OF_A_RANK):
        yield (
            ("launcher",),
            "argv or env names {rank} or {local_rank}; under torchrun all ranks of a node have one "
            "command: let the script read RANK, or use launcher: plain",
        )
    if params.num_warmup_steps < 1:
        yield (
            ("num_warmup_steps",),
            f"found {params.num_warmup_steps}; accepted: at least 1, because nobody outside the "
            "script can tell when its first step began",
        )
    if 0 < params.num_steps <= params.num_warmup_steps:
        yield (
            ("num_steps",),
            f"found {params.num_steps} with {params.num_warmup_steps} warm-up steps, which are the "
            "first of them; leave one to measure, or say 0 for all there are",
        )


def _at_least(params: object, lows: dict[str, int]) -> Iterator[Fault]:
    for name, low in lows.items():
        if getattr(params, name) < low:
            yield (name,), f"found {getattr(params, name)}; accepted: at least {low}"
