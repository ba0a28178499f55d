"""How true, and at what cost: one load client at a time against a server that knows the truth.

    python -m benchmarks.peers --tools windtunnel,vllm --points open:400,closed:64 --repeats 3

Each run starts the paced C server on one core (50 ms to the first token, 10 ms a token, 64 tokens)
and one tool on the other, and sets what the tool reports against the server's own diary. The order
is: repeat, point, tool, so that a slow minute of the machine meets every tool. Each finished run is
one line of the raw file at once; the table is made from raw files alone (``--table FILE...``).
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.process import HERE, Seat, Weighed, build, paced_server, run_weighed
from benchmarks.table import markdown, percent, placed
from benchmarks.tools import TOOLS, Places, Point, Reported, Run, Tool
from benchmarks.truth import Truth, error_share, read_diary, truth_of

TTFT_S, ITL_S = 0.050, 0.010
_PERCENTILES = ("p50", "p99")


def parse_point(text: str, seconds: float) -> Point:
    """``open:RATE``, ``noop:RATE`` or ``closed:USERS``. Raise ValueError for anything else."""
    kind, _, number = text.partition(":")
    if kind in ("open", "noop") and float(number) > 0:
        return Point(rate=float(number), seconds=seconds, noop=kind == "noop")
    if kind == "closed" and int(number) > 0:
        return Point(users=int(number), seconds=seconds)
    raise ValueError(f"a point is open:RATE, noop:RATE or closed:USERS; found {text!r}")


def row(
    tool: str, point: Point, repeat: int, weighed: Weighed, truth: Truth, said: Reported, why: str
) -> dict[str, Any]:
    """All that one run gave, as the raw file keeps it. ``why``: what went wrong, if aught."""
    errors = {}
    for metric in ("ttft_s", "tpot_s", "itl_s"):
        ours, theirs = getattr(truth, metric), getattr(said, metric)
        for percentile in _PERCENTILES:
            errors[f"{metric}_{percentile}"] = (
                None  # no-op: the truth is some microseconds
                if point.noop
                else error_share(getattr(theirs, percentile, None), getattr(ours, percentile, None))
            )
    tokens, first_s = truth.num_tokens, truth.first_arrival_s
    before_s = None if first_s is None else weighed.cpu_until(first_s)
    return {
        "schema": "windtunnel.peers/1",
        "tool": tool,
        "point": point.name,
        "seconds": point.seconds,
        "repeat": repeat,
        "why": why,
        "offered_rate": point.rate,
        "reported": asdict(said),
        "truth": asdict(truth),
        "error": errors,
        "weighed": {k: v for k, v in asdict(weighed).items() if k != "cpu_at"},
        "cpu_s_before_first_request": before_s,
        "cpu_s_per_1000_tokens": _per_1000(weighed.cpu_s, tokens),
        "load_cpu_s_per_1000_tokens": None
        if before_s is None
        else _per_1000(weighed.cpu_s - before_s, tokens),
        "first_contact_s": _since(weighed, truth.first_contact_s),
        "first_request_s": _since(weighed, truth.first_arrival_s),
    }


def _per_1000(cpu_s: float, num_tokens: int) -> float | None:
    return 1e3 * cpu_s / num_tokens if num_tokens else None


def _since(weighed: Weighed, when_s: float | None) -> float | None:
    return None if when_s is None else when_s - weighed.started_s


def measure(
    tool: Tool, point: Point, repeat: int, places: Places, options: argparse.Namespace
) -> dict[str, Any]:
    """Run ``tool`` once at ``point``; never raises for what the tool does."""
    folder = Path(tempfile.mkdtemp(prefix=f"peers-{tool.name}-"))
    diary = folder / "server.bin"
    pace = (
        ["--noop"]
        if point.noop
        else ["--ttft-us", f"{TTFT_S * 1e6:.0f}", "--itl-us", f"{ITL_S * 1e6:.0f}"]
    )
    seat = Seat(core=options.server_core, nice=options.nice, realtime=options.realtime_server)
    with paced_server(diary, seat=seat, options=pace) as server:
        weighed = run_weighed(
            tool.command(Run(point=point, url=server.url, folder=folder, places=places)),
            seat=Seat(core=options.tool_core, nice=options.nice),
            sampler_core=options.server_core,
            timeout_s=options.timeout + point.seconds,
            output=folder / "output.txt",
            cwd=folder,
            env=tool.env,
        )
        server_cpu_s = server.cpu_s()
    truth = truth_of(read_diary(diary), num_tokens=point.num_tokens, ttft_s=TTFT_S, itl_s=ITL_S)
    said, why = Reported(), "" if weighed.exit_code == 0 else f"exit code {weighed.exit_code}"
    try:
        said = tool.read(folder)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        why = f"{why} no result: {type(error).__name__} {error}".strip()
    if options.keep:
        sys.stderr.write(f"kept {folder}\n")
    else:
        shutil.rmtree(folder)
    made = row(tool.name, point, repeat, weighed, truth, said, why)
    return {**made, "server_cpu_s": server_cpu_s}


def summary(row: dict[str, Any]) -> str:
    """One line for whoever waits."""
    error, rate = row["error"]["ttft_s_p99"], row["truth"]["arrival_rate"]
    words = [
        f"{row['point']} {row['tool']} {row['repeat']}:",
        "nothing sent" if rate is None else f"{rate:.1f}/s sent",
        "" if error is None else f"TTFT p99 {percent(error)}",
        row["why"],
        "; ".join(row["reported"]["reasons"]),
    ]
    return " ".join(word for word in words if word) + "\n"


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    beside = Path(sys.executable).parent
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--tools", default=",".join(TOOLS), help="which, in this order")
    parser.add_argument(
        "--points", default="open:50,open:400,closed:64", help="open:R, noop:R, closed:N"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="load per run")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=240.0, help="beyond the load, seconds")
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--tool-core", type=int, default=0)
    parser.add_argument("--nice", type=int, help="of server and tool; below 0 for a shared host")
    parser.add_argument("--realtime-server", action="store_true", help="SCHED_FIFO, as root")
    parser.add_argument("--peers", type=Path, default=Path("var/peers"), help="a venv per peer")
    parser.add_argument("--model", type=Path, help="folder with a tokenizer; default PEERS/model")
    parser.add_argument("--vllm", default=str(beside / "vllm"), help="command")
    parser.add_argument("--windtunnel", default=str(beside / "windtunnel"), help="command")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of raw files")
    parser.add_argument("--keep", action="store_true", help="keep what each run wrote")
    parser.add_argument("--table", type=Path, nargs="+", help="only make a table of raw files")
    parser.add_argument("--into", type=Path, help="with --table: a page to put them into")
    return parser.parse_args(argv)


def read_rows(files: Sequence[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def main(argv: Sequence[str] | None = None) -> None:
    options = _options(argv)
    if options.table:
        tables = markdown(read_rows(options.table))
        sys.stdout.write(tables)
        if options.into:
            options.into.write_text(placed(options.into.read_text(), tables))
        return
    points = [parse_point(text, options.seconds) for text in options.points.split(",")]
    tools = [TOOLS[name] for name in options.tools.split(",")]
    places = Places(
        peers=options.peers.resolve(),
        model=(options.model or options.peers / "model").resolve(),
        home=(options.out / "windtunnel-home").resolve(),
        vllm=tuple(shlex.split(options.vllm)),
        windtunnel=tuple(shlex.split(options.windtunnel)),
        epoll_client=build("epoll_client"),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    raw = options.out / f"peers-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.jsonl"
    rows = []
    for repeat in range(options.repeats):
        for point in points:
            for tool in tools:
                rows.append(measure(tool, point, repeat, places, options))
                with raw.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                sys.stderr.write(summary(rows[-1]))
    sys.stdout.write(markdown(rows))
    sys.stderr.write(f"raw: {raw}\n")


if __name__ == "__main__":
    main()
