"""What a snapshot says of one model, laid out once for all questions about it.

Columns of a snapshot are 4-byte floats in mapped files; a question computes with 8-byte ones of the
rows that it is left with. Turning them costs more than most of what is computed with them, so each
model's are turned when it is first asked about, and kept: some 150 bytes a profile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
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
    tokens, NaN where it is not known; ``which`` of them each row has."""

    lengths: tuple[Doubles, Doubles]
    which: Indices

    def __len__(self) -> int:
        return len(self.lengths[0])


class Part:
    """Rows [``first``, ``end``) of a snapshot; positions below count from ``first``."""

    def __init__(self, columns: Mapping[str, npt.NDArray[Any]], first: int, end: int) -> None:
        self.first, self.end = first, end
        self._columns, self._slice = columns, slice(first, end)
        self.base: Doubles = np.full((len(BASE), end - first), np.nan)
        for line, name in zip(self.base, BASE, strict=True):
            if (column := columns.get(name)) is not None:
                line[:] = column[self._slice]
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

    @cached_property
    def shapes(self) -> Shapes:
        pairs = np.full((len(self), 2), np.nan, np.float32)
        for at, name in enumerate(("input_tokens", "output_tokens")):
            column = self.column(name)
            if column is not None:
                pairs[:, at] = column
        # Two 4-byte numbers are one of 8 bytes: one sort finds the pairs.
        both, which = np.unique(pairs.view(np.uint64).ravel(), return_inverse=True)
        lengths = both.view(np.float32).reshape(-1, 2).astype(np.float64)
        return Shapes(
            lengths=(lengths[:, 0].copy(), lengths[:, 1].copy()), which=which.astype(np.intp)
        )
