"""The simulated server as a child process, for whoever measures against it from another one.

The child ends when its standard input does, so with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads.errors import SimulatedServerDied
from workloads.simulated.answers import Behaviour
from workloads.simulated.command import IN_MS

if TYPE_CHECKING:
    from workloads.base import ServerTarget

_MODULE = "workloads.simulated.golden_server"
_ROOT = Path(__file__).resolve().parents[2]
_HOST = "127.0.0.1"
_END_WITHIN_S = 10.0
_ASK_WITHIN_S = 60.0
_HEALTHY = "simulated engine: healthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenProcess:
    """A simulated server in a process of its own, healthy when it is handed over."""

    behaviour: Behaviour
    port: int
    child: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}"

    @property
    def target(self) -> ServerTarget:
        from workloads.base import ServerTarget

        return ServerTarget(base_url=self.url, model=self.behaviour.model)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone: no goodbye to anybody."""
        self.child.kill()
        self.child.wait(_END_WITHIN_S)

    def served(self, *, with_tokens: bool = True) -> dict[str, Any]:
        """What it did so far, as columns; see ``served.document``."""
        return self._get(f"/simulated/served?tokens={int(with_tokens)}")

    def lateness(self) -> dict[str, Any]:
        """How late it was itself: ``num_writes``, ``p50_s``, ``p90_s``, ``p99_s``, ``max_s``."""
        return self._get("/simulated/lateness")

    def _get(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=_ASK_WITHIN_S)
        try:
            connection.request("GET", path)
            document: dict[str, Any] = json.loads(connection.getresponse().read())
            return document
        finally:
            connection.close()


def options_of(behaviour: Behaviour) -> list[str]:
    """The command line that asks for ``behaviour``; what is as by default is left out."""
    words: list[str] = []
    for f in dataclasses.fields(Behaviour):
        value, option = getattr(behaviour, f.name), "--" + f.name.replace("_", "-")
        if value == f.default:
            continue
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif f.name in IN_MS:
            words += [option[:-2] + "-ms", repr(value * 1e3)]
        else:
            words += [option, str(value)]
    return words


@contextlib.contextmanager
def golden_process(behaviour: Behaviour | None = None, *extra: str) -> Iterator[GoldenProcess]:
    """A golden server in a process of its own; ended and waited for on leaving.

    ``extra`` are more options of its command line. Raises SimulatedServerDied when it ends before
    it is healthy.
    """
    behaviour = behaviour or Behaviour()
    argv = [sys.executable, "-m", _MODULE, "--until-stdin-closes", *options_of(behaviour), *extra]
    child = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=_ROOT,  # where the module is found, installed or not
        start_new_session=True,  # Ctrl-C is its parent's, and so is the weight of its session
    )
    try:
        yield GoldenProcess(behaviour=behaviour, port=_port_when_healthy(child), child=child)
    finally:
        _end(child)


@contextlib.contextmanager
def noop_server() -> Iterator[GoldenProcess]:
    """A server that does nothing, as fast as it can, and writes nothing down: what a client then
    reports is the client's own."""
    with golden_process(Behaviour(ttft_s=0.0, itl_s=0.0, keeps_log=False)) as server:
        yield server


def _port_when_healthy(child: subprocess.Popen[str]) -> int:
    assert child.stdout is not None
    said: list[str] = []
    port = 0
    for line in child.stdout:
        said.append(line.rstrip())
        if " on http://" in line:
            port = int(line.rsplit(":", 1)[1])
        elif _HEALTHY in line:
            return port
    code = child.wait(_END_WITHIN_S)
    raise SimulatedServerDied(
        f"the simulated server ended with exit code {code} before it was healthy; "
        f"its last lines: {' | '.join(said[-3:]) or 'none'}"
    )


def _end(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None and child.stdout is not None
    with contextlib.suppress(OSError):
        child.stdin.close()
    try:
        child.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()
