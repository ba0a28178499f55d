"""What is said about a scaling experiment beside its numbers: the head of a document and a page."""

from __future__ import annotations

from dataclasses import dataclass

from results.scaling.models import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleTold:
    """``experiment_id`` ties the records together; ``missing``: runs asked for and not made.

    ``accelerator``: "cpu" without one. ``can_control``: the workload can train without exchange.
    """

    name: str
    workload: str
    mode: Mode
    evidence: str
    experiment_id: str
    workers: tuple[int, ...]
    num_rounds: int
    control: bool
    can_control: bool
    accelerator: str
    domain: int | None
    missing: int = 0
    command: str = ""
