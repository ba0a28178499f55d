"""Figures that nobody measured, kept beside the runs they were made from: never as runs.

``estimates/<time>-<random>.json`` in the store holds what one command made, put only if absent. An
estimate is a function of records, so it can be made again; it counts until the same deployment is
measured under the same load, until a newer estimate of it is made, or until a run it rests on is
retracted. What makes them (``tuners.estimates``) knows engines and hardware; here they are only
values. Pure, but for the two functions that touch the store.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from results.environment import stable_hash
from results.errors import StoreError
from results.prices import plain_name
from results.recommendation.observation import Traffic
from results.recommendation.profile import (
    Configuration,
    Estimated,
    Evidence,
    EvidenceKind,
    LoadPoint,
    Machine,
    Profile,
    Statistic,
)
from results.store import Torn
from results.store_layout import ESTIMATES, TEMPORARY
from results.store_objects import Objects

ESTIMATED_KINDS: Final = (EvidenceKind.TRANSFERRED, EvidenceKind.ANALYTIC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One deployment under one load. ``kind`` is transferred or analytic; ``run_ids``: the runs it
    rests on, ``first_measured`` and ``last_measured`` are theirs (when it was made, without any).
    ``rate_rps`` and ``concurrency`` are what one replica takes at that load."""

    kind: EvidenceKind
    configuration: Configuration
    machine: Machine
    traffic: Traffic
    rate_rps: float | None
    concurrency: float | None
    statistics: tuple[Statistic, ...]
    estimated: Estimated
    run_ids: tuple[str, ...]
    first_measured: datetime
    last_measured: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """What one command made. Raises ValueError for a kind that is none of an estimate."""

    made_at: datetime
    estimates: tuple[Estimate, ...]

    def __post_init__(self) -> None:
        wrong = {e.kind for e in self.estimates} - set(ESTIMATED_KINDS)
        if wrong:
            raise ValueError(f"{', '.join(sorted(wrong))} is no kind of estimate")


_ADAPTER: Final[TypeAdapter[Estimates]] = TypeAdapter(Estimates)


def append_estimates(objects: Objects, made: Estimates) -> str:
    """Their name in the store. Raises StoreUnwritable."""
    objects.prepare()
    name = f"{made.made_at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(5)}.json"
    objects.put_new(f"{ESTIMATES}/{name}", _ADAPTER.dump_json(made))
    return name


def read_estimates(objects: Objects, torn: list[Torn] | None = None) -> tuple[Estimates, ...]:
    """In the order they were made; what cannot be read goes to ``torn``."""
    found = []
    for name in objects.names(ESTIMATES):
        if name.startswith(TEMPORARY):
            continue
        path = f"{ESTIMATES}/{name}"
        try:
            found.append(_ADAPTER.validate_json(objects.read(path), strict=True))
        except (ValidationError, StoreError, FileNotFoundError) as error:
            if torn is not None:
                torn.append(Torn(path=path, reason=f"no estimates: {error}"))
    return tuple(found)


def place_of(configuration: Configuration, machine: Machine, traffic: Traffic) -> str:
    """The same for the same deployment under the same load, whoever says so: versions, zones and
    environments aside, which an estimate does not know."""
    c = configuration
    return stable_hash(
        [
            c.model, c.model_server, dict(c.engine_args), dict(c.env), dict(c.parallelism),
            plain_name(machine.accelerator), machine.num_chips, traffic.key,
        ]
    )  # fmt: skip


def estimated_profiles(
    estimates: Iterable[Estimate], measured: Set[str], retracted: Set[str]
) -> Iterator[Profile]:
    """Of every deployment and load the estimate that counts: a transferred one before arithmetic
    alone, then the newest; none where it is among the ``measured`` places."""
    best: dict[str, Estimate] = {}
    for one in estimates:
        place = place_of(one.configuration, one.machine, one.traffic)
        if place in measured or retracted & set(one.run_ids):
            continue
        known = best.get(place)
        if known is None or _counts_more(one) > _counts_more(known):
            best[place] = one
    return (_profile(place, one) for place, one in best.items())


def _counts_more(one: Estimate) -> tuple[bool, datetime]:
    return one.kind is EvidenceKind.TRANSFERRED, one.estimated.made_at


def _profile(place: str, one: Estimate) -> Profile:
    setting = {
        "estimated": one.kind.value,
        "configuration": asdict(one.configuration),
        "machine": [one.machine.accelerator, one.machine.num_chips],
    }
    traffic = one.traffic
    return Profile(
        profile_id=stable_hash(["estimate", one.kind.value, place]),
        configuration_id=stable_hash(setting),
        configuration=one.configuration,
        machine=one.machine,
        load=LoadPoint(
            input_tokens=traffic.input_tokens,
            output_tokens=traffic.output_tokens,
            rate_rps=one.rate_rps,
            concurrency=one.concurrency,
            use_case=traffic.use_case,
            arrivals=traffic.arrivals,
        ),
        statistics=one.statistics,
        evidence=Evidence(
            kind=one.kind,
            run_ids=one.run_ids,
            repeats=0,
            first_measured=one.first_measured,
            last_measured=one.last_measured,
            estimated=one.estimated,
        ),
    )


def as_of(found: Iterable[Estimates], when: datetime | None = None) -> tuple[Estimate, ...]:
    """All of them, those made after ``when`` left out."""
    return tuple(
        e for made in found if when is None or made.made_at <= when for e in made.estimates
    )


def identity(found: Iterable[Estimates]) -> list[Mapping[str, Any]]:
    """What a cache of profiles has to notice a change of."""
    return [{"made_at": str(one.made_at), "number": len(one.estimates)} for one in found]
