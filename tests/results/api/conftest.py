"""A small database whose answers can be worked out by hand, served on a real port.

Two models on three accelerators, three load points each. All numbers follow from the load by plain
rules (``PER_CHIP``, ``TTFT_MS``), so that a test says what must come without asking the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from results.api.app import ApiOptions, make_app
from results.api.guard import Rules
from results.api.runs import StoreRuns
from results.api.snapshots import Serving
from results.api.testing import Swappable, served
from results.clock import SystemClock
from results.lookup.table import TableLookup, lookup_of
from results.prices import PriceBook, PriceTable
from results.recommendation.profile import (
    Configuration,
    Evidence,
    EvidenceKind,
    LoadPoint,
    Machine,
    Profile,
    Statistic,
)
from results.store_files import FileStore
from results.store_index import RunIndex
from results.testing import make_record

GEMMA, LLAMA = "google/gemma-2-27b-it", "meta-llama/Llama-3.1-8B-Instruct"
NOW = datetime.now(UTC)
RATES = (1.0, 2.0, 4.0)  # requests per second of one replica
INPUT, OUTPUT = 1024.0, 256.0  # tokens
# (accelerator, machine, topology, chips, TTFT at 1 request/s, output tokens' own time)
HARDWARE = (
    ("H100", "a3-highgpu-1g", "", 1, 0.100, 0.010),
    ("L4", "g2-standard-48", "", 4, 0.400, 0.040),
    ("TPU-V6E", "ct6e-standard-4t", "2x2", 4, 0.150, 0.012),
)
PRICES = PriceBook(
    tables=(
        PriceTable(
            as_of=date(2026, 11, 1),
            source="test prices",
            usd_per_chip_hour={
                "H100": {"on-demand": 6.0, "spot": 3.0},
                "L4": {"on-demand": 0.8, "spot": 0.4},
                "TPU-V6E": {"on-demand": 2.0},
            },
        ),
    )
)


def statistic(metric: str, name: str, value: float, runs: int = 3) -> Statistic:
    return Statistic(
        metric=metric,
        statistic=name,
        value=value,
        low=value * 0.98,
        high=value * 1.02,
        num_runs=runs,
        log_mean=None,
        log_spread=None,
    )


def profile(model: str, hardware: int, load: int, **changes: Any) -> Profile:
    """TTFT doubles with every load point; TPOT grows by half; p99 is twice the median."""
    accelerator, machine, topology, chips, ttft_s, tpot_s = HARDWARE[hardware]
    rate, ttft_s, tpot_s = RATES[load], ttft_s * 2**load, tpot_s * 1.5**load
    e2e_s = ttft_s + (OUTPUT - 1) * tpot_s
    number = (model == LLAMA) * 100 + hardware * 10 + load
    typical = {"ttft_s": ttft_s, "tpot_s": tpot_s, "itl_s": tpot_s, "e2e_s": e2e_s}
    typical["ntpot_s"] = e2e_s / OUTPUT
    found = Profile(
        profile_id=f"{number + 1:016x}",
        configuration_id=f"{number // 10 + 1:016x}",
        configuration=Configuration(
            model=model,
            model_server="vllm",
            model_server_version="0.33.0",
            engine_args={"max-num-seqs": 256},
            parallelism={"tensor": chips},
        ),
        machine=Machine(
            accelerator=accelerator,
            num_chips=chips,
            topology=topology,
            machine_type=machine,
            capacity="on-demand",
            region="us-central1",
        ),
        load=LoadPoint(
            input_tokens=INPUT, output_tokens=OUTPUT, rate_rps=rate, concurrency=rate * e2e_s
        ),
        statistics=(
            *(statistic(m, "p50", v) for m, v in typical.items()),
            *(statistic(m, "p99", v * 2) for m, v in typical.items()),
            statistic("output_throughput", "value", rate * OUTPUT),
            statistic("prompt_throughput", "value", rate * INPUT),
        ),
        evidence=Evidence(
            kind=EvidenceKind.MEASURED,
            run_ids=("20261123T170000Z-0000000000",),
            repeats=3,
            first_measured=NOW - timedelta(days=3),
            last_measured=NOW - timedelta(days=2),
            seconds_per_run=120.0,
        ),
    )
    return replace(found, **changes)


def profiles() -> tuple[Profile, ...]:
    return tuple(
        profile(model, hardware, load)
        for model in (GEMMA, LLAMA)
        for hardware in range(len(HARDWARE))
        for load in range(len(RATES))
    )


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    return SimpleNamespace(
        profile=profile, profiles=profiles, statistic=statistic, lookup_of=lookup_of, prices=PRICES
    )


@pytest.fixture(scope="session")
def lookup() -> TableLookup:
    return lookup_of(profiles(), PRICES)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> FileStore:
    """Seven runs of two specs."""
    made = FileStore(str(tmp_path_factory.mktemp("store")))
    for index in range(7):
        made.seal(make_record(index=index, name="chat" if index % 2 else "code"), {})
    return made


def application(lookup: Any, store: FileStore, **rules: Any) -> Any:
    source = lookup if hasattr(lookup, "load") else Swappable(lookup)
    serving = Serving(source, SystemClock())
    options = ApiOptions(rules=Rules(**rules), reload_every_s=0.05)
    return make_app(serving, StoreRuns(store, RunIndex(store)), options)


@pytest.fixture(scope="session")
def app_of() -> Any:
    return application


@pytest.fixture(scope="session")
def url(lookup: TableLookup, store: FileStore) -> Iterator[str]:
    with served(application(lookup, store)) as found:
        yield found


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits until something has come about; fails after ten seconds."""

    def wait(come_about: Callable[[], bool]) -> None:
        clock = SystemClock()
        deadline_s = clock.monotonic_s() + 10.0
        while not come_about():
            assert clock.monotonic_s() < deadline_s, "it never came about"
            clock.sleep(0.02)

    return wait


@pytest.fixture(scope="session")
def health_of() -> Callable[[str], dict[str, Any]]:
    return lambda url: requests.get(f"{url}/healthz", timeout=10).json()
