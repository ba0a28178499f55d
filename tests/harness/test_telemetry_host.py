"""The host as psutil sees it, really: work that is done is seen, and by whom."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from harness.telemetry.host import HostSampler, cpu_readings
from harness.telemetry.sampler import Reading, Sampler
from harness.telemetry.testing import SamplerContract

# A parent whose child works until its input ends.
_WORKER = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-S", "-c", sys.argv[1]], stdout=subprocess.PIPE)
print(child.stdout.readline().decode(), flush=True)
sys.stdin.read()
child.kill()
child.wait()
"""
_SPIN = """
import time
end = time.process_time() + 0.2
while time.process_time() < end:
    pass
print("done", flush=True)
time.sleep(600)
"""


class TestHostSampler(SamplerContract):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return HostSampler(engine_pid=os.getpid())


def by_name(readings: tuple[Reading, ...]) -> dict[str, float]:
    return {r.name: r.value for r in readings if not r.label}


def test_the_host_says_what_psutil_says() -> None:
    sampler = HostSampler()
    before = psutil.cpu_stats().ctx_switches
    found = by_name(sampler.read())
    after = psutil.cpu_stats().ctx_switches
    assert before <= found["context_switches"] <= after
    assert 0 < found["memory_used_bytes"] < psutil.virtual_memory().total
    assert found["load_1m"] == pytest.approx(os.getloadavg()[0], abs=0.5)
    assert "engine_cpu_s" not in found  # no pid was given


def test_a_busy_core_is_seen() -> None:
    sampler = HostSampler()
    times = psutil.Process().cpu_times()
    end_s = times.user + times.system + 0.3
    while (now := psutil.Process().cpu_times()).user + now.system < end_s:
        pass
    readings = sampler.read()
    cores = [r.value for r in readings if r.name == "cpu_busy" and r.label.startswith("core=")]
    assert len(cores) <= (psutil.cpu_count() or 0)
    assert all(0.0 <= share <= 1.0 for share in cores)
    whole = by_name(readings)["cpu_busy"]
    assert whole == pytest.approx(sum(cores) / len(cores), abs=0.1)
    assert whole * len(cores) > 0.2  # about one core was ours


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", _WORKER, _SPIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        yield process
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()
        process.wait(20)


def test_the_engines_tree_is_counted_to_its_end(worker: subprocess.Popen[bytes]) -> None:
    """A child's CPU time counts, and does not vanish with the child."""
    assert worker.stdout is not None
    assert worker.stdin is not None
    assert worker.stdout.readline().strip() == b"done"
    sampler = HostSampler(engine_pid=worker.pid)
    found = by_name(sampler.read())
    assert found["engine_processes"] == 2
    assert 0.2 <= found["engine_cpu_s"] < 5.0
    assert found["engine_resident_bytes"] > 2**20
    worker.stdin.close()
    worker.wait(20)
    later = by_name(sampler.read())
    assert later["engine_processes"] == 0
    assert later["engine_cpu_s"] >= found["engine_cpu_s"]


def test_a_pid_that_is_gone_says_nothing(worker: subprocess.Popen[bytes]) -> None:
    assert worker.stdin is not None
    worker.stdin.close()
    worker.wait(20)
    assert "engine_cpu_s" not in by_name(HostSampler(engine_pid=worker.pid).read())


class Times(SimpleNamespace):
    """As psutil's tuple of one core: named, and summed over."""

    def __iter__(self) -> Iterator[Any]:
        return iter(vars(self).values())


def core(
    user: float, idle: float, iowait: float = 0.0, steal: float = 0.0, guest: float = 0.0
) -> Times:
    return Times(user=user, idle=idle, iowait=iowait, steal=steal, guest=guest, guest_nice=0.0)


def test_shares_by_hand() -> None:
    before = [core(10, 90), core(0, 100)]
    now = [core(13, 90 + 1), core(0, 100 + 2, iowait=1, steal=1)]
    found = {(r.name, r.label): r.value for r in cpu_readings(before, now)}
    assert found["cpu_busy", "core=0"] == pytest.approx(3 / 4)
    assert found["cpu_busy", "core=1"] == pytest.approx(1 / 4)  # what was stolen is not idle
    assert found["cpu_busy", ""] == pytest.approx(4 / 8)
    assert found["cpu_steal", ""] == pytest.approx(1 / 8)


def test_a_guests_time_is_not_counted_twice() -> None:
    """The kernel adds it to user time as well."""
    found = cpu_readings([core(0, 0)], [core(2, 2, guest=2)])
    assert found[0] == Reading("cpu_busy", 0.5)


def test_no_time_or_other_cores_no_share() -> None:
    assert cpu_readings([core(1, 1)], [core(1, 1)]) == []
    assert cpu_readings([core(1, 1)], [core(2, 2), core(1, 1)]) == []
