"""Why the process of a rank is gone, as far as anybody can tell: by what the kernel has counted.

A process that is killed says nothing, and Ray only sees its connection close. A rank tells with
every message what the kernel counts of processes killed for want of memory; after its death the
same count is read again on its node. What has grown in between is evidence; anything else is a
guess, and is told as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.on_ray.train_news import Ending, first_lines
from workloads.host_memory import MemorySeen, held_words, killed_for_memory, memory_seen

ANSWER_S = 10.0  # a node that starts no process within it is not asked any longer
_ADVICE = "lower workload.micro_batch_size, or give its node more memory"

# What Ray raises for a process that is gone; OutOfMemoryError is none of its actor errors.
DEATHS = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)


def deaths_told(
    deaths: Mapping[int, Exception],
    struck_by: str,
    before: Mapping[int, MemorySeen],
    read_again: Any,
) -> Ending:
    """The ending of a job whose ranks ``deaths`` are gone; one for want of memory explains the
    others. ``struck_by``: the fault of the schedule, if that is why. ``read_again(rank)`` is a
    reading on the rank's node, or None; nobody is asked where the cause is known."""
    endings = []
    for rank, death in deaths.items():
        after = None
        if not struck_by and not isinstance(death, ray.exceptions.OutOfMemoryError):
            after = read_again(rank)
        endings.append(_why(rank, death, struck_by, before.get(rank), after))
    return next((e for e in endings if e.error == "out_of_memory"), endings[0])


def _why(
    rank: int,
    death: Exception,
    struck_by: str,
    before: MemorySeen | None,
    after: MemorySeen | None,
) -> Ending:
    held = held_words(before or MemorySeen())
    ray_said = first_lines(str(death))
    if isinstance(death, ray.exceptions.OutOfMemoryError):
        return Ending(
            "out_of_memory",
            f"Ray ended the process of rank {rank} because its node ran out of memory: {held}; "
            f"{_ADVICE}. {ray_said}",
        )
    killed = killed_for_memory(before, after) if before and after else None
    if killed:
        return Ending(
            "out_of_memory",
            f"the kernel killed the process of rank {rank} because memory ran out: {held}; "
            f"{_ADVICE}",
        )
    if struck_by:
        why = f"struck by {struck_by}"
    elif killed is None:
        why = f"killed from outside or crashed; memory is a suspect, {held}"
    else:
        why = (
            "killed from outside or crashed, and not for want of memory: the kernel counts no such"
        )
        why += " kill"
    return Ending("worker_died", f"the process of rank {rank} died: {why}. {ray_said}")


def memory_on(
    node: str, cgroup: str, workers: Sequence[Any], nodes: Sequence[str]
) -> MemorySeen | None:
    """What is counted now on a node that is still there; None where nobody there answers.

    Asked is this process where it stands on that node, else a rank that is left there, else a
    process that is started for it.
    """
    if node == ray.get_runtime_context().get_node_id():
        return memory_seen(cgroup)
    there = [worker for worker, at in zip(workers, nodes, strict=True) if at == node]
    asked = [worker.execute.remote(memory_seen, cgroup) for worker in there]
    for answer in (*asked, None):
        try:
            seen: MemorySeen = ray.get(answer or _asked_anew(node, cgroup), timeout=ANSWER_S)
        except ray.exceptions.RayError:  # the one that died, or a node that cannot start another
            continue
        return seen
    return None


def _asked_anew(node: str, cgroup: str) -> Any:
    at = NodeAffinitySchedulingStrategy(node, soft=False)
    asked: Any = ray.remote(memory_seen).options(num_cpus=0, scheduling_strategy=at)
    return asked.remote(cgroup)
