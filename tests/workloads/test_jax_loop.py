"""The jax workload's arithmetic, on four devices that JAX makes of this machine's CPUs.

JAX runs in one process of its own, once for the whole module: its threads do not get on with
processes that fork, as other tests here do.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.batches import Feed, batches_of
from workloads.init_weights import array_shapes, first_weights
from workloads.params import TokenFiles, TorchWorkload
from workloads.torch_shape import ModelShape, shape_of

pytestmark = pytest.mark.timeout(600)  # the first test of each waits for one process, and for two

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NUM_STEPS = 20
# Relative. Both sides round float32 in another order, and AdamW's first steps, as long for
# a small gradient as for a large one, carry it on: 3e-5 was seen within twenty steps.
TOLERANCE = 2e-4

ONE, PAIR = HERE / "jax_in_one_process.py", HERE / "jax_in_two.py"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Any:
    require(importlib.util.find_spec("jax") is not None, "jax is not installed")
    done = subprocess.run(
        [sys.executable, str(ONE), str(tmp_path_factory.mktemp("jax"))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def torch_weights(shape: ModelShape, seed: int) -> dict[str, Any]:
    """The first weights under PyTorch's names: matrices turned round, layers one by one."""
    sizes = array_shapes(shape)
    found = {
        "embedding.weight": first_weights(shape, seed, "embedding", sizes["embedding"]),
        "norm.weight": first_weights(shape, seed, "norm", sizes["norm"]),
        "head.weight": first_weights(shape, seed, "head", sizes["head"]).T,
    }
    for name, size in sizes["blocks"].items():
        stacked = first_weights(shape, seed, name, size)
        room = "attention." if name in ("query", "key", "value", "out") else "feed_forward."
        for layer, array in enumerate(stacked):
            where = name if "norm" in name else room + name
            found[f"blocks.{layer}.{where}.weight"] = array.T
    return found


@pytest.mark.torch
def test_the_loss_curve_is_that_of_the_torch_workload(told: Any) -> None:
    """The same weights and tokens through PyTorch's model, loss and optimizer, on one device."""
    torch = pytest.importorskip("torch")
    from workloads.torch_data import TokenStream
    from workloads.torch_loop import parameter_norm
    from workloads.torch_model import Transformer
    from workloads.torch_parallel import make_optimizer
    from workloads.torch_step import next_token_loss

    shape = shape_of("tiny")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine its threads would wait for each other
    model = Transformer(shape, 128)
    weights = {n: torch.from_numpy(a.copy()) for n, a in torch_weights(shape, 0).items()}
    model.load_state_dict(weights)
    optimizer = make_optimizer(model, 1e-3)
    stream = TokenStream.make(shape.vocab_size, 0)
    losses = []
    for step in range(NUM_STEPS):
        tokens = torch.from_numpy(stream.batch(step, 0, 4, 128))
        loss = next_token_loss(model(tokens[:, :-1]), tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    torch.set_num_threads(threads)
    assert told["ddp"] == pytest.approx(losses, rel=TOLERANCE)
    assert told["norm"] == pytest.approx(parameter_norm(model), rel=TOLERANCE)
    assert losses[-1] < losses[0] - 0.5  # it is a curve, and not a line


def test_another_layout_is_the_same_training(told: Any) -> None:
    """fsdp, tensor parallelism, accumulation and recomputing change where, not what."""
    assert told["mesh"] == {"data": 1, "fsdp": 2, "tensor": 2}
    assert told["split"] == pytest.approx(told["ddp"][:6], rel=TOLERANCE)
    assert told["parts"] == [[4, 64, 176], [512, 64], [4, 176, 64]]  # a quarter of each


def test_a_checkpoint_is_read_back_to_the_bit(told: Any) -> None:
    assert told["kept"] == [4, 6]
    assert told["restored"]
    assert told["half"] == [4, 6]  # a folder without its files is no checkpoint
    assert len(told["other_model"]) == 2
    assert "step-6 was saved by another model: .params['blocks']" in told["other_model"][0]
    assert "it has not all of an array of (3,)" in told["other_model"][1]


def test_a_checkpoint_is_read_back_on_another_mesh(told: Any) -> None:
    """Saved by two fsdp times two tensor devices, read by four that each have the whole model."""
    assert told["went_on"] == pytest.approx(told["ddp"][6:9], rel=TOLERANCE)


def test_the_loop_says_what_it_does(told: Any) -> None:
    assert told["phases"] == [
        "process group",
        "model build",
        "trace",
        "lower",
        "compile",
        "data",
        "first step",
    ]
    facts = told["facts"]
    assert facts["mesh"] == {"data": 4, "fsdp": 1, "tensor": 1}
    assert (facts["device"], facts["backend"], facts["num_steps"]) == ("cpu", "xla:cpu", 20)
    assert facts["flops_per_token"] == shape_of("tiny").flops_per_token(128)
    assert {"jax", "jaxlib", "optax", "numpy", "python"} == set(facts["packages"])


def test_a_loss_that_is_no_number_ends_the_training(told: Any) -> None:
    assert "is nan; a lower workload.learning_rate than 1e+38" in told["nan"]
    assert not told["last_is_finite"]  # the step is reported before it is complained of
    assert told["steps"] == list(range(6, 6 + len(told["steps"])))
    assert len(told["steps"]) < 14


def test_a_job_goes_on_where_the_last_one_ended(told: Any) -> None:
    assert told["anew"]  # a job that was not asked to has a folder of its own
    assert told["facts"]["first_step"] == told["steps"][0] == 6
    assert 0 < told["facts"]["checkpoint_restore_s"][0] < 60


def test_memory_that_is_not_there_is_said_with_the_peak(told: Any) -> None:
    assert "RESOURCE_EXHAUSTED: Out of memory allocating 140737488355328 bytes" in told["oom"]
    peak = int(told["oom"].split("the peak until then was ")[1].split()[0])
    assert 50 << 20 < peak < 1 << 40


def test_a_profiled_step_gives_its_share_and_not_its_length(told: Any) -> None:
    """0.9 of a measured step of 0.2 s; and nothing where the profiler made it much longer."""
    carried, slowed = told["profiled"]
    assert carried["comm_s_per_step"] == pytest.approx(0.9 * 0.2)
    assert carried["profiled_step_s"] == pytest.approx(0.3)
    assert "comm_s_per_step" not in slowed
    assert "0.1 s, and under the profiler it took 0.3 s" in slowed["comm_method"]


def test_batches_made_ahead_are_the_same(told: Any) -> None:
    assert told["ahead"]
    assert told["later"]  # of a job that goes on there


def test_four_devices_of_one_process(told: Any) -> None:
    assert told["devices"] == 4
    assert np.isfinite(told["ddp"]).all()


# ---- two processes ----

LATE_S = 0.3


@pytest.fixture(scope="module")
def pair(told: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of two processes told; they go on from what the one process had saved."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    seen = Path(told["saved_in"]).parent / "seen.npy"
    words = [str(port), str(LATE_S), told["saved_in"], str(seen), str(folder / "told")]
    started = [
        subprocess.Popen(
            [sys.executable, str(PAIR), str(rank), *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PJRT_NPROC": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=280)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)[-4000:]
    return [json.loads((folder / f"told.{rank}").read_text()) for rank in range(2)]


def test_losses_go_on_with_another_number_of_workers(told: Any, pair: list[Any]) -> None:
    """Saved by one process of four devices, read by two processes that each have a half of every
    matrix's rows; saved by these, read by two that have a half of its columns."""
    for rank in pair:
        assert rank["fsdp2"]["losses"] == pytest.approx(told["ddp"][6:8], rel=TOLERANCE)
        assert rank["tensor"]["losses"] == pytest.approx(told["ddp"][8:10], rel=TOLERANCE)


@pytest.mark.alone
@pytest.mark.parametrize("layout", ["fsdp2", "tensor"])
def test_a_late_peer_is_waited_for_and_that_is_communication(pair: list[Any], layout: str) -> None:
    """Rank 1 sleeps before each step. Rank 0 has nothing else to do meanwhile, so that its exposed
    communication is at least that long; the late one's is not. (Where computing is quick, more than
    half of the late one's step is its sleep, and its own share is then not told: a sentence.)"""
    first, late = (rank[layout]["exposed_s"] for rank in pair)
    assert 0.8 * LATE_S < first < pair[0][layout]["step_s"]
    assert (
        "of the steps' time" in late if isinstance(late, str) else 0.0 < late < first - 0.5 * LATE_S
    )


def test_both_engines_see_the_same_tokens_of_files(
    pair: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def documents(files: Any, vocab_size: int, feed: Feed, num_read_tasks: int) -> Any:
        return ([feed.index * 100 + i] * (i % 4 + 1) for i in range(20))

    monkeypatch.setattr("workloads.token_files.documents", documents)
    params = TorchWorkload(micro_batch_size=2, sequence_length=8, data=TokenFiles(path="somewhere"))
    for index, rank in enumerate(pair):
        with closing(batches_of(params, 1024, Feed(index=index, num=2), 0, 3)) as made:
            assert [made.next().tolist() for _ in range(3)] == rank["tokens"]
    assert pair[0]["tokens"] != pair[1]["tokens"]
