"""What of a record is wanted again and again: the record less what is looked at once.

A brief is made from a sealed record and kept by the store's index, never in its stead. What many
records share (specs, environments, resolved flags) is kept once, by its own digest, and decoded
once; measurements are decoded only where they are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from results.environment import Environment, HostNoise
from results.measurement import Measurement, of_group
from results.record import (
    Doubt,
    Evidence,
    Failed,
    Invalid,
    Outcome,
    Placement,
    RunRecord,
    Succeeded,
)

# Metric and statistic of the measurements that are wanted.
Wanted = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief(RunRecord):
    """A record without its startup, client, SLO verdicts and artifacts, without measurements of
    groups, and with nothing of its plan but the rungs. All else is as it was sealed; of the
    measurements, those that were asked for. No brief is ever sealed.

    ``spec_digest``: of the spec less its tags.
    """

    spec_digest: str


class _Head(msgspec.Struct, array_like=True):
    experiment_id: str
    name: str
    workload: str
    evidence: Evidence
    workload_hash: str
    environment_hash: str
    started_at: datetime
    ended_at: datetime
    duration_s: float
    outcome: tuple[str, ...]
    log_tail: tuple[str, ...]
    repeat_index: int
    num_repeats: int
    attempt: int
    tags: dict[str, str] | None
    seeds: dict[str, str]  # as text: a seed may have more than 64 bits
    noise: HostNoise | None
    placement: Placement | None
    doubts: tuple[tuple[str, str, bool], ...]
    schema_version: int


class _Row(msgspec.Struct, array_like=True):
    """A measurement under its name."""

    value: float | None
    n: int
    low: float | None
    high: float | None
    confidence: float
    method: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A brief as bytes. ``spec``, ``resolved``, ``environment`` and ``plan`` are digests of parts;
    "" where the record has no environment."""

    head: bytes
    measured: bytes
    spec: str
    resolved: str
    environment: str
    plan: str


PARTS: Final = ("spec", "resolved", "environment", "plan")

_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode
decode_environment = msgspec.json.Decoder(Environment).decode
_decode_measured = msgspec.msgpack.Decoder(dict[str, _Row]).decode


def pack(record: RunRecord) -> tuple[Packed, dict[str, bytes]]:
    """The brief of a sealed record, and its parts by their digests."""
    parts: dict[str, bytes] = {}

    def part(value: Any) -> str:
        data = msgspec.json.encode(value)
        digest = hashlib.blake2b(data, digest_size=12).hexdigest()
        parts[digest] = data
        return digest

    tags, environment = _tags(record.spec), record.environment
    packed = Packed(
        head=_encode(_head(record, tags)),
        measured=_encode(
            {
                f"{m.metric} {m.statistic}": _Row(
                    m.value, m.n, m.low, m.high, m.confidence, m.method, m.reason
                )
                for m in of_group(record.measurements)
            }
        ),
        spec=part({k: v for k, v in record.spec.items() if k != "tags" or tags is None}),
        resolved=part(dict(record.resolved)),
        environment=part(replace(environment, noise=None)) if environment is not None else "",
        plan=part({k: v for k, v in record.plan.items() if k == "rungs"}),
    )
    return packed, parts


def _tags(spec: Mapping[str, Any]) -> dict[str, str] | None:
    """None where there are none, or none of ours: then they stay where they are."""
    tags = spec.get("tags")
    if isinstance(tags, Mapping) and all(isinstance(value, str) for value in tags.values()):
        return dict(tags)
    return None


def _head(record: RunRecord, tags: dict[str, str] | None) -> _Head:
    outcome, told, log_tail = record.outcome, tuple[str, ...](), tuple[str, ...]()
    match outcome:
        case Failed():
            told = (outcome.kind, outcome.stage, outcome.error, outcome.message)
            log_tail = outcome.log_tail
        case Invalid():
            told = (outcome.kind, *outcome.reasons)
        case Succeeded():
            told = (outcome.kind,)
    return _Head(
        experiment_id=record.experiment_id,
        name=record.name,
        workload=record.workload,
        evidence=record.evidence,
        workload_hash=record.workload_hash,
        environment_hash=record.environment_hash,
        started_at=record.started_at,
        ended_at=record.ended_at,
        duration_s=record.duration_s,
        outcome=told,
        log_tail=log_tail,
        repeat_index=record.repeat_index,
        num_repeats=record.num_repeats,
        attempt=record.attempt,
        tags=tags,
        seeds={name: str(seed) for name, seed in record.seeds.items()},
        noise=record.environment.noise if record.environment is not None else None,
        placement=record.placement,
        doubts=tuple((d.code, d.message, d.invalidates) for d in record.doubts),
        schema_version=record.schema_version,
    )


class Unpacker:
    """Makes briefs of what was packed; ``part`` gives the bytes of a digest. Records that share a
    part share its value: nothing may change it."""

    def __init__(self, part: Callable[[str], bytes], wanted: Wanted | None = None) -> None:
        """``wanted`` None: all measurements."""
        self._measured = _all_measured if wanted is None else _some_measured(wanted)
        self._plain = lru_cache(None)(lambda digest: _decode_any(part(digest)))
        self._environment = lru_cache(None)(lambda digest: decode_environment(part(digest)))

    def brief(self, run_id: str, packed: Packed) -> Brief:
        """Raises msgspec.MsgspecError or ValueError for what ``pack`` did not make."""
        head = _decode_head(packed.head)
        environment: Environment | None = None
        if packed.environment:
            environment = self._environment(packed.environment)
            if head.noise is not None:
                environment = replace(environment, noise=head.noise)
        spec = self._plain(packed.spec)
        return Brief(
            run_id=run_id,
            experiment_id=head.experiment_id,
            name=head.name,
            workload=head.workload,
            evidence=head.evidence,
            workload_hash=head.workload_hash,
            environment_hash=head.environment_hash,
            started_at=head.started_at,
            ended_at=head.ended_at,
            duration_s=head.duration_s,
            outcome=_outcome(head.outcome, head.log_tail),
            repeat_index=head.repeat_index,
            num_repeats=head.num_repeats,
            attempt=head.attempt,
            spec=spec if head.tags is None else {**spec, "tags": head.tags},
            plan=self._plain(packed.plan),
            resolved=self._plain(packed.resolved),
            seeds={name: int(seed) for name, seed in head.seeds.items()},
            placement=head.placement,
            environment=environment,
            measurements=self._measured(packed.measured),
            doubts=tuple(Doubt(code=c, message=m, invalidates=i) for c, m, i in head.doubts),
            schema_version=head.schema_version,
            spec_digest=packed.spec,
        )


def _outcome(told: tuple[str, ...], log_tail: tuple[str, ...]) -> Outcome:
    match told:
        case ("succeeded",):
            return Succeeded()
        case ("invalid", *reasons):
            return Invalid(reasons=tuple(reasons))
        case ("failed", stage, error, message):
            return Failed(stage=stage, error=error, message=message, log_tail=log_tail)
    raise ValueError(f"no outcome: {told}")


def _all_measured(data: bytes) -> tuple[Measurement, ...]:
    return tuple(_measurement(name, row) for name, row in _decode_measured(data).items())


def _some_measured(wanted: Wanted) -> Callable[[bytes], tuple[Measurement, ...]]:
    """A decoder that passes over all but ``wanted``."""
    kept = [(f"m{i}", f"{metric} {stat}") for i, (metric, stat) in enumerate(dict.fromkeys(wanted))]
    made = msgspec.defstruct(
        "_Some", [(key, _Row | None, None) for key, _ in kept], rename=dict(kept)
    )
    decode = msgspec.msgpack.Decoder(made).decode

    def measured(data: bytes) -> tuple[Measurement, ...]:
        told = decode(data)
        rows = ((name, getattr(told, key)) for key, name in kept)
        return tuple(_measurement(name, row) for name, row in rows if row is not None)

    return measured


def _measurement(name: str, row: _Row) -> Measurement:
    metric, _, statistic = name.partition(" ")
    return Measurement(
        metric=metric,
        statistic=statistic,
        value=row.value,
        n=row.n,
        low=row.low,
        high=row.high,
        confidence=row.confidence,
        method=row.method,
        reason=row.reason,
    )
