"""``windtunnel collectives``: what it asks for, and what it refuses. Nothing is started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import collectives
from harness.cli.app import app
from harness.fake_deployer import FakeDeployer
from harness.spec import RunSpec


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RunSpec]:
    """The specs that would have been run; each fails on a pretended pool that trains nothing."""
    found: list[RunSpec] = []

    @contextmanager
    def pretended(*_: Any) -> Iterator[FakeDeployer]:
        yield FakeDeployer()

    def remember(spec: RunSpec, context: Any) -> Iterator[Any]:
        found.append(spec)
        return real(spec, context)

    real = collectives.run_spec
    monkeypatch.setattr(collectives, "deployer", pretended)
    monkeypatch.setattr(collectives, "run_spec", remember)
    return found


def test_each_number_of_ranks_is_a_run(asked: list[RunSpec], tmp_path: Path) -> None:
    words = ["collectives", "--workers", "2,4", "--sizes", "1KiB-32KiB", "--dtype", "bfloat16"]
    words += ["--collectives", "all_reduce, broadcast", "--calls", "7", "--no-report", "--json"]
    out = tmp_path / "told.json"
    done = CliRunner().invoke(app, [*words, "--out", str(out), "--store", str(tmp_path / "store")])
    assert [spec.name for spec in asked] == ["collectives-2", "collectives-4"]
    workload: Any = asked[1].workload
    assert workload.num_workers == 4
    assert workload.sizes_bytes == (1024, 4096, 16384, 32768)
    assert workload.collectives == ("all_reduce", "broadcast")
    assert (workload.dtype, workload.calls_per_round) == ("bfloat16", 7)
    assert workload.backend == "usual"
    document = json.loads(done.stdout)
    assert document == json.loads(out.read_text())
    assert document["schema"] == "windtunnel.collectives/1"
    assert [record["name"] for record in document["records"]] == ["collectives-2", "collectives-4"]
    assert done.exit_code == 3  # nothing here can train


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--backend", "mpi"), "'mpi' is not one of 'usual'"),
        (
            ("--backend", "xla", "--collectives", "broadcast"),
            "found broadcast; XLA has none on every kind of device",
        ),
        (("--workers", "0"), "--workers 0: accepted: whole numbers from 1"),
        (("--workers", "two"), "--workers two: accepted"),
        (("--sizes", "1KB"), "'1KB' is no size; accepted: 65536, 64KiB"),
        (("--sizes", "1MiB-1KiB"), "1 MiB to 1 KiB is no range"),
        (("--sizes", ""), "at least one size"),
        (("--collectives", "all_reduc"), "found all_reduc; accepted: all_reduce, all_gather"),
        (("--out", "/nowhere/x.json"), "there is no folder /nowhere"),
        (("--cpus-per-worker", "0"), "cpus_per_worker: found 0"),
    ],
)
def test_what_cannot_be_meant_ends_with_2(words: tuple[str, ...], says: str) -> None:
    done = CliRunner().invoke(app, ["collectives", *words])
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())


def test_a_slice_is_asked_for_by_its_topology(asked: list[RunSpec], tmp_path: Path) -> None:
    words = ["collectives", "--backend", "xla", "--accelerator", "TPU-V6E", "--topology", "2x4"]
    words += ["--workers", "2", "--no-report", "--store", str(tmp_path / "store")]
    done = CliRunner().invoke(app, words)
    (spec,) = asked
    (ask,) = spec.hardware
    assert (ask.accelerator, ask.topology) == ("TPU-V6E", "2x4")
    assert getattr(spec.workload, "backend", "") == "xla"
    assert done.exit_code == 3  # there is no such slice here
