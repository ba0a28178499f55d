"""How fast the recommendation table answers: ``python -m benchmarks.lookup [--profiles 1000000]``.

Profiles are generated (three runs each, nothing in them was measured), written once, and opened by
a fresh process, which is asked a mixed load of questions one after the other on one core. Printed
are the time to open, p50, p99 and the highest answer time, questions per second, and the resident
memory with all mapped pages that were touched. HTTP is not in it.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import psutil

from benchmarks.many_profiles import make_table
from results.lookup.table import open_lookup
from results.prices import PriceBook, PriceTable
from results.recommendation.question import Objective, Question, Target

NOW = datetime(2026, 11, 24, tzinfo=UTC)
USD = {
    "A100": 3.0, "H100": 5.0, "H200": 6.0, "B200": 9.0, "L4": 0.7, "TPU-V5LITEPOD": 1.2,
    "TPU-V5P": 4.2, "TPU-V6E": 2.7,
}  # fmt: skip
SHAPES = ((256, 128), (1024, 128), (1024, 1024), (8192, 1024), (2048, 512), (900, 120))


def questions(num: int, models: list[str], seed: int) -> Iterator[Question]:
    """Every one different: model, lengths, load, limits, objective; one in ten cannot be met."""
    draw = random.Random(seed)
    for _ in range(num):
        inputs, outputs = draw.choice(SHAPES)
        hopeless = draw.random() < 0.1
        limit_s = 1e-6 if hopeless else draw.uniform(0.05, 2.0)
        targets = [Target(metric="ttft_s", limit_s=limit_s, percentile=draw.choice([None, 99]))]
        if draw.random() < 0.5:
            targets.append(Target(metric="tpot_s", limit_s=draw.uniform(0.01, 0.2)))
        yield Question(
            model=draw.choice(models),
            input_tokens=inputs,
            output_tokens=outputs,
            rate_rps=draw.choice([None, draw.uniform(0.5, 200.0)]),
            targets=tuple(targets),
            objective=draw.choice(list(Objective)),
            accelerators=draw.choice([(), (), ("H100",), ("TPU-V6E", "H100")]),
            probability=draw.choice([None, None, None, 0.9]),
            limit=draw.choice([1, 3, 10]),
        )


def ask(folder: Path, num: int, seed: int) -> dict[str, float]:
    """In this process: it has opened nothing before."""
    table = PriceTable(
        as_of=date(2026, 10, 1),
        source="made up",
        usd_per_chip_hour={name: {"on-demand": usd} for name, usd in USD.items()},
    )
    begun = time.perf_counter()
    lookup = open_lookup(folder, PriceBook(tables=(table,)))
    models = [m.model for m in lookup.models()]
    lookup.answer(next(questions(1, models, seed + 1)), NOW)
    opened_s = time.perf_counter() - begun
    asked = list(questions(num, models, seed))
    times, none = [], 0
    cpu = time.process_time()
    for question in asked:
        start = time.perf_counter()
        answer = lookup.answer(question, NOW)
        times.append(time.perf_counter() - start)
        none += answer.no_answer is not None
    cpu = time.process_time() - cpu
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "num_profiles": lookup.num_profiles,
        "num_questions": num,
        "share_without_answer": none / num,
        "open_s": opened_s,
        "p50_ms": p50 * 1e3,
        "p99_ms": p99 * 1e3,
        "max_ms": max(times) * 1e3,
        "questions_per_s": num / sum(times),
        "questions_per_cpu_s": num / cpu,
        "rss_mib": psutil.Process().memory_info().rss / 2**20,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, help="keep the table here, and use it if it is there"
    )
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask:
        print(json.dumps(ask(given.ask, given.questions, given.seed)))  # noqa: T201
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        begun = time.perf_counter()
        make_table(folder, given.profiles, given.seed)
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        print(  # noqa: T201
            f"{size / 2**20:.0f} MiB of generated profiles, there in "
            f"{time.perf_counter() - begun:.0f} s",
            file=sys.stderr,
        )
        words = [sys.executable, "-m", "benchmarks.lookup", "--ask", str(folder)]
        words += ["--questions", str(given.questions), "--seed", str(given.seed)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        for name, value in json.loads(done.stdout).items():
            print(f"{name:22} {value:.4g}")  # noqa: T201


if __name__ == "__main__":
    main()
