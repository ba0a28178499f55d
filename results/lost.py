"""Runs whose driver died: found by who began them, and sealed as failed.

Every run ends in exactly one record; a driver that was killed could not write it. The next start on
the same host sees the open run, asks the kernel whether that very process still lives, and seals
the run if it does not. What it cannot ask about (another host, another container) it leaves alone
until it is old.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from results.clock import Clock
from results.errors import DuplicateRecord
from results.record import Failed, RunRecord
from results.store import OpenRun, RecordStore

MAX_AGE_S: Final = 7 * 86400.0

_PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """A process that no other can be mistaken for.

    ``host`` is the name and a hash of the machine id, since names such as ``localhost`` repeat.
    ``boot_id`` is the kernel's, then the pid namespace: a pid means nothing outside it.
    ``process_started_s`` counts from the boot, in whole kernel ticks, so that no step of the
    wall clock moves it.
    """

    host: str
    boot_id: str
    pid: int
    process_started_s: float


def this_process() -> ProcessIdentity:
    """The caller's own identity, for the fields of the same names of ``OpenRun``."""
    pid = os.getpid()
    found = _stat(pid)
    if found is None:
        raise RuntimeError("/proc/self/stat cannot be read; runs can be told apart on Linux only")
    return ProcessIdentity(host=_host(), boot_id=_boot_id(), pid=pid, process_started_s=found[1])


def process_alive(pid: int, process_started_s: float) -> bool:
    """Whether the process of that pid *and* start time runs on this host; a zombie does not.

    A process that exists and may not be looked at counts as alive: the doubt is in its favour.
    """
    found = _stat(pid)
    if found is None:
        try:
            os.kill(pid, 0)  # signal 0 asks, and sends nothing
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            return True
        found = _stat(pid)
        return found is None or _is_it(found, process_started_s)
    return _is_it(found, process_started_s)


def is_lost(
    run: OpenRun | ProcessIdentity, host: str, boot_id: str, alive: Callable[[int, float], bool]
) -> bool | None:
    """True: its driver is dead. False: it lives. None: that cannot be told from here.

    On the same host a different kernel boot means dead. The same boot and another pid namespace
    (a container beside this one) cannot be told, and neither can another host.
    """
    if run.host != host:
        return None
    if run.boot_id == boot_id:
        return not alive(run.pid, run.process_started_s)
    if _kernel_boot(run.boot_id) != _kernel_boot(boot_id):
        return True
    return None


def seal_lost(
    store: RecordStore,
    clock: Clock,
    *,
    me: ProcessIdentity | None = None,
    alive: Callable[[int, float], bool] = process_alive,
    max_age_s: float = MAX_AGE_S,
) -> tuple[RunRecord, ...]:
    """Seal every open run whose driver is dead, or that nobody here can ask about and that is
    older than ``max_age_s``; returns their records.

    A run that its driver, or another start, seals at the same moment keeps that record and is not
    among the returned. Raises StoreUnwritable.
    """
    me = me or this_process()
    now = clock.now_utc()
    sealed = []
    for run in store.open_runs():
        outcome = _verdict(run, is_lost(run, me.host, me.boot_id, alive), now, max_age_s)
        if outcome is None:
            continue
        record = seal_as(store, run, outcome, now)
        if record is not None:
            sealed.append(record)
    return tuple(sealed)


def seal_as(store: RecordStore, run: OpenRun, outcome: Failed, now: datetime) -> RunRecord | None:
    """Seal a run that its driver never will; None where somebody has sealed it meanwhile. Raises
    StoreUnwritable."""
    try:
        return store.seal(_record(run, outcome, now), {})
    except DuplicateRecord:
        return None


def _verdict(run: OpenRun, lost: bool | None, now: datetime, max_age_s: float) -> Failed | None:
    age_s = (now - run.started_at).total_seconds()
    if lost:
        return Failed(
            stage="lost",
            error="driver_died",
            message=f"the driver (pid {run.pid} on {run.host}) ended without sealing the run, "
            f"which it began {age_s:.0f} s before this was found",
        )
    if lost is None and age_s > max_age_s:
        return Failed(
            stage="lost",
            error="driver_silent",
            message=f"no record came from the driver (pid {run.pid} on {run.host}) in "
            f"{age_s / 86400:.1f} days, and it cannot be asked from here",
        )
    return None


def _record(run: OpenRun, outcome: Failed, now: datetime) -> RunRecord:
    """The record a dead driver left unwritten: what was asked, and no number.

    Its ``duration_s`` is by dates, ask → sealed, since no monotonic reading outlives a driver.
    """
    return RunRecord(
        run_id=run.run_id,
        experiment_id=run.experiment_id,
        name=run.name,
        workload=run.workload,
        evidence=run.evidence,
        workload_hash=run.workload_hash,
        environment_hash="",
        started_at=run.started_at,
        ended_at=now,
        duration_s=max((now - run.started_at).total_seconds(), 0.0),
        outcome=outcome,
        repeat_index=run.repeat_index,
        num_repeats=run.num_repeats,
        spec=run.spec,
        plan=run.plan,
    )


def _host() -> str:
    name = socket.gethostname()
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    # Hashed, because the machine id is confidential (machine-id(5)) and records are shared.
    digest = hashlib.sha256(f"windtunnel {machine}".encode()).hexdigest()[:8]
    return f"{name}/{digest}" if machine else name


def _boot_id() -> str:
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{(_PROC / 'self/ns/pid').stat().st_ino}"


def _kernel_boot(boot_id: str) -> str:
    return boot_id.split("/")[0]


def _stat(pid: int) -> tuple[str, float] | None:
    """State letter and start of a process in seconds since boot, or None where it is not seen."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The command, in brackets, may hold blanks and brackets: count from the last one.
    after = text.rpartition(")")[2].split()
    return after[0], int(after[19]) / _TICKS_PER_S


def _is_it(found: tuple[str, float], process_started_s: float) -> bool:
    state, started_s = found
    return state not in "ZX" and abs(started_s - process_started_s) < 0.5 / _TICKS_PER_S
