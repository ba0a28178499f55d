"""The seam between the database of recommendations and whoever asks it: a command, a service."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from results.recommendation.answer import Answer
from results.recommendation.profile import Cost, Profile
from results.recommendation.question import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSummary:
    """A model server that has profiles of a model. ``versions``: newest first, "" where one is not
    known."""

    model_server: str
    versions: tuple[str, ...]
    num_profiles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """Superseded profiles are not counted. ``num_simulated`` of the ``num_profiles`` are simulated,
    and answer nobody who did not ask for such."""

    model: str
    servers: tuple[ServerSummary, ...]
    accelerators: tuple[str, ...]
    num_profiles: int
    num_simulated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """A model (preset) that was trained. ``steps``: (sequence length, sequences per step) measured,
    ascending. Superseded profiles are not counted."""

    model: str
    trainers: tuple[str, ...]  # torch, jax
    accelerators: tuple[str, ...]
    steps: tuple[tuple[int, int], ...]
    num_profiles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorSummary:
    """``num_chips``: the chips per replica that profiles have, ascending. Counts as above."""

    accelerator: str
    machine_types: tuple[str, ...]
    topologies: tuple[str, ...]
    num_chips: tuple[int, ...]
    models: tuple[str, ...]
    num_profiles: int
    num_simulated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFilter:
    """Empty: any. Simulated and superseded profiles and estimates are left out unless asked for."""

    model: str = ""
    model_server: str = ""
    model_server_version: str = ""
    accelerators: tuple[str, ...] = ()
    machine_types: tuple[str, ...] = ()
    configuration_id: str = ""
    with_simulated: bool = False
    with_superseded: bool = False
    with_estimates: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePage:
    """``total`` profiles fit; these are those from ``offset`` on, in the snapshot's own order
    (model, configuration, load)."""

    profiles: tuple[Profile, ...]
    offset: int
    total: int


class Lookup(Protocol):
    """One snapshot of the database: everything asked of one object is of one state.

    Thread-safe, and read-only. ``snapshot_id`` changes exactly when an answer could (records,
    flags or prices): with ``now``'s day it makes an ETag.
    """

    @property
    def snapshot_id(self) -> str: ...

    @property
    def num_profiles(self) -> int: ...

    def answer(self, question: Question, now: datetime, *, written: bool = False) -> Answer:
        """Never raises for a question that was made: what cannot be answered is a NoAnswer.

        ``written``: the answer will be made JSON at once and looked into no more; its profiles may
        be ``msgspec.Raw``."""
        ...

    def profile(self, profile_id: str) -> Profile | None: ...

    def profiles(self, wanted: ProfileFilter, offset: int = 0, limit: int = 100) -> ProfilePage: ...

    def models(self) -> tuple[ModelSummary, ...]: ...

    def trainings(self) -> tuple[TrainingSummary, ...]: ...

    def accelerators(self) -> tuple[AcceleratorSummary, ...]: ...

    def cost(
        self,
        profile: Profile,
        *,
        capacity: str = "",
        region: str = "",
        output_input_cost_ratio: float = 4.0,
    ) -> Cost:
        """Of one replica at the profile's own load point."""
        ...
