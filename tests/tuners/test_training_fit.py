"""The memory of a training: closed forms, and what autograd really saves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.spec import Hardware, RunSpec
from tuners.predict import refusal
from tuners.serving import GIB, most_memory_bytes
from tuners.training_fit import jax_fit, torch_fit
from workloads.jax_layout import MeshLayout
from workloads.params import JaxWorkload, TorchWorkload
from workloads.simulated.accelerators import ACCELERATORS
from workloads.torch_shape import PRESETS

EIGHT = TorchWorkload(
    preset="8b",
    num_workers=8,
    micro_batch_size=1,
    sequence_length=2048,
    precision="bfloat16",
    activation_checkpointing="full",
)


def test_states_are_16_bytes_a_parameter_and_fsdp_shares_them_out() -> None:
    """ZeRO (Rajbhandari et al., 2020): 16 bytes a parameter with Adam, divided by the ranks."""
    whole = torch_fit(EIGHT, 80 * GIB)
    states = whole.weight_bytes + whole.optimizer_bytes + whole.gradient_bytes
    assert states == 16 * PRESETS["8b"].num_parameters
    shared = torch_fit(replace(EIGHT, strategy="fsdp2"), 80 * GIB)
    assert shared.weight_bytes == whole.weight_bytes / 8
    assert not whole.fits
    assert shared.fits


def test_tensor_parallel_ranks_have_the_embedding_and_the_norms_whole() -> None:
    shape = PRESETS["8b"]
    fit = torch_fit(replace(EIGHT, tensor_parallel_size=8), 80 * GIB)
    whole = shape.vocab_size * shape.dim + (2 * shape.num_layers + 1) * shape.dim
    assert fit.weight_bytes == 4 * (whole + (shape.num_parameters - whole) / 8)


def test_more_is_never_less() -> None:
    fit = torch_fit(EIGHT, 80 * GIB)
    for change in (
        {"micro_batch_size": 2},
        {"activation_checkpointing": "selective"},
        {"precision": "float32"},
    ):
        assert torch_fit(replace(EIGHT, **change), 80 * GIB).least_bytes > fit.least_bytes  # type: ignore[arg-type]
    order = [
        torch_fit(replace(EIGHT, activation_checkpointing=kept), GIB).activation_bytes  # type: ignore[arg-type]
        for kept in ("full", "selective", "none")
    ]
    assert order == sorted(order)


def spec(workload: TorchWorkload | JaxWorkload, *chips: str) -> RunSpec:
    return RunSpec(
        name="t",
        workload=workload,
        hardware=tuple(Hardware(accelerator=c, num_chips=8) for c in chips),
    )


def test_a_run_is_refused_only_where_no_ask_can_hold_it() -> None:
    assert "optimizer 59.8" in refusal(spec(EIGHT, "H100"))
    assert refusal(spec(replace(EIGHT, strategy="fsdp2"), "H100")) == ""
    assert refusal(spec(EIGHT, "H100", "B200")) == ""  # 120 GiB of states on 180 GB
    assert refusal(spec(EIGHT, "H100", "Gaudi3")) == ""  # nobody knows its memory
    assert refusal(spec(EIGHT, "cpu")) == ""


def test_a_chip_may_have_all_that_its_driver_says() -> None:
    """79.18 GiB, as llm-d-planner read on an H100 "80 GB"; 95.74 on a TPU v5p "95 GB"."""
    assert most_memory_bytes(ACCELERATORS["H100"]) >= 79.18 * GIB
    assert most_memory_bytes(ACCELERATORS["TPU-V5P"]) >= 95.74 * GIB


def test_a_mesh_shares_the_states_out() -> None:
    params = JaxWorkload(preset="8b", micro_batch_size=8, sequence_length=2048, num_workers=4)
    mesh = MeshLayout(data=1, fsdp=8, tensor=2, num_local=4)
    fit = jax_fit(params, mesh, 32 * GIB)
    assert fit.weight_bytes + fit.optimizer_bytes == 12 * PRESETS["8b"].num_parameters / 16
    alone = replace(mesh, fsdp=1, data=8, tensor=2)
    assert jax_fit(params, alone, 32 * GIB).weight_bytes == 8 * fit.weight_bytes
    ask = spec(replace(params, num_workers=1), "TPU-V6E")
    assert "a rank needs at least" in refusal(ask)  # a whole copy on each of eight chips


@pytest.mark.torch
@pytest.mark.parametrize("kept", ["none", "selective", "full"])
def test_activations_are_those_that_autograd_saves(kept: str) -> None:
    """Storages packed for the backward pass, less parameters and logits: never fewer bytes than
    counted, and the count is most of them where nothing is computed again."""
    import torch

    from workloads.torch_model import Transformer
    from workloads.torch_step import next_token_loss

    params = TorchWorkload(
        num_workers=1,
        micro_batch_size=2,
        sequence_length=64,
        activation_checkpointing=kept,  # type: ignore[arg-type]
    )
    shape = PRESETS["tiny"]
    model = Transformer(shape, 64, kept)  # type: ignore[arg-type]
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}
    held = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            held.append(storage)  # so that no address is used twice
        return tensor

    tokens = torch.zeros((2, 65), dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        next_token_loss(model(tokens[:, :-1]), tokens[:, 1:])
    fit = torch_fit(params, GIB)
    soft = 4 * 2 * 64 * shape.vocab_size  # the log-softmax, which the logits' count has
    saved = sum(seen.values()) - soft
    if kept == "selective":  # what its policy keeps is held by its own cache, not by autograd
        return
    assert fit.activation_bytes <= saved
    assert fit.activation_bytes >= 0.7 * saved
