"""What a study says of itself beside its runs: that it began, what it knew already, how it ended.

An append-only log in the store, one small object per event, each written once::

    studies/<name>/<UTC time>-<sitting>-<kind>.json

A study sits down once for each ``windtunnel tune``; its events carry the sitting. Whoever reads the
store can therefore tell a study that goes on from one that ended and from one that was killed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote, unquote

from results.lost import ProcessIdentity, is_lost, process_alive, this_process
from results.store import OpenRun
from results.store_objects import Objects

STUDIES: Final = "studies"
_STAMP: Final = "%Y%m%dT%H%M%S.%fZ"


class StudyEventKind(StrEnum):
    BEGUN = "begun"  # ``process``, ``asked``: the study's file, ``command``
    REMEMBERED = "remembered"  # a trial that a record of before answered: ``run_id``, ``phase``
    STOPPED = "stopped"  # a trial that its probe ruled out: ``run_id``, ``rule``, ``why``, bounds
    FORESEEN = "foreseen"  # a configuration that was refused unpaid: ``config``, ``why``
    ENDED = "ended"  # ``stopped_by``, ``why_none``, ``num_foreseen``; ``interrupted``


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEvent:
    kind: StudyEventKind
    sitting: str
    at: datetime
    body: Mapping[str, Any] = field(default_factory=dict)


class StudyState(StrEnum):
    RUNNING = "running"
    ENDED = "ended"
    INTERRUPTED = "interrupted"
    NOT_ENDED = "not ended"  # begun on a machine that cannot be asked from here
    UNKNOWN = "not known"  # its runs are here, and no word of its own


class StudyLog:
    """The writer of one sitting. Raises StoreUnwritable."""

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects, self._name, self.sitting = objects, name, secrets.token_hex(4)

    def append(
        self, kind: StudyEventKind, at: datetime, body: Mapping[str, Any] | None = None
    ) -> None:
        text = json.dumps({"at": at.astimezone(UTC).isoformat(), **(body or {})}, default=str)
        stamp = f"{at.astimezone(UTC):{_STAMP}}-{secrets.token_hex(2)}"
        path = f"{_folder(self._name)}/{stamp}-{self.sitting}-{kind}.json"
        self._objects.put_new(path, text.encode())

    def begun(self, at: datetime, asked: Mapping[str, Any], command: str) -> None:
        """With who begins it, so that its death can be seen."""
        process = asdict(this_process())
        body = {"process": process, "asked": asked, "command": command}
        self.append(StudyEventKind.BEGUN, at, body)


def _folder(name: str) -> str:
    # A name is free text; a dot alone would be a folder that is there already.
    return f"{STUDIES}/{quote(name, safe=' ').replace('.', '%2E')}"


def study_names(objects: Objects) -> tuple[str, ...]:
    """Every study that has begun here, run or no run."""
    return tuple(unquote(name) for name in objects.names(STUDIES))


def read_log(objects: Objects, name: str) -> tuple[StudyEvent, ...]:
    """Its events, oldest first. What is torn or not of this program is left out: a log only adds
    to what the records say."""
    folder, events = _folder(name), []
    for file in sorted(objects.names(folder)):
        parts = file.removesuffix(".json").split("-")
        if len(parts) != 4 or parts[3] not in list(StudyEventKind):
            continue
        try:
            body = json.loads(objects.read(f"{folder}/{file}"))
            at = datetime.fromisoformat(body.pop("at"))
        except (FileNotFoundError, ValueError, KeyError, AttributeError):
            continue
        events.append(StudyEvent(kind=StudyEventKind(parts[3]), sitting=parts[2], at=at, body=body))
    return tuple(events)


def state_of(
    events: Sequence[StudyEvent],
    *,
    me: ProcessIdentity | None = None,
    alive: Callable[[int, float], bool] = process_alive,
) -> tuple[StudyState, str]:
    """How it stands, and that in words, by its latest sitting."""
    begun = next((e for e in reversed(events) if e.kind is StudyEventKind.BEGUN), None)
    if begun is None:
        return StudyState.UNKNOWN, "its runs are here, and no word on how it ended"
    ended = next(
        (e for e in events if e.sitting == begun.sitting and e.kind is StudyEventKind.ENDED),
        None,
    )
    if ended is not None:
        why = str(ended.body.get("stopped_by", ""))
        kind = StudyState.INTERRUPTED if ended.body.get("interrupted") else StudyState.ENDED
        return kind, why
    me = me or this_process()
    lost = _is_lost(begun, me, alive)
    if lost is None:
        host = str(begun.body.get("process", {}).get("host", "")).partition("/")[0]
        return StudyState.NOT_ENDED, f"begun on another machine ({host or 'unnamed'})"
    if lost:
        return StudyState.INTERRUPTED, "its driver died; `windtunnel tune --resume` goes on"
    return StudyState.RUNNING, f"since {begun.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _is_lost(
    begun: StudyEvent, me: ProcessIdentity, alive: Callable[[int, float], bool]
) -> bool | None:
    try:
        process = ProcessIdentity(**begun.body["process"])
    except (KeyError, TypeError):
        return None
    # The same question as of a run that nobody sealed.
    run = OpenRun(
        run_id="",
        experiment_id="",
        name="",
        workload="",
        workload_hash="",
        started_at=begun.at,
        **asdict(process),
    )
    return is_lost(run, me.host, me.boot_id, alive)
