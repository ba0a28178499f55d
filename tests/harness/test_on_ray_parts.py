"""The parts of the Ray deployer that need no Ray to be tried."""

from __future__ import annotations

import pickle
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.on_ray.gcs import gcs_listens
from harness.on_ray.load_actor import Secret
from harness.on_ray.load_places import choose_node, next_node
from harness.on_ray.node_facts import is_python, node_facts, package_versions
from harness.on_ray.server_actor import ServerActor
from harness.on_ray.server_handle import actor_options
from harness.plan import Bundle
from harness.server_process import ServerState
from workloads.base import Device


def test_a_secret_shows_itself_to_nobody_but_its_reader() -> None:
    secret = Secret("sk-123")
    assert "sk-123" not in f"{secret} {secret!r} {[secret]} {secret:}"
    assert pickle.loads(pickle.dumps(secret)).reveal() == "sk-123"


def test_a_gcs_is_there_as_long_as_it_takes_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert gcs_listens(address)
    assert not gcs_listens(address)


def node(name: str, address: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {
        "NodeID": name,
        "NodeManagerAddress": address,
        "Alive": alive,
        "Resources": {"CPU": 8.0, **resources},
    }


def test_on_one_machine_the_load_comes_from_the_servers_node() -> None:
    nodes = [node("a", "10.0.0.1"), node("b", "10.0.0.1", GPU=1)]
    assert choose_node(nodes, "b") == "b"


def test_elsewhere_it_comes_from_a_node_without_accelerators() -> None:
    gpu, tpu = node("g", "10.0.0.1", GPU=8), node("t", "10.0.0.2", **{"TPU-v6e-8-head": 1})
    dead, plain = node("d", "10.0.0.3", alive=False), node("p", "10.0.0.4")
    assert choose_node([gpu, tpu, dead, plain], "g") == "p"
    assert choose_node([gpu, tpu, dead], "g") == "g"
    # The server may stand on the only such node; another one is better if there is one.
    assert choose_node([gpu, plain], "p") == "p"
    assert choose_node([node("q", "10.0.0.5"), plain], "q") == "p"


def free_of(nodes: list[dict[str, Any]], **left: float) -> dict[str, dict[str, float]]:
    return {n["NodeID"]: {"CPU": left.get(n["NodeID"], 8.0)} for n in nodes}


def test_more_clients_go_round_the_nodes_without_accelerators() -> None:
    nodes = [
        node("g", "10.0.0.1", GPU=8),
        node("a", "10.0.0.2"),
        node("b", "10.0.0.3"),
        node("d", "10.0.0.4", alive=False),
        node("head", "10.0.0.5") | {"Resources": {"memory": 1.0}},
    ]
    taken = ["b"]
    for _ in range(3):
        found = next_node(nodes, free_of(nodes), taken, "g")
        assert found is not None
        taken.append(found)
    assert taken == ["b", "a", "b", "a"]
    # A node that is full is passed over; the accelerator's CPUs are not taken in its place.
    assert next_node(nodes, free_of(nodes, a=0.5), taken, "g") == "b"
    assert next_node(nodes, free_of(nodes, a=0.5, b=0.0), taken, "g") is None


def test_the_servers_node_comes_last_and_accelerators_are_better_than_nothing() -> None:
    plain = [node("s", "10.0.0.1"), node("p", "10.0.0.2")]
    assert next_node(plain, free_of(plain), ["p", "p", "p"], "s") == "p"
    assert next_node(plain, free_of(plain, p=0.0), ["p", "p", "p"], "s") == "s"
    chips = [node("g", "10.0.0.1", GPU=8), node("h", "10.0.0.2", GPU=8)]
    assert next_node(chips, free_of(chips), ["g"], "g") == "h"
    assert next_node([node("one", "10.0.0.1")], {"one": {"CPU": 0.0}}, ["one"], "one") is None


def test_an_actor_takes_its_bundle_and_real_chips_only() -> None:
    bundle = Bundle(cpus=4.0, chips=2)
    gpu = actor_options(bundle, Device(kind="gpu", accelerator="H100", num_chips=2), None)
    assert (gpu["num_cpus"], gpu["num_gpus"], gpu["max_restarts"]) == (4.0, 2, 0)
    tpu = actor_options(bundle, Device(kind="tpu", accelerator="TPU-V6E", num_chips=2), None)
    assert tpu["resources"] == {"TPU": 2}
    assert "num_gpus" not in tpu
    pretended = actor_options(bundle, Device(kind="cpu", accelerator="H100", num_chips=2), None)
    assert "num_gpus" not in pretended
    assert "resources" not in pretended


def test_facts_are_this_node() -> None:
    facts = node_facts()
    assert facts.hardware.num_cpus == psutil.cpu_count()
    assert facts.hardware.memory_bytes == psutil.virtual_memory().total
    assert facts.hardware.cpu_model
    assert facts.hardware.kernel
    assert facts.packages["ray"] == __import__("ray").__version__


def test_another_interpreter_is_asked_for_its_own_packages(tmp_path: Path) -> None:
    # A Python without site-packages has none of them: what it says is its own answer, not ours.
    other = tmp_path / "python-of-another-place"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    other.chmod(0o755)
    assert package_versions(str(other)) == {"python": sys.version.split()[0]}
    assert is_python(str(other))
    assert not is_python("/usr/bin/vllm")


def test_an_interpreter_that_does_not_answer_has_no_packages(tmp_path: Path) -> None:
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\necho not json\n")
    broken.chmod(0o755)
    assert package_versions(str(broken)) == {}
    assert package_versions(str(tmp_path / "no-such-python")) == {}


def test_a_server_actor_that_has_begun_nothing_is_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is stopped before the server is begun asks for its last lines all the same."""
    monkeypatch.setattr("harness.on_ray.server_actor.end_with_raylet", lambda duty: None)
    status, lines = ServerActor().watch(ServerState.HEALTHY, 0.0)
    assert (status.state, lines) == (ServerState.STARTING, ())
