"""What the kernel's files say: laid out as documented, and those of this machine."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from workloads.errors import OutOfDeviceMemory, TrainingFailed
from workloads.host_memory import (
    NOT_KNOWN,
    MemorySeen,
    held_words,
    killed_for_memory,
    memory_seen,
    resident_peak_bytes,
)
from workloads.script_end import why_ended

STATUS = "Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"


def lay_out(root: Path, files: dict[str, str]) -> Path:
    files = {"proc/self/status": STATUS, "proc/vmstat": "pgfault 12\noom_kill 7\n", **files}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = {
    "memory.events": "low 0\nhigh 0\nmax 5\noom 1\noom_kill 3\noom_group_kill 0\n",
    "memory.max": "4294967296\n",
    "memory.peak": "4026531840\n",
}
V1 = {
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "memory.limit_in_bytes": "9223372036854771712\n",
    "memory.max_usage_in_bytes": "1073741824\n",
}


def test_a_pod_with_a_cgroup_namespace_of_its_own(tmp_path: Path) -> None:
    files = {f"sys/fs/cgroup/{name}": text for name, text in V2.items()}
    got = memory_seen(root=lay_out(tmp_path, {"proc/self/cgroup": "0::/\n", **files}))
    assert got == MemorySeen(
        cgroup=str(tmp_path / "sys/fs/cgroup"),
        kills_in_cgroup=3,
        kills_on_machine=7,
        limit_bytes=4 << 30,
        peak_bytes=4026531840,
        rss_peak_bytes=2 << 20,
    )
    assert held_words(got) == "it had held at most 0.00 GiB; its cgroup at most 3.75 of 4.00 GiB"


def test_a_container_that_sees_the_hosts_path_and_its_own_mount(tmp_path: Path) -> None:
    files = {f"sys/fs/cgroup/memory/{name}": text for name, text in V1.items()}
    paths = "9:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n"
    got = memory_seen(root=lay_out(tmp_path, {"proc/self/cgroup": paths, **files}))
    assert (got.kills_in_cgroup, got.limit_bytes, got.peak_bytes) == (2, NOT_KNOWN, 1 << 30)


def test_a_group_below_the_root_is_read_where_it_is(tmp_path: Path) -> None:
    files = {f"sys/fs/cgroup/a/b/{name}": text for name, text in V2.items()}
    root = lay_out(tmp_path, {"proc/self/cgroup": "0::/a/b\n", **files})
    got = memory_seen(root=root)
    assert got.cgroup == str(root / "sys/fs/cgroup/a/b")
    (root / "proc/self/cgroup").write_text("0::/\n")  # another process asks for the same group
    assert memory_seen(got.cgroup, root) == got


def test_where_nothing_is_told_nothing_is_known(tmp_path: Path) -> None:
    assert memory_seen(root=tmp_path) == MemorySeen()
    assert held_words(MemorySeen()) == "what it had held is not known"
    assert killed_for_memory(MemorySeen(), MemorySeen()) is None


@pytest.mark.parametrize(
    ("before", "after", "killed"),
    [
        ((1, 5), (2, 6), True),
        ((1, 5), (1, 5), False),
        ((NOT_KNOWN, 5), (NOT_KNOWN, 6), True),  # no cgroup of its own
        ((1, NOT_KNOWN), (1, NOT_KNOWN), False),
        ((1, 5), (NOT_KNOWN, 6), True),  # its cgroup is gone with it
        ((1, NOT_KNOWN), (NOT_KNOWN, 6), None),
    ],
)
def test_what_has_grown_is_evidence(
    before: tuple[int, int], after: tuple[int, int], killed: bool | None
) -> None:
    old, new = (MemorySeen(kills_in_cgroup=a, kills_on_machine=b) for a, b in (before, after))
    assert killed_for_memory(old, new) is killed


def test_this_process_on_this_machine() -> None:
    held = bytearray(1 << 20)
    peak, rss = resident_peak_bytes(), psutil.Process().memory_info().rss
    assert rss - (64 << 20) < peak < rss + (4 << 30)
    assert memory_seen().rss_peak_bytes >= len(held)


def test_a_script_that_was_killed_is_told_by_what_was_counted() -> None:
    seen = MemorySeen(limit_bytes=4 << 30, peak_bytes=4 << 30, rss_peak_bytes=1)
    by_kernel = why_ended(137, ["step 3"], True, seen)
    assert isinstance(by_kernel, OutOfDeviceMemory)
    assert "by the kernel, because memory ran out; its cgroup at most 4.00 of 4.00" in str(
        by_kernel
    )
    assert str(why_ended(137, [], None, seen)) == (
        "the script ended with exit code 137, killed by signal 9, memory is a suspect: "
        "it printed nothing"
    )
    for error in (why_ended(137, ["x"], False, seen), why_ended(139, ["x"], None, seen)):
        assert type(error) is TrainingFailed
    assert "killed by signal 11: x" in str(why_ended(139, ["x"], None, seen))
