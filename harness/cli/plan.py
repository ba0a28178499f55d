"""``windtunnel plan``: what would run, where, how long and at what price, without running it."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from harness.cli.exits import told
from harness.cli.options import Json, Overrides, Pools, Prices, Quiet, Ray, SpecPath
from harness.cli.output import print_json, stderr, stdout
from harness.cli.session import inventory_of, price_table
from harness.cli.tables import facts
from harness.plan import plan_to_mapping
from harness.plan_view import PlanDescription, describe_plan
from harness.runner import bind
from harness.specfile import read_specs


def plan(
    spec: SpecPath,
    override: Overrides = None,
    ray: Ray = "local",
    pools: Pools = None,
    prices: Prices = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Print what a spec would run, on which nodes, for how long and at what price.

    Example: `windtunnel plan examples/gpu-fallback.yaml --pools examples/pools-two.yaml`
    """
    with told(as_json):
        specs = read_specs(str(spec), override or [])
        table = price_table(prices)
        inventory = inventory_of(ray, pools, stderr(), quiet)
        plans = [bind(one, inventory, table) for one in specs]
    if as_json:
        print_json("windtunnel.plan/1", {"plans": [plan_to_mapping(p) for p in plans]})
        return
    for made in plans:
        _print(describe_plan(made))


def _print(what: PlanDescription) -> None:
    console = stdout()
    about = f"  {what.workload}  workload {what.workload_hash}"
    console.print(Text.assemble("\n", (what.name, "bold"), about))
    console.print(facts([("load", what.what), ("duration", what.duration)]))
    if what.rungs:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("rung", "pool", "accelerator", "capacity", "places", "waits", "price"):
            table.add_column(column)
        for r in what.rungs:
            price = r.no_price if r.usd_at_most is None else f"≤ {r.usd_at_most:.2f} USD"
            shape = f"{r.accelerator} {r.topology}".strip() + (" (virtual)" if r.virtual else "")
            waits = f"≤ {r.max_wait_s:g} s"
            table.add_row(str(r.order), r.pool, shape, r.capacity, r.bundles, waits, price)
        console.print(table)
    for doubt in what.doubts:
        console.print(f"  doubt: {doubt}", markup=False)
