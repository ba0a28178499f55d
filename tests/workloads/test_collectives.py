"""What collectives are given and must make of it, and on what they are launched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from results.collectives import COLLECTIVES
from results.samples import StepSamples
from workloads.base import Device
from workloads.collective_truth import GIVES_ALL, expected, given
from workloads.collectives import MOVERS, Collectives, samples_of, visits, whole_elements
from workloads.errors import LaunchRefused
from workloads.params import CollectivesWorkload

CPU = Device(kind="cpu", accelerator="cpu", num_chips=0)
GPUS = Device(kind="gpu", accelerator="H100", num_chips=2)
SLICE = Device(kind="tpu", accelerator="TPU-V6E", num_chips=8, num_nodes=2, topology="2x4")
TWO = CollectivesWorkload()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("collective", COLLECTIVES)
def test_what_must_come_of_it(collective: str, n: int) -> None:
    """Against the definitions, with numpy, over what all ranks give."""
    count = 5 * n
    gives = [given(collective, count, n, rank) for rank in range(n)]
    assert {len(one) for one in gives} == {count if collective in GIVES_ALL else 5}
    whole = np.stack(gives)
    by_definition: dict[str, Any] = {
        "all_reduce": lambda rank: whole.sum(axis=0),
        "reduce_scatter": lambda rank: whole.sum(axis=0).reshape(n, 5)[rank],
        "all_gather": lambda rank: whole.ravel(),
        "all_to_all": lambda rank: whole.reshape(n, n, 5)[:, rank].ravel(),
        "broadcast": lambda rank: whole[0],
    }
    for rank in range(n):
        assert (
            expected(collective, count, n, rank).tolist()
            == by_definition[collective](rank).tolist()
        )
    if n > 1 and collective != "all_to_all":
        assert len({one.tobytes() for one in gives}) == min(n, 3)  # a wrong rank is seen


def test_each_kind_of_device_has_its_backend() -> None:
    launches = {kind.kind: Collectives(TWO).launch(kind, "") for kind in (CPU, GPUS, SLICE)}
    assert {kind: launch.backend for kind, launch in launches.items()} == {
        "cpu": "gloo",
        "gpu": "nccl",
        "tpu": "xla",
    }
    assert {launch.backend for launch in launches.values()} == set(MOVERS)
    tpu = launches["tpu"]
    assert (tpu.chip, tpu.chips_per_worker, tpu.config["num_local_devices"]) == ("TPU", 4, 4)


def test_xla_runs_on_all_of_them() -> None:
    asked = Collectives(replace(TWO, backend="xla"))
    assert asked.launch(CPU, "").config["num_local_devices"] == 1
    assert asked.launch(GPUS, "").chips_per_worker == 1
    pretended = asked.launch(replace(SLICE, kind="cpu"), "")
    assert (pretended.chips_per_worker, pretended.config["num_local_devices"]) == (0, 4)


@pytest.mark.parametrize(
    ("change", "device", "says"),
    [
        (
            {"backend": "nccl"},
            CPU,
            "backend is nccl, which runs on gpu; the plan gives .* gloo runs",
        ),
        ({"backend": "gloo"}, GPUS, "backend is gloo, which runs on cpu; .* nccl runs there"),
        ({"backend": "gloo"}, SLICE, "2 x|8 x TPU-V6E .tpu.: xla runs there"),
        ({"backend": "xla", "collectives": ("broadcast",)}, CPU, "XLA has none on every kind"),
        ({"backend": "xla", "dtype": "bfloat16"}, CPU, "as float32, twice the bytes"),
        ({"num_workers": 3}, SLICE, "num_workers is 3, the plan gives 8 x TPU-V6E"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], device: Device, says: str) -> None:
    with pytest.raises(LaunchRefused, match=says):
        Collectives(replace(TWO, **change)).launch(device, "")


def test_a_rank_is_a_device_and_not_a_process() -> None:
    """Two processes of four devices each: sizes are those that eight ranks can share."""
    params = replace(TWO, sizes_bytes=(100,), collectives=("all_reduce",), num_rounds=1)
    assert whole_elements(100, "float32", 8) == 96
    (visit,) = visits(params, 8)
    assert visit.size_bytes == 96
    zeros = np.zeros(2)
    steps = StepSamples(
        step=np.zeros(2, dtype=np.int64),
        rank=np.arange(2),
        start_s=zeros,
        duration_s=zeros + 0.5,
        data_wait_s=zeros,
        num_tokens=np.full(2, 8),
        loss=np.array([0.0, -1.0]),
        memory_bytes=np.full(2, -1),
        is_warmup=np.zeros(2, dtype=np.bool_),
    )
    found = samples_of(steps, params)
    assert found.num_ranks.tolist() == [8, 8]
    assert found.size_bytes.tolist() == [96, 96]
    assert found.num_wrong.tolist() == [0, -1]
