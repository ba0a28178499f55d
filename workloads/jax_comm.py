"""How long each rank's devices did nothing but communicate. Two ways. Imports JAX.

Where each device has the whole model, a *twin* of the step computes the same and sends nothing; a
step takes longer by what it communicates, less what of that overlaps with computing.

Where the model is split a twin would have to compute something else. There a few steps more are
made under JAX's profiler, which tells when each operation of XLA ran; ``workloads.exposed`` says
what of the communication had no computing beside it.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax import Array
from jax.profiler import ProfileData, ProfileOptions

from workloads.base import TrainRank
from workloads.exposed import Span
from workloads.jax_layout import MeshLayout
from workloads.jax_step import Program, TrainState
from workloads.params import JaxWorkload
from workloads.xla_trace import Op, exposed_per_step, opcodes

TWIN_STEPS = 8  # the first of them compiles and is not counted
NUM_PROFILED_STEPS = 3
MOST_SLOWED = 2.0  # by the profiler
_STEP = "windtunnel step"


class Trained(NamedTuple):
    """What the steps left behind: the last state and tokens, and how long each measured step was
    busy, less its wait for data."""

    state: TrainState
    tokens: Array
    busy_s: list[float]


def communication(
    params: JaxWorkload,
    rank: TrainRank,
    layout: MeshLayout,
    program: Program,
    compiled: Any,
    done: Trained,
) -> dict[str, Any]:
    """``comm_s_per_step`` with its method, or why it is not known. Consumes ``done.state``."""
    if layout.num_devices == 1:
        return {"comm_s_per_step": 0.0, "comm_method": "one device: there is nobody to talk to"}
    if params.communication == "none":
        return {"comm_s_per_step": 0.0, "comm_method": "each device trains by itself, as asked"}
    if layout.whole_model:
        return _by_twin(rank, program, done)
    return _by_profiler(compiled, done)


def is_out_of_memory(error: Exception) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error)


def _by_twin(rank: TrainRank, program: Program, done: Trained) -> dict[str, Any]:
    state, twin_s = done.state, []
    try:
        for _ in range(TWIN_STEPS):
            start_s = rank.now_s()
            state, _ = jax.block_until_ready(program.twin(state, done.tokens))
            twin_s.append(rank.now_s() - start_s)
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {"comm_method": "not known: the twin without communication ran out of memory"}
    step_s, compute_s = statistics.median(done.busy_s), statistics.median(twin_s[1:])
    if compute_s >= step_s:
        return {
            "compute_only_step_s": compute_s,
            "comm_method": f"not known: a step's median is {step_s:.4g} s, and that of its twin "
            f"without communication {compute_s:.4g} s: it is less than can be told apart here",
        }
    return {
        "comm_s_per_step": step_s - compute_s,
        "compute_only_step_s": compute_s,
        "comm_method": "compute-only twin: the rank's median step less its wait for data, less the "
        f"median of {len(twin_s) - 1} steps that compute the same on the same devices at the same "
        "time and send nothing; one value for all steps of a rank",
    }


def _by_profiler(compiled: Any, done: Trained) -> dict[str, Any]:
    state = done.state

    def step() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(compiled(state, done.tokens))

    traced = trace_steps(step)
    if not traced.steps:
        return {"comm_method": "not known: jax.profiler wrote no trace"}
    step_s, busy_s = traced.mean_step_s, statistics.median(done.busy_s)
    if step_s > MOST_SLOWED * busy_s:
        return {
            "profiled_step_s": step_s,
            "comm_method": f"not known: a step's median is {busy_s:.4g} s, and under the profiler "
            f"it took {step_s:.4g} s: that is another step than was measured",
        }
    found = exposed_per_step(traced.ops, traced.steps, opcodes(compiled.as_text()))
    if isinstance(found, str):
        return {"profiled_step_s": step_s, "comm_method": f"not known: {found}"}
    # A profiled step is never as long as a measured one: what carries over is its share.
    return {
        "comm_s_per_step": found / step_s * busy_s,
        "profiled_step_s": step_s,
        "comm_method": f"share of {NUM_PROFILED_STEPS} further steps under jax.profiler, mean of "
        "the rank's devices, times the rank's median step less its wait for data; the same for "
        "every step of a rank: time in which a collective was under way and nothing was computed, "
        "waits for slower ranks included",
    }


class Traced(NamedTuple):
    """``steps``: when each was under way, on the clock of ``ops``."""

    ops: list[Op]
    steps: list[Span]

    @property
    def mean_step_s(self) -> float:
        return statistics.fmean(step.end_s - step.start_s for step in self.steps)


def trace_steps(step: Callable[[], None]) -> Traced:
    """What ``NUM_PROFILED_STEPS`` calls of ``step`` did on the devices. One call more comes first:
    in it the ranks wait until all of them are traced, and that is not the step's."""
    options = ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory(prefix="windtunnel-trace-") as folder:
        jax.profiler.start_trace(folder, profiler_options=options)
        try:
            step()
            for _ in range(NUM_PROFILED_STEPS):
                with jax.profiler.TraceAnnotation(_STEP):
                    step()
        finally:
            jax.profiler.stop_trace()
        files = [str(path) for path in Path(folder).rglob("*.xplane.pb")]
        profiles = [ProfileData.from_file(file) for file in files]
    events = [
        (plane.name, event)
        for profile in profiles
        for plane in profile.planes
        for event in _events(plane)
    ]
    return Traced(
        [op for plane, event in events if (op := _op(plane, event)) is not None],
        sorted(_span(event) for _, event in events if event.name == _STEP),
    )


def _events(plane: Any) -> Iterator[Any]:
    for line in plane.lines:
        yield from line.events


def _op(plane: str, event: Any) -> Op | None:
    """Of XLA's own operations: on a CPU they are on the threads of all devices together, of others
    each device has a plane."""
    told = dict(event.stats)
    if "hlo_op" not in told:
        return None
    device = plane if plane.startswith("/device:") else f"device {told.get('device_ordinal', 0)}"
    return Op(device, str(told["hlo_op"]), _span(event))


def _span(event: Any) -> Span:
    return Span(event.start_ns / 1e9, (event.start_ns + event.duration_ns) / 1e9)
