"""The jax workload's launch and its layout on a mesh: what is known without JAX."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.base import Device, Running
from workloads.errors import LaunchRefused, UnknownPreset
from workloads.init_weights import array_shapes, first_weights
from workloads.jax_layout import layout_of
from workloads.jax_train import JaxTraining, params_of
from workloads.params import JaxWorkload, TokenFiles
from workloads.torch_shape import PRESETS

CPU = Device(kind="cpu", accelerator="cpu", num_chips=0)
SLICE = Device(kind="tpu", accelerator="TPU-V6E", num_chips=16, num_nodes=4, topology="4x4")
GPUS = Device(kind="gpu", accelerator="H100", num_chips=4)
FOUR = JaxWorkload(num_workers=4, micro_batch_size=4)


def test_the_launch_on_cpus() -> None:
    launch = JaxTraining(JaxWorkload(cpus_per_worker=1.5, threads_per_worker=3)).launch(CPU, "")
    assert (launch.num_workers, launch.cpus_per_worker, launch.backend) == (2, 1.5, "xla")
    assert (launch.chip, launch.chips_per_worker) == ("", 0)
    assert launch.env == {"PJRT_NPROC": "3"}
    assert JaxWorkload(**launch.config["params"]).threads_per_worker == 3
    assert launch.config["num_local_devices"] == 1


def test_token_files_reach_the_ranks() -> None:
    params = replace(FOUR, data=TokenFiles(path="tokens", kind="arrow"))
    config = JaxTraining(params).launch(CPU, "").config
    assert params_of(json.loads(json.dumps(config["params"]))) == params


def test_one_workload_on_gpus_on_a_slice_and_on_a_pretended_slice() -> None:
    gpus, tpus = JaxTraining(FOUR).launch(GPUS, ""), JaxTraining(FOUR).launch(SLICE, "")
    assert (gpus.chip, gpus.chips_per_worker, gpus.config["num_local_devices"]) == ("GPU", 1, 1)
    assert (tpus.chip, tpus.chips_per_worker, tpus.config["num_local_devices"]) == ("TPU", 4, 4)
    assert gpus.config["params"] == tpus.config["params"]
    pretended = JaxTraining(FOUR).launch(replace(SLICE, kind="cpu"), "")
    assert (pretended.chip, pretended.chips_per_worker) == ("", 0)  # none is really there
    assert pretended.config == tpus.config | {"device": "cpu"}


def test_slices_reach_the_launch() -> None:
    two = replace(SLICE, num_chips=32, num_nodes=8, num_slices=2)
    launch = JaxTraining(replace(FOUR, num_workers=8)).launch(two, "")
    assert (launch.num_slices, launch.config["num_slices"]) == (2, 2)


@pytest.mark.parametrize(
    ("strategy", "tensor", "num_slices", "sides"),
    [
        ("ddp", 1, 1, (16, 1, 1)),
        ("ddp", 2, 1, (8, 1, 2)),
        ("ddp", 1, 2, (16, 1, 1)),
        ("fsdp2", 1, 1, (1, 16, 1)),
        ("fsdp2", 2, 1, (1, 8, 2)),
        ("fsdp2", 2, 2, (2, 4, 2)),  # parameters are gathered within a slice, never between two
    ],
)
def test_axes(strategy: Any, tensor: int, num_slices: int, sides: tuple[int, ...]) -> None:
    params = replace(FOUR, strategy=strategy, tensor_parallel_size=tensor)
    layout = layout_of(params, 4, num_slices)
    assert (layout.data, layout.fsdp, layout.tensor) == sides
    assert layout.num_devices == 16


@pytest.mark.parametrize(
    ("num_local", "tensor", "num_feeds", "shards_per_feed"),
    [
        (1, 1, 4, 1),  # as the torch workload: one device per worker, a batch each
        (4, 1, 4, 4),
        (4, 4, 4, 1),
        (1, 2, 2, 1),  # two workers share each matrix, and so the tokens
        (2, 4, 2, 1),
    ],
)
def test_feeds(num_local: int, tensor: int, num_feeds: int, shards_per_feed: int) -> None:
    layout = layout_of(replace(FOUR, tensor_parallel_size=tensor), num_local, 1)
    assert (layout.num_feeds, layout.shards_per_feed) == (num_feeds, shards_per_feed)


@pytest.mark.parametrize(
    ("change", "device", "says"),
    [
        ({"num_workers": 0}, CPU, "workload.num_workers: found 0; accepted: at least 1"),
        ({"cpu_devices_per_worker": 0}, CPU, "workload.cpu_devices_per_worker: found 0"),
        ({"gradient_accumulation_steps": 0}, CPU, "gradient_accumulation_steps: found 0"),
        (
            {"num_steps": 3, "num_warmup_steps": 3},
            CPU,
            "num_warmup_steps: found 3; accepted: less",
        ),
        ({"global_batch_size": 8}, CPU, "is 8; 4 batches × micro_batch_size 4 × .* are 16 seq"),
        ({"communication": "none", "strategy": "fsdp2"}, CPU, "needs the whole model on each"),
        ({"num_workers": 3}, GPUS, "num_workers is 3, the plan gives 4 x H100"),
        (
            {"micro_batch_size": 6},
            SLICE,
            r"micro_batch_size is 6, .* into 4 data shards \(mesh of 16",
        ),
        ({"tensor_parallel_size": 4}, CPU, "num_kv_heads of the preset is 2, .* into 4 tensor"),
        ({"tensor_parallel_size": 3}, SLICE, "is 3, which does not divide the 16 devices there"),
        ({"num_workers": 3, "strategy": "fsdp2"}, CPU, "dim of the preset is 128, .* into 3 fsdp"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], device: Device, says: str) -> None:
    with pytest.raises(LaunchRefused, match=says):
        JaxTraining(replace(FOUR, **change)).launch(device, "")


def test_tensor_parts_and_devices_of_a_worker_must_fit() -> None:
    params = JaxWorkload(num_workers=6, tensor_parallel_size=6)
    with pytest.raises(LaunchRefused, match="is 6 and each worker has 4 devices: one of the two"):
        layout_of(params, 4, 1)


def test_an_unknown_preset_and_a_server() -> None:
    with pytest.raises(UnknownPreset, match="did you mean 'small'"):
        JaxTraining(JaxWorkload(preset="smal")).launch(CPU, "")
    with pytest.raises(LaunchRefused, match="server"):
        JaxTraining(JaxWorkload()).drive(Running(), None, lambda *_: None)


def test_the_driver_never_imports_jax() -> None:
    code = (
        "import sys\n"
        "from workloads.params import JaxWorkload\n"
        "from workloads.registry import workload_for\n"
        "from workloads.base import Device\n"
        "device = Device(kind='cpu', accelerator='cpu', num_chips=0)\n"
        "workload_for(JaxWorkload()).launch(device, '')\n"
        "print([m for m in ('jax', 'optax', 'torch', 'ray') if m in sys.modules])\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


# ---- the first weights ----


def flat(tree: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name, size in tree.items():
        found |= flat(size) if isinstance(size, dict) else {name: size}
    return found


@pytest.mark.parametrize("preset", PRESETS)
def test_the_arrays_have_all_parameters(preset: str) -> None:
    shape = PRESETS[preset]
    sizes = flat(array_shapes(shape)).values()
    assert sum(int(np.prod(size)) for size in sizes) == shape.num_parameters


def test_the_first_weights_follow_the_rule() -> None:
    """Deviations and means within five standard errors of what the rule says."""
    shape = PRESETS["tiny"]
    seen = {n: first_weights(shape, 0, n, size) for n, size in flat(array_shapes(shape)).items()}
    for name, drawn in seen.items():
        assert drawn.dtype == np.float32
        if "norm" in name:
            assert (drawn == 1).all()
            continue
        rule = 0.02 / np.sqrt(8) if name in ("out", "down") else 0.02
        assert abs(drawn.mean()) < 5 * rule / np.sqrt(drawn.size)
        assert abs(drawn.std() / rule - 1) < 5 / np.sqrt(2 * drawn.size)
    same = first_weights(shape, 0, "up", (4, 128, 352))
    assert (same == seen["up"]).all()
    assert (first_weights(shape, 1, "up", (4, 128, 352)) != same).any()
    assert not np.allclose(seen["up"], seen["gate"])
