"""Where a run happened: software and hardware, and the two hashes that say what may be compared.

``workload_hash`` covers what was asked (model, traffic, SLO, warm-up, stop rule); runs are compared
only when it is equal. ``environment_hash`` covers what answered (accelerators, driver, kernel,
engine version, resolved flags); when it differs, a comparison names the difference. Noise (load,
pressure) is kept beside them and hashed into neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """Versions that can change a number. ``packages`` holds the ones that matter, by name."""

    python: str
    windtunnel: str
    packages: Mapping[str, str] = field(default_factory=dict)
    git_sha: str = ""
    git_dirty: bool = False
    image_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One node of the deployment. ``accelerators`` lists device names, one entry per chip."""

    node: str
    cpu_model: str
    num_cpus: int
    memory_bytes: int
    kernel: str
    accelerators: tuple[str, ...] = ()
    driver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNoise:
    """What else the host was doing, sampled before and after: evidence for doubts, never hashed."""

    load_1m_before: float
    load_1m_after: float
    cpu_pressure_avg10_before: float | None = None  # percent, /proc/pressure/cpu "some"
    cpu_pressure_avg10_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    software: Software
    hardware: tuple[Hardware, ...]
    noise: HostNoise | None = None


def stable_hash(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def environment_hash(environment: Environment, resolved: Mapping[str, Any]) -> str:
    """Hash of software, hardware (node names left out) and the resolved engine flags.

    What an engine merely found out (memory that happened to be free, the core it was put on) lies
    under ``resolved["observed"]``: kept, and not hashed, or no two runs would ever agree.
    """
    software = asdict(environment.software)
    # Our own commit breaks no history: what is under test is the engine, named in ``packages``.
    for ours in ("git_sha", "git_dirty", "windtunnel"):
        software.pop(ours)
    hardware = [asdict(h) for h in environment.hardware]
    for node in hardware:
        node.pop("node")
    hardware.sort(key=lambda h: json.dumps(h, sort_keys=True))
    flags = {name: value for name, value in resolved.items() if name != "observed"}
    return stable_hash({"software": software, "hardware": hardware, "resolved": flags})
