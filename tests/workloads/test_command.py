"""The command workload without Ray: real processes under the real warden, one rank at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.rank_process import RankProcess
from results.clock import SystemClock
from workloads.base import (
    Device,
    OwnProcess,
    TrainEvent,
    TrainFacts,
    TrainPhase,
    TrainRank,
    TrainStep,
)
from workloads.command import Command, num_reporting, run
from workloads.command_argv import command_line
from workloads.command_loop import FileTail
from workloads.errors import LaunchRefused, LossNotFinite, OutOfDeviceMemory, TrainingFailed
from workloads.params import CommandWorkload

CPU = Device(kind="cpu", accelerator="cpu", num_chips=0)
GPUS = Device(kind="gpu", accelerator="H100", num_chips=2)
CLOCK = SystemClock()

CALLBACK = """
import os, sys, time
from windtunnel_step import step
for n in range(int(sys.argv[1])):
    time.sleep(0.01)
    step(loss=3.0 - 0.1 * n, num_tokens=64)
print("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], "done")
"""


class Stage:
    """A rank whose reports are kept, with processes of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[TrainEvent] = []
        self.processes: list[RankProcess] = []
        self.zero_s = CLOCK.monotonic_s()

    def now_s(self) -> float:
        return CLOCK.monotonic_s() - self.zero_s

    def start(self, argv: Any, env: Any, cwd: str, python_path: Any) -> OwnProcess:
        made = RankProcess(argv, env, cwd, python_path, owns_chips=False, now_s=self.now_s)
        self.processes.append(made)
        return made

    def rank(self) -> TrainRank:
        return TrainRank(
            rank=0,
            world_size=1,
            backend="gloo",
            address="127.0.0.1",
            now_s=self.now_s,
            report=self.events.append,
            from_rank_zero=lambda value: value,
            device=lambda: "cpu",
            start_process=self.start,
            scratch_dir=str(self.folder / "scratch"),
        )

    def run(self, script: str, *arguments: str, **changes: Any) -> None:
        path = self.folder / "script.py"
        path.write_text(script)
        params = CommandWorkload(argv=(str(path), *arguments), **{"num_warmup_steps": 1, **changes})
        run(self.config(params), self.rank())

    def config(self, params: CommandWorkload) -> dict[str, Any]:
        return {**Command(params).launch(CPU, "").config, "started_in": str(self.folder)}

    @property
    def steps(self) -> list[TrainStep]:
        return [event for event in self.events if isinstance(event, TrainStep)]

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, TrainFacts):
                found |= event.values
        return found

    @property
    def phases(self) -> list[str]:
        return [event.name for event in self.events if isinstance(event, TrainPhase)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    for process in made.processes:
        assert not psutil.pid_exists(process.pid)
    assert not list((tmp_path / "scratch").glob("*"))  # the folder of the steps is gone


# --- the three ways ---


def test_by_the_callback(stage: Stage) -> None:
    stage.run(CALLBACK, "6")
    assert [s.step for s in stage.steps] == list(range(6))
    assert [s.loss for s in stage.steps] == pytest.approx([3.0 - 0.1 * n for n in range(6)])
    assert all(s.num_tokens == 64 for s in stage.steps)
    assert all(0.01 <= s.duration_s < 1.0 for s in stage.steps[1:])
    ends = [s.start_s + s.duration_s for s in stage.steps]
    assert [s.start_s for s in stage.steps[1:]] == pytest.approx(ends[:-1])
    assert all(s.memory_bytes > 2**20 for s in stage.steps)
    assert stage.phases == ["process start", "script start", "first step"]
    assert (stage.facts["num_steps"], stage.facts["exit_code"]) == (6, 0)
    assert stage.facts["steps_from"] == "the callback windtunnel_step"
    assert (stage.facts["job_first_step"], stage.facts["steps_numbered"]) == (0, False)


def test_the_callback_says_which_step_it_was_where_the_script_does(stage: Stage) -> None:
    script = CALLBACK.replace("num_tokens=64)", "num_tokens=64, number=40 + n)")
    stage.run(script, "3")
    assert [s.step for s in stage.steps] == [0, 1, 2]
    assert (stage.facts["job_first_step"], stage.facts["steps_numbered"]) == (40, True)
    (stage.folder / "script.py").write_text(script)
    params = CommandWorkload(argv=("script.py", "3"), num_warmup_steps=1, num_steps=6)
    stage.events.clear()
    run(stage.config(params), replace(stage.rank(), attempt=1, job_first_step=37))
    assert [(s.step, s.is_warmup) for s in stage.steps] == [(3, True), (4, False), (5, False)]


def test_by_the_log(stage: Stage) -> None:
    script = """
import time
for n in range(100, 104):
    time.sleep(0.01)
    print(f"iter {n}: loss {1.5:.4f}, time {10.0:.2f}ms, mfu 1.00%")
"""
    stage.run(script, log_pattern="nanogpt", tokens_per_step=512)
    assert [s.step for s in stage.steps] == [0, 1, 2, 3]
    assert all((s.duration_s, s.num_tokens, s.loss) == (0.01, 512, 1.5) for s in stage.steps)


def test_by_a_file_and_ended_after_enough_steps(stage: Stage) -> None:
    script = """
import itertools, json, sys, time
with open(sys.argv[1], "w") as file:
    for n in itertools.count():
        file.write(json.dumps({"step": n, "loss": 2.0, "tokens": 8}) + "\\n")
        file.flush()
        time.sleep(0.02)
"""
    path = stage.folder / "steps of rank 0.jsonl"
    stage.run(
        script, str(path), jsonl=str(stage.folder / "steps of rank {rank}.jsonl"), num_steps=5
    )
    assert [s.step for s in stage.steps] == list(range(5))
    assert stage.facts["num_steps"] == 5


@pytest.mark.torch
def test_under_torchrun(stage: Stage) -> None:
    """The real one, with two ranks that both print; the lines of rank 0 count."""
    pytest.importorskip("torch")
    script = (
        CALLBACK
        + """
steps = os.environ["WINDTUNNEL_STEPS"].replace("{rank}", os.environ["RANK"])
print(sum(1 for _ in open(steps)), "lines of the callback")
print(f"iter 3: loss 0.5{os.environ['RANK']}, time 7.00ms")
"""
    )
    (stage.folder / "script.py").write_text(script)
    params = CommandWorkload(
        argv=("script.py", "3"),
        launcher="torchrun",
        num_workers=2,
        num_warmup_steps=1,
        log_pattern="nanogpt",
    )
    run(stage.config(params), replace(stage.rank(), world_size=2, local_world_size=2))
    assert [(s.loss, s.duration_s) for s in stage.steps] == [(0.50, pytest.approx(0.007))]
    told = "\n".join(stage.facts["log_tail"])
    assert "[rank1]:rank 1 of 2 done" in told
    assert "[rank0]:4 lines of the callback" in told  # its import, and three steps


# --- what goes wrong ---


def noted(error: BaseException) -> str:
    return "\n".join(error.__notes__)


def test_a_script_that_dies_tells_its_last_lines(stage: Stage) -> None:
    with pytest.raises(TrainingFailed, match="exit code 1: ValueError: no such data") as caught:
        stage.run("print('reading')\nraise ValueError('no such data')")
    assert "  | reading" in noted(caught.value)
    assert stage.facts["exit_code"] == 1


def test_a_script_that_is_killed(stage: Stage) -> None:
    with pytest.raises(
        TrainingFailed,
        match="exit code 137, killed by signal 9, and not because memory ran out: it",
    ):
        stage.run("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")


def test_memory_that_runs_out_is_known_by_what_is_printed(stage: Stage) -> None:
    """The message of torch 2.x on a GPU."""
    said = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    with pytest.raises(
        OutOfDeviceMemory, match=r"CUDA out of memory\. Tried to allocate 2\.00 GiB"
    ):
        stage.run(f"print({said!r})\nraise SystemExit(1)")


def test_a_loss_that_is_no_number(stage: Stage) -> None:
    script = "from windtunnel_step import step\nstep(loss=1.0)\nstep(loss=float('nan'))\ninput()"
    with pytest.raises(LossNotFinite, match="step 1: the loss is nan"):
        stage.run(script)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "told of no step; it must call windtunnel_step.step"),
        ({"log_pattern": "maxtext"}, "no line of its log has workload.log_pattern 'maxtext'"),
        ({"jsonl": "nowhere.jsonl"}, "nothing was written to .*nowhere.jsonl"),
    ],
)
def test_a_script_that_tells_of_no_step(stage: Stage, changes: dict[str, str], says: str) -> None:
    with pytest.raises(TrainingFailed, match=says):
        stage.run("print('hello')", **changes)


def test_what_a_script_prints_is_told_while_no_step_is(stage: Stage) -> None:
    """For whoever waits until a deadline; what then comes up through the report ends the script."""

    def report(event: TrainEvent) -> None:
        stage.events.append(event)
        if "log_tail" in stage.facts:
            raise KeyboardInterrupt

    params = CommandWorkload(argv=("sh", "-c", "echo waiting for data; sleep 600"))
    with pytest.raises(KeyboardInterrupt):
        run(stage.config(params), replace(stage.rank(), report=report))
    assert stage.facts["log_tail"] == ["waiting for data"]
    assert stage.steps == []


def test_a_script_that_ends_too_soon(stage: Stage) -> None:
    with pytest.raises(TrainingFailed, match=r"ended after 2 of workload\.num_steps = 9 steps"):
        stage.run(CALLBACK, "2", num_steps=9)


def test_a_command_or_folder_that_is_not_there(stage: Stage) -> None:
    with pytest.raises(TrainingFailed, match=r"cannot be started: .*no-such-folder"):
        stage.run("", cwd="/no-such-folder")
    params = CommandWorkload(argv=("no-such-program",))
    with pytest.raises(TrainingFailed, match="exit code 127: no-such-program: No such file"):
        run(stage.config(params), stage.rank())


def test_a_killed_rank_takes_its_script_along(tmp_path: Path) -> None:
    """As when Ray kills a worker, or the kernel does: the warden sees the pipe close."""
    root = Path(__file__).parents[2]
    pids = tmp_path / "pids"
    script = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r} + '.new', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(pids)!r} + '.new', {str(pids)!r})\n"
        "time.sleep(600)\n"
    )
    owner = (
        "import time\nfrom harness.rank_process import RankProcess\n"
        f"RankProcess([{sys.executable!r}, '-S', '-c', {script!r}], {{}}, '', (), "
        "owns_chips=False, now_s=time.monotonic)\ntime.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", owner], env={**os.environ, "PYTHONPATH": str(root)}
    ) as rank:
        try:
            assert soon(pids.exists, 60.0)
            left = [int(pid) for pid in pids.read_text().split()]
            assert all(psutil.pid_exists(pid) for pid in left)
        finally:
            rank.send_signal(signal.SIGKILL)
    assert soon(lambda: not any(psutil.pid_exists(pid) for pid in left), 30.0)


def soon(done: Any, patience_s: float) -> bool:
    deadline_s = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


# --- outside of windtunnel ---


def test_the_callback_does_nothing_elsewhere(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "workloads" / "callback"
    done = subprocess.run(
        [sys.executable, "-S", "-c", "from windtunnel_step import step; step(loss=1.0); step()"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert list(tmp_path.iterdir()) == []


# --- launches ---


def test_the_launch_says_all() -> None:
    params = CommandWorkload(argv=("train.py",), num_workers=2, cpus_per_worker=1.5)
    launch = Command(params).launch(CPU, "")
    assert (launch.num_workers, launch.cpus_per_worker, launch.backend) == (2, 1.5, "gloo")
    assert launch.num_reporting == 2
    assert Command(params).launch(GPUS, "").backend == "nccl"
    assert num_reporting(replace(params, log_pattern="torchtitan")) == 1
    assert num_reporting(replace(params, jsonl="steps.jsonl")) == 1
    assert num_reporting(replace(params, jsonl="steps-{rank}.jsonl")) == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"argv": ()}, "workload.argv: is empty"),
        ({"log_pattern": "(", "argv": ("x",)}, "no regular expression"),
        ({"log_pattern": "maxtext", "jsonl": "x"}, "is given beside log_pattern"),
        ({"num_workers": 0}, "workload.num_workers: found 0"),
        ({"num_warmup_steps": 0}, "at least 1, because nobody outside"),
        ({"num_steps": 3}, "found 3 with 3 warm-up steps"),
        (
            {"launcher": "torchrun", "argv": ("t.py", "--rank", "{rank}")},
            "all ranks of a node have",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(LaunchRefused, match=says):
        Command(CommandWorkload(**{"argv": ("train.py",), **changes})).launch(CPU, "")


def test_hardware_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(LaunchRefused, match="num_workers is 3, the plan gives 2 x H100"):
        Command(CommandWorkload(argv=("t.py",), num_workers=3)).launch(GPUS, "")
    with pytest.raises(LaunchRefused, match="4 x TPU-V6E"):
        tpu = Device(kind="tpu", accelerator="TPU-V6E", num_chips=4)
        Command(CommandWorkload(argv=("t.py",))).launch(tpu, "")


def test_the_command_lines_of_the_launchers() -> None:
    script = CommandWorkload(argv=("train.py", "--x", "1"))
    assert command_line(script, {}) == ["{python}", "train.py", "--x", "1"]
    assert command_line(replace(script, argv=("bash", "run.sh")), {}) == ["bash", "run.sh"]
    values = {"num_nodes": "1", "num_workers": "2", "local_num_workers": "2"}
    torchrun = replace(script, launcher="torchrun")
    one = command_line(torchrun, values)
    assert one[:3] == ["{python}", "-m", "torch.distributed.run"]
    assert "--standalone" in one
    assert one[-3:] == ["train.py", "--x", "1"]
    two = command_line(torchrun, {**values, "num_nodes": "2", "num_workers": "4"})
    assert two[two.index("--master-port") + 1] == "{master_port}"
    with pytest.raises(
        TrainingFailed, match="as many ranks on each node; 3 ranks stand on 2 nodes"
    ):
        command_line(torchrun, {**values, "num_nodes": "2", "num_workers": "3"})


def test_a_file_that_grows(tmp_path: Path) -> None:
    tail = FileTail(tmp_path / "steps")
    assert tail.read() == []
    with (tmp_path / "steps").open("w") as file:
        file.write('{"step": 0}\n{"st')
        file.flush()
        assert tail.read() == ['{"step": 0}']
        file.write('ep": 1}\n')
        file.flush()
        assert tail.read() == ['{"step": 1}']
        assert tail.read() == []
    (tmp_path / "steps").write_text("a\n")
    assert tail.read() == ["a"]
