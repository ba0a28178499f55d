"""The server's host: how busy each core is, what the hypervisor takes, what the engine itself uses.

A host that is out of CPU makes a slow engine look like a slow accelerator.
"""

from __future__ import annotations

from typing import Any

import psutil

from harness.telemetry.sampler import Reading

# Finding a process's descendants means looking at every process of the host.
TREE_EVERY = 10


class HostSampler:
    """``engine_pid``: the root of the engine's process tree, where it is known; 0 otherwise."""

    def __init__(self, engine_pid: int = 0) -> None:
        self._engine = _Tree(engine_pid) if engine_pid else None
        self._before = psutil.cpu_times(percpu=True)

    def read(self) -> tuple[Reading, ...]:
        now = psutil.cpu_times(percpu=True)
        before, self._before = self._before, now
        memory = psutil.virtual_memory()
        found = [
            *cpu_readings(before, now),
            Reading("load_1m", psutil.getloadavg()[0]),
            Reading("context_switches", float(psutil.cpu_stats().ctx_switches)),
            Reading("memory_used_bytes", float(memory.total - memory.available)),
        ]
        if self._engine is not None:
            found += self._engine.read()
        return tuple(found)

    def close(self) -> None:
        """Nothing is held."""


def cpu_readings(before: list[Any], now: list[Any]) -> list[Reading]:
    """Busy share per core (``core=n``), of all cores (no label), and what was stolen by other
    guests, of the time between two looks at the kernel's counters. Waiting for I/O is not busy;
    what was stolen is.

    Nothing where no time passed or a core came or went.
    """
    if len(before) != len(now):
        return []
    shares, busy_s, stolen_s, all_s = [], 0.0, 0.0, 0.0
    for core, (a, b) in enumerate(zip(before, now, strict=True)):
        total_s = max(_total_s(b) - _total_s(a), 0.0)
        idle_s = (b.idle - a.idle) + (getattr(b, "iowait", 0.0) - getattr(a, "iowait", 0.0))
        core_s = min(max(total_s - idle_s, 0.0), total_s)
        if total_s > 0:
            shares.append(Reading("cpu_busy", core_s / total_s, label=f"core={core}"))
        busy_s, all_s = busy_s + core_s, all_s + total_s
        stolen_s += max(getattr(b, "steal", 0.0) - getattr(a, "steal", 0.0), 0.0)
    if all_s <= 0:
        return []
    steal = Reading("cpu_steal", min(stolen_s / all_s, 1.0))
    return [Reading("cpu_busy", busy_s / all_s), steal, *shares]


def _total_s(times: Any) -> float:
    """The kernel counts a guest's time as user time too."""
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - guest)


class _Tree:
    """CPU seconds and memory of a process and its descendants, those that have ended included as
    far as their parents waited for them."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._members: list[psutil.Process] = []
        self._num_reads = 0
        self._cpu_s: dict[psutil.Process, float] = {}

    def read(self) -> list[Reading]:
        if self._num_reads % TREE_EVERY == 0:
            self._members = self._descendants()
        self._num_reads += 1
        resident, alive = 0, 0
        for process in self._members:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    resident += process.memory_info().rss
            except psutil.Error:
                continue  # it ended; what it used until the last look stays counted
            alive += 1
            self._cpu_s[process] = times.user + times.system
        if not self._cpu_s:
            return []
        return [
            Reading("engine_cpu_s", sum(self._cpu_s.values())),
            Reading("engine_resident_bytes", float(resident)),
            Reading("engine_processes", float(alive)),
        ]

    def _descendants(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self._pid)
            return [root, *root.children(recursive=True)]
        except psutil.Error:
            return []
