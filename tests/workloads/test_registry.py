"""From parameters to code: ours without importing an engine, a stranger's by an entry point."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, get_args

import pytest

from workloads.errors import WorkloadError
from workloads.params import (
    CollectivesWorkload,
    CommandWorkload,
    EndpointWorkload,
    JaxWorkload,
    TorchWorkload,
    VllmWorkload,
    WorkloadParams,
)
from workloads.registry import BUILT_IN, Role, kind_named, kind_names, role_of, workload_for

STRANGER = '''\
from __future__ import annotations
from dataclasses import dataclass
from typing import Literal
from workloads.registry import Role, WorkloadKind


@dataclass(frozen=True, slots=True, kw_only=True)
class NapParams:
    """A server that naps."""

    nap_s: float
    kind: Literal["nap"] = "nap"
    tensor_parallel_size: int = 1


class Nap:
    def __init__(self, params):
        self.params = params


NAP = WorkloadKind(params=NapParams, workload="stranger_of_test:Nap", role=Role.SERVER)
NOT_ONE = 3
'''


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real installed distribution, as far as anybody can tell, with four entry points."""
    (tmp_path / "stranger_of_test.py").write_text(STRANGER)
    info = tmp_path / "stranger_of_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger-of-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[windtunnel.workloads]\n"
        "nap = stranger_of_test:NAP\n"
        "broken = stranger_of_test:NOT_THERE\n"
        "wrong = stranger_of_test:NOT_ONE\n"
        "vllm = stranger_of_test:NAP\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert any(d.metadata["Name"] == "stranger-of-test" for d in distributions())
    yield
    sys.modules.pop("stranger_of_test", None)


def test_every_kind_of_params_is_registered_under_its_own_kind() -> None:
    registered = {kind.params for kind in BUILT_IN.values()}
    assert registered == set(get_args(WorkloadParams))
    made = {
        "vllm": VllmWorkload(),
        "endpoint": EndpointWorkload(url="http://h", model="m"),
        "torch": TorchWorkload(),
        "collectives": CollectivesWorkload(),
        "command": CommandWorkload(argv=("train.py",)),
        "jax": JaxWorkload(),
    }
    for name, params in made.items():
        assert params.kind == name
        assert BUILT_IN[name].params is type(params)
    assert [role_of(p) for p in made.values()] == [
        Role.SERVER,
        Role.REMOTE,
        *[Role.TRAINING] * 4,
    ]


@pytest.mark.parametrize(
    "params",
    [
        VllmWorkload(),
        EndpointWorkload(url="http://h", model="m"),
        TorchWorkload(),
        JaxWorkload(),
        CollectivesWorkload(),
        CommandWorkload(argv=("train.py",)),
    ],
    ids=lambda p: p.kind,
)
def test_each_has_a_workload_with_the_seam_s_two_methods(params: Any) -> None:
    workload = workload_for(params)
    assert callable(workload.launch)
    assert callable(workload.drive)


def test_making_all_workloads_imports_no_engine() -> None:
    code = (
        "import sys\n"
        "from workloads.params import *\n"
        "from workloads.registry import workload_for\n"
        "for p in (VllmWorkload(), EndpointWorkload(url='http://h', model='m'), TorchWorkload(),\n"
        "          JaxWorkload(), CollectivesWorkload(), CommandWorkload(argv=('t.py',))):\n"
        "    workload_for(p)\n"
        "print([m for m in ('torch', 'jax', 'vllm', 'ray', 'transformers') if m in sys.modules])\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(WorkloadError, match="no workload is of kind 'vlm'; known: vllm, endpoint"):
        kind_named("vlm")


def test_a_stranger_s_kind(stranger: None) -> None:
    assert kind_names() == (*BUILT_IN, "nap", "broken", "wrong")
    kind = kind_named("nap")
    assert kind.role is Role.SERVER
    params = kind.params(nap_s=1.0)
    workload: Any = workload_for(params)
    assert workload.params is params


def test_a_stranger_cannot_take_our_name(stranger: None) -> None:
    assert kind_named("vllm").params is VllmWorkload


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("broken", r"workload kind 'broken' \(stranger_of_test:NOT_THERE\) cannot be imported"),
        ("wrong", "stranger_of_test:NOT_ONE is a int; an entry point of windtunnel.workloads"),
    ],
)
def test_a_stranger_s_mistakes_are_told(stranger: None, name: str, expected: str) -> None:
    with pytest.raises(WorkloadError, match=expected):
        kind_named(name)


def test_a_missing_engine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name == "workloads.torch_train":
            raise ModuleNotFoundError("No module named 'torch'")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(WorkloadError, match=r"needs workloads\.torch_train:TorchTraining.*doctor"):
        workload_for(TorchWorkload())
