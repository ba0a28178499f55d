"""Spec and inventory in, plan out; or a refusal with both numbers."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from harness.errors import PlanRefused, SpecError
from harness.fitting import num_chips
from harness.model_identity import model_identity
from harness.plan import Bundle, RunPlan, make_plan, plan_to_mapping, tuning_of, workload_hash
from harness.plan_view import describe_plan, priced
from harness.pools import Capacity, Inventory, NodePool
from harness.spec import Deadlines, Hardware, RunSpec
from results.prices import PriceTable
from workloads.base import Device
from workloads.params import (
    EndpointWorkload,
    JaxWorkload,
    MadeModel,
    TokenFiles,
    TorchWorkload,
    VllmWorkload,
)
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    PoissonArrivals,
    Traffic,
)

GIB = 1 << 30
TRAFFIC = Traffic(arrivals=PoissonArrivals(rate_rps=10.0), duration_s=100.0)


def pool(name: str, accelerator: str = "cpu", **fields: Any) -> NodePool:
    base: dict[str, Any] = {
        "num_nodes": 1,
        "chips_per_node": 0,
        "cpus_per_node": 16.0,
        "memory_bytes_per_node": 64 * GIB,
    }
    return NodePool(name=name, accelerator=accelerator, **(base | fields))


def serve(*asks: Hardware, tp: int = 1, **fields: Any) -> RunSpec:
    workload = VllmWorkload(model="org/model", tensor_parallel_size=tp)
    base: dict[str, Any] = {"workload": workload, "traffic": TRAFFIC, "num_repeats": 2}
    return RunSpec(name="serve", hardware=asks or (Hardware(),), **(base | fields))


def train(*asks: Hardware, **fields: Any) -> RunSpec:
    workload = TorchWorkload(**fields)
    return RunSpec(name="train", workload=workload, hardware=asks or (Hardware(),), num_repeats=2)


def plan(spec: RunSpec, *pools: NodePool) -> RunPlan:
    return make_plan(spec, Inventory(pools=pools))


def refused(spec: RunSpec, *pools: NodePool) -> list[str]:
    with pytest.raises(PlanRefused) as caught:
        plan(spec, *pools)
    return str(caught.value).splitlines()


# ---- serving ----


def test_a_server_is_one_bundle_on_one_node() -> None:
    ask = Hardware(accelerator="h100", num_chips=4, cpus=8, memory_gib=2, max_wait_s=7)
    made = plan(serve(ask, tp=4), pool("a", "H100", num_nodes=3, chips_per_node=8))
    (rung,) = made.rungs
    assert rung.bundles == (Bundle(cpus=8, chips=4, memory_bytes=2 * GIB),)
    assert rung.strategy == "STRICT_PACK"
    assert rung.max_wait_s == 7
    assert rung.device == Device(kind="gpu", accelerator="H100", num_chips=4, num_nodes=1)
    assert made.measuring_s == 100.0


def test_chips_that_are_not_counted_follow_from_the_parallelism() -> None:
    made = plan(serve(Hardware(accelerator="L4"), tp=2), pool("a", "L4", chips_per_node=2))
    assert made.rungs[0].device.num_chips == 2


def test_nodes_are_not_added_up_for_one_server() -> None:
    ask = Hardware(accelerator="H100", num_chips=8)
    lines = refused(
        serve(ask, tp=8),
        pool("a", "L4", num_nodes=1, chips_per_node=4, capacity=Capacity.SPOT),
        pool("b", "TPU-V6E", num_nodes=8, chips_per_node=4, topology="4x4", nodes_per_slice=4),
        pool("c", "H100", num_nodes=4, chips_per_node=4),
    )
    assert lines[0] == (
        "spec serve asks 8 x H100; pools have 4 x L4 in pool a [spot], "
        "32 x TPU-V6E (4x4) in pool b [on-demand], 16 x H100 in pool c [on-demand]"
    )
    assert lines[1:4] == [
        "  pool a: has L4, not H100",
        "  pool b: has TPU-V6E, not H100",
        "  pool c: has 4 chips per node; the server needs 8 on one node",
    ]
    assert lines[-1].startswith("Ask for what a pool has")


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (Hardware(cpus=17), "has 16 CPUs per node; the server needs 17"),
        (Hardware(memory_gib=65), "has 64.0 GiB of memory per node; the server needs 65.0 GiB"),
        (Hardware(capacity=(Capacity.SPOT,)), "is on-demand, not spot"),
        (
            Hardware(capacity=(Capacity.SPOT, Capacity.RESERVATION)),
            "is on-demand, not spot or reservation",
        ),
        (Hardware(pools=("b",)), "is not among the pools asked for (b)"),
        (Hardware(accelerator="L4"), "has cpu, not L4"),
    ],
)
def test_reasons_have_both_numbers(ask: Hardware, expected: str) -> None:
    assert f"  pool a: {expected}" in refused(serve(ask), pool("a"))


def test_refusals_name_what_was_nearly_right() -> None:
    lines = refused(serve(Hardware(accelerator="H10")), pool("gpus", "H100", chips_per_node=8))
    assert "  H10; did you mean H100?" in lines
    lines = refused(serve(Hardware(pools=("gpsu",))), pool("gpus"))
    assert "  pool gpsu: there is none of that name; did you mean gpus?" in lines


def test_a_refusal_without_pools_and_one_of_several_asks() -> None:
    assert refused(serve()) == ["spec serve asks 1 CPU; there are no pools at all"]
    lines = refused(
        serve(Hardware(accelerator="L4", num_chips=2), Hardware(accelerator="H100", num_chips=1)),
        pool("a"),
    )
    assert lines[0].startswith("spec serve asks 2 x L4, or 1 x H100; pools have 16 CPUs in pool a")
    assert lines[1] == "  hardware.0, pool a: has cpu, not L4"
    assert lines[2] == "  hardware.1, pool a: has cpu, not H100"


def test_rungs_go_by_ask_then_capacity_then_pool() -> None:
    h100 = Hardware(accelerator="H100", num_chips=1, capacity=(Capacity.SPOT, Capacity.RESERVATION))
    any_l4 = Hardware(accelerator="L4", num_chips=1)
    one = {"chips_per_node": 1}
    made = plan(
        serve(h100, any_l4),
        pool("l4-flex", "L4", capacity=Capacity.FLEX_START, **one),
        pool("l4-spot", "L4", capacity=Capacity.SPOT, **one),
        pool("l4-demand", "L4", **one),
        pool("l4-reserved", "L4", capacity=Capacity.RESERVATION, **one),
        pool("h-reserved", "H100", capacity=Capacity.RESERVATION, **one),
        pool("h-demand", "H100", **one),
        pool("h-spot-2", "H100", capacity=Capacity.SPOT, **one),
        pool("h-spot-1", "H100", capacity=Capacity.SPOT, **one),
    )
    assert [(r.pool.name, r.capacity) for r in made.rungs] == [
        ("h-spot-2", Capacity.SPOT),
        ("h-spot-1", Capacity.SPOT),
        ("h-reserved", Capacity.RESERVATION),
        ("l4-reserved", Capacity.RESERVATION),
        ("l4-demand", Capacity.ON_DEMAND),
        ("l4-spot", Capacity.SPOT),
        ("l4-flex", Capacity.FLEX_START),
    ]


def test_named_pools_are_tried_in_the_order_they_are_named() -> None:
    made = plan(serve(Hardware(pools=("c", "a"))), pool("a"), pool("b"), pool("c"))
    assert [rung.pool.name for rung in made.rungs] == ["c", "a"]


def test_cpus_come_from_cpu_pools_unless_there_is_none_or_a_pool_is_named() -> None:
    gpus = pool("g", "H100", chips_per_node=8)
    assert [r.pool.name for r in plan(serve(), gpus, pool("c")).rungs] == ["c"]
    named = plan(serve(Hardware(pools=("g",))), gpus, pool("c"))
    assert [r.pool.name for r in named.rungs] == ["g"]
    only = plan(serve(), gpus)
    assert only.rungs[0].device == Device(kind="cpu", accelerator="cpu", num_chips=0)
    assert any("only the CPUs are asked for" in doubt for doubt in only.doubts)
    too_many = refused(serve(Hardware(cpus=17)), gpus, pool("c"))
    assert "  pool g: has H100; name it in hardware.pools to use its CPUs alone" in too_many


# ---- TPU slices ----

SLICES = pool("t", "TPU-V6E", num_nodes=8, chips_per_node=4, topology="4x4", nodes_per_slice=4)


def test_a_slice_is_taken_whole() -> None:
    ask = Hardware(accelerator="tpu_v6e", topology="4x4", cpus=3)
    (rung,) = plan(serve(ask, tp=16), SLICES).rungs
    assert rung.strategy == "SLICE"
    assert rung.bundles == (Bundle(cpus=3, chips=4),) * 4
    assert rung.device == Device(
        kind="tpu", accelerator="TPU-V6E", num_chips=16, num_nodes=4, topology="4x4"
    )


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (Hardware(accelerator="TPU-V6E", num_chips=8), "has slices of 16 chips (4x4), taken whole"),
        (Hardware(accelerator="TPU-V6E", topology="2x4"), "has the topology 4x4, not 2x4"),
        (
            Hardware(accelerator="TPU-V6E", topology="4x4", cpus=99),
            "has 16 CPUs per node; each host's part needs 99",
        ),
    ],
)
def test_slices_refused(ask: Hardware, expected: str) -> None:
    assert any(f"pool t: {expected}" in line for line in refused(serve(ask), SLICES))


def test_half_a_slice_is_no_slice() -> None:
    broken = replace(SLICES, num_nodes=3)
    lines = refused(serve(Hardware(accelerator="TPU-V6E", topology="4x4")), broken)
    assert "  pool t: has 3 of the 4 hosts of a slice" in lines


def test_one_host_of_chips_needs_no_topology() -> None:
    single = pool("t", "TPU-V6E", chips_per_node=8, topology="2x4")
    (rung,) = plan(serve(Hardware(accelerator="TPU-V6E", num_chips=4), tp=4), single).rungs
    assert (rung.strategy, rung.device.kind, rung.device.num_chips) == ("STRICT_PACK", "tpu", 4)
    (rung,) = plan(serve(Hardware(accelerator="TPU-V6E", topology="2x4"), tp=8), single).rungs
    assert (rung.strategy, len(rung.bundles), rung.device.topology) == ("SLICE", 1, "2x4")


# ---- training and endpoints ----


def test_training_has_a_bundle_per_worker() -> None:
    made = plan(train(num_workers=3, cpus_per_worker=6.0), pool("a", num_nodes=2))
    (rung,) = made.rungs
    assert rung.bundles == (Bundle(cpus=6.0),) * 3
    assert (rung.strategy, rung.device.num_nodes, rung.device.kind) == ("PACK", 2, "cpu")
    assert made.measuring_s is None


def test_training_shares_chips_evenly() -> None:
    ask = Hardware(accelerator="H100", num_chips=16)
    (rung,) = plan(
        train(ask, num_workers=8), pool("a", "H100", num_nodes=2, chips_per_node=8)
    ).rungs
    assert rung.bundles == (Bundle(cpus=1.0, chips=2),) * 8
    assert rung.device == Device(kind="gpu", accelerator="H100", num_chips=16, num_nodes=2)
    ask = Hardware(accelerator="H100")
    (rung,) = plan(train(ask, num_workers=3), pool("a", "H100", chips_per_node=8)).rungs
    assert rung.device.num_chips == 3


def test_chips_of_a_worker_come_from_one_node() -> None:
    """2 nodes × 3 chips are 6, but hold only two workers of 2 chips."""
    ask = Hardware(accelerator="H100", num_chips=6)
    lines = refused(train(ask, num_workers=3), pool("a", "H100", num_nodes=2, chips_per_node=3))
    assert "  pool a: has room for 2 workers (2 nodes × 1); num_workers is 3" in lines
    assert lines[0].startswith("spec train asks 6 x H100; pools have 6 x H100 in pool a")


def test_training_room_counts_cpus_and_memory() -> None:
    spec = train(Hardware(memory_gib=20), num_workers=4, cpus_per_worker=0.1)
    assert "  pool a: has room for 3 workers (1 nodes × 3); num_workers is 4" in refused(
        spec, pool("a")
    )
    ten = train(num_workers=10, cpus_per_worker=0.1)
    assert len(plan(ten, pool("a", cpus_per_node=1.0)).rungs[0].bundles) == 10
    eleven = train(num_workers=11, cpus_per_worker=0.1)
    assert "  pool a: has room for 10 workers (1 nodes × 10); num_workers is 11" in refused(
        eleven, pool("a", cpus_per_node=1.0)
    )


def test_torch_does_not_train_on_real_tpus() -> None:
    spec = train(Hardware(accelerator="TPU-V6E", topology="4x4"), num_workers=4)
    assert any("trains on GPUs or CPUs" in line for line in refused(spec, SLICES))
    (rung,) = plan(spec, replace(SLICES, virtual=True)).rungs
    assert (rung.strategy, len(rung.bundles), rung.device.kind) == ("SLICE", 4, "cpu")
    spec = train(Hardware(accelerator="TPU-V6E", topology="4x4"), num_workers=2)
    lines = refused(spec, replace(SLICES, virtual=True))
    assert "  pool t: has 4 hosts in a slice, one worker each; num_workers is 2" in lines


def jax(*asks: Hardware, **fields: Any) -> RunSpec:
    return RunSpec(name="jax", workload=JaxWorkload(**fields), hardware=asks, num_repeats=2)


def test_one_jax_spec_trains_on_a_gpu_pool_and_on_a_tpu_pool() -> None:
    """Only the pool is another: on one four GPUs, on the other four hosts of four chips."""
    spec = jax(
        Hardware(accelerator="TPU-V6E", topology="4x4"),
        Hardware(accelerator="H100", num_chips=4),
        num_workers=4,
    )
    gpus = pool("g", "H100", num_nodes=2, chips_per_node=2)
    on_gpus, on_tpus = plan(spec, gpus), plan(spec, SLICES)
    assert on_gpus.workload_hash == on_tpus.workload_hash
    assert on_gpus.rungs[0].bundles == (Bundle(cpus=1.0, chips=1),) * 4
    assert on_gpus.rungs[0].device == Device(
        kind="gpu", accelerator="H100", num_chips=4, num_nodes=2
    )
    assert on_tpus.rungs[0].bundles == (Bundle(cpus=1.0, chips=4),) * 4
    assert on_tpus.rungs[0].device == Device(
        kind="tpu", accelerator="TPU-V6E", num_chips=16, num_nodes=4, topology="4x4"
    )
    both = plan(spec, gpus, SLICES)
    assert [rung.pool.name for rung in both.rungs] == ["t", "g"]


def test_several_slices_for_training_alone() -> None:
    two = Hardware(accelerator="TPU-V6E", topology="4x4", num_chips=32)
    (rung,) = plan(jax(two, num_workers=8), SLICES).rungs
    assert (len(rung.bundles), rung.strategy, rung.device.num_slices) == (8, "SLICE", 2)
    assert rung.device.num_chips == 32
    lines = refused(jax(two, num_workers=4), SLICES)
    assert "  pool t: has 8 hosts in 2 slices, one worker each; num_workers is 4" in lines
    lines = refused(jax(replace(two, num_chips=48), num_workers=12), SLICES)
    assert "  pool t: has 8 of the 12 hosts of 3 slices" in lines
    lines = refused(serve(two, tp=32), SLICES)
    assert "  pool t: has slices of 16 chips (4x4), taken whole; 32 are asked for" in lines


def test_an_endpoint_needs_no_pool() -> None:
    spec = RunSpec(name="e", workload=EndpointWorkload(url="http://h", model="m"), traffic=TRAFFIC)
    assert plan(spec).rungs == ()
    assert describe_plan(plan(spec)).duration.startswith("one run of 100 s; nothing is started")


# ---- virtual pools, doubts ----


def test_a_virtual_pool_keeps_its_name_and_runs_on_cpus() -> None:
    virtual = pool("v", "H100", chips_per_node=8, virtual=True)
    made = plan(serve(Hardware(accelerator="H100", num_chips=8), tp=8), virtual)
    assert made.rungs[0].device == Device(kind="cpu", accelerator="H100", num_chips=8)
    assert any("pool v is virtual" in doubt for doubt in made.doubts)


def test_no_doubt_without_reason() -> None:
    made = plan(
        serve(Hardware(accelerator="H100", num_chips=1)), pool("a", "H100", chips_per_node=8)
    )
    assert made.doubts == ()


def doubts(spec: RunSpec, *pools: NodePool, host_cpus: float | None = None) -> str:
    made = make_plan(spec, Inventory(pools=pools), host_cpus=host_cpus)
    return "\n".join(made.doubts)


def test_doubts_about_cpus() -> None:
    four = train(num_workers=4)
    virtual = pool("v", cpus_per_node=4, virtual=True)
    assert "4 CPUs are asked of virtual nodes, and the machine under them has 2" in doubts(
        four, virtual, host_cpus=2
    )
    assert "asked of virtual nodes" not in doubts(four, virtual, host_cpus=4)
    assert "each worker has 3 threads and 2 CPUs" in doubts(
        train(threads_per_worker=3, cpus_per_worker=2.0), pool("a")
    )
    two = pool("a", cpus_per_node=2.0)
    assert "all 2 CPUs of the only node" in doubts(serve(Hardware(cpus=2)), two)
    assert "of the only node" not in doubts(serve(Hardware(cpus=1)), two)
    assert "of the only node" not in doubts(serve(Hardware(cpus=2)), two, pool("b"))


def test_doubts_about_chips() -> None:
    eight = Hardware(accelerator="H100", num_chips=8)
    node = pool("a", "H100", chips_per_node=8)
    assert "8 chips are placed and the engine's parallelism uses 4" in doubts(
        serve(eight, tp=4), node
    )
    spec = serve(eight, tp=4)
    assert isinstance(spec.workload, VllmWorkload)
    both = replace(spec.workload, engine_args={"pipeline_parallel_size": 2})
    assert "parallelism" not in doubts(replace(spec, workload=both), node)
    sliced = serve(Hardware(accelerator="TPU-V6E", topology="4x4"), tp=16)
    assert "the slice spans 4 hosts" in doubts(sliced, SLICES)


@pytest.mark.parametrize(
    ("traffic", "missing"),
    [
        (Traffic(arrivals=PoissonArrivals(rate_rps=10.0), duration_s=100.0), None),
        (Traffic(arrivals=ConstantArrivals(rate_rps=10.0), duration_s=99.0), "p99 (1000)"),
        (Traffic(arrivals=ConstantArrivals(rate_rps=4.0), duration_s=15.0), "p90 (100), p95 (200)"),
        (Traffic(arrivals=ClosedLoop(num_users=2), num_requests=19), "p50 (20), p90"),
        (Traffic(arrivals=ClosedLoop(num_users=2), num_requests=1000), None),
        (Traffic(arrivals=ClosedLoop(num_users=2), duration_s=1.0), None),
        (
            Traffic(arrivals=ConstantArrivals(rate_rps=100.0), duration_s=99.0, num_requests=50),
            "about 50 requests",
        ),
    ],
)
def test_doubts_about_percentiles(traffic: Traffic, missing: str | None) -> None:
    said = doubts(serve(traffic=traffic), pool("a"))
    assert (missing in said) if missing else ("percentiles" not in said)


def test_one_run_alone_is_doubted() -> None:
    assert "num_repeats is 1" in doubts(serve(num_repeats=1), pool("a"))
    assert "num_repeats" not in doubts(serve(), pool("a"))


def test_a_wrong_spec_is_never_planned() -> None:
    with pytest.raises(SpecError, match="spec serve: num_repeats: found integer 0"):
        plan(serve(num_repeats=0), pool("a"))


# ---- hashes and mappings ----


def test_the_workload_hash_is_of_the_question_alone() -> None:
    spec = serve()
    assert isinstance(spec.workload, VllmWorkload)
    same = [
        replace(spec, name="other", tags={"a": "b"}, num_repeats=9, redeploy=False),
        replace(spec, hardware=(Hardware(accelerator="H100", num_chips=8),)),
        replace(spec, deadlines=Deadlines(startup_s=5.0)),
        replace(
            spec,
            workload=replace(
                spec.workload,
                tensor_parallel_size=8,
                engine_args={"max-num-seqs": 4},
                env={"A": "b"},
                python="python3",
            ),
        ),
    ]
    assert {workload_hash(s) for s in same} == {workload_hash(spec)}
    other = [
        replace(spec, workload=replace(spec.workload, model="org/other")),
        replace(spec, workload=replace(spec.workload, model=MadeModel())),
        replace(spec, workload=replace(spec.workload, model=MadeModel(seed=1))),
        replace(spec, workload=replace(spec.workload, engine_args={"revision": "abc"})),
        replace(spec, slo={"ttft_s": 1.0}),
        replace(spec, traffic=replace(TRAFFIC, seed=1)),
        replace(spec, traffic=replace(TRAFFIC, duration_s=50.0)),
        replace(spec, traffic=replace(TRAFFIC, num_warmup_requests=3)),
        replace(spec, traffic=replace(TRAFFIC, prompt_tokens=FixedLength(tokens=65))),
        replace(spec, traffic=replace(TRAFFIC, arrivals=ConstantArrivals(rate_rps=10.0))),
        train(),
        train(num_steps=21),
        train(num_workers=3),
        train(seed=1),
        train(precision="bfloat16"),
    ]
    hashes = {workload_hash(s) for s in (spec, *other)}
    assert len(hashes) == len(other) + 1
    assert workload_hash(train()) == workload_hash(train(cpus_per_worker=2.0, threads_per_worker=2))


def test_the_workload_hash_never_moves() -> None:
    """Records of years are compared by it, so its text is written out here, by hand."""
    text = (
        '{"slo":{"ttft_s":0.5},'
        '"traffic":{"api":"completions","arrivals":{"kind":"poisson","rate_rps":10.0},'
        '"duration_s":100.0,"num_warmup_requests":2,"output_tokens":{"kind":"fixed","tokens":32},'
        '"prompt_tokens":{"kind":"fixed","tokens":64},"request_timeout_s":120.0,"seed":0},'
        '"workload":{"kind":"vllm","model":"org/model"}}'
    )
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert workload_hash(serve(slo={"ttft_s": 0.5})) == expected


def test_a_training_of_before_its_later_knobs_keeps_its_hashes() -> None:
    """The text that these hashes were made of before there were more knobs, written out by hand."""
    text = (
        '{"workload":{"kind":"torch","learning_rate":0.0003,'
        '"micro_batch_size":4,"num_steps":20,"num_warmup_steps":3,"num_workers":2,'
        '"precision":"float32","preset":"tiny","seed":0,"sequence_length":128}}'
    )
    assert workload_hash(train()) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert tuning_of(train()) == {"cpus_per_worker": 1.0, "threads_per_worker": 1}
    answers = {"strategy": "fsdp2", "activation_checkpointing": "full", "compile": True}
    assert workload_hash(train(**answers)) == workload_hash(train())
    assert answers.items() <= tuning_of(train(**answers)).items()
    asked = [
        {"tensor_parallel_size": 2},
        {"gradient_accumulation_steps": 2},
        {"communication": "none"},
        {"data": TokenFiles(path="x")},
    ]
    hashes = {workload_hash(train(**fields)) for fields in ({}, *asked)}
    assert len(hashes) == len(asked) + 1


def test_a_model_folder_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    def folder(name: str, weights: int) -> RunSpec:
        where = tmp_path / name
        where.mkdir()
        (where / "config.json").write_text('{"model_type": "llama"}')
        (where / "model.safetensors").write_bytes(b"x" * weights)
        return replace(serve(), workload=VllmWorkload(model=str(where)))

    a, b, other = folder("a", 10), folder("b", 10), folder("c", 11)
    assert model_identity(a) == model_identity(b) != model_identity(other)
    hashes = [
        make_plan(s, Inventory(pools=(pool("p"),)), model_identity=model_identity(s)).workload_hash
        for s in (a, b, other)
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    (tmp_path / "a" / ".cache").mkdir()
    (tmp_path / "a" / ".cache" / "junk").write_text("x")
    assert model_identity(a) == model_identity(b)
    assert model_identity(serve()) == ""
    assert model_identity(replace(serve(), workload=VllmWorkload())) == ""
    endpoint = EndpointWorkload(url="http://h", model=str(tmp_path / "a"))
    assert model_identity(replace(serve(), workload=endpoint)) == ""


def test_a_plan_is_pure_pickles_and_becomes_json() -> None:
    spec = serve(Hardware(accelerator="H100", num_chips=8), tp=8)
    inventory = Inventory(pools=(pool("a", "H100", chips_per_node=8, usd_per_chip_hour=3.5),))
    made = make_plan(spec, inventory)
    assert made == make_plan(spec, inventory)
    assert pickle.loads(pickle.dumps(made)) == made
    mapping = plan_to_mapping(made)
    assert json.loads(json.dumps(mapping)) == mapping
    assert "spec" not in mapping
    assert mapping["rungs"][0]["pool"]["usd_per_chip_hour"] == 3.5
    assert mapping["rungs"][0]["capacity"] == "on-demand"


# ---- what the plan command shows ----


def test_a_description_has_rungs_bounds_and_a_price() -> None:
    spec = serve(
        Hardware(accelerator="H100", num_chips=8, cpus=2, memory_gib=4, max_wait_s=30),
        tp=8,
        deadlines=Deadlines(startup_s=500.0, load_s=1000.0, teardown_s=300.0),
    )
    node = {"chips_per_node": 8}
    made = plan(
        spec,
        pool("paid", "H100", usd_per_chip_hour=4.0, **node),
        pool("free", "H100", **node),
        pool("fake", "H100", virtual=True, usd_per_chip_hour=4.0, **node),
    )
    seen = describe_plan(made)
    assert seen.at_most_s == 2 * (500 + 1000 + 300)
    paid, free, fake = seen.rungs
    assert paid.usd_at_most == pytest.approx(8 * 4.0 * 3600 / 3600)
    assert (free.usd_at_most, free.no_price) == (None, "the pool has no price")
    assert (fake.usd_at_most, fake.no_price) == (None, "the pool is virtual")
    assert (paid.order, paid.bundles, paid.num_nodes) == (1, "1 × (8 chips, 2 CPUs, 4 GiB)", 1)
    assert seen.expected_requests == 1000.0
    assert seen.num_deployments == 2
    assert seen.duration.startswith("2 runs of 100 s, after a startup of unknown length")
    assert "waits up to 90 s for a place" in seen.duration
    shared = describe_plan(replace(made, spec=replace(spec, redeploy=False)))
    assert shared.at_most_s == 500 + 2 * 1000 + 300
    assert shared.num_deployments == 1


def test_a_description_of_training_on_cpus() -> None:
    seen = describe_plan(plan(train(), pool("a")))
    assert seen.rungs[0].no_price == "no chips are used, and CPUs have no price"
    assert seen.rungs[0].bundles == "2 × (1 CPU)"
    assert seen.duration.startswith("2 runs of 20 steps, after a startup")
    assert (seen.measuring_s, seen.expected_requests) == (None, None)


def test_prices_fill_only_what_has_none() -> None:
    table = PriceTable(
        as_of=date(2026, 10, 1),
        source="test",
        usd_per_chip_hour={"h100": {"on-demand": 4.0}, "cpu": {"on-demand": 1.0}},
        usd_per_machine_hour={"a3-highgpu-8g": {"on-demand": 24.0}},
    )
    node = {"chips_per_node": 8}
    before = Inventory(
        pools=(
            pool("a", "H100", **node),
            pool("b", "H100", usd_per_chip_hour=9.0, **node),
            pool("c", "H100", virtual=True, **node),
            pool("d", "H100", capacity=Capacity.SPOT, **node),
            pool("e"),
            pool("f", "H100", machine_type="a3-highgpu-8g", **node),
            pool("g", "H100", machine_type="another", **node),
        )
    )
    after = priced(before, table)
    # A machine's price comes before its chips', shared out among the eight of them.
    assert [p.usd_per_chip_hour for p in after.pools] == [4.0, 9.0, None, None, None, 3.0, 4.0]


@pytest.mark.parametrize(
    ("args", "chips"),
    [
        ({}, 2),
        ({"pipeline-parallel-size": 2}, 4),
        ({"pipeline_parallel_size": 2, "data-parallel-size": 2}, 8),
        ({"data-parallel-size": None}, 2),
    ],
)
def test_chips_are_those_of_every_kind_of_parallelism(args: dict[str, Any], chips: int) -> None:
    """tp × pp × dp, where the spec names the accelerator alone."""
    workload = VllmWorkload(tensor_parallel_size=2, engine_args=args)
    spec = RunSpec(name="x", workload=workload, hardware=(Hardware(accelerator="H100"),))
    assert num_chips(spec, spec.hardware[0]) == chips
