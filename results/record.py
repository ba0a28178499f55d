"""The record: everything one run left behind, in one immutable value.

Every run ends in exactly one record, failures included. Nothing edits a record; what people later
say about it is appended beside it.

Schema history, newest first (one upgrade function per step in ``codec``):

3  ``slo``: the verdict on every limit; a sender has a ``node_id``, a calibration a ``busy_share``
2  ``client``: how the load client itself did; a measurement has a ``group``
1  first released
0  draft: ``duration_s`` was called ``wall_s``, and a doubt was its bare code
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from results.client import ClientReport
from results.environment import Environment
from results.measurement import Measurement
from results.slo_verdict import LimitVerdict
from results.startup import StartupTimeline

SCHEMA_VERSION = 3


class Evidence(StrEnum):
    """How the numbers came to be. The three never mix."""

    MEASURED = "measured"
    SIMULATED = "simulated"
    IMPORTED = "imported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A reason to trust a number less. ``code`` is for machines, ``message`` for people.

    ``invalidates`` marks a doubt that makes the run's numbers unusable.
    """

    code: str
    message: str
    invalidates: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    kind: Literal["succeeded"] = "succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalid:
    """The run ended, but its numbers must not be used; ``reasons`` are doubt codes."""

    reasons: tuple[str, ...]
    kind: Literal["invalid"] = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """``stage``: plan, placement, startup, load, teardown, store, interrupted or lost.

    ``error`` is a short machine-readable kind (``engine_died``, ``deadline``, ``node_lost``, …).
    """

    stage: str
    error: str
    message: str
    log_tail: tuple[str, ...] = ()
    kind: Literal["failed"] = "failed"


Outcome = Succeeded | Invalid | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class RungTried:
    """One rung of the ladder. ``outcome``: taken, timed_out, or why it was passed over."""

    pool: str
    capacity: str
    waited_s: float
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where it ran. ``virtual`` pools are pretended: never priced, never recommended."""

    pool: str
    accelerator: str  # Ray's accelerator type, or "cpu"
    num_chips: int  # 0 on a CPU pool
    capacity: str
    nodes: tuple[str, ...]
    topology: str = ""
    zone: str = ""
    machine_type: str = ""  # the cloud's, where the pool names one
    virtual: bool = False
    rungs: tuple[RungTried, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A table kept beside the record, named by its file in the run's folder."""

    name: str
    sha256: str
    num_bytes: int
    num_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    run_id: str
    experiment_id: str
    name: str
    workload: str
    evidence: Evidence
    workload_hash: str
    environment_hash: str
    started_at: datetime
    ended_at: datetime
    duration_s: float  # monotonic, ask → sealed
    outcome: Outcome
    repeat_index: int = 0
    num_repeats: int = 1
    attempt: int = 1
    spec: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    resolved: Mapping[str, Any] = field(default_factory=dict)  # what the engine says it runs with
    seeds: Mapping[str, int] = field(default_factory=dict)
    placement: Placement | None = None
    environment: Environment | None = None
    startup: StartupTimeline | None = None
    client: ClientReport | None = None  # None: nothing was sent by us
    measurements: tuple[Measurement, ...] = ()
    slo: tuple[LimitVerdict, ...] = ()  # empty: no limit was asked, or nothing was measured
    doubts: tuple[Doubt, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    schema_version: int = SCHEMA_VERSION


def new_run_id(now: datetime) -> str:
    """Sorts by time, unique without coordination: ``20261123T170000Z-1f0c3a9b2e``."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(5)}"
