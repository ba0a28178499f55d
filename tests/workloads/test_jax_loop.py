"""The jax workload's arithmetic, on four devices that JAX makes of this machine's CPUs.

JAX runs in one process of its own, once for the whole module: its threads do not get on with
processes that fork, as other tests here do.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.init_weights import array_shapes, first_weights
from workloads.torch_shape import ModelShape, shape_of

NUM_STEPS = 20
# Relative. Both sides round float32 in another order, and AdamW's first steps, as long for
# a small gradient as for a large one, carry it on: 3e-5 was seen within twenty steps.
TOLERANCE = 2e-4

IN_JAX = """
import json, math, sys, tempfile, time
from dataclasses import asdict, replace
from pathlib import Path

import jax
import numpy as np

from workloads import jax_group, jax_loop, jax_step
from workloads.jax_feed import Feed
from workloads.base import TrainFacts, TrainPhase, TrainRank, TrainStep
from workloads.errors import CheckpointUnusable, LossNotFinite, OutOfDeviceMemory
from workloads.jax_checkpoint import Checkpoints, job_folder
from workloads.jax_layout import layout_of
from workloads.params import JaxWorkload
from workloads.torch_shape import shape_of

jax_group.choose_devices("cpu", 4)
told = {"devices": len(jax.devices())}
shape = shape_of("tiny")

# 1. Twenty steps on four data-parallel devices, each step saved after the last.
plain = JaxWorkload(num_workers=1, num_steps=20, micro_batch_size=4, learning_rate=1e-3)
layout = layout_of(plain, 4, 1)
program = jax_step.make_program(plain, layout)
state = jax_step.first_state(program, shape, plain.seed)
feed = Feed(plain, layout, program.tokens)
ahead = Feed(replace(plain, loader_workers=2), layout, program.tokens)
told["ahead"] = all(bool((ahead.tokens(s) == feed.tokens(s)).all()) for s in (0, 1, 2, 5, 19))
ahead.close()
losses = []
for step in range(20):
    state, loss = program.step(state, feed.tokens(step))
    losses.append(float(loss))
told["ddp"] = losses
told["norm"] = math.sqrt(sum(float((np.asarray(x, np.float64) ** 2).sum())
                             for x in jax.tree.leaves(state.params)))

# 2. The same tokens over a mesh of two fsdp by two tensor devices, as two micro-batches, with every
# block computed again in the backward pass.
other = replace(plain, strategy="fsdp2", tensor_parallel_size=2, activation_checkpointing="full",
                gradient_accumulation_steps=2, micro_batch_size=2)
layout = layout_of(other, 4, 1)
split = jax_step.make_program(other, layout)
told["mesh"] = dict(split.mesh.shape)
state = jax_step.first_state(split, shape, plain.seed)
told["parts"] = [list(x.addressable_shards[0].data.shape) for x in
                 (state.params["blocks"]["up"], state.params["embedding"],
                  state.optimizer[0].mu["blocks"]["down"])]
losses = []
for step in range(6):
    tokens = np.asarray(feed.tokens(step)).reshape(2, 2, -1)
    state, loss = split.step(state, jax.device_put(tokens, split.tokens))
    losses.append(float(loss))
told["split"] = losses

# 3. Saved and read back, to the bit.
folder = Path(tempfile.mkdtemp(dir=sys.argv[1]))
saved = Checkpoints(folder, 0, 1)
for num_steps in (2, 4, 6):
    saved.save(num_steps, state)
told["kept"] = saved.steps()
back = saved.restore(6, state)
told["restored"] = all(
    bool((np.asarray(a) == np.asarray(b)).all()) and a.sharding == b.sharding
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(back), strict=True)
)
(folder / "step-8").mkdir()
told["half"] = saved.steps()
try:
    saved.restore(6, jax_step.first_state(program, shape, plain.seed))
except CheckpointUnusable as error:
    told["other_mesh"] = str(error)

# 4. The loop itself: its events, and a loss that is no number.
events = []
began = time.monotonic()
rank = TrainRank(rank=0, world_size=1, backend="xla", address="127.0.0.1",
                 now_s=lambda: time.monotonic() - began, report=events.append,
                 from_rank_zero=lambda value: value, device=lambda: "cpu")
# It goes on where another job ended, after six steps.
home = Path(sys.argv[1]) / "home"
name = job_folder(home / "jax", goes_on=False)
told["anew"] = name != job_folder(home / "jax", goes_on=False)
name = job_folder(home / "jax", goes_on=True)
Checkpoints(home / "jax" / name, 0, 1).save(6, jax_step.first_state(program, shape, plain.seed))
wild = replace(plain, learning_rate=1e38, checkpoint_dir=str(home), resume=True)
try:
    jax_loop.run(wild, rank, device="cpu", num_local_devices=4, num_slices=1)
except LossNotFinite as error:
    told["nan"] = str(error)
told["phases"] = [e.name for e in events if isinstance(e, TrainPhase)]
told["steps"] = [e.step for e in events if isinstance(e, TrainStep)]
told["last_is_finite"] = math.isfinite([e for e in events if isinstance(e, TrainStep)][-1].loss)
told["facts"] = {k: v for e in events if isinstance(e, TrainFacts) for k, v in e.values.items()}

# 5. Memory that is not there.
try:
    with jax_loop._memory_errors():
        jax.numpy.zeros((1 << 45,)).block_until_ready()
except OutOfDeviceMemory as error:
    told["oom"] = str(error)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Any:
    require(importlib.util.find_spec("jax") is not None, "jax is not installed")
    done = subprocess.run(
        [sys.executable, "-c", IN_JAX, str(tmp_path_factory.mktemp("jax"))],
        cwd=Path(__file__).resolve().parents[2],
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
    assert "was saved by another model or on another mesh" in told["other_mesh"]


def test_the_loop_says_what_it_does(told: Any) -> None:
    assert told["phases"] == [
        "process group",
        "model build",
        "trace",
        "lower",
        "compile",
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


def test_batches_made_ahead_are_the_same(told: Any) -> None:
    assert told["ahead"]


def test_four_devices_of_one_process(told: Any) -> None:
    assert told["devices"] == 4
    assert np.isfinite(told["ddp"]).all()
