"""A winner's overrides beside what the engine itself chose where nothing was said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from harness.spec import RunSpec
from harness.specfile import spec_to_mapping
from results.errors import StoreError
from results.record import RunRecord
from results.store_files import FileStore
from tuners.loop import Found
from tuners.space import Value
from tuners.trial import Phase

_ENGINES = ("workload.engine_args.", "workload.env.")
NOT_TOLD = "not told by the engine"


def defaults_told(found: Found, base: RunSpec, store: FileStore) -> list[dict[str, Any]]:
    """Of each knob of the winner: its value there (null: left to the engine) and the default that
    the baseline's worker resolved. Empty without a winner or a baseline."""
    baseline = next((t for t in found.trials if t.phase is Phase.BASELINE), None)
    if found.winner is None or baseline is None or not baseline.evaluated.run_ids:
        return []
    try:
        record = store.get(baseline.evaluated.run_ids[-1])
    except StoreError:
        return []
    return [
        {"knob": path, "winner": value, "baseline": baseline_value(path, base, record)}
        for path, value in found.winner.config.items()
    ]


def baseline_value(path: str, base: RunSpec, record: RunRecord) -> Any:
    """What the study's run said of a knob; else what its worker resolved; else NOT_TOLD."""
    said = _at(spec_to_mapping(base), path)
    if said is not None:
        return said
    if not path.startswith(_ENGINES):
        return None
    name = path.rpartition(".")[2].replace("-", "_")
    resolved = record.resolved
    for facts in (resolved, resolved.get("observed") or {}):
        if name in facts:
            return facts[name]
    return NOT_TOLD


def defaults_table(defaults: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("knob", "winner", "baseline"):
        table.add_column(column)
    for row in defaults:
        winner = row["winner"]
        table.add_row(
            row["knob"].rpartition(".")[2],
            "the engine's default" if winner is None else _text(winner),
            _text(row["baseline"]),
        )
    return table


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _at(value: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list):
            value = value[int(part)] if part.isdecimal() and int(part) < len(value) else None
        else:
            return None
    return value
