"""What the commands that look at a whole store cost on a large one: ``python -m
benchmarks.store_scale --records 100000 [--url s3://… --endpoint http://…]``.

The records are generated: nights of one suite over a year, trials of studies, and runs beside them,
with the fields and the size of real ones. Nothing in them was measured, and they say so by their
evidence (``simulated``). Each step is one process's CPU seconds, and how many objects it read and
how many listings it asked for; the clock is told, too, and means little on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from harness.cli.study_file import ended_well
from harness.specfile import read_specs, spec_to_mapping
from reports.night_told import night_told
from results.codec import dumps_record
from results.lookup.refresh import refresh
from results.measurement import Measurement
from results.nights import NightRole, night_tags, nights_in
from results.recommendation.observation import LATENCIES, SINGLES, STATISTICS
from results.record import Evidence
from results.selection import select
from results.store_files import FileStore
from results.store_index import RunIndex
from results.store_layout import record_path
from results.testing import make_record
from tuners.goals import Goal, Wish
from tuners.predict import foresight
from tuners.prior import prior_of
from tuners.space import Branch

SUITE, METRICS = "generated", ("ttft_p50", "ttft_p99", "tpot_p50", "output_throughput")
NUM_NIGHTS = 365
FIRST = datetime(2025, 11, 24, tzinfo=UTC)
SPEC = """\
name: generated
workload:
  kind: simulated
  accelerator: H100
  model: llama-3.1-8b
  engine_args: {max-num-batched-tokens: 2048}
hardware: {accelerator: H100, num_chips: 1}
traffic:
  arrivals: {kind: poisson, rate_rps: 12}
  prompt_tokens: {kind: fixed, tokens: 1024}
  output_tokens: {kind: fixed, tokens: 128}
  num_requests: 600
"""


def documents(num: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """(run id, JSON text), eight of ten of them nights' and one a study's."""
    rng = np.random.default_rng(seed)
    template = json.loads(dumps_record(_template(), "generated"))
    spec = template["spec"]
    for n in range(num):
        kind = n % 10
        night = (n * NUM_NIGHTS) // num
        at = FIRST + timedelta(days=night, seconds=n % 80_000)
        run_id = f"{at:%Y%m%dT%H%M%SZ}-{n:010x}"
        series = f"series-{n % max(num // NUM_NIGHTS, 1)}"
        tokens = int(rng.integers(1, 64)) * 128 if kind == 8 else 2048
        template |= {
            "run_id": run_id,
            "name": series if kind < 8 else f"runs-{kind}",
            "experiment_id": f"{at:%Y%m%d}T000000Z-night",
            "workload_hash": f"{series if kind < 8 else tokens:>016}"[-16:],
            "started_at": at.isoformat(),
            "ended_at": (at + timedelta(seconds=90)).isoformat(),
            "spec": {**spec, "tags": _tags(kind, series, at, tokens, n)},
        }
        template["spec"]["workload"]["engine_args"]["max-num-batched-tokens"] = tokens
        template["spec"]["traffic"]["seed"] = n % 3
        factor = float(np.exp(rng.normal(0.0, 0.02)))
        for made, base in zip(template["measurements"], _template().measurements, strict=True):
            for name in ("value", "low", "high"):
                value = getattr(base, name)
                made[name] = None if value is None else value * factor
        yield run_id, json.dumps(template, indent=1)


def _tags(kind: int, series: str, at: datetime, tokens: int, n: int) -> dict[str, str]:
    if kind < 8:
        return night_tags(
            night_id=f"{at:%Y%m%d}T000000Z-night",
            on=at.date(),
            suite=SUITE,
            series=series,
            role=NightRole.CANARY if series == "series-0" else NightRole.RUN,
            slot=f"{series}/{n}",
            metrics=METRICS,
        )
    if kind == 8:
        return {"study": f"study-{n % 40}", "study.config": json.dumps({"tokens": tokens})}
    return {"engine": "old" if n % 20 < 10 else "new", "which": str(n % 500)}


_MADE: list[Any] = []


def _template() -> Any:
    if not _MADE:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(SPEC)
            file.flush()
            (spec,) = read_specs(file.name)
        latencies = [(m, s, 0.05) for m in LATENCIES for s in STATISTICS if s != "unstated"]
        singles = [(m, "value", 0.5) for m in SINGLES]
        _MADE.append(
            make_record(
                evidence=Evidence.SIMULATED,
                workload="simulated",
                spec=spec_to_mapping(spec),
                resolved={f"flag_{i}": f"value {i}" for i in range(40)},
                measurements=tuple(
                    Measurement(
                        metric=m, statistic=s, value=v, n=600, low=v * 0.9, high=v * 1.1,
                        method="order statistics",
                    )
                    for m, s, v in (*latencies, *singles)
                ),
            )
        )  # fmt: skip
    return _MADE[0]


def generate(store: FileStore, num: int) -> None:
    """Straight into the place, without the waits of a seal."""
    store.prepare()
    objects = store.objects
    root = Path(objects.url) if "://" not in objects.url else None

    def put(made: tuple[str, str]) -> None:
        run_id, text = made
        if root is None:
            objects.put_new(record_path(run_id), text.encode())
            return
        path = root / record_path(run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    with ThreadPoolExecutor(objects.num_at_once) as pool:
        for _ in pool.map(put, documents(num)):
            pass


class Meter:
    """Counts what is asked of the place."""

    def __init__(self, store: FileStore) -> None:
        self.counts = {"read": 0, "listed": 0}
        objects: Any = store.objects
        for method, kind in (("read", "read"), ("names", "listed"), ("stamps", "listed")):
            setattr(objects, method, self._counted(getattr(objects, method), kind))
        self.rows: list[dict[str, Any]] = []

    def _counted(self, plain: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            self.counts[kind] += 1
            return plain(*args, **named)

        return counted

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        before, cpu_s, begun_s = dict(self.counts), time.process_time(), time.monotonic()
        yield
        row = {
            "step": name,
            "cpu_s": round(time.process_time() - cpu_s, 2),
            "wall_s": round(time.monotonic() - begun_s, 2),
            **{kind: self.counts[kind] - before[kind] for kind in before},
        }
        self.rows.append(row)
        sys.stderr.write(f"{row}\n")


def measure(store: FileStore, home: Path, num: int, scan: bool) -> list[dict[str, Any]]:
    meter, path = Meter(store), home / "index.sqlite"

    def index() -> RunIndex:
        return RunIndex(store, path)

    if scan:
        with meter.step("reading every record, as each command did"):
            assert sum(1 for _ in store.scan().records) == num
    with meter.step("the first index"):
        assert index().refresh().num_read == num
    with meter.step("runs list"):
        one = index()
        assert one.refresh().num_read == 0 and len(one.list(20)) == 20
    with meter.step("nightly, until it begins to judge"):
        one = index()
        one.refresh()
        nights = nights_in(one, SUITE)
    with meter.step("nightly, judging"):
        night_told(nights, max(nights))
    del nights
    with meter.step("compare by tag"):
        one = index()
        one.refresh()
        assert select(one, "engine=old").records and select(one, "which=19").records
    with meter.step("tune, its prior"):
        _prior(index())
    with meter.step("recommend, the first"):
        refresh(index(), home / "lookup")
    with meter.step("recommend, nothing new"):
        assert refresh(index(), home / "lookup").num_read == 0
    for run_id, text in list(documents(num + 11))[-1:]:
        store.objects.put_new(record_path(run_id), text.encode())
    with meter.step("runs list, one new run"):
        assert index().refresh().num_read == 1
    with meter.step("recommend, one new run"):
        assert refresh(index(), home / "lookup").num_read == 1
    meter.rows[-1]["index_mib"] = path.stat().st_size // 2**20
    return meter.rows


def _prior(index: RunIndex) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(SPEC)
        file.flush()
        (base,) = read_specs(file.name)
    wish = Wish(goals=(Goal(metric="output_throughput"),))
    index.refresh()
    records = index.briefs(ended_well(index, "simulated"), (("output_throughput", "value"),))
    seen = foresight(lambda _: base, wish, base)
    assert prior_of(records, base, [Branch(name="", knobs=())], wish, seen).calibration


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store_scale", description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--url", help="a place of its own; default: a temporary folder")
    parser.add_argument("--endpoint", help="of an S3-like service, with the key and secret `key`")
    parser.add_argument("--no-scan", action="store_true", help="leave out reading every record")
    given = parser.parse_args()
    options = (
        {"endpoint_url": given.endpoint, "key": "key", "secret": "secret"} if given.endpoint else {}
    )
    with tempfile.TemporaryDirectory(prefix="generated-store-") as folder:
        store = FileStore(given.url or f"{folder}/store", storage_options=options)
        generate(store, given.records)
        home = Path(folder) / "home"
        home.mkdir()
        rows = measure(store, home, given.records, not given.no_scan)
    sys.stdout.write(json.dumps({"records": given.records, "steps": rows}) + "\n")


if __name__ == "__main__":
    main()
