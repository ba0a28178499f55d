"""What a snapshot says of one model, laid out once for all questions about it.

Columns of a snapshot are 4-byte floats in mapped files; a question computes with 8-byte ones of the
rows that it is left with. Turning them costs more than most of what is computed with them, so each
model's are turned when it is first asked about, and kept: some 150 bytes a profile.

Most questions are about one shape of requests. Rows of a shape therefore lie together: of many
models each question meets columns that no cache holds any more, and what lies together comes from
memory several times as fast as what is scattered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from results.lookup.columns import SIMULATED, SUPERSEDED, Bools, Ints, column_name

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Rows of ``Part.base``.
BASE: Final = (
    "input_tokens",
    "output_tokens",
    "rate_rps",
    "concurrency",
    "input_per_s",
    "output_per_s",
    "ttft_s.typical.value",
    "tpot_s.typical.value",
    "e2e_s.typical.value",
)
_MOST_STATED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The different pairs of mean lengths that rows have: ``lengths`` of each as (input, output)
    tokens, NaN where it is not known. Positions of shape i are [``starts``[i], ``starts``[i + 1])
    """

    lengths: tuple[Doubles, Doubles]
    starts: Indices

    def __len__(self) -> int:
        return len(self.lengths[0])


class Part:
    """Rows [``first``, ``end``) of a snapshot. Positions below count from 0 in an order of the
    part's own: by shape, those of one shape as in the snapshot; ``rows`` has the row of each,
    counted from ``first``."""

    def __init__(self, columns: Mapping[str, npt.NDArray[Any]], first: int, end: int) -> None:
        self.first, self.end = first, end
        self._columns, self._slice = columns, slice(first, end)
        self.shapes, self.rows = self._by_shape()
        self.base: Doubles = np.full((len(BASE), end - first), np.nan)
        for line, name in zip(self.base, BASE, strict=True):
            if (column := columns.get(name)) is not None:
                line[:] = column[self._slice][self.rows]
        self.has_e2e = bool(np.isfinite(self.base[BASE.index("e2e_s.typical.value")]).any())
        bits = self.ints("bits")
        self.hardware = self.ints("hardware").astype(np.intp)
        self.configuration = self.ints("configuration")
        # What most questions begin with, and how many rows each leaves.
        self.not_simulated: Bools = (bits & SIMULATED) == 0
        self.not_superseded: Bools = (bits & SUPERSEDED) == 0
        self.stated = lru_cache(_MOST_STATED)(self._stated)

    def __len__(self) -> int:
        return self.end - self.first

    def ints(self, name: str) -> Ints:
        return self._columns[name][self._slice][self.rows]

    def column(self, name: str) -> npt.NDArray[np.float32] | None:
        """None: no profile of the snapshot has one."""
        whole = self._columns.get(name)
        return None if whole is None else whole[self._slice][self.rows]

    def in_order(self, positions: Indices) -> Indices:
        """The same, as their rows stand in the snapshot."""
        return positions[np.argsort(self.rows[positions], kind="stable")]

    def _stated(self, metric: str, statistics: Sequence[str], part: str) -> Doubles:
        """Of each position what the first of ``statistics`` says that it has; NaN without."""
        found = np.full(len(self), np.nan)
        for statistic in reversed(statistics):
            value = self.column(column_name(metric, statistic, "value"))
            column = self.column(column_name(metric, statistic, part))
            if value is not None and column is not None:
                found = np.where(np.isfinite(value), column, found)
        return found

    def _by_shape(self) -> tuple[Shapes, Indices]:
        """The shapes, and the rows in the order of their shapes."""
        pairs = np.full((len(self), 2), np.nan, np.float32)
        for at, name in enumerate(("input_tokens", "output_tokens")):
            if (column := self._columns.get(name)) is not None:
                pairs[:, at] = column[self._slice]
        # Two 4-byte numbers are one of 8 bytes: one sort finds the pairs.
        both = pairs.view(np.uint64).ravel()
        rows = np.argsort(both, kind="stable")
        both = both[rows]
        changes = np.flatnonzero(both[1:] != both[:-1]) + 1
        starts = np.concatenate([[0], changes, [len(both)]]).astype(np.intp)
        lengths = both[starts[:-1]].view(np.float32).reshape(-1, 2).astype(np.float64)
        shapes = Shapes(lengths=(lengths[:, 0].copy(), lengths[:, 1].copy()), starts=starts)
        return shapes, rows
