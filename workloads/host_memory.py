"""Whether the kernel ended a process because memory ran out: what it counts. Linux.

A process that is killed says nothing, and SIGKILL comes from many. But the kernel counts the ones
it kills for want of memory: ``oom_kill`` in a cgroup's ``memory.events`` (v2) or
``memory.oom_control`` (v1), and of the whole machine in ``/proc/vmstat``, all since Linux 4.13.
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst say what each file holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

NOT_KNOWN = -1
_NO_LIMIT = 1 << 60  # v1 writes the largest page-aligned number where there is none


class MemorySeen(NamedTuple):
    """One reading. Counts since the cgroup or the machine began, bytes; −1: not known, or no limit.

    ``cgroup``: the folder that was read; "" where none was found. ``peak_bytes``: the most that all
    of the cgroup has held, page cache included. ``rss_peak_bytes``: the most that this process has.
    """

    cgroup: str = ""
    kills_in_cgroup: int = NOT_KNOWN
    kills_on_machine: int = NOT_KNOWN
    limit_bytes: int = NOT_KNOWN
    peak_bytes: int = NOT_KNOWN
    rss_peak_bytes: int = NOT_KNOWN


def memory_seen(cgroup: str | None = None, root: Path = Path("/")) -> MemorySeen:
    """What this process sees, of the cgroup that is named or else of its own."""
    folder = Path(cgroup) if cgroup else _own_cgroup(root)
    on_machine = _counted(root / "proc/vmstat", "oom_kill")
    rss = resident_peak_bytes(root)
    if folder is None:
        return MemorySeen(kills_on_machine=on_machine, rss_peak_bytes=rss)
    is_v2 = (folder / "memory.events").exists()
    limit = _number(folder / ("memory.max" if is_v2 else "memory.limit_in_bytes"))
    return MemorySeen(
        cgroup=str(folder),
        kills_in_cgroup=_counted(
            folder / ("memory.events" if is_v2 else "memory.oom_control"), "oom_kill"
        ),
        kills_on_machine=on_machine,
        limit_bytes=NOT_KNOWN if limit >= _NO_LIMIT else limit,
        peak_bytes=_number(folder / ("memory.peak" if is_v2 else "memory.max_usage_in_bytes")),
        rss_peak_bytes=rss,
    )


def killed_for_memory(before: MemorySeen, after: MemorySeen) -> bool | None:
    """Whether the kernel killed anything for want of memory in between; None: it cannot be told.

    ``before`` is the victim's own last reading, at most moments old; ``after`` one of the same
    cgroup once it was gone. The machine's count speaks for a victim whose cgroup is gone with it.
    """
    told = [
        (old, new)
        for old, new in (
            (before.kills_in_cgroup, after.kills_in_cgroup),
            (before.kills_on_machine, after.kills_on_machine),
        )
        if NOT_KNOWN not in (old, new)
    ]
    return any(new > old for old, new in told) if told else None


def held_words(seen: MemorySeen) -> str:
    """``it had held at most 1.50 GiB; its cgroup at most 3.90 of 4.00 GiB``."""
    words = []
    if seen.rss_peak_bytes != NOT_KNOWN:
        words.append(f"it had held at most {_gib(seen.rss_peak_bytes)} GiB")
    if seen.peak_bytes != NOT_KNOWN and seen.limit_bytes != NOT_KNOWN:
        words.append(f"its cgroup at most {_gib(seen.peak_bytes)} of {_gib(seen.limit_bytes)} GiB")
    return "; ".join(words) or "what it had held is not known"


def resident_peak_bytes(root: Path = Path("/")) -> int:
    """The most that this process has held resident; −1: not known.

    The kernel's high-water mark, not ``getrusage``: that one counts what the process's parent held
    when it was forked.
    """
    try:
        with (root / "proc/self/status").open(encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return NOT_KNOWN


def _own_cgroup(root: Path) -> Path | None:
    """The memory cgroup of this process. In a container the path that the kernel tells may be the
    host's; what is mounted is then the container's own."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    entries = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    v1 = next((path for _, kinds, path in entries if "memory" in kinds.split(",")), None)
    v2 = next((path for number, kinds, path in entries if number == "0" and not kinds), None)
    mounted = root / "sys/fs/cgroup"
    for base, path, file in (
        (mounted / "memory", v1, "memory.oom_control"),
        (mounted, v2, "memory.events"),
    ):
        if path is None:
            continue
        for folder in (base / path.lstrip("/"), base):
            if (folder / file).exists():
                return folder
    return None


def _counted(path: Path, name: str) -> int:
    """The number after ``name`` in a file of ``name number`` lines."""
    try:
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return NOT_KNOWN


def _number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # ``max`` is no number
        return NOT_KNOWN


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f}"
