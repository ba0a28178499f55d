"""``windtunnel report``: records as one page that opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.exits import told
from harness.cli.options import Json, Store, store_of
from harness.cli.output import print_json
from harness.errors import HarnessError
from harness.settings import read_settings
from results.record import RunRecord
from results.store import RecordStore


def report(
    run_ids: Annotated[
        list[str], typer.Argument(metavar="RUN…", help="Run ids, or their beginnings.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; .md for Markdown.")
    ] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Write a self-contained HTML page about one or more runs. It opens offline.

    Example: `windtunnel report 20261123T1700 --out run.html`
    """
    with told(as_json):
        kept = store_of(store)
        records = [kept.get(run_id) for run_id in run_ids]
        path = write_report(records, kept, out=out)
    if as_json:
        print_json("windtunnel.report/1", {"path": str(path), "runs": [r.run_id for r in records]})
    else:
        print(path)  # noqa: T201


def write_report(
    records: Sequence[RunRecord],
    store: RecordStore,
    *,
    out: Path | None = None,
    command: str = "",
) -> Path:
    """Render and write; returns the file's absolute path. Raises HarnessError when it cannot."""
    # Altair and pandas take a second to import, and most commands draw nothing.
    from reports.html import render_html
    from reports.markdown import render_markdown
    from reports.run_report import run_report

    path = out or read_settings().reports_dir / f"{records[0].run_id}.html"
    document = run_report(records, store.table, command=command)
    text = render_markdown(document) if path.suffix == ".md" else render_html(document)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HarnessError(
            f"cannot write the report to {path}: {error.strerror or error}; "
            "name another place with --out"
        ) from None
    return path.resolve()
