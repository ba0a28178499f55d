"""What people and checks say about evidence afterwards: appended beside the records, never in them.

``flags/<time>-<random>.json`` in the store, one object each, put only if absent.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from pydantic import TypeAdapter, ValidationError

from results.errors import StoreError
from results.store import Torn
from results.store_layout import FLAGS, TEMPORARY
from results.store_objects import Objects


class FlagKind(StrEnum):
    DRIFT = "drift"  # a re-check found other numbers: the evidence is stale
    RETRACTED = "retracted"  # the runs are to count for nothing
    CLEARED = "cleared"  # takes back what was said before


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFlag:
    """``run_ids``: whole ids. The latest word on a run counts."""

    kind: FlagKind
    run_ids: tuple[str, ...]
    message: str
    at: datetime


_ADAPTER: Final[TypeAdapter[EvidenceFlag]] = TypeAdapter(EvidenceFlag)


def append_flag(objects: Objects, flag: EvidenceFlag) -> str:
    """The flag's name in the store. Raises StoreUnwritable."""
    objects.prepare()
    name = f"{flag.at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(5)}.json"
    objects.put_new(f"{FLAGS}/{name}", _ADAPTER.dump_json(flag))
    return name


def read_flags(objects: Objects, torn: list[Torn] | None = None) -> tuple[EvidenceFlag, ...]:
    """In the order they were made; what cannot be read goes to ``torn``."""
    flags = []
    for name in objects.names(FLAGS):
        if name.startswith(TEMPORARY):
            continue
        path = f"{FLAGS}/{name}"
        try:
            flags.append(_ADAPTER.validate_json(objects.read(path), strict=True))
        except (ValidationError, StoreError, FileNotFoundError) as error:
            if torn is not None:
                torn.append(Torn(path=path, reason=f"not a flag: {error}"))
    return tuple(flags)


def in_force(flags: Iterable[EvidenceFlag]) -> tuple[EvidenceFlag, ...]:
    """What is still said of each run: the latest flag, unless it is cleared."""
    latest: dict[str, EvidenceFlag] = {}
    for flag in flags:
        for run_id in flag.run_ids:
            latest[run_id] = flag
    told = {id(f): f for f in latest.values() if f.kind is not FlagKind.CLEARED}
    return tuple(
        EvidenceFlag(
            kind=flag.kind,
            run_ids=tuple(sorted(r for r, f in latest.items() if f is flag)),
            message=flag.message,
            at=flag.at,
        )
        for flag in told.values()
    )
