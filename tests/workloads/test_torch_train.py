"""The workload's launch, and one rank's loop without Ray around it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results.record import Failed
from tuners.outcome import FailureKind, failure_kind
from workloads import torch_shape
from workloads.base import Device, Running, TrainEvent, TrainFacts, TrainPhase, TrainRank, TrainStep
from workloads.errors import (
    CompileFailed,
    LaunchRefused,
    LossNotFinite,
    OutOfDeviceMemory,
    UnknownPreset,
)
from workloads.params import TokenFiles, TorchWorkload
from workloads.torch_shape import PRESETS, ModelShape
from workloads.torch_train import TorchTraining, params_of, train

CPU = Device(kind="cpu", accelerator="cpu", num_chips=0)
GPUS = Device(kind="gpu", accelerator="H100", num_chips=2)


def test_the_launch_says_all() -> None:
    launch = TorchTraining(TorchWorkload(cpus_per_worker=1.5, seed=7)).launch(CPU, "")
    assert launch.train_loop == "workloads.torch_train:train"
    assert (launch.num_workers, launch.cpus_per_worker, launch.backend) == (2, 1.5, "gloo")
    assert params_of(launch.config) == TorchWorkload(cpus_per_worker=1.5, seed=7)
    files = TorchWorkload(data=TokenFiles(path="x", kind="arrow"))
    assert params_of(TorchTraining(files).launch(CPU, "").config) == files
    assert TorchTraining(TorchWorkload()).launch(GPUS, "").backend == "nccl"
    virtual = Device(kind="cpu", accelerator="TPU-V6E", num_chips=16)
    assert TorchTraining(TorchWorkload()).launch(virtual, "").backend == "gloo"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_workers": 0}, "workload.num_workers: found 0"),
        ({"num_steps": 0}, "workload.num_steps: found 0"),
        ({"micro_batch_size": 0}, "workload.micro_batch_size: found 0"),
        ({"sequence_length": 0}, "workload.sequence_length: found 0"),
        ({"threads_per_worker": 0}, "workload.threads_per_worker: found 0"),
        ({"num_steps": 3, "num_warmup_steps": 3}, "num_warmup_steps: found 3"),
        ({"num_warmup_steps": -1}, "num_warmup_steps: found -1"),
        ({"num_workers": 3, "tensor_parallel_size": 2}, "num_workers is 3"),
        ({"num_workers": 4, "tensor_parallel_size": 4}, "preset tiny has 2 key-value heads"),
        ({"num_workers": 4, "tensor_parallel_size": 2}, "accepted: fsdp2"),
        ({"tensor_parallel_size": 2, "communication": "none"}, "cannot train alone"),
        (
            {"global_batch_size": 9},
            "found 9; it does not divide into 2 data-parallel ranks x "
            "gradient_accumulation_steps = 1",
        ),
        ({"global_batch_size": 16}, "micro_batch_size must be 8, and is 4"),
        ({"checkpoint_every_steps": 5}, "checkpoint_dir: is empty"),
        ({"resume": True}, "checkpoint_dir: is empty"),
        ({"watchdog_s": -1.0}, "watchdog_s: found -1.0"),
        ({"data": TokenFiles(path=" ")}, "data.path: is empty"),
    ],
)
def test_parameters_that_cannot_be_run_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(LaunchRefused, match=says):
        TorchTraining(replace(TorchWorkload(), **change)).launch(CPU, "")


def test_hardware_that_cannot_be_used_is_refused_with_both_numbers() -> None:
    with pytest.raises(LaunchRefused, match="num_workers is 3, the plan gives 2 x H100"):
        TorchTraining(TorchWorkload(num_workers=3)).launch(GPUS, "")
    tpu = Device(kind="tpu", accelerator="TPU-V6E", num_chips=4)
    with pytest.raises(LaunchRefused, match="4 x TPU-V6E"):
        TorchTraining(TorchWorkload()).launch(tpu, "")


def test_an_unknown_preset_names_the_known() -> None:
    with pytest.raises(UnknownPreset, match="tiny, small, medium, 1b, 8b; did you mean 'medium'"):
        TorchTraining(TorchWorkload(preset="mediun")).launch(CPU, "")


def test_a_server_is_no_training() -> None:
    with pytest.raises(LaunchRefused, match="server"):
        TorchTraining(TorchWorkload()).drive(Running(), None, lambda *_: None)


def test_the_presets_are_as_large_as_they_say() -> None:
    assert {name: shape.num_parameters for name, shape in PRESETS.items()} == {
        "tiny": 1_000_576,
        "small": 30_941_696,
        "medium": 213_943_296,
        "1b": 1_100_048_384,  # as the model cards of TinyLlama and Llama 3 8B have it
        "8b": 8_030_261_248,
    }


def test_flops_per_token_term_by_term() -> None:
    """Every matrix multiplication of a (1 × in) by an (in × out) is 2 · in · out, thrice: once
    forward, twice backward. Attention reads T / 2 positions on average."""
    shape = ModelShape(
        vocab_size=100, dim=16, num_layers=3, num_heads=4, num_kv_heads=2, hidden_dim=32
    )
    matrices = [(16, 16), (16, 8), (16, 8), (16, 16), (16, 32), (16, 32), (32, 16)] * 3
    matrices.append((16, 100))
    forward = sum(2 * i * o for i, o in matrices) + 3 * (2 * 16 + 2 * 16) * (64 / 2)
    assert shape.flops_per_token(64) == pytest.approx(3 * forward)


def test_neither_the_parameters_nor_the_workload_import_torch() -> None:
    program = (
        "import sys, workloads.params, workloads.registry, workloads.torch_train, "
        "harness.on_ray.train_actor; "
        "print([m for m in ('torch', 'ray.train') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def run_alone(attempt: int = 0, **change: Any) -> list[TrainEvent]:
    """One rank that is the whole world, in this process."""
    params = replace(TorchWorkload(num_workers=1, num_steps=4, num_warmup_steps=1), **change)
    launch = TorchTraining(params).launch(CPU, "")
    events: list[TrainEvent] = []
    begun_s = time.monotonic()
    rank = TrainRank(
        rank=0,
        world_size=1,
        backend=launch.backend,
        address="127.0.0.1",
        now_s=lambda: time.monotonic() - begun_s,
        report=events.append,
        from_rank_zero=lambda value: value,
        device=lambda: "cpu",
        attempt=attempt,
    )
    train(launch.config, rank)
    return events


def losses(events: list[TrainEvent]) -> list[float]:
    return [event.loss for event in events if isinstance(event, TrainStep)]


@pytest.mark.torch
@pytest.mark.usefixtures("one_thread")
class TestLoop:
    def test_the_seed_decides_the_losses(self) -> None:
        pytest.importorskip("torch")
        first, again, other = run_alone(), run_alone(), run_alone(seed=1)
        assert losses(first) == pytest.approx(losses(again), rel=1e-6)
        assert losses(first) != pytest.approx(losses(other), rel=1e-3)
        assert len(losses(first)) == 4

    def test_what_a_rank_tells(self) -> None:
        torch = pytest.importorskip("torch")
        events = run_alone(threads_per_worker=1, micro_batch_size=2, sequence_length=32)
        phases = [event.name for event in events if isinstance(event, TrainPhase)]
        assert phases == ["imports", "process group", "model build", "data", "first step"]
        steps = [event for event in events if isinstance(event, TrainStep)]
        assert [step.is_warmup for step in steps] == [True, False, False, False]
        assert [step.num_tokens for step in steps] == [64] * 4
        facts: dict[str, Any] = {}
        for event in events:
            facts.update(event.values if isinstance(event, TrainFacts) else {})
        assert facts["packages"]["torch"] == torch.__version__
        assert (facts["num_steps"], facts["num_threads"]) == (4, 1)
        assert facts["parameter_norm"] > 0
        assert not torch.distributed.is_initialized()

    def test_a_loss_that_is_no_number_ends_it_with_the_step(self) -> None:
        torch = pytest.importorskip("torch")
        with pytest.raises(LossNotFinite, match=r"loss of step [1-9] is (nan|inf) on rank 0"):
            run_alone(learning_rate=1e20, num_steps=10)
        torch.distributed.destroy_process_group()

    @pytest.mark.parametrize("how", ["the CPU's allocator", "PyTorch", "Python"])
    def test_memory_that_is_not_there_is_said_so_with_the_peak(self, how: str) -> None:
        torch = pytest.importorskip("torch")
        from workloads.torch_step import memory_told

        def ask() -> None:
            if how == "the CPU's allocator":
                torch.empty(2**60, dtype=torch.uint8)
            raise torch.OutOfMemoryError("no") if how == "PyTorch" else MemoryError("no")

        with (
            pytest.raises(OutOfDeviceMemory, match=r"rank 3 .* at most \d+\.\d\d GiB were held"),
            memory_told(3, torch.device("cpu")),
        ):
            ask()
        with pytest.raises(RuntimeError, match="something else"), memory_told(0, "cpu"):
            raise RuntimeError("something else")

    def test_a_job_goes_on_where_its_last_whole_checkpoint_is(self, tmp_path: Path) -> None:
        """The second half of the steps, made after a restart, has the losses of the first time."""
        pytest.importorskip("torch")
        config = {"num_steps": 6, "sequence_length": 16, "checkpoint_dir": str(tmp_path)}
        whole = run_alone(**config, checkpoint_every_steps=4)
        saves = [e.checkpoint_s > 0 for e in whole if isinstance(e, TrainStep)]
        assert saves == [False, False, False, True, False, False]
        (kept,) = tmp_path.glob("job-*/step-*")
        assert kept.name == "step-000004"
        (kept.parent / "step-000005.writing").mkdir()  # as a rank that was killed leaves it
        again = run_alone(attempt=1, **config)
        steps = [event for event in again if isinstance(event, TrainStep)]
        assert [(step.step, step.attempt) for step in steps] == [(4, 1), (5, 1)]
        assert losses(again) == pytest.approx(losses(whole)[4:], rel=1e-6)
        facts = {k: v for e in again if isinstance(e, TrainFacts) for k, v in e.values.items()}
        assert facts["checkpoint_restore_s"][0] > 0
        assert "first_step" not in facts  # the steps before are those of attempt 0
        asked = run_alone(**config, resume=True)
        facts = {k: v for e in asked if isinstance(e, TrainFacts) for k, v in e.values.items()}
        assert facts["first_step"] == 4
        anew = run_alone(**config)
        assert losses(anew) == pytest.approx(losses(whole), rel=1e-6)
        assert len(list(tmp_path.glob("job-*"))) == 2

    def test_bfloat16_computes_differently_and_learns_too(self) -> None:
        pytest.importorskip("torch")
        change = {"sequence_length": 32, "num_steps": 8, "learning_rate": 3e-3}
        wide, narrow = (
            losses(run_alone(**change)),
            losses(run_alone(precision="bfloat16", **change)),
        )
        assert wide != narrow
        assert narrow == pytest.approx(wide, rel=0.02)
        assert narrow[-1] < narrow[0]


@pytest.mark.torch
@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore")  # torch warns of itself while it compiles
class TestCompiled:
    """torch.compile for real, on a model of two layers that takes seconds to compile."""

    @pytest.fixture(autouse=True)
    def _small_and_anew(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, require: Callable[[bool, str], None]
    ) -> Iterator[None]:
        torch = pytest.importorskip("torch")
        require(
            shutil.which(os.environ.get("CXX", "g++")) is not None,
            "a C++ compiler (apt-get install g++): torch.compile writes C++ on a CPU",
        )
        shape = ModelShape(
            vocab_size=64, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, hidden_dim=48
        )
        monkeypatch.setitem(torch_shape.PRESETS, "tiny", shape)
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
        torch._dynamo.reset()
        yield
        torch._dynamo.reset()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def run(self, *, compiled: bool) -> list[TrainEvent]:
        return run_alone(
            micro_batch_size=2, sequence_length=16, learning_rate=3e-3, compile=compiled
        )

    @pytest.mark.timeout(300)
    def test_it_learns_the_same_and_compiles_before_its_first_step(self) -> None:
        from torch._inductor import config

        eager = self.run(compiled=False)
        with config.patch({"aot_inductor.debug_compile": True}):  # -O0: half the compiler's time
            events = self.run(compiled=True)
        assert losses(events) == pytest.approx(losses(eager), rel=1e-5)
        took = {e.name: e.end_s - e.start_s for e in events if isinstance(e, TrainPhase)}
        assert list(took) == [
            *("imports", "process group", "compiler", "model build", "compile", "data"),
            "first step",
        ]
        slowest_s = max(event.duration_s for event in events if isinstance(event, TrainStep))
        assert slowest_s < 0.5 * took["compile"]
        facts = {k: v for e in events if isinstance(e, TrainFacts) for k, v in e.values.items()}
        assert (facts["compile_cache"], facts["recompiled"]) == ("written", [])

    def test_what_is_compiled_late_is_told_with_its_step(self) -> None:
        torch = pytest.importorskip("torch")
        from workloads.torch_compile import CompileWatch

        doubled = torch.compile(lambda x: x * 2, dynamic=False)
        with closing(CompileWatch(time.monotonic)) as watch:
            doubled(torch.ones(4))
            watch.warmed_up()
            took_s = []
            for step, length in enumerate((4, 4, 5, 4)):
                begun_s = time.monotonic()
                doubled(torch.ones(length))
                took_s.append(time.monotonic() - begun_s)
                watch.stepped(step)
        (late,) = watch.facts()["recompiled"]
        assert (late["step"], late["num"]) == (2, 1)
        assert 0.5 * took_s[2] < late["compile_s"] < took_s[2]

    def test_without_a_compiler_it_is_said_what_to_do(self) -> None:
        from torch._inductor import config

        says = (
            r"rank 0 finds no working C\+\+ compiler: tried no-such-g\+\+; .*apt-get install g\+\+"
        )
        with (
            config.patch({"cpp.cxx": (None, "no-such-g++")}),
            pytest.raises(CompileFailed, match=says),
        ):
            self.run(compiled=True)

    def test_a_compiler_that_fails_is_told_by_its_own_words(self, tmp_path: Path) -> None:
        """As one without the C library's headers does. The tuner knows the real text, too."""
        from torch._inductor import config

        broken = tmp_path / "broken-g++"
        broken.write_text(
            '#!/bin/sh\ncase "$*" in *--version*|*-dumpversion*) exec g++ "$@";; esac\n'
            'echo "/usr/include/x.h:1:10: fatal error: stdlib.h: No such file" >&2\nexit 1\n'
        )
        broken.chmod(0o755)
        with (
            config.patch({"cpp.cxx": (None, str(broken))}),
            pytest.raises(
                CompileFailed, match=r"could not compile the model .*stdlib\.h"
            ) as caught,
        ):
            self.run(compiled=True)
        assert caught.value.error == "compile_failure"
        cause = caught.value.__cause__
        assert cause is not None
        tail = tuple("".join(traceback.format_exception(cause)).splitlines())
        failed = Failed(stage="startup", error="engine_died", message="it ended", log_tail=tail)
        assert failure_kind(failed) is FailureKind.COMPILE_FAILURE
