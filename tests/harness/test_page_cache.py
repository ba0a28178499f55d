"""Warm and cold are told apart, and asking changes nothing."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.telemetry.page_cache import evict, residency

PAGE = mmap.PAGESIZE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """512 pages and a bit, on a disk (a file in memory can never be cold)."""
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(512 * PAGE + 100))
    evict([path])
    if residency([path]) == 1.0:
        pytest.skip("this folder lies in memory: nothing can be dropped from its page cache")
    return path


def test_warm_then_cold_then_warm(file: Path) -> None:
    assert residency([file]) == 0.0
    file.read_bytes()
    assert residency([file]) == 1.0
    evict([file])
    assert residency([file]) == 0.0


def test_asking_reads_nothing(file: Path) -> None:
    for _ in range(5):
        assert residency([file]) == 0.0


def test_a_part_counts_by_its_bytes(file: Path) -> None:
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead
        os.pread(opened.fileno(), 128 * PAGE, 0)
    share = residency([file])
    assert share is not None
    assert share == pytest.approx(128 * PAGE / (512 * PAGE + 100))


def test_several_files_count_by_their_bytes(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(bytes(512 * PAGE))
    share = residency([file, other])
    assert share == pytest.approx(512 / 1024, abs=0.001)


def test_what_cannot_be_told_is_none(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert residency([]) is None
    assert residency([empty]) is None
    assert residency([tmp_path / "gone"]) is None
    assert residency([tmp_path]) is None  # a folder


def test_evicting_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        evict([tmp_path / "gone"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_strangers_file_is_not_told_about() -> None:
    """The kernel would answer "all of it", cold as it is."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder, "weights")
        file.write_bytes(bytes(PAGE))
        file.chmod(0o644)
        assert _asked_by_nobody(file) == "None\n"


def _asked_by_nobody(file: Path) -> str:
    root = Path(__file__).resolve().parents[2]
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from harness.telemetry.page_cache import residency\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(residency([sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file), str(root)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
