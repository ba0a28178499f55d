"""Every example is read, planned and described, and the schema that editors use accepts it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from harness.cli.tune import read_study
from harness.plan import make_plan
from harness.plan_view import describe_plan
from harness.pools import Capacity, Inventory, NodePool
from harness.pricefile import read_prices
from harness.spec_schema import DESCRIPTIONS, DIALECT, spec_schema
from harness.specfile import read_specs, spec_from_mapping, spec_to_mapping
from workloads.params import MadeModel, TorchWorkload, VllmWorkload
from workloads.registry import BUILT_IN

ROOT = Path(__file__).resolve().parents[2]
ALL = sorted((ROOT / "examples").glob("*.yaml"))
STUDIES = [path for path in ALL if path.name.startswith("study-")]
EXAMPLES = [path for path in ALL if not path.name.startswith(("pools-", "prices", "study-"))]
GIB = 1 << 30


def pool(name: str, accelerator: str, **fields: Any) -> NodePool:
    base: dict[str, Any] = {"num_nodes": 1, "cpus_per_node": 96.0, "chips_per_node": 0}
    return NodePool(
        name=name, accelerator=accelerator, memory_bytes_per_node=512 * GIB, **(base | fields)
    )


SMALL_MACHINE = NodePool(
    name="local",
    accelerator="cpu",
    num_nodes=1,
    chips_per_node=0,
    cpus_per_node=2.0,
    memory_bytes_per_node=8 * GIB,
)
DATA_CENTRE = Inventory(
    pools=(
        pool("h100", "H100", chips_per_node=8, capacity=Capacity.SPOT, usd_per_chip_hour=3.0),
        pool("l4", "L4", chips_per_node=4, capacity=Capacity.SPOT),
        pool("v6e", "TPU-V6E", chips_per_node=4, topology="2x2"),
        pool("cpus", "cpu"),
    )
)


def test_the_prices_are_a_form_and_say_so() -> None:
    prices = read_prices(ROOT / "examples/prices.yaml")
    assert "invented" in prices.source
    assert prices.price("tpu_v6e", "reservation") == 2.0
    assert prices.price("H100", "on-demand", "europe-west4") == 11.0
    assert prices.price("B200", "on-demand") is None


def test_the_examples_are_all_there() -> None:
    names = {path.name for path in EXAMPLES}
    assert names >= {
        "quickstart.yaml",
        "serving-poisson.yaml",
        "training-ddp.yaml",
        "training-jax.yaml",
        "scaling.yaml",
        "scaling-jax.yaml",
        "endpoint.yaml",
        "gpu-fallback.yaml",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_an_example_is_read_planned_and_described(path: Path) -> None:
    specs = read_specs(str(path))
    assert specs
    for spec in specs:
        assert spec_from_mapping(spec_to_mapping(spec)) == spec
        made = make_plan(spec, DATA_CENTRE)
        assert len(made.workload_hash) == 16
        assert bool(made.rungs) == (spec.workload.kind != "endpoint")
        seen = describe_plan(made)
        assert len(seen.rungs) == len(made.rungs)
        assert seen.at_most_s > (made.measuring_s or 0.0)


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.name)
def test_a_study_is_read_with_its_run(path: Path) -> None:
    made = read_study(path)
    assert made.base.name
    assert made.space.branches()
    assert made.wish.bounds


@pytest.mark.parametrize("path", [*EXAMPLES, *STUDIES], ids=lambda p: p.name)
def test_every_line_of_an_example_that_matters_is_explained(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert "\t" not in text
    comments = sum("# " in line for line in text.splitlines())
    assert comments >= 0.3 * len(text.splitlines())


def test_the_quickstart_fits_two_cpus_and_needs_no_download() -> None:
    serve, train = read_specs(str(ROOT / "examples" / "quickstart.yaml"))
    for spec in (serve, train):
        (rung,) = make_plan(spec, Inventory(pools=(SMALL_MACHINE,))).rungs
        assert rung.device.kind == "cpu"
        assert sum(bundle.cpus for bundle in rung.bundles) <= 2
    assert isinstance(serve.workload, VllmWorkload)
    assert isinstance(serve.workload.model, MadeModel)
    assert serve.traffic is not None and serve.traffic.duration_s == 15.0
    assert serve.slo
    assert isinstance(train.workload, TorchWorkload)
    assert (train.workload.num_workers, train.workload.cpus_per_worker) == (2, 1.0)
    assert train.workload.num_steps - train.workload.num_warmup_steps == 20


def test_the_fallback_example_tries_each_place_in_order() -> None:
    (spec,) = read_specs(str(ROOT / "examples" / "gpu-fallback.yaml"))
    taken = [(r.pool.name, r.strategy) for r in make_plan(spec, DATA_CENTRE).rungs]
    assert taken == [("h100", "STRICT_PACK"), ("l4", "STRICT_PACK"), ("v6e", "SLICE")]


# ---- the schema ----


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(spec_schema())


def documents(path: Path) -> Iterator[Any]:
    return (d for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if d is not None)


def test_the_schema_is_one() -> None:
    assert spec_schema()["$schema"] == DIALECT
    Draft202012Validator.check_schema(spec_schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_the_schema_accepts_every_example(path: Path) -> None:
    for document in documents(path):
        assert [error.message for error in validator().iter_errors(document)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"nmae": "x"},
        {"workload": {"kind": "vllm", "modle": "x"}},
        {"workload": {"model": "x"}},
        {"workload": {"kind": "vlm"}},
        {"workload": {"kind": "vllm", "model": {"preset": "huge"}}},
        {"num_repeats": "2"},
        {"hardware": {"capacity": "spott"}},
        {"hardware": [{"cpu": 1}]},
        {"slo": {"ttft": 1}},
        {"traffic": {"arrivals": {"kind": "poisson", "num_users": 1}}},
        {"traffic": {"duration_s": 3}},
        {"deadlines": {"startup": 3}},
        {"tags": {"a": 1}},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(change: dict[str, Any]) -> None:
    good = next(documents(ROOT / "examples" / "quickstart.yaml"))
    assert validator().is_valid(good)
    assert not validator().is_valid({**good, **change})


@pytest.mark.parametrize(
    "change", [{"hardware": {"capacity": "spot"}}, {"hardware": [{"pools": "a"}, {}]}]
)
def test_the_schema_accepts_the_shorthands(change: dict[str, Any]) -> None:
    good = next(documents(ROOT / "examples" / "quickstart.yaml"))
    assert validator().is_valid({**good, **change})


def test_every_mapping_is_closed_and_every_field_described() -> None:
    schema = spec_schema()
    shapes = {"RunSpec": schema} | schema["$defs"]
    mappings = {name: one for name, one in shapes.items() if one.get("type") == "object"}
    assert set(mappings) == set(DESCRIPTIONS)
    for name, one in mappings.items():
        assert one["additionalProperties"] is False, name
        described = {field for field, entry in one["properties"].items() if "description" in entry}
        assert described == set(one["properties"]) == set(DESCRIPTIONS[name]), name


def test_the_schema_names_every_field_of_every_workload() -> None:
    for kind in BUILT_IN.values():
        entry = spec_schema()["$defs"][kind.params.__name__]
        assert list(entry["properties"]) == [f.name for f in dataclasses.fields(kind.params)]
