from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import psutil
import pytest

from harness import provenance


def test_the_commit_is_the_one_git_names() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    software = provenance.software({"b": "2", "a": "1"})
    assert software.git_sha == done.stdout.strip()
    assert list(software.packages) == ["a", "b"]
    assert software.python == platform.python_version()


def test_outside_a_checkout_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_CHECKOUT", tmp_path)
    assert provenance.software({}).git_sha == ""


def test_pressure_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "cpu"
    path.write_text(
        "some avg10=12.34 avg60=5.00 avg300=1.00 total=123\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    )
    assert provenance._cpu_pressure(path) == 12.34
    assert provenance._cpu_pressure(tmp_path / "absent") is None


def test_the_load_is_the_systems() -> None:
    load, _ = provenance.host_load()
    assert load == pytest.approx(psutil.getloadavg()[0], abs=0.5)
