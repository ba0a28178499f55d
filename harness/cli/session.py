"""What every command that touches Ray does first: reach a cluster, know its pools."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from rich.console import Console

from harness.cli.exits import interrupt_on_sigterm
from harness.cli.live import progress
from harness.deployment import Deployer
from harness.errors import SpecError
from harness.pools import Inventory
from harness.pricefile import read_prices
from harness.progress import Progress
from harness.runner import RunContext
from harness.settings import read_settings
from results.clock import Clock, SystemClock
from results.prices import PriceTable
from results.store import RecordStore


@contextmanager
def deployer(ray: str, pools: Path | None, clock: Clock, shown: Progress) -> Iterator[Deployer]:
    """A deployer on the cluster that ``ray`` names; a cluster of our own ends with the context."""
    # Ray takes more than a second to import, and half the commands never touch it.
    from harness.on_ray.cluster import ray_cluster
    from harness.poolfile import read_pools
    from harness.ray_deployer import RayDeployer

    if pools is not None and ray != "local":
        raise SpecError(
            f"--pools pretends pools on this machine; it goes with --ray local, not {ray}"
        )
    virtual = read_pools(pools) if pools is not None else None
    shown.phase("ray", "starting Ray" if ray == "local" else f"joining Ray at {ray}")
    # Ray prints what its nodes report (a worker that was killed) to stdout, whatever it is told;
    # there the result alone belongs, which is printed when the cluster is gone.
    with redirect_stdout(sys.stderr), ray_cluster(ray, virtual):
        interrupt_on_sigterm()  # Ray has put a handler of its own in its place
        telemetry_s = read_settings().telemetry_interval_s
        yield RayDeployer(clock=clock, telemetry_interval_s=telemetry_s)


def inventory_of(ray: str, pools: Path | None, console: Console, quiet: bool) -> Inventory:
    """The pools of the cluster that ``ray`` names."""
    clock = SystemClock()
    with progress(console, clock, quiet) as shown, deployer(ray, pools, clock, shown) as ours:
        return ours.inventory()


def price_table(path: Path | None) -> PriceTable | None:
    return None if path is None else read_prices(path)


def run_context(
    ours: Deployer, store: RecordStore, clock: Clock, shown: Progress, prices: Path | None
) -> RunContext:
    """What every command's runs stand on, with the settings of the environment."""
    settings = read_settings()
    return RunContext(
        deployer=ours,
        store=store,
        clock=clock,
        progress=shown,
        models_dir=str(settings.models_dir.resolve()),
        image_digest=settings.image_digest,
        prices=price_table(prices),
        telemetry_interval_s=settings.telemetry_interval_s,
    )
