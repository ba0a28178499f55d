"""What a night would take, from what its series took before."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.nightly.order import lanes_of, slots_of
from harness.nightly.outlook import outlook_of
from harness.nightly.suite import Suite, read_suite
from harness.pools import Inventory, NodePool
from results.prices import PriceTable
from results.testing import EPOCH, make_record

SPEC = """\
name: {name}
workload: {{kind: vllm, model: org/model}}
hardware: {{accelerator: H100, num_chips: {chips}}}
traffic: {{arrivals: {{kind: constant, rate_rps: 2}}, duration_s: 60}}
"""
POOL = NodePool(
    name="h100",
    accelerator="H100",
    num_nodes=1,
    chips_per_node=8,
    cpus_per_node=64.0,
    memory_bytes_per_node=1 << 40,
)
INVENTORY = Inventory(pools=(POOL,))


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    for name, chips in (("a", 2), ("b", 99)):
        (tmp_path / f"{name}.yaml").write_text(SPEC.format(name=name, chips=chips))
    path = tmp_path / "suite.yaml"
    path.write_text("name: s\nruns: [{spec: a.yaml, repeats: 3}, {spec: b.yaml, repeats: 1}]\n")
    return read_suite(path)


def test_earlier_runs_say_how_long_one_takes(suite: Suite) -> None:
    lanes = lanes_of(slots_of(suite), {"a": frozenset({"h100"})})
    past = {"a": [make_record(index=i, duration_s=s) for i, s in enumerate((90.0, 100.0, 500.0))]}
    prices = PriceTable(
        as_of=EPOCH.date(), source="a list", usd_per_chip_hour={"H100": {"on-demand": 3.0}}
    )
    found = outlook_of(lanes, past, INVENTORY, prices)
    a, b = found.series
    assert (a.run_s, a.from_runs, a.num_chips, a.pool) == (100.0, 3, 2, "h100")
    assert a.chip_hours == pytest.approx(3 * 2 * 100 / 3600)
    assert a.usd == pytest.approx(3.0 * 3 * 2 * 100 / 3600)
    assert b.refused and b.pool == "" and found.unknown == ()
    assert found.num_runs == 4 and found.wall_s == 300.0 and found.num_lanes == 2
    assert found.usd == a.usd


def test_what_nobody_knows_is_named_and_has_no_price(suite: Suite) -> None:
    lanes = lanes_of(slots_of(suite), {"a": frozenset({"h100"})})
    found = outlook_of(lanes, {}, INVENTORY, None)
    a = found.series[0]
    assert (a.run_s, a.from_runs, a.usd) == (60.0, 0, None)  # the sending alone
    assert found.unknown == ("a",) and found.usd is None
