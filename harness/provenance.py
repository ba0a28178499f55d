"""Where a number comes from: this program's own version and commit, and what else the host did."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from harness import __version__
from results.environment import HostNoise, Software

_CHECKOUT = Path(__file__).resolve().parent.parent
_GIT_TIMEOUT_S = 10.0


def software(packages: Mapping[str, str], image_digest: str = "") -> Software:
    """``packages`` are those of the engine's own environment, read where the engine ran."""
    sha, dirty = _git()
    return Software(
        python=platform.python_version(),
        windtunnel=__version__,
        packages=dict(sorted(packages.items())),
        git_sha=sha,
        git_dirty=dirty,
        image_digest=image_digest,
    )


def _git() -> tuple[str, bool]:
    """Commit and dirty flag of the checkout this program runs from; ("", False) outside one."""

    def ask(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(_CHECKOUT), *words],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=True,
        )
        return done.stdout.strip()

    if not (_CHECKOUT / ".git").exists():
        return "", False
    try:
        return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "", False


def host_load() -> tuple[float, float | None]:
    """(1-minute load average, CPU pressure "some avg10" in percent or None where not exported)."""
    return psutil.getloadavg()[0], _cpu_pressure(Path("/proc/pressure/cpu"))


def _cpu_pressure(path: Path) -> float | None:
    try:
        first = path.read_text().splitlines()[0]
    except (OSError, IndexError):
        return None
    fields = dict(part.split("=") for part in first.split()[1:])
    return float(fields["avg10"])


def noise(before: tuple[float, float | None], after: tuple[float, float | None]) -> HostNoise:
    return HostNoise(
        load_1m_before=before[0],
        load_1m_after=after[0],
        cpu_pressure_avg10_before=before[1],
        cpu_pressure_avg10_after=after[1],
    )
