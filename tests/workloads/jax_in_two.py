"""Run by ``test_jax_loop.py``, once for each rank.

argv: rank, port, how late rank 1 is, the folder of a checkpoint, its tokens, where to tell.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from workloads import jax_comm, jax_group, jax_step, token_files
from workloads.jax_checkpoint import Checkpoints
from workloads.jax_feed import MeshFeed
from workloads.jax_layout import layout_of
from workloads.params import JaxWorkload, TokenFiles
from workloads.torch_shape import shape_of
from workloads.xla_trace import exposed_per_step, opcodes

rank, port, late_s, folder = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])
seen = np.load(sys.argv[5])
jax_group.choose_devices("cpu", 1)
jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
shape, told = shape_of("tiny"), {}
plain = JaxWorkload(
    num_workers=2, num_steps=20, micro_batch_size=2, learning_rate=1e-3, strategy="fsdp2"
)
split = replace(plain, strategy="ddp", tensor_parallel_size=2, micro_batch_size=4)


def put(tokens, program):
    return jax.make_array_from_callback(tokens.shape, program.tokens, lambda index: tokens[index])


def make_step(compiled, state, tokens):
    def step():
        nonlocal state
        time.sleep(late_s if rank == 1 else 0.0)
        state, _ = jax.block_until_ready(compiled(state, tokens))

    return step


saved, first = Checkpoints(folder, rank, 2), 6
for name, params in (("fsdp2", plain), ("tensor", split)):
    program = jax_step.make_program(params, layout_of(params, 1, 1))
    state = saved.restore(first, jax_step.first_state(program, shape, 0))
    compiled = program.step.lower(state, put(seen[0], program)).compile()
    losses = []
    for step in (first, first + 1):
        state, loss = compiled(state, put(seen[step], program))
        losses.append(float(loss))
    first += 2
    saved.save(first, state)

    traced = jax_comm.trace_steps(make_step(compiled, state, put(seen[0], program)))
    exposed_s = exposed_per_step(traced.ops, traced.steps, opcodes(compiled.as_text()))
    told[name] = {"losses": losses, "exposed_s": exposed_s, "step_s": traced.mean_step_s}

# The documents of a data-parallel rank, without Ray.
token_files.documents = lambda files, vocab_size, feed, num_read_tasks: (
    [feed.index * 100 + i] * (i % 4 + 1) for i in range(20)
)
files = replace(plain, data=TokenFiles(path="somewhere"), sequence_length=8)
program = jax_step.make_program(files, layout_of(files, 1, 1))
made = MeshFeed(files, layout_of(files, 1, 1), program.tokens)
told["tokens"] = [np.asarray(made.next().addressable_shards[0].data).tolist() for _ in range(3)]
made.close()
Path(sys.argv[6] + f".{rank}").write_text(json.dumps(told))
jax.distributed.shutdown()
