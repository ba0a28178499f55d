"""What a very long load costs after it: a spool of answers that nobody had to wait for, read,
measured, judged and sealed, with the memory and the CPU of each step.

    python -m benchmarks.million --requests 1000000

The answers are streams as vLLM writes them, one chunk a read, put into the client's own spool out
of order as they would end. What comes after is the client's own code. A million of 64 tokens are
17 GB in the folder for temporary files (TMPDIR) while it runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from harness.judge import judge_load, measure_load
from harness.load.collect import HowToRead, collect
from harness.load.spool import Spool
from harness.load.wire import Exchange
from results.client import ClientReport, WorkerReport
from results.samples import RequestSamples
from results.store_files import FileStore
from results.testing import make_record
from workloads.traffic.spec import ConstantArrivals, FixedLength, Traffic

RATE_RPS = 1000.0
TTFT_S, ITL_S = 0.05, 0.01
_AT_ONCE = 1024  # answers whose order of ending is shuffled
_MIB = 2**20


def answer(num_tokens: int) -> list[bytes]:
    """One read for the head, one for each token: HTTP chunks of a stream with a running count."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    parts = [head]
    for k in range(1, num_tokens + 1):
        chunk = {
            "id": "cmpl-0123456789abcdef",
            "object": "text_completion",
            "created": 1700000000,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "text": " s",
                    "logprobs": None,
                    "finish_reason": "length" if k == num_tokens else None,
                }
            ],
            "usage": {"prompt_tokens": 64, "total_tokens": 64 + k, "completion_tokens": k},
        }
        said = json.dumps(chunk, separators=(",", ":")).encode()
        parts.append(_http_chunk(b"data: %b\n\n" % said))
    parts[-1] += _http_chunk(b"data: [DONE]\n\n") + _http_chunk(b"")
    return parts


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def exchanges(num_requests: int, num_tokens: int, seed: int = 0) -> Iterator[Exchange]:
    """In the order in which they end; every time differs from the schedule's by some noise."""
    rng = np.random.default_rng(seed)
    parts = answer(num_tokens)
    for first in range(0, num_requests, _AT_ONCE):
        for index in first + rng.permutation(min(_AT_ONCE, num_requests - first)):
            intended_s = float(index) / RATE_RPS
            gaps = rng.gamma(25.0, ITL_S / 25.0, num_tokens + 1)
            gaps[0], gaps[1] = 0.001, TTFT_S
            made = Exchange(int(index), intended_s, b"", is_warmup=False)
            made.dispatched_s, made.written_s = intended_s + 1e-4, intended_s + 1.5e-4
            made.read_s = (intended_s + gaps.cumsum()).tolist()
            made.done_s = made.read_s[-1]
            made.parts = parts
            made.num_bytes = sum(map(len, parts))
            yield made


class Steps:
    """CPU seconds of each step, and the highest resident memory of the process by its end."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        cpu_s, begun_s = time.process_time(), time.monotonic()
        yield
        memory = memory_mib()
        self.rows.append(
            {
                "step": name,
                "cpu_s": round(time.process_time() - cpu_s, 2),
                "wall_s": round(time.monotonic() - begun_s, 2),
                **memory,
            }
        )
        sys.stderr.write(f"{self.rows[-1]}\n")


def memory_mib() -> dict[str, int]:
    """``peak`` counts what the process looked at of files as well, which the kernel takes back when
    it wants; ``anonymous`` is what it cannot, now."""
    status = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in status if line.endswith(" kB")}
    return {
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // _MIB,
        "anonymous_mib": int(found["RssAnon"]) * 1024 // _MIB,
    }


def traffic_of(num_requests: int, num_tokens: int) -> Traffic:
    return Traffic(
        arrivals=ConstantArrivals(rate_rps=RATE_RPS),
        prompt_tokens=FixedLength(tokens=64),
        output_tokens=FixedLength(tokens=num_tokens),
        num_requests=num_requests,
        num_warmup_requests=0,
    )


def client_of(samples: RequestSamples) -> ClientReport:
    worker = WorkerReport(
        worker=0,
        host="benchmark",
        num_requests=samples.num_requests,
        cpu_share=0.0,
        max_loop_stall_s=0.0,
        mean_loop_stall_s=0.0,
    )
    return ClientReport(dialect="full", max_in_flight=_AT_ONCE, workers=(worker,))


def run(num_requests: int, num_tokens: int) -> list[dict[str, Any]]:
    steps = Steps()
    with steps.step("imports"):
        pass
    spool = Spool()
    with steps.step("spool"):
        for number, exchange in enumerate(exchanges(num_requests, num_tokens)):
            spool.put(exchange)
            if number % _AT_ONCE == 0:
                spool.flush()  # a load leaves the writer its time; this one comes all at once
        spool.flush()
    with steps.step("read"):
        how = HowToRead(num_prompt_tokens=lambda _: 64)
        samples = collect(spool.read(), origin_s=0.0, how=how)
        spool.close()
    assert samples.num_requests == num_requests
    assert len(samples.event_s) == num_requests * num_tokens
    assert not samples.error.any()
    client, slo = client_of(samples), {"ttft_s": 1.0}
    with steps.step("measure"):
        measured = measure_load(samples, client, slo, 0)
    itl = next(m for m in measured if (m.metric, m.statistic) == ("itl_s", "mean"))
    assert itl.value is not None and abs(itl.value - ITL_S) < 0.01 * ITL_S
    with steps.step("judge"):
        judge_load(samples, traffic_of(num_requests, num_tokens), client)
    with steps.step("seal"), tempfile.TemporaryDirectory() as folder:
        record = make_record(measurements=measured)
        kept = FileStore(folder).seal(record, {"requests": samples.to_table()})
    assert kept.artifacts[0].num_rows == num_requests
    steps.rows[-1]["table_mib"] = kept.artifacts[0].num_bytes // _MIB
    return steps.rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    rows = run(options.requests, options.tokens)
    sys.stdout.write(json.dumps({"requests": options.requests, "steps": rows}) + "\n")


if __name__ == "__main__":
    main()
