"""The client goes before the engine where the kernel lets it, and goes on where it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.load.priority import CLIENT_NICENESS, go_first

# In a process of its own: a session cannot be left again.
LOOK = """
import os, threading
from pathlib import Path
from harness.load.priority import go_first
go_first()
seen = []
inner = threading.Thread(
    target=lambda: seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
)
inner.start()
inner.join()
group = Path("/proc/self/autogroup")
print(seen[0], os.getsid(0) == os.getpid(), group.read_text() if group.exists() else "")
"""


def test_threads_that_the_client_starts_go_first_too() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may go before others")
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    niceness, owns_session, group = done.stdout.split(maxsplit=2)
    assert int(niceness) == CLIENT_NICENESS
    assert owns_session == "True"
    assert not group.strip() or group.strip().endswith(f"nice {CLIENT_NICENESS}")


TOGETHER = """
import os, sys, threading
from harness.load.priority import together_first
stop, tids = threading.Event(), []
def run():
    tids.append(threading.get_native_id())
    stop.wait()
def look(tid):
    return os.getpriority(os.PRIO_PROCESS, tid)
early, late = threading.Thread(target=run), threading.Thread(target=run)
early.start()
with together_first():
    late.start()
    while len(tids) < 2: pass
    print(os.getsid(0) == int(sys.argv[1]), *[look(t) for t in [0, *tids]], sys.getswitchinterval())
print(*[look(t) for t in [0, *tids]], sys.getswitchinterval())
stop.set()
"""


def test_a_process_with_a_terminal_goes_first_as_a_whole_and_only_for_a_while() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may go before others")
    done = subprocess.run(
        [sys.executable, "-c", TOGETHER, str(os.getsid(0))],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    during, after = done.stdout.splitlines()
    was = os.getpriority(os.PRIO_PROCESS, 0)
    first = min(was, CLIENT_NICENESS)
    assert during == f"True {first} {first} {first} 0.0005"
    assert after == f"{was} {was} {was} 0.005"


def test_without_the_right_to_it_waits_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def refuse(*_: object) -> None:
        refused.append("no")
        raise PermissionError

    for name in ("setsid", "setpriority"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    go_first()
    assert len(refused) == 3
