"""What was read beside a load: the server's own numbers, its devices, its host, on one time axis.

One long table, so that a source nobody has thought of yet needs no new column. A source that is not
there, or stops answering, is a row with its reason and never a run that fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from results.samples import FloatColumn, IntColumn, TextColumn

# Rows that speak of the sampling itself, not of what was sampled.
READ_S = "read_s"  # how long one read took; its row's time is the middle of the read
ABSENT = "absent"  # the source was never there; ``label`` says why
GAP = "gap"  # one read failed; ``label`` says why
RESOLUTION_S = "resolution_s"  # by how much the axis may be off, where clocks had to be compared
_NOTES = (READ_S, ABSENT, GAP, RESOLUTION_S)

_TEXTS = ("source", "name", "replica", "label")


class Row(NamedTuple):
    """One reading. ``label`` tells series of one name apart: ``core=3``, ``gpu=0``, ``le=0.1``."""

    t_s: float
    source: str
    name: str
    value: float
    replica: str = ""
    label: str = ""


class Series(NamedTuple):
    """The readings of one series: times ascending (n,), values (n,)."""

    t_s: FloatColumn
    value: FloatColumn

    def within(self, start_s: float, end_s: float) -> FloatColumn:
        """The values read in [start, end]."""
        return self.value[(self.t_s >= start_s) & (self.t_s <= end_s)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceNote:
    """How the sampling of one source went. ``absent`` and ``last_gap`` are reasons, "" for none."""

    source: str
    num_reads: int
    num_gaps: int
    mean_read_s: float | None
    max_read_s: float | None
    absent: str = ""
    last_gap: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Telemetry:
    """One row per reading; n rows. Kept with the record, ``t_s`` counts from the load's zero."""

    t_s: FloatColumn  # (n,)
    source: TextColumn  # (n,) vllm, host, nvml, tpu
    name: TextColumn  # (n,) what was read: vLLM's own metric names, or ours with the unit in it
    replica: TextColumn  # (n,) which server and engine; "" where there is no such thing
    label: TextColumn  # (n,)
    value: FloatColumn  # (n,) NaN in ``absent`` and ``gap`` rows

    @property
    def num_rows(self) -> int:
        return len(self.t_s)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Telemetry:
        """The rows, in order of time; rows of one time stay as they came."""
        ordered = sorted(rows, key=lambda row: row.t_s)

        def text(name: str) -> TextColumn:
            return np.array([getattr(row, name) for row in ordered], dtype=object)

        return cls(
            t_s=np.array([row.t_s for row in ordered], dtype=np.float64),
            source=text("source"),
            name=text("name"),
            replica=text("replica"),
            label=text("label"),
            value=np.array([row.value for row in ordered], dtype=np.float64),
        )

    @classmethod
    def joined(cls, parts: Sequence[Telemetry]) -> Telemetry:
        """All rows of all of them, in order of time."""
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls)}
        if not parts:
            return cls.of(())
        whole = {name: np.concatenate(found) for name, found in columns.items()}
        order = np.argsort(whole["t_s"], kind="stable")
        return cls(**{name: values[order] for name, values in whole.items()})

    def of_replica(self, replica: str) -> Telemetry:
        """The rows of one replica alone."""
        mine = self.replica == replica
        return Telemetry(**{f.name: getattr(self, f.name)[mine] for f in fields(self)})

    def as_replica(self, replica: str) -> Telemetry:
        """The same readings, all said to be of ``replica``."""
        return replace(self, replica=np.full(self.num_rows, replica, dtype=object))

    def moved(self, by_s: float) -> Telemetry:
        """The same readings on another axis: every time plus ``by_s``."""
        return replace(self, t_s=self.t_s + by_s)

    def plus(self, rows: Iterable[Row]) -> Telemetry:
        """With these rows too."""
        mine = zip(
            self.t_s, self.source, self.name, self.value, self.replica, self.label, strict=True
        )
        return Telemetry.of([*(Row(*row) for row in mine), *rows])

    @property
    def resolution_s(self) -> float:
        """The bound of the axis' error: zero where everything was read off one clock."""
        return float(self.value[self.name == RESOLUTION_S].sum())

    def to_table(self) -> pa.Table:
        columns = {"t_s": self.t_s}
        columns |= {name: pa.array(list(getattr(self, name)), type=pa.string()) for name in _TEXTS}
        return pa.table({**columns, "value": self.value})

    @classmethod
    def from_table(cls, table: pa.Table) -> Telemetry:
        """The inverse of ``to_table``; columns added by a newer program are ignored."""

        def text(name: str) -> TextColumn:
            return np.array(table.column(name).to_pylist(), dtype=object).reshape(table.num_rows)

        def number(name: str) -> FloatColumn:
            return np.asarray(table.column(name).to_numpy(), dtype=np.float64)

        return cls(
            t_s=number("t_s"),
            source=text("source"),
            name=text("name"),
            replica=text("replica"),
            label=text("label"),
            value=number("value"),
        )

    def sources(self) -> tuple[SourceNote, ...]:
        """One note per source that was asked for, by name."""
        asked = self.source[np.isin(self.name.astype(str), (READ_S, ABSENT, GAP))]
        return tuple(self._note(str(source)) for source in sorted(set(asked)))

    def _note(self, source: str) -> SourceNote:
        mine = self.source == source
        reads = self.value[mine & (self.name == READ_S)]
        gaps = self.label[mine & (self.name == GAP)]
        absent = self.label[mine & (self.name == ABSENT)]
        return SourceNote(
            source=source,
            num_reads=len(reads),
            num_gaps=len(gaps),
            mean_read_s=float(reads.mean()) if len(reads) else None,
            max_read_s=float(reads.max()) if len(reads) else None,
            absent=str(absent[-1]) if len(absent) else "",
            last_gap=str(gaps[-1]) if len(gaps) else "",
        )

    def series(self, name: str) -> dict[tuple[str, str, str], Series]:
        """Every series of that name, by (source, replica, label)."""
        rows = np.flatnonzero((self.name == name) & ~np.isnan(self.value))
        return self._by_key(rows)

    def _by_key(self, rows: IntColumn) -> dict[tuple[str, str, str], Series]:
        at: dict[tuple[str, str, str], list[int]] = {}
        for row in rows.tolist():
            at.setdefault((self.source[row], self.replica[row], self.label[row]), []).append(row)
        return {key: Series(self.t_s[i], self.value[i]) for key, i in sorted(at.items())}

    def names(self) -> tuple[str, ...]:
        """What was read, the sampling's own notes left out."""
        return tuple(sorted(set(self.name) - set(_NOTES)))

    def total(self, name: str) -> Series | None:
        """The sum of all series of that name (of all replicas, all devices) over time.

        Series that were not read together are interpolated onto each other's times, and only the
        stretch that all of them cover is kept.
        """
        found = list(self.series(name).values())
        if not found:
            return None
        times = np.unique(np.concatenate([s.t_s for s in found]))
        start, end = max(s.t_s[0] for s in found), min(s.t_s[-1] for s in found)
        times = times[(times >= start) & (times <= end)]
        if not len(times):
            return None
        return Series(times, np.sum([np.interp(times, s.t_s, s.value) for s in found], axis=0))

    def mean(self, name: str) -> Series | None:
        """``total`` divided by the number of series."""
        total = self.total(name)
        return None if total is None else Series(total.t_s, total.value / len(self.series(name)))


def increase(series: Series, from_zero: bool = False) -> float | None:
    """How much a counter grew from its first reading to its last; None where it was read less than
    twice or went back (its process was started anew, so what lies between is not known).

    ``from_zero``: the counter came into being during the sampling, and all of it counts.
    """
    first = 0.0 if from_zero else series.value[0]
    if (len(series.value) < 2 and not from_zero) or np.any(np.diff(series.value) < 0):
        return None
    return float(series.value[-1] - first)


def increases(telemetry: Telemetry, name: str) -> dict[tuple[str, str, str], float | None]:
    """``increase`` of every series of that name. Counters that are exported only once they have
    been counted up (Ray's) begin at zero when they appear after their source's first read."""
    first_read: dict[str, float] = {}
    for row in np.flatnonzero(telemetry.name == READ_S).tolist():
        first_read.setdefault(telemetry.source[row], float(telemetry.t_s[row]))
    return {
        key: increase(series, from_zero=series.t_s[0] > first_read.get(key[0], np.inf))
        for key, series in telemetry.series(name).items()
    }


def counted(telemetry: Telemetry, name: str) -> float | None:
    """How much the counters ``name`` of all replicas grew over the sampling; None: not known."""
    grown = list(increases(telemetry, name).values())
    known = [more for more in grown if more is not None]
    return sum(known) if known and len(known) == len(grown) else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histogram:
    """Counts per bucket. Bucket i holds the values in (``bounds[i - 1]``, ``bounds[i]``]; below the
    first bound they are at least 0, and the last bound is infinite, as Prometheus has it."""

    bounds: FloatColumn  # (k,) upper bounds, ascending
    counts: FloatColumn  # (k,) not cumulative
    total: float  # sum of the values themselves

    @property
    def n(self) -> int:
        return round(float(self.counts.sum()))

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None

    def _bucket_of(self, rank: int) -> tuple[float, float]:
        """The bounds of the bucket that holds the value of that rank (0-based, ascending)."""
        at = int(np.searchsorted(np.cumsum(self.counts), rank, side="right"))
        at = min(at, len(self.bounds) - 1)
        return (float(self.bounds[at - 1]) if at else 0.0, float(self.bounds[at]))

    def quantile_bounds(self, q: float, num: int | None = None) -> tuple[float, float]:
        """Between which values the q-quantile (linear, as numpy's) must lie.

        ``num``: the quantile of an unknown subset of that many of the values; whatever the other
        ones are, it lies within. Raises ValueError for an empty histogram or a larger ``num``.
        """
        num = self.n if num is None else num
        if not 0 < num <= self.n:
            raise ValueError(f"a quantile of {num} of {self.n} values")
        rank = (num - 1) * q
        others = self.n - num
        return (
            self._bucket_of(int(np.floor(rank)))[0],
            self._bucket_of(int(np.ceil(rank)) + others)[1],
        )

    def mean_bounds(self, num: int | None = None) -> tuple[float, float]:
        """Between which values the mean of an unknown subset of ``num`` values must lie."""
        num = self.n if num is None else num
        if not 0 < num <= self.n:
            raise ValueError(f"a mean of {num} of {self.n} values")
        if num == self.n:
            return self.total / num, self.total / num
        others = self.n - num
        least = sum(self._bucket_of(rank)[0] for rank in range(others))
        most = sum(self._bucket_of(self.n - 1 - rank)[1] for rank in range(others))
        return max(0.0, (self.total - most) / num), (self.total - least) / num


def histogram(telemetry: Telemetry, name: str) -> Histogram | None:
    """What was added to the histograms ``name`` of all replicas between the first reading and the
    last; None where there is none or one of its counters went back."""
    grown: dict[float, float] = {}
    for (_, _, label), more in increases(telemetry, f"{name}_bucket").items():
        if more is None:
            return None
        bound = float(label.removeprefix("le="))
        grown[bound] = grown.get(bound, 0.0) + more
    total = counted(telemetry, f"{name}_sum")
    if not grown or total is None:
        return None
    bounds = np.array(sorted(grown))
    counts = np.diff([0.0, *(grown[bound] for bound in bounds)])
    if np.any(counts < 0):  # replicas with unlike buckets cannot be added up
        return None
    return Histogram(bounds=bounds, counts=counts, total=total)
