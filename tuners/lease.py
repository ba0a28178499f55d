"""Who asked for a trial, and whether that process still lives.

Optuna's own heartbeats run under ``optimize`` only, and a study that asks and tells is on its own.
Each trial is marked with the process that asked for it. On the same host the kernel knows whether
that process lives, and says so at once. Of another host only its heartbeat is seen, a number that
it raises in the storage: it is gone when the number has not changed for ``LEASE_S`` by the clock of
whoever looks. Dates of two hosts are never compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from results.clock import Clock
from results.lost import ProcessIdentity, is_lost, process_alive, this_process

BEAT_S = 20.0
LEASE_S = 120.0  # six beats, of which a storage under load may lose some
MARK_S = 15.0  # between a trial's beginning and its mark, of a process that lives


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process, as text in a trial's mark and as the name of its heartbeat."""

    process: ProcessIdentity

    @property
    def name(self) -> str:
        p = self.process
        return f"{p.host}/{p.boot_id}/{p.pid}/{p.process_started_s:.2f}"

    def dumps(self) -> str:
        return json.dumps(asdict(self.process), sort_keys=True)

    @classmethod
    def loads(cls, text: str) -> Owner:
        return cls(process=ProcessIdentity(**json.loads(text)))


class Leases:
    """What this process has seen of the others. ``me``: this process; ``alive``: whether a pid of
    this host lives. Keep one for as long as the study goes on: it remembers when a beat changed."""

    def __init__(
        self,
        clock: Clock,
        *,
        me: ProcessIdentity | None = None,
        alive: Callable[[int, float], bool] = process_alive,
        lease_s: float = LEASE_S,
    ) -> None:
        self._clock, self._alive, self._lease_s = clock, alive, lease_s
        self.me = Owner(process=me or this_process())
        self._seen: dict[str, tuple[int, float]] = {}  # owner or trial → its last beat, since when

    def is_gone(self, trial: str, mark: str, beats: Mapping[str, int]) -> bool:
        """Whether the process that asked for ``trial`` is gone; ``mark`` "" has not been set, yet
        or ever."""
        if not mark:
            return self._has_stood_still(trial, 0, MARK_S)
        owner = Owner.loads(mark)
        if owner == self.me:
            return False
        here = self.me.process
        lost = is_lost(owner.process, here.host, here.boot_id, self._alive)
        if lost is not None:
            return lost
        return self._has_stood_still(owner.name, beats.get(owner.name, 0), self._lease_s)

    def _has_stood_still(self, name: str, beat: int, for_s: float) -> bool:
        now_s = self._clock.monotonic_s()
        last, since_s = self._seen.get(name, (None, now_s))
        if beat != last:
            since_s = now_s
        self._seen[name] = (beat, since_s)
        return now_s - since_s >= for_s
