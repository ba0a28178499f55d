"""Why a script's process ended, by its exit code, its last lines and the kernel's count. Pure."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from workloads.errors import OutOfDeviceMemory, TrainingFailed
from workloads.host_memory import NOT_KNOWN, MemorySeen, held_words

KILLED = 128 + signal.SIGKILL  # the exit code of a process that was killed

# What programs print when memory was refused: torch on a GPU and on a CPU, XLA, Python.
OUT_OF_MEMORY = (
    "OutOfMemoryError",
    "CUDA out of memory",
    "can't allocate memory",
    "RESOURCE_EXHAUSTED",
    "MemoryError",
)


def why_ended(
    code: int, tail: Sequence[str], killed: bool | None, seen: MemorySeen
) -> TrainingFailed:
    """``killed``: whether the kernel counts a kill for want of memory while the script ran; None:
    not known. ``seen``: the last reading before the end, of the cgroup that the script is in."""
    said = next((line for line in tail if any(word in line for word in OUT_OF_MEMORY)), "")
    if said:
        return OutOfDeviceMemory(
            f"the script ran out of memory (exit code {code}): {said.strip()[:300]}"
        )
    last = tail[-1].strip()[:300] if tail else "it printed nothing"
    by_signal = f", killed by signal {code - 128}" if code > 128 else ""
    ended = f"the script ended with exit code {code}{by_signal}"
    if code != KILLED:
        return TrainingFailed(f"{ended}: {last}")
    if killed:
        held = held_words(seen._replace(rss_peak_bytes=NOT_KNOWN))  # that one is our own process's
        return OutOfDeviceMemory(f"{ended}: by the kernel, because memory ran out; {held}; {last}")
    why = "memory is a suspect" if killed is None else "and not because memory ran out"
    return TrainingFailed(f"{ended}, {why}: {last}")
