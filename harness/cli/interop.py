"""``windtunnel import`` and ``windtunnel export``: other tools' results in, other formats out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table

from harness.cli.exits import Exit, told
from harness.cli.options import Json, Store, store_of
from harness.cli.output import check_writable, print_json, stderr, stdout
from harness.errors import HarnessError
from results.clock import SystemClock
from results.errors import DuplicateRecord, NotExportable
from results.interop.assemble import Imported
from results.interop.importing import import_path
from results.interop.llmd import llmd_report
from results.interop.requests_csv import requests_csv
from results.interop.sanity import Refused
from results.interop.source import Format
from results.record import Invalid, RunRecord
from results.samples import RequestSamples
from results.store import RecordStore
from results.store_compact import adopt
from results.store_files import FileStore


class In(StrEnum):
    """``auto``, or what must be there."""

    AUTO = "auto"
    VLLM = Format.VLLM.value
    GUIDELLM = Format.GUIDELLM.value
    AIPERF = Format.AIPERF.value
    INFERENCE_PERF = Format.INFERENCE_PERF.value
    AICONFIGURATOR = Format.AICONFIGURATOR.value


class Out(StrEnum):
    LLMD = "llmd-0.2"
    REQUESTS_CSV = "requests-csv"


def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Result files, or a tool's result folder.")
    ],
    format_: Annotated[
        In, typer.Option("--format", help="Refuse what is not this tool's result.")
    ] = In.AUTO,
    name: Annotated[str, typer.Option(help="Name of the records; otherwise tool and model.")] = "",
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Take over what vllm bench serve, GuideLLM, AIPerf or inference-perf measured, or
    AIConfigurator's table of measured points.

    The records are marked `imported`, carry what to doubt about them, and are never counted as
    measured here. What is in the store already is left as it is. Nothing is imported unless every
    file can be read. A row that holds what cannot be (a negative latency, a p99 below its p50, a
    date to come) is refused by name, and the rest of its file is imported: exit code 4.

    Examples: `windtunnel import results.json` ·
    `windtunnel import artifacts/my-aiperf-run --name nightly-chat` ·
    `windtunnel import benchmarks.json --format guidellm --json`
    """
    wanted = None if format_ is In.AUTO else Format(format_.value)
    refused: list[Refused] = []
    with told(as_json):
        found = [
            (path, i)
            for path in files
            for i in import_path(path, wanted, name, on_refused=refused.append)
        ]
        sealed = _seal_all(found, store_of(store)) if found else []
    if as_json:
        runs = [_told(path, record, known) for path, record, known in sealed]
        body = {"runs": runs, "refused": [asdict(row) for row in refused]}
        print_json("windtunnel.import/1", body)
    else:
        _show(sealed)
    _tell_refused(refused, Counter(str(path) for path, _, _ in sealed))
    raise typer.Exit(Exit.INVALID if refused else Exit.OK)


def _tell_refused(refused: Sequence[Refused], taken: Mapping[str, int]) -> None:
    console = stderr()
    for row in refused[:_MOST_LISTED]:
        console.print(f"refused: {row}", soft_wrap=True)
    if len(refused) > _MOST_LISTED:
        console.print(f"and {len(refused) - _MOST_LISTED} more (all: --json)")
    for path, number in Counter(row.file for row in refused).items():
        rows = "1 row was" if number == 1 else f"{number} rows were"
        console.print(f"{path}: {rows} refused, {taken.get(path, 0)} imported", soft_wrap=True)


def _show(sealed: list[Sealed]) -> None:
    if not sealed:
        return
    if len(sealed) > _MOST_LISTED:
        stdout().print(_summary(sealed))
    else:
        stdout().print(_table(sealed))
    for _, record, _ in sealed:
        for doubt in record.doubts:
            if doubt.invalidates:
                stdout().print(
                    f"{record.run_id} is invalid, {doubt.code}: {doubt.message}", soft_wrap=True
                )
    stdout().print("each with its doubts: windtunnel runs show RUN")


_MOST_LISTED = 40
_MANY = 50  # from here on, a file for each day is written instead of one for each record

Sealed = tuple[Path, RunRecord, bool]


def _seal_all(found: Sequence[tuple[Path, Imported]], store: FileStore) -> list[Sealed]:
    """Each record as kept, and whether it was there before."""
    bare = [imported.record for _, imported in found if not imported.tables]
    if len(bare) < _MANY:
        return [(path, *_seal(imported, store)) for path, imported in found]
    new = {record.run_id for record in adopt(store, bare, SystemClock())}
    return [
        (path, *_seal(imported, store))
        if imported.tables
        else (path, imported.record, imported.record.run_id not in new)
        for path, imported in found
    ]


def _summary(sealed: Sequence[Sealed]) -> Table:
    """A line for each file of many runs."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("file", "from"):
        table.add_column(column)
    for column in ("runs", "imported", "there already", "invalid"):
        table.add_column(column, justify="right")
    for path in dict.fromkeys(path for path, _, _ in sealed):
        of_file = [(record, known) for p, record, known in sealed if p == path]
        table.add_row(
            str(path),
            of_file[0][0].spec["imported"]["tool"],
            str(len(of_file)),
            str(sum(not known for _, known in of_file)),
            str(sum(known for _, known in of_file)),
            str(sum(isinstance(record.outcome, Invalid) for record, _ in of_file)),
        )
    return table


def _seal(imported: Imported, store: RecordStore) -> tuple[RunRecord, bool]:
    """The record as kept, and whether it was there before. It is not begun first: nothing runs
    that could be lost."""
    try:
        return store.seal(imported.record, imported.tables), False
    except DuplicateRecord:
        return store.get(imported.record.run_id), True


def _told(path: Path, record: RunRecord, known: bool) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "name": record.name,
        "file": str(path),
        "tool": record.spec["imported"]["tool"],
        "tool_version": record.spec["imported"]["version"],
        "evidence": record.evidence.value,
        "outcome": record.outcome.kind,
        "reasons": list(record.outcome.reasons) if isinstance(record.outcome, Invalid) else [],
        "num_requests": _num_requests(record),
        "has_requests_table": bool(record.artifacts),
        "doubts": [{"code": d.code, "message": d.message} for d in record.doubts],
        "unmapped": record.resolved["unmapped"],
        "already_there": known,
    }


def _num_requests(record: RunRecord) -> int:
    return next((m.n for m in record.measurements if m.metric == "error_share"), 0)


def _table(sealed: list[tuple[Path, RunRecord, bool]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("run", "name", "from", "outcome"):
        table.add_column(column, no_wrap=column == "run")
    for column in ("requests", "doubts"):
        table.add_column(column, justify="right")
    table.add_column("")
    for _, record, known in sealed:
        source = record.spec["imported"]
        table.add_row(
            record.run_id,
            record.name,
            f"{source['tool']} {source['version']}",
            record.outcome.kind,
            str(_num_requests(record)),
            str(len(record.doubts)),
            "was there already" if known else "imported",
        )
    return table


def export(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run id, or its beginning.")],
    format_: Annotated[
        Out, typer.Option("--format", help="llm-d's Benchmark Report, or the requests as CSV.")
    ] = Out.LLMD,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write (.yaml for YAML); otherwise stdout."),
    ] = None,
    allow_invalid: Annotated[
        bool, typer.Option("--allow-invalid", help="Write an invalid run too; the report says so.")
    ] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Write one run in another project's format: llm-d Benchmark Report 0.2, or requests as CSV.

    Examples: `windtunnel export 20261123T1700 --out report.yaml` ·
    `windtunnel export 20261123T1700 --format requests-csv --out requests.csv`
    """
    with told(as_json):
        check_writable("--out", out)
        kept = store_of(store)
        record = kept.get(run_id)
        table = kept.table(record, "requests")
        samples = RequestSamples.from_table(table) if table is not None else None
        document: Any
        if format_ is Out.LLMD:
            document = llmd_report(record, samples, allow_invalid=allow_invalid)
        else:
            document = _csv(record, samples)
        if out is not None:
            _write(out, document)
    if as_json:
        body = {"path": str(out.resolve())} if out is not None else {"document": document}
        about = {"run_id": record.run_id, "format": format_.value}
        print_json("windtunnel.export/1", {**about, **body})
    elif out is not None:
        print(out.resolve())  # noqa: T201
    else:
        print(_text(document, ".json"), end="")  # noqa: T201


def _csv(record: RunRecord, samples: RequestSamples | None) -> str:
    if samples is None:
        raise NotExportable(f"run {record.run_id} has no requests table")
    return requests_csv(samples)


def _text(document: Any, suffix: str) -> str:
    if isinstance(document, str):
        return document
    if suffix in (".yaml", ".yml"):
        written: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        return written
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _write(path: Path, document: Any) -> None:
    try:
        path.write_text(_text(document, path.suffix), encoding="utf-8")
    except OSError as error:
        raise HarnessError(
            f"cannot write {path}: {error.strerror or error}; name another place with --out"
        ) from None
