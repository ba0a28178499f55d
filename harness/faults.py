"""Faults on a schedule, and what a training does about them: parts of a spec, and pure.

A fault is aimed when it is due and not before: which process or node has a rank is known only then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast, get_args

from harness.errors import SpecError

FaultKind = Literal["kill_worker", "kill_node", "preempt_pool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Struck once: after step ``at_step`` has ended on any rank, or ``at_s`` seconds after the
    first step was heard of. One of the two is given.

    ``kill_worker``: the process of ``rank`` gets SIGKILL. ``kill_node``: so does Ray on the node of
    ``rank``, and everything that Ray started there. ``preempt_pool``: on every node of the job at
    once, as a spot pool is taken back without notice.
    """

    kind: FaultKind
    at_step: int | None = None
    at_s: float | None = None
    rank: int = 0

    @property
    def words(self) -> str:
        """As on the command line: ``kill_worker@step=10,rank=1``."""
        when = f"step={self.at_step}" if self.at_step is not None else f"s={self.at_s:g}"
        return f"{self.kind}@{when}" + (f",rank={self.rank}" if self.rank else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """What a training does when a process or a node of it is lost.

    It starts again from its last checkpoint, ``max_restarts`` times at most. With ``min_workers``
    it goes on at once with as many workers as still have a place, no fewer than that, and grows
    again when there is room; it looks every ``resize_check_s``. 0: it waits until all have one.
    """

    max_restarts: int = 0
    min_workers: int = 0
    resize_check_s: float = 60.0


def fault_problems(fault: Fault, num_workers: int) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it)."""
    if (fault.at_step is None) == (fault.at_s is None):
        yield "at_step", "say when: at_step or at_s, one of the two"
    if fault.at_step is not None and fault.at_step < 0:
        yield "at_step", f"is {fault.at_step}; steps count from 0"
    if fault.at_s is not None and fault.at_s < 0:
        yield "at_s", f"is {fault.at_s:g}; it must be ≥ 0"
    if not 0 <= fault.rank < num_workers:
        yield "rank", f"is {fault.rank}; there are ranks 0 to {num_workers - 1}"


def restart_problems(restarts: Restarts, num_workers: int) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it)."""
    if restarts.max_restarts < 0:
        yield "max_restarts", f"is {restarts.max_restarts}; it must be ≥ 0"
    if not 0 <= restarts.min_workers <= num_workers:
        yield "min_workers", f"is {restarts.min_workers}; accepted: 0 to {num_workers}"
    if not restarts.resize_check_s > 0:
        yield "resize_check_s", f"is {restarts.resize_check_s:g}; it must be above 0"


def parse_fault(text: str) -> Fault:
    """``kill_worker@step=10,rank=1``, ``preempt_pool@s=30``. Raises SpecError."""
    kind, at, rest = text.partition("@")
    words = dict(part.split("=", 1) for part in rest.split(",") if "=" in part)
    try:
        if not at or kind not in get_args(FaultKind):
            raise ValueError
        if words.keys() - {"step", "s", "rank"} or len(words) != rest.count(",") + 1:
            raise ValueError
        return Fault(
            kind=cast(FaultKind, kind),
            at_step=int(words["step"]) if "step" in words else None,
            at_s=float(words["s"]) if "s" in words else None,
            rank=int(words.get("rank", 0)),
        )
    except ValueError:
        raise SpecError(
            f"--fault {text}: accepted: kill_worker, kill_node or preempt_pool, then @step=N or "
            "@s=SECONDS, then ,rank=N; for example kill_worker@step=10,rank=1"
        ) from None
