"""The lookup over HTTP with a million profiles: how soon it answers, how many a second, how large.

    python -m benchmarks.lookup_http --profiles 1000000 --seconds 20 --rate 1000

Makes a table of generated profiles (kept under benchmarks/build), starts `windtunnel serve` on it
on one core, and asks from another: first as fast as it can (closed loop), then at a fixed rate,
where every latency counts from when its request was due. No two questions are alike, so that no
answer is one that was kept. Then every route by itself, with a probe of `/healthz` beside it: what
the probe waits is how long that route keeps all others waiting. The numbers go to stdout as one
JSON document, with the lag of the client itself: where that is not far below the latencies, the
machine was not quiet enough for them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
import psutil

from benchmarks.http_load import Load, beside, closed, paced
from benchmarks.many_profiles import LOADS, SETTINGS, make_table
from benchmarks.process import BUILD, HERE, Seat
from results.clock import read_monotonic_s as now_s
from results.lookup.refresh import refresh
from results.store_files import FileStore
from results.store_index import RunIndex
from results.store_layout import LOOKUP

POST_SHARE = 0.3
ACCELERATORS = ("A100", "H100", "H200", "B200", "L4", "TPU-V5P", "TPU-V6E")
PRICES = """as_of: 2026-11-01
source: made-up prices of the benchmark
usd_per_chip_hour:
  A100: {on-demand: 3.67, spot: 1.47}
  H100: {on-demand: 11.0, spot: 4.4}
  H200: {on-demand: 10.6, spot: 4.2}
  B200: {on-demand: 16.0, spot: 6.4}
  L4: {on-demand: 0.71, spot: 0.28}
  TPU-V5LITEPOD: {on-demand: 1.2}
  TPU-V5P: {on-demand: 4.2}
  TPU-V6E: {on-demand: 2.7}
"""


def questions(num_models: int, seed: int = 0) -> Iterator[Mapping[str, Any]]:
    """What a platform asks, mixed: a model each time, most with a load and limits."""
    rng = np.random.default_rng(seed)
    cases = ("chat", "summarisation", "reasoning")
    while True:
        asked: dict[str, Any] = {"model": f"generated/model-{rng.integers(num_models):03d}"}
        if rng.random() < 0.5:
            asked["use_case"] = cases[int(rng.integers(3))]
        else:
            asked["input_tokens"] = int(rng.integers(64, 8192))
            asked["output_tokens"] = int(rng.integers(32, 1024))
        if rng.random() < 0.8:
            asked["rate_rps"] = round(float(rng.lognormal(1.0, 1.0)), 6)
        if rng.random() < 0.7:
            percentile = 99 if rng.random() < 0.5 else None
            asked["targets"] = [
                {
                    "metric": "ttft_s",
                    "limit_s": round(float(rng.lognormal(-0.5, 1.0)), 6),
                    "percentile": percentile,
                }
            ]
        if rng.random() < 0.3:
            asked["accelerators"] = [ACCELERATORS[int(rng.integers(len(ACCELERATORS)))]]
        asked["objective"] = ("cheapest", "cheapest", "fastest", "throughput", "pareto")[
            int(rng.integers(5))
        ]
        yield asked


def native(num_models: int, seed: int) -> Iterator[bytes]:
    """Our own route, as a link or with a body."""
    rng = np.random.default_rng(seed + 1)
    for asked in questions(num_models, seed):
        if rng.random() < POST_SHARE:
            yield _posted("/v1/recommendations", asked)
        else:
            query = urlencode(_as_query(asked), doseq=True)
            yield f"GET /v1/recommendations?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def giq(num_models: int, seed: int) -> Iterator[bytes]:
    """The GKE Inference Quickstart's: the best of every hardware of a model."""
    for asked in questions(num_models, seed):
        yield _posted("/v1/profiles:fetch", _as_giq(asked))


def _as_query(asked: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in asked.items() if name != "targets"}
    for target in asked.get("targets", ()):
        found["target_ttft_milliseconds"] = target["limit_s"] * 1e3
        if target["percentile"] is not None:
            found["percentile"] = target["percentile"]
    return found


def _as_giq(asked: Mapping[str, Any]) -> dict[str, Any]:
    limits = [t["limit_s"] * 1e3 for t in asked.get("targets", ())]
    wanted = {"targetTtftMilliseconds": max(int(limits[0]), 1)} if limits else {}
    return {"model": asked["model"], "performanceRequirements": wanted}


def _posted(path: str, body: Mapping[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--home", type=Path, default=BUILD / "lookup", help="kept between runs")
    given = parser.parse_args()
    num_models = max(1, given.profiles // (SETTINGS * LOADS))
    home = given.home.resolve() / f"{num_models}"
    _make_table(home, num_models)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    with _Server(home, cores[0]) as server:
        start_s = server.start_s
        _fast(server, native(num_models, 99), given.users, 3.0)
        found = {
            "profiles": server.num_profiles,
            "cores": {"server": cores[0], "client": cores[-1]},
            "load_average": [round(one, 1) for one in os.getloadavg()],
            "cold_start_s": round(start_s, 2),
            "native": _fast(server, native(num_models, 101), given.users, given.seconds),
            "native_paced": _even(server, num_models, given),
            "routes": _routes(server, num_models, given.seconds / 5),
            "rss_mib": round(server.rss_bytes() / 2**20),
            "anonymous_mib": round(server.own_bytes() / 2**20),
        }
    json.dump(found, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _even(server: _Server, num_models: int, given: argparse.Namespace) -> dict[str, Any]:
    """At a fixed rate, over more connections than are ever waited on."""
    requests = native(num_models, 100)
    before_s = server.cpu_s()
    load = paced("127.0.0.1", server.port, requests, given.rate, 4 * given.users, given.seconds)
    busy_s = server.cpu_s() - before_s
    return {"asked_rps": given.rate, **_told(load), **_lag(load), **_cpu(load, busy_s)}


def _routes(server: _Server, num_models: int, seconds: float) -> dict[str, Any]:
    """Each with one user, and 100 probes a second beside it, whose own CPU is taken off."""
    found, probe_s = {}, 0.0
    for name, requests in _each_route(num_models).items():
        probes = itertools.repeat(_get("/healthz"))
        before_s = server.cpu_s()
        load, probe = beside("127.0.0.1", server.port, requests, probes, 100.0, seconds)
        busy_s = server.cpu_s() - before_s
        if probe_s == 0.0:  # the first row, where both ask the same
            probe_s = busy_s / max(len(load.latency_s) + len(probe.latency_s), 1)
        found[name] = {
            **_told(load),
            **_cpu(load, busy_s - probe_s * len(probe.latency_s)),
            "probe_p99_ms": round(probe.percentile_s(99) * 1e3, 2),
            "probe_max_ms": round(probe.percentile_s(100) * 1e3, 2),
            **_lag(probe),
        }
    return found


def _each_route(num_models: int) -> dict[str, Iterator[bytes]]:
    return {
        "/healthz": itertools.repeat(_get("/healthz")),
        "/v1/recommendations": native(num_models, 103),
        "/v1/profiles:fetch": giq(num_models, 102),
        "/v1/profiles:fetch of every model": _pages(),
        "/v1/benchmarkingData:fetch": _data(num_models),
        "/v1/models": itertools.repeat(_get("/v1/models")),
        "/v1/accelerators": itertools.repeat(_get("/v1/accelerators")),
        "/v1/models:fetch": itertools.repeat(_get("/v1/models:fetch")),
        "/v1/runs": itertools.repeat(_get("/v1/runs")),
        "a model that is not known": _unknown(),
    }


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def _pages() -> Iterator[bytes]:
    """No two alike."""
    for number in itertools.count(1):
        wanted = {"targetTtftMilliseconds": 100_000 + number}
        yield _posted("/v1/profiles:fetch", {"performanceRequirements": wanted})


def _data(num_models: int) -> Iterator[bytes]:
    for number in itertools.count():
        info = {"model": f"generated/model-{number % num_models:03d}", "modelServer": "vllm"}
        yield _posted("/v1/benchmarkingData:fetch", {"modelServerInfo": info})


def _unknown() -> Iterator[bytes]:
    for number in itertools.count():
        yield _get(f"/v1/recommendations?model=generated/modle-{number}")


def _cpu(load: Load, busy_s: float) -> dict[str, Any]:
    """Of the server, for each request; and how many it would answer alone on a core that others
    share."""
    each_s = max(busy_s, 1e-3) / max(len(load.latency_s), 1)
    return {"cpu_ms": round(each_s * 1e3, 3), "per_cpu_s": round(1.0 / each_s, 1)}


def _lag(load: Load) -> dict[str, Any]:
    return {f"client_lag_p{p:g}_ms": round(load.lag_percentile_s(p) * 1e3, 2) for p in (50, 99)}


def _fast(server: _Server, requests: Iterator[bytes], users: int, seconds: float) -> dict[str, Any]:
    """Closed loop."""
    before_s = server.cpu_s()
    load = closed("127.0.0.1", server.port, requests, users, seconds)
    return {**_told(load), **_cpu(load, server.cpu_s() - before_s)}


def _told(load: Load) -> dict[str, Any]:
    return {
        "rate_rps": round(load.rate_rps, 1),
        **{f"p{p:g}_ms": round(load.percentile_s(p) * 1e3, 2) for p in (50, 90, 99, 99.9)},
        "mean_bytes": round(load.num_bytes / max(len(load.latency_s), 1)),
        "statuses": load.statuses,
    }


def _make_table(home: Path, num_models: int) -> None:
    """A store without runs whose table is there already: what ``serve`` would have made of them."""
    folder = home / "store" / LOOKUP
    home.mkdir(parents=True, exist_ok=True)
    (home / "prices.yaml").write_text(PRICES)
    # First as the server finds it that has nothing new to look at, then the table in its place.
    refresh(RunIndex(FileStore(home / "store")), folder)
    make_table(folder, num_models * SETTINGS * LOADS)


class _Server:
    """``windtunnel serve`` on one core. ``start_s``: from its start to its first answer."""

    def __init__(self, home: Path, core: int) -> None:
        self._home = home
        self._core = core

    def __enter__(self) -> _Server:
        command = [str(Path(sys.executable).parent / "windtunnel"), "serve", "--port", "0"]
        home = self._home
        options = ["--store", str(home / "store"), "--prices", str(home / "prices.yaml")]
        began_s = now_s()
        self._process = subprocess.Popen(
            Seat(core=self._core).command([*command, *options]),
            env={**os.environ, "PYTHONPATH": str(HERE.parent)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise SystemExit(f"windtunnel serve ended ({self._process.wait(20)}); see above")
        url = said.split()[0]
        self.port = int(url.rpartition(":")[2])
        with urlopen(f"{url}/healthz", timeout=10) as reply:
            self.num_profiles = int(json.load(reply)["num_profiles"])
        self.start_s = now_s() - began_s
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def cpu_s(self) -> float:
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def rss_bytes(self) -> int:
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def own_bytes(self) -> int:
        """Without the pages of mapped files, which are the kernel's to take back."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


if __name__ == "__main__":
    main()
