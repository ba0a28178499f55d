"""``windtunnel collectives``: what an exchange between the workers of a training takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.cli.again import command_again
from harness.cli.collectives_tables import collective_tables
from harness.cli.exits import exit_code, told
from harness.cli.live import progress
from harness.cli.options import Json, Pools, Prices, Quiet, Ray, Store, store_of
from harness.cli.output import (
    check_writable,
    print_json,
    record_document,
    stderr,
    stdout,
    write_document,
)
from harness.cli.report import write_report
from harness.cli.session import deployer, run_context
from harness.cli.tables import heading, run_tables
from harness.errors import SpecError
from harness.pools import CPU
from harness.runner import run_spec
from harness.spec import Hardware, RunSpec
from harness.spec_checks import require_valid
from results.clock import SystemClock
from results.collectives import COLLECTIVES, parse_size, size_text
from results.lost import seal_lost
from results.record import Failed, RunRecord
from workloads.params import CollectivesWorkload

SCHEMA = "windtunnel.collectives/1"
_Opt = typer.Option
_FACTOR = 4  # between the sizes of a range


Workers = Annotated[
    str, _Opt("--workers", metavar="N,N…", help="Numbers of workers, each a run of its own.")
]
Sizes = Annotated[
    str, _Opt("--sizes", metavar="A-B|A,B…", help="Bytes; a range goes by factors of four.")
]
Names = Annotated[
    str, _Opt("--collectives", metavar="NAME,…", help=f"Of: {', '.join(COLLECTIVES)}.")
]
Backend = Annotated[
    Literal["usual", "gloo", "nccl", "xla"],
    _Opt("--backend", help="usual: gloo on CPUs, nccl on GPUs, xla on TPUs; xla runs on all."),
]
Accelerator = Annotated[
    str, _Opt("--accelerator", metavar="NAME", help="cpu, or a GPU or TPU by Ray's name.")
]
Topology = Annotated[
    str, _Opt("--topology", metavar="AxB", help="Of a TPU slice; --workers are then its hosts.")
]
Dtype = Annotated[Literal["float32", "bfloat16"], _Opt("--dtype", help="Of the elements.")]
Rounds = Annotated[
    int, _Opt("--rounds", min=1, metavar="N", help="Each visits every collective and size once.")
]
Calls = Annotated[
    int, _Opt("--calls", min=1, metavar="N", help="Calls back to back that are timed together.")
]
CpusPerWorker = Annotated[
    float, _Opt("--cpus-per-worker", metavar="N", help="Less than 1: ranks share cores.")
]
Out = Annotated[
    Path | None, _Opt("--out", metavar="FILE", help="Also write the JSON document here.")
]


def collectives(
    workers: Workers = "2",
    sizes: Sizes = "1KiB-64MiB",
    names: Names = "all_reduce,all_gather,reduce_scatter,all_to_all",
    backend: Backend = "usual",
    accelerator: Accelerator = CPU,
    topology: Topology = "",
    dtype: Dtype = "float32",
    rounds: Rounds = 20,
    calls: Calls = 5,
    cpus: CpusPerWorker = 1.0,
    ray: Ray = "local",
    pools: Pools = None,
    prices: Prices = None,
    store: Store = None,
    out: Out = None,
    report: Annotated[bool, _Opt(help="Write the HTML report.")] = True,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Time collectives over sizes and ranks, placed as a training would be.

    algbw and busbw are those of nccl-tests; every result is checked; α and β are fitted for each
    collective and number of ranks. Every number of workers is a record.

    Examples: `windtunnel collectives --workers 2,4`,
    `windtunnel collectives --accelerator H100 --workers 8 --sizes 1MiB-1GiB --out nccl.json`,
    `windtunnel collectives --backend xla --accelerator TPU-V6E --topology 4x4 --workers 4`
    """
    with told(as_json):
        check_writable("--out", out)
        workloads = [
            CollectivesWorkload(
                collectives=_words(names),
                sizes_bytes=_sizes(sizes),
                num_workers=n,
                dtype=dtype,
                num_rounds=rounds,
                calls_per_round=calls,
                cpus_per_worker=cpus,
                backend=backend,
            )
            for n in _counts(workers)
        ]
        specs = [_spec(workload, accelerator, topology) for workload in workloads]
        records = _made(specs, ray, pools, prices, store, quiet)
        kept = store_of(store)
        page = write_report(records, kept, command=command_again()) if report else None
        body = {
            "records": [record_document(r) for r in records],
            "report": str(page) if page else None,
        }
        if out is not None:
            write_document(out, "--out", SCHEMA, body)
        if as_json:
            print_json(SCHEMA, body)
        else:
            _print(records, page)
    raise typer.Exit(exit_code(records))


def _spec(workload: CollectivesWorkload, accelerator: str, topology: str) -> RunSpec:
    """Raises SpecError for what cannot be meant."""
    spec = RunSpec(
        name=f"collectives-{workload.num_workers}",
        workload=workload,
        hardware=(Hardware(accelerator=accelerator, topology=topology),),
    )
    require_valid(spec)
    return spec


def _made(
    specs: Sequence[RunSpec],
    ray: str,
    pools: Path | None,
    prices: Path | None,
    store: str | None,
    quiet: bool,
) -> list[RunRecord]:
    kept = store_of(store)
    kept.prepare()
    clock = SystemClock()
    with progress(stderr(), clock, quiet) as shown:
        seal_lost(kept, clock)
        with deployer(ray, pools, clock, shown) as ours:
            context = run_context(ours, kept, clock, shown, prices)
            return [record for spec in specs for record in run_spec(spec, context)]


def _print(records: Sequence[RunRecord], page: Path | None) -> None:
    console = stdout()
    for record in records:
        if isinstance(record.outcome, Failed):
            console.print(run_tables(record))
            continue
        console.print(heading(record))
        for table in collective_tables(record.measurements):
            console.print(table)
        for doubt in record.doubts:
            console.print(f"  {doubt.code}: {doubt.message}", markup=False, soft_wrap=True)
    if page is not None:
        console.print(f"\nreport  {page}", soft_wrap=True)


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _counts(text: str) -> tuple[int, ...]:
    """Raises SpecError."""
    words = _words(text)
    if not words or not all(word.isdecimal() and int(word) >= 1 for word in words):
        raise SpecError(f"--workers {text}: accepted: whole numbers from 1, like 2,4,8")
    return tuple(int(word) for word in words)


def _sizes(text: str) -> tuple[int, ...]:
    """``1KiB,64KiB``, or ``1KiB-64MiB`` by factors of four, its end included. Raises SpecError."""
    try:
        if "-" not in text:
            return tuple(parse_size(word) for word in _words(text))
        low, high = (parse_size(end) for end in text.split("-"))
    except ValueError as error:
        raise SpecError(f"--sizes {text}: {error}") from None
    if not 1 <= low <= high:
        raise SpecError(f"--sizes {text}: {size_text(low)} to {size_text(high)} is no range")
    found = [low]
    while found[-1] * _FACTOR < high:
        found.append(found[-1] * _FACTOR)
    return tuple(dict.fromkeys([*found, high]))
