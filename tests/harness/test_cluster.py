"""Clusters that begin and end: alone, side by side, interrupted, killed; and those not there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import ray

from harness.errors import RayUnavailable, SpecError
from harness.on_ray import reaper
from harness.on_ray.cluster import ray_cluster
from harness.on_ray.inventory import read_inventory
from harness.on_ray.session_dir import LOCK, PREFIX, parent_dir, remove_abandoned, session_dir
from harness.pools import CPU, VirtualCluster, VirtualPool
from results.clock import SystemClock

CLOCK = SystemClock()
DEADLINE_S = 60.0

# A driver of its own: it starts a cluster, tells what it sees and waits for its standard input.
DRIVER = """
import json, sys
import ray
from harness.on_ray.cluster import ray_cluster
from harness.pools import VirtualCluster, VirtualPool

address, num_virtual = sys.argv[1], int(sys.argv[2])
pool = VirtualPool(name="v", num_nodes=max(num_virtual, 1))
pools = VirtualCluster(pools=(pool,)) if num_virtual else None

@ray.remote(num_cpus=0.5)
class Busy:
    def spin(self):
        while True:
            pass

with ray_cluster(address, pools) as handle:
    if num_virtual:
        busy = Busy.remote()
        busy.spin.remote()
    names = sorted(node["NodeName"] for node in ray.nodes())
    print(json.dumps({"address": handle.address, "nodes": names}), flush=True)
    sys.stdin.read()
print("left", flush=True)
"""


@contextlib.contextmanager
def driver(
    address: str, num_virtual: int = 0, without: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """``without``: variables whose names start like this are kept from it."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, address, str(num_virtual)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if without else None,
        env={k: v for k, v in os.environ.items() if not (without and k.startswith(without))},
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            below = (
                psutil.Process(process.pid).children(recursive=True)
                if process.poll() is None
                else []
            )
            process.kill()
            for left in below:
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()


def says(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the driver said nothing"
    return dict(json.loads(line))


def until(true: Callable[[], object]) -> None:
    deadline_s = CLOCK.monotonic_s() + DEADLINE_S
    while not true():
        assert CLOCK.monotonic_s() < deadline_s, "waited in vain"
        CLOCK.sleep(0.05)


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    running = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running


def folder_of(processes: list[psutil.Process]) -> Path:
    """The session folder, as the GCS was told it."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() == "gcs_server":
                logs = next(a for a in process.cmdline() if a.startswith("--log_dir="))
                return Path(logs.removeprefix("--log_dir=")).parents[1]
    pytest.fail("no gcs_server among the processes")


@pytest.mark.ray
def test_local_clusters_are_alone_side_by_side_and_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # a stranger's, not to be joined
    others = set(psutil.Process().children(recursive=True))  # other tests' browser, for one
    with ray_cluster("local") as ours:
        assert ours.is_local
        assert not ours.virtual
        with pytest.raises(RayUnavailable, match="connected to one already"):
            ray_cluster("local").__enter__()
        (found,) = read_inventory().pools
        assert found.name == "local"
        assert not found.virtual
        assert found.cpus_per_node >= 1
        assert found.num_nodes == 1
        if not found.num_chips:
            assert found.accelerator == CPU
        mine = [p for p in psutil.Process().children(recursive=True) if p not in others]
        folder = folder_of(mine)
        with driver("local") as second:
            theirs = says(second)
            assert theirs["address"] != ours.address
            assert len(theirs["nodes"]) == 1  # type: ignore[arg-type]
            second_folder = folder_of(below(second))
            assert second_folder != folder
            assert len(ray.nodes()) == 1
            out, _ = second.communicate("", timeout=DEADLINE_S)
            assert out == "left\n"
            assert second.returncode == 0
        assert not second_folder.exists()
        with driver(ours.address) as guest:
            assert says(guest)["address"] == ours.address
            out, _ = guest.communicate("", timeout=DEADLINE_S)
            assert out == "left\n"
        with driver(ours.address, without="RAY_AUTH_") as stranger:
            _, err = stranger.communicate("", timeout=DEADLINE_S)
            assert stranger.returncode == 1
            assert "wants its token" in err
        assert len(ray.nodes()) == 1  # a guest that leaves takes nothing with it
        assert folder.is_dir()
    assert not ray.is_initialized()
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert not folder.exists()
    assert not alive(mine)


@pytest.mark.ray
@pytest.mark.chaos
def test_a_killed_driver_leaves_nothing_running() -> None:
    with driver("local", num_virtual=1) as process:
        assert says(process)["nodes"] == ["head", "v-0"]
        until(lambda: any("Busy" in " ".join(p.cmdline()) for p in alive(below(process))))
        theirs = below(process)
        folder = folder_of(theirs)
        assert sum(p.name() == "raylet" for p in theirs) == 2
        process.kill()
        process.wait()
        until(lambda: not alive(theirs))
        until(lambda: not folder.exists())


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.parametrize("when", ["starting", "running"])
def test_ctrl_c_leaves_nothing_running(when: str) -> None:
    with driver("local", num_virtual=1) as process:
        if when == "starting":
            until(lambda: any(p.name() == "raylet" for p in below(process)))
        else:
            says(process)
        theirs = below(process)
        folder = folder_of(theirs)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == -signal.SIGINT or process.returncode == 1
        assert not alive(theirs)
        assert not folder.exists()


def test_ray_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with (
            pytest.raises(RayUnavailable, match=f"no connection to 127.0.0.1 port {port}"),
            ray_cluster(address),
        ):
            pytest.fail("joined nothing")


def test_auto_goes_where_ray_address_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with (
        pytest.raises(RayUnavailable, match=rf"auto \(found 127.0.0.1:{port}\)"),
        ray_cluster("auto"),
    ):
        pytest.fail("joined nothing")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(RayUnavailable, match="RAY_ADDRESS is local"), ray_cluster("auto"):
        pytest.fail("joined nothing")


@pytest.mark.parametrize(
    ("answer", "message"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not Ray"), (None, "did not answer within 0.5 s")],
)
def test_something_else_listens(answer: bytes | None, message: str) -> None:
    done = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            if answer:
                connection.sendall(answer)
            done.wait(DEADLINE_S)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            with (
                pytest.raises(RayUnavailable, match=message),
                ray_cluster(f"127.0.0.1:{port}", connect_deadline_s=0.5),
            ):
                pytest.fail("joined something else")
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    "address", ["", "locl", "host:", "host:port", ":6379", "host:70000", "ray://", "ray://:1"]
)
def test_addresses_that_are_none(address: str) -> None:
    with (
        pytest.raises(RayUnavailable, match="accepted: local, auto, HOST:PORT"),
        ray_cluster(address),
    ):
        pytest.fail("joined nothing")


def test_virtual_pools_are_local_and_possible() -> None:
    good = VirtualCluster(pools=(VirtualPool(name="a"),))
    with pytest.raises(SpecError, match="made on this machine"), ray_cluster("auto", good):
        pytest.fail("joined")
    bad = VirtualCluster(pools=(VirtualPool(name="a", accelerator="H100"),))
    with (
        pytest.raises(SpecError, match=r"pools.0.chips_per_node: found 0"),
        ray_cluster("local", bad),
    ):
        pytest.fail("started")


def test_a_start_that_fails_repeats_what_ray_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def starts_not(nodes: object, folder: Path) -> Iterator[str]:
        logs = folder / "session_latest" / "logs"
        logs.mkdir(parents=True)
        (logs / "raylet.out").write_text(
            "[2026-11-23 18:30:34,1 I 7 7] (raylet) main.cc:1: fine\n"
            "[2026-11-23 18:30:40,3 E 7 8] (raylet) agent_manager.cc:87: exited immediately\n"
        )
        (logs / "dashboard_agent.log").write_text("ModuleNotFoundError: No module named 'x'\n")
        raise Exception("timed out")
        yield ""

    monkeypatch.setattr("harness.on_ray.cluster.cluster_of", starts_not)
    with pytest.raises(RayUnavailable) as caught, ray_cluster("local"):
        pytest.fail("started")
    message = str(caught.value)
    assert "Ray could not be started on this machine: timed out" in message
    assert "agent_manager.cc:87: exited immediately" in message
    assert "No module named 'x'" in message
    assert "fine" not in message


def test_session_folders(tmp_path: Path) -> None:
    with session_dir(tmp_path) as kept:
        assert kept.parent == tmp_path
        assert remove_abandoned(tmp_path) == ()  # its owner lives
        left = tmp_path / f"{PREFIX}left"
        left.mkdir()
        (left / LOCK).touch()
        (left / "log").write_text("x")
        being_made = tmp_path / f"{PREFIX}new"
        being_made.mkdir()
        with session_dir(tmp_path) as second:
            assert kept.is_dir()
            assert second != kept
            assert not left.exists()
            assert being_made.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [being_made.name]


def test_the_reaper_ends_rays_processes_and_no_others(tmp_path: Path) -> None:
    """One process has the folder on its command line and a file open in it, as Ray's have; one has
    the file open only, as a driver that has joined; one has neither."""
    sleep = "import time; time.sleep(600)"
    (tmp_path / "log").touch()
    with (tmp_path / "log").open() as log:
        command = [sys.executable, "-c", sleep]
        rays = subprocess.Popen([*command, str(tmp_path / "log")], stdin=log)
        guest = subprocess.Popen([*command, "/dev/null"], stdin=log)
        other = subprocess.Popen([*command, str(tmp_path / "log")], stdin=subprocess.DEVNULL)
    try:
        until(lambda: reaper.users_of(str(tmp_path)) == [rays.pid])
        reaper.end_users(str(tmp_path))
        assert rays.wait(DEADLINE_S) == -signal.SIGKILL
        assert guest.poll() is None
        assert other.poll() is None
    finally:
        for process in (rays, guest, other):
            process.kill()
            process.wait()


def test_a_socket_fits_below_the_parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 80)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    assert parent_dir() == Path("/tmp")
    monkeypatch.setattr("tempfile.tempdir", "/var/tmp")
    assert parent_dir() == Path("/var/tmp")
