"""A grid as a file says it: every configuration of a space with its true answer. Pure but for the
reading.

JSON lines. The first may be a header, ``{"grid": {…}}``; each other is one configuration:

* *results*: a column that ``COLUMNS`` names, or a metric of ours with its statistic in its name
  (``mfu``, ``step_time_s_p99``). ``null`` or left out: it did not run.
* ``ok`` and ``warn``: it ran (default true), and it should not have (default false).
* ``forecast_COLUMN``: what a forecast says of that column, where the file brings its own.
* ``id``, ``mem``, ``err`` and ``error`` are read by nobody.
* every other column is a knob. Numbers are an ordinal, anything else (and what the header calls
  ``categorical``) has no order; a column with one value is no knob.

The header may have any of ``model``, ``chip``, ``input_tokens``, ``output_tokens`` (without the
first two nothing is forecast), ``goals``, ``limits`` ({column: limit in the column's unit}),
``categorical``, ``noise`` ([usual, rare, share of the rare]), and ``max_gpus``: those of a node,
more than which tp × pp never runs (8).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from results.errors import UnknownMetric
from results.measurement import one_statistic
from tuners.space import Categorical, Domain, Knob, Ordinal

FORECAST = "forecast_"
_FLAGS = ("ok", "warn", "err", "error", "mem", "id")
_HEADER = {
    "model",
    "chip",
    "input_tokens",
    "output_tokens",
    "goals",
    "limits",
    "categorical",
    "noise",
    "max_gpus",
}


class WrongGrid(ValueError):
    """A file that is no grid, or a question that its columns cannot answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Which statistic a column is; its value times ``scale`` is in the metric's own unit."""

    metric: str
    statistic: str = "value"
    scale: float = 1.0

    @property
    def name(self) -> str:
        return self.metric if self.statistic == "value" else f"{self.metric}_{self.statistic}"


COLUMNS: Mapping[str, Column] = {
    "tpsg": Column(metric="output_throughput_per_chip"),
    "ttft": Column(metric="ttft_s", statistic="p99", scale=1e-3),
    "tpot": Column(metric="tpot_s", statistic="p99", scale=1e-3),
    "itl": Column(metric="itl_s", statistic="p99", scale=1e-3),
    "e2e": Column(metric="e2e_s", statistic="p99", scale=1e-3),
    "step": Column(metric="step_time_s", statistic="p50", scale=1e-3),
    "usd": Column(metric="cost_per_million_output_tokens_usd"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """``rows`` by the values of ``knobs``; ``constants`` are the columns with one value."""

    source: str
    header: Mapping[str, Any]
    rows: Mapping[tuple[Any, ...], Mapping[str, Any]]
    knobs: tuple[Knob, ...]
    results: tuple[str, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)
    num_repeated: int = 0

    def place(self, source: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(source[knob.path] for knob in self.knobs)

    @property
    def num_absent(self) -> int:
        """Combinations of the knobs' values of which the file says nothing."""
        sizes = [len(_values(knob.domain)) for knob in self.knobs]
        return int(np.prod(sizes)) - len(self.rows)


def column_named(name: str) -> Column | None:
    """None: not a result."""
    if name in COLUMNS:
        return COLUMNS[name]
    try:
        metric, statistic = one_statistic(name)
    except UnknownMetric:
        return None
    return Column(metric=metric, statistic=statistic)


def read_grid(path: Path) -> Table:
    """Raises WrongGrid, with the line, for what is none."""
    if not path.is_file():
        raise WrongGrid(f"there is no grid {path}; name one with --grid")
    header: Mapping[str, Any] = {}
    rows: list[Mapping[str, Any]] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            found = _object(path, number, line)
            if set(found) == {"grid"} and not rows:
                header = _header(path, found["grid"])
            else:
                rows.append(found)
    return table_of(rows, header, source=str(path))


def table_of(rows: Sequence[Mapping[str, Any]], header: Mapping[str, Any], *, source: str) -> Table:
    """Of rows as a file has them. Raises WrongGrid."""
    if not rows:
        raise WrongGrid(f"{source} has no configuration")
    names = list(dict.fromkeys(name for row in rows for name in row))
    results = tuple(n for n in names if column_named(n) is not None)
    free = [n for n in names if n not in results and n not in _FLAGS and not n.startswith(FORECAST)]
    if not results:
        raise WrongGrid(
            f"{source}: none of its columns is a result ({', '.join(names)}); a result is one of "
            f"{', '.join(COLUMNS)} or a metric of docs/metrics.md"
        )
    for name in free:
        bare = sum(name not in row for row in rows)
        if bare:
            raise WrongGrid(f"{source}: {bare} of {len(rows)} rows do not say their {name}")
    values = {
        name: list(dict.fromkeys(_plain(source, name, r[name]) for r in rows)) for name in free
    }
    knobs = tuple(
        Knob(path=name, domain=_domain(source, name, found, header.get("categorical", ())))
        for name, found in values.items()
        if len(found) > 1
    )
    if not knobs:
        raise WrongGrid(f"{source}: no column has two values; there is nothing to choose")
    together: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        together.setdefault(tuple(row[k.path] for k in knobs), []).append(row)
    return Table(
        source=source,
        header=header,
        rows={place: _one(alike, results) for place, alike in together.items()},
        knobs=knobs,
        results=results,
        constants={name: found[0] for name, found in values.items() if len(found) == 1},
        num_repeated=len(rows) - len(together),
    )


def _object(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise WrongGrid(f"{path}, line {number}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise WrongGrid(f"{path}, line {number}: a configuration is an object of columns")
    return found


def _header(path: Path, found: Any) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise WrongGrid(f"{path}: the header is an object of {', '.join(sorted(_HEADER))}")
    strange = sorted(set(found) - _HEADER)
    if strange:
        raise WrongGrid(
            f"{path}: its header says {', '.join(strange)}; it may say {', '.join(sorted(_HEADER))}"
        )
    return found


def _plain(source: str, name: str, value: Any) -> Any:
    if isinstance(value, list | dict):
        raise WrongGrid(
            f"{source}: {name} is {value!r}; a knob's value is a number, a word or null"
        )
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _values(domain: Domain) -> tuple[Any, ...]:
    assert isinstance(domain, Ordinal | Categorical)
    return domain.values


def _domain(source: str, name: str, found: Sequence[Any], categorical: Iterable[str]) -> Domain:
    given = [value for value in found if value is not None]
    nothing = (None,) if len(given) < len(found) else ()
    if name not in categorical and all(_is_number(v) for v in given):
        return Ordinal(values=(*nothing, *sorted(given)))
    kinds = {type(v) for v in given}
    if len(kinds) > 1 and name not in categorical:
        raise WrongGrid(
            f"{source}: {name} is a number in some rows and a word in others; say "
            f'"categorical": ["{name}"] in the header if that is meant'
        )
    return Categorical(values=(*nothing, *sorted(given, key=str)))


def _one(alike: Sequence[Mapping[str, Any]], results: Sequence[str]) -> Mapping[str, Any]:
    """Repeats of one configuration: the median of each result over those that ran."""
    if len(alike) == 1:
        return alike[0]
    ran = [row for row in alike if row.get("ok", True) and not row.get("warn")]
    if not ran:
        return alike[0]
    middle = {
        name: float(np.median([row[name] for row in ran if row.get(name) is not None]))
        for name in results
        if any(row.get(name) is not None for row in ran)
    }
    return {**ran[0], **middle}
