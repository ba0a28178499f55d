"""One optimizer step as one compiled program, and its twin without communication. Imports JAX.

XLA puts in the collectives that the layout needs and overlaps them with the computing; the update
is in the same program. So neither can be timed from outside: how long the optimizer takes is not
known, and the communication is what a twin that computes the same and sends nothing does without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from workloads import init_weights, jax_model
from workloads.jax_layout import MeshLayout
from workloads.params import JaxWorkload
from workloads.torch_shape import ModelShape, shape_of

AXES = ("data", "fsdp", "tensor")
SPLIT = ("data", "fsdp")  # the axes that split the tokens
TOKENS = PartitionSpec(None, SPLIT)  # (G, B, T + 1): the micro-batches come one after the other


class TrainState(NamedTuple):
    """Everything that a step changes, and that a checkpoint holds."""

    params: jax_model.Params
    optimizer: Any  # a tree of optax


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """``step`` and ``twin`` are jitted, take a state (and consume it) and tokens (G, B, T + 1), and
    return the new state and the mean loss: of the whole mesh, or of the twin each device's own."""

    mesh: Mesh
    shardings: TrainState
    optimizer: optax.GradientTransformation
    step: Any
    twin: Any

    @property
    def tokens(self) -> NamedSharding:
        return NamedSharding(self.mesh, TOKENS)


def make_mesh(layout: MeshLayout) -> Mesh:
    """On TPUs as their interconnect has it, slices apart; elsewhere in the order of the ranks."""
    devices = jax.devices()
    size = (layout.data, layout.fsdp, layout.tensor)
    if devices[0].platform != "tpu":
        ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
        grid = np.array(ordered).reshape(size)
    elif layout.num_slices > 1:
        within = (layout.data // layout.num_slices, layout.fsdp, layout.tensor)
        grid = mesh_utils.create_hybrid_device_mesh(
            within, (layout.num_slices, 1, 1), devices=devices
        )
    else:
        grid = mesh_utils.create_device_mesh(size, devices=devices)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 3)


def make_optimizer(learning_rate: float) -> optax.GradientTransformation:
    """As the torch workload's: decoupled decay of every parameter, scaled by the learning rate."""
    return optax.adamw(learning_rate, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.1)


def make_program(params: JaxWorkload, layout: MeshLayout) -> Program:
    mesh = make_mesh(layout)
    shape = shape_of(params.preset)
    optimizer = make_optimizer(params.learning_rate)

    shardings = _state_shardings(shape, optimizer, mesh)
    whole = NamedSharding(mesh, PartitionSpec())
    stream_lies = NamedSharding(mesh, PartitionSpec(SPLIT))

    def pin(x: Array) -> Array:
        pinned: Array = jax.lax.with_sharding_constraint(x, stream_lies)
        return pinned

    step = _step(params, shape, optimizer, pin)
    twin = _twin(_step(params, shape, optimizer, lambda x: x), mesh)
    if params.communication == "none":
        return Program(mesh=mesh, shardings=shardings, optimizer=optimizer, step=twin, twin=twin)
    return Program(
        mesh=mesh,
        shardings=shardings,
        optimizer=optimizer,
        step=jax.jit(
            step,
            in_shardings=(shardings, NamedSharding(mesh, TOKENS)),
            out_shardings=(shardings, whole),
            donate_argnums=0,
        ),
        twin=twin,
    )


def _state_shardings(
    shape: ModelShape, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The optimizer's moments lie as their parameters do; its count is everywhere."""
    sizes = init_weights.array_shapes(shape)
    like = jax.tree.map(
        lambda size: jax.ShapeDtypeStruct(size, jnp.float32),
        sizes,
        is_leaf=lambda node: isinstance(node, tuple),
    )
    by_parameter = jax.tree.map(lambda spec: NamedSharding(mesh, spec), jax_model.partition())
    lies = optax.tree.map_params(
        optimizer,
        lambda _, sharding: sharding,
        jax.eval_shape(optimizer.init, like),
        by_parameter,
        transform_non_params=lambda _: NamedSharding(mesh, PartitionSpec()),
    )
    return TrainState(by_parameter, lies)


def first_state(program: Program, shape: ModelShape, seed: int) -> TrainState:
    """Weights from the seed, on the mesh; each process makes the parts that its devices hold."""

    def put(path: Any, sharding: NamedSharding) -> Array:
        size = sizes
        for key in path:
            size = size[key.key]
        whole = init_weights.first_weights(shape, seed, path[-1].key, size)
        return jax.make_array_from_callback(size, sharding, lambda index: whole[index])

    sizes: Any = init_weights.array_shapes(shape)
    weights = jax.tree_util.tree_map_with_path(put, program.shardings.params)
    start = jax.jit(program.optimizer.init, out_shardings=program.shardings.optimizer)
    state: TrainState = jax.block_until_ready(TrainState(weights, start(weights)))
    return state


def _step(
    params: JaxWorkload,
    shape: ModelShape,
    optimizer: optax.GradientTransformation,
    pin: Callable[[Array], Array],
) -> Callable[[TrainState, Array], tuple[TrainState, Array]]:
    forward = partial(
        jax_model.forward,
        shape=shape,
        compute=jnp.bfloat16 if params.precision == "bfloat16" else jnp.float32,
        recompute=params.activation_checkpointing,
        pin=pin,
    )

    def loss_of(weights: jax_model.Params, tokens: Array) -> Array:
        logits = forward(weights, tokens[:, :-1])
        return jax_model.next_token_loss(logits, tokens[:, 1:])

    def loss_and_gradients(weights: jax_model.Params, tokens: Array) -> tuple[Array, Any]:
        """Means over the micro-batches; tokens: (G, B, T + 1)."""
        if tokens.shape[0] == 1:
            return jax.value_and_grad(loss_of)(weights, tokens[0])
        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, weights))

        def add(sums: tuple[Array, Any], batch: Array) -> tuple[tuple[Array, Any], None]:
            return jax.tree.map(jnp.add, sums, jax.value_and_grad(loss_of)(weights, batch)), None

        sums, _ = jax.lax.scan(add, zero, tokens)
        means: tuple[Array, Any] = jax.tree.map(lambda x: x / tokens.shape[0], sums)
        return means

    def step(state: TrainState, tokens: Array) -> tuple[TrainState, Array]:
        loss, gradients = loss_and_gradients(state.params, tokens)
        changes, moments = optimizer.update(gradients, state.optimizer, state.params)
        return TrainState(optax.apply_updates(state.params, changes), moments), loss

    return step


def _twin(step: Callable[[TrainState, Array], tuple[TrainState, Array]], mesh: Mesh) -> Any:
    """Each device trains on its own tokens, and tells nobody. Its copies of the model drift apart,
    which is no harm to its timing: the work is the same, the numbers are thrown away."""

    def alone(state: TrainState, tokens: Array) -> tuple[TrainState, Array]:
        state, loss = step(state, tokens)
        return state, loss[None]

    whole = PartitionSpec()
    return jax.jit(
        jax.shard_map(
            alone,
            mesh=mesh,
            in_specs=(whole, TOKENS),
            out_specs=(whole, PartitionSpec(SPLIT)),
            check_vma=False,
        ),
        donate_argnums=0,
    )
