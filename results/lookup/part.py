"""What a snapshot says of one model, laid out once for all questions about it.

Columns of a snapshot are 4-byte floats in mapped files; a question computes with 8-byte ones of the
rows that it is left with. Turning them costs more than most of what is computed with them, so each
model's are turned when it is first asked about, and kept: some 120 bytes a profile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from results.lookup.columns import SIMULATED, SUPERSEDED, Bools, Ints, column_name

Doubles = npt.NDArray[np.float64]

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


class Part:
    """Rows [``first``, ``end``) of a snapshot; positions below count from ``first``."""

    def __init__(self, columns: Mapping[str, npt.NDArray[Any]], first: int, end: int) -> None:
        self.first, self.end = first, end
        self._columns, self._slice = columns, slice(first, end)
        self.base: Doubles = np.full((len(BASE), end - first), np.nan)
        for line, name in zip(self.base, BASE, strict=True):
            if (column := columns.get(name)) is not None:
                line[:] = column[self._slice]
        bits = self.ints("bits")
        self.hardware = self.ints("hardware").astype(np.intp)
        self.configuration = self.ints("configuration")
        # What most questions begin with, and how many rows each leaves.
        self.not_simulated: Bools = (bits & SIMULATED) == 0
        self.not_superseded: Bools = (bits & SUPERSEDED) == 0
        self.stated = lru_cache(_MOST_STATED)(self._stated)
        self.lengths = lru_cache(2)(self._lengths)

    def __len__(self) -> int:
        return self.end - self.first

    def ints(self, name: str) -> Ints:
        return self._columns[name][self._slice]

    def column(self, name: str) -> npt.NDArray[np.float32] | None:
        """None: no profile of the snapshot has one."""
        whole = self._columns.get(name)
        return None if whole is None else whole[self._slice]

    def _stated(self, metric: str, statistics: Sequence[str], part: str) -> Doubles:
        """Of each row what the first of ``statistics`` says whose value it has; NaN without."""
        found = np.full(len(self), np.nan)
        for statistic in reversed(statistics):
            value = self.column(column_name(metric, statistic, "value"))
            column = self.column(column_name(metric, statistic, part))
            if value is not None and column is not None:
                found = np.where(np.isfinite(value), column, found)
        return found

    def _lengths(self, name: str) -> tuple[Doubles, npt.NDArray[np.intp]]:
        """(the different values of a column of lengths, which of them each row has); one that is
        not known comes last, as NaN."""
        column = self.column(name)
        if column is None:
            return np.full(1, np.nan), np.zeros(len(self), np.intp)
        values, which = np.unique(column, return_inverse=True)
        return values.astype(np.float64), which
