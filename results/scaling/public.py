"""Public scaling tables, and how far the extrapolation is off on them.

Each table is a CSV beside this module; its first lines say what it is and where it is from. One run
per size, rounded by whoever published it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from results.scaling.extrapolate import Extrapolation, Prediction, curve_of, extrapolate


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTable:
    """``series``: throughput per chip by number of chips. ``about``: the file's own words."""

    name: str
    about: str
    series: dict[str, dict[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One published size that a fit to smaller ones was asked for."""

    series: str
    chips: int
    observed: float
    predicted: Prediction
    further: Extrapolation

    @property
    def error(self) -> float:
        assert self.predicted.efficiency is not None, self.predicted.reason
        return self.predicted.efficiency - self.observed

    @property
    def is_inside(self) -> bool:
        low, high = self.predicted.low, self.predicted.high
        return low is not None and high is not None and low <= self.observed <= high

    def error_of(self, model: str) -> float:
        return dict(self.predicted.by_model)[model] - self.observed


def public_table(name: str) -> PublicTable:
    """``maxtext_v5e``, ``mpt_a100`` or ``torchtitan_h100``."""
    text = (resources.files("results.scaling") / "data" / f"{name}.csv").read_text("utf-8")
    lines = text.splitlines()
    about = " ".join(line[1:].strip() for line in lines if line.startswith("#"))
    series: dict[str, dict[int, float]] = {}
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        series.setdefault(row["series"], {})[int(row["chips"])] = float(row["throughput"])
    return PublicTable(name=name, about=about, series=series)


def check(table: PublicTable, largest_fitted: int, domain: int) -> Iterator[Checked]:
    """Fit every series up to ``largest_fitted`` chips and ask for the sizes beyond."""
    for name, seen in table.series.items():
        known = [(float(n), [y]) for n, y in seen.items() if n <= largest_fitted]
        asked = [n for n in seen if n > largest_fitted]
        further = extrapolate(curve_of(known), asked, domain=domain)
        first = seen[min(seen)]
        for n, prediction in zip(asked, further.predictions, strict=True):
            yield Checked(
                series=name,
                chips=n,
                observed=seen[n] / first,
                predicted=prediction,
                further=further,
            )
