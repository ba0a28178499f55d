"""Run by ``test_jax_loop.py``: what it tells is one line of JSON. argv: a folder."""

import json
import math
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np

from workloads import jax_comm, jax_group, jax_loop, jax_step
from workloads.base import TrainFacts, TrainPhase, TrainRank, TrainStep
from workloads.errors import CheckpointUnusable, LossNotFinite, OutOfDeviceMemory
from workloads.exposed import Span
from workloads.jax_checkpoint import Checkpoints, job_folder
from workloads.jax_feed import MeshFeed
from workloads.jax_layout import layout_of
from workloads.params import JaxWorkload
from workloads.torch_shape import shape_of
from workloads.xla_trace import Op

jax_group.choose_devices("cpu", 4)
told = {"devices": len(jax.devices())}
shape = shape_of("tiny")

# 1. Twenty steps on four data-parallel devices, each step saved after the last.
plain = JaxWorkload(num_workers=1, num_steps=20, micro_batch_size=4, learning_rate=1e-3)
layout = layout_of(plain, 4, 1)
program = jax_step.make_program(plain, layout)
state = jax_step.first_state(program, shape, plain.seed)
feed = MeshFeed(plain, layout, program.tokens)
ahead = MeshFeed(replace(plain, loader_workers=2), layout, program.tokens)
seen = [feed.next() for _ in range(20)]
told["ahead"] = all(bool((ahead.next() == tokens).all()) for tokens in seen)
ahead.close()
later = MeshFeed(plain, layout, program.tokens, first_step=6)
told["later"] = bool((later.next() == seen[6]).all())
losses = []
for tokens in seen:
    state, loss = program.step(state, tokens)
    losses.append(float(loss))
told["ddp"] = losses
told["norm"] = math.sqrt(
    sum(float((np.asarray(x, np.float64) ** 2).sum()) for x in jax.tree.leaves(state.params))
)

# 2. The same tokens over a mesh of two fsdp by two tensor devices, as two micro-batches, with every
# block computed again in the backward pass.
other = replace(
    plain,
    strategy="fsdp2",
    tensor_parallel_size=2,
    activation_checkpointing="full",
    gradient_accumulation_steps=2,
    micro_batch_size=2,
)
layout = layout_of(other, 4, 1)
split = jax_step.make_program(other, layout)
told["mesh"] = dict(split.mesh.shape)
state = jax_step.first_state(split, shape, plain.seed)
told["parts"] = [
    list(x.addressable_shards[0].data.shape)
    for x in (
        state.params["blocks"]["up"],
        state.params["embedding"],
        state.optimizer[0].mu["blocks"]["down"],
    )
]
losses = []
for step in range(6):
    tokens = np.asarray(seen[step]).reshape(2, 2, -1)
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
wider = jax.tree.map(
    lambda x: jax.numpy.zeros((*x.shape[:-1], x.shape[-1] + 4)) if x.ndim else x, state
)
for like in (wider, {"weights": jax.numpy.zeros((3,))}):
    try:
        saved.restore(6, like)
    except CheckpointUnusable as error:
        told.setdefault("other_model", []).append(str(error))

# 3b. Read back on the first mesh, where each device has all of the model: the training goes on.
state = saved.restore(6, jax_step.first_state(program, shape, plain.seed))
losses = []
for tokens in seen[6:9]:
    state, loss = program.step(state, tokens)
    losses.append(float(loss))
told["went_on"] = losses
np.save(Path(sys.argv[1]) / "seen.npy", np.stack([np.asarray(tokens) for tokens in seen]))
told["saved_in"] = str(folder)

# 4. The loop itself: its events, and a loss that is no number.
events = []
began = time.monotonic()
rank = TrainRank(
    rank=0,
    world_size=1,
    backend="xla",
    address="127.0.0.1",
    now_s=lambda: time.monotonic() - began,
    report=events.append,
    from_rank_zero=lambda value: value,
    device=lambda: "cpu",
)
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

# 6. A profiled step that took half as long again as a measured one, 0.27 of 0.3 s of it exposed.
jax_comm.trace_steps = lambda step: jax_comm.Traced(
    [Op("d", "all-reduce.1", Span(0, 0.27)), Op("d", "add.1", Span(0.27, 0.3))], [Span(0, 0.3)]
)
text = "%all-reduce.1 = f32[2]{0} all-reduce(%x)\n%add.1 = f32[2]{0} add(%a, %b)\n"
told["profiled"] = [
    jax_comm._by_profiler(SimpleNamespace(as_text=lambda: text), jax_comm.Trained(None, None, busy))
    for busy in ([0.2], [0.1])
]
sys.stdout.write(json.dumps(told))
