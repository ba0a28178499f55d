"""Configurations of a branch as rows of numbers for a surrogate, and the neighbours of one. Pure.

A knob's range is 0 … 1: of an ordinal by place, of a range by value or by its logarithm. A choice
without order has a column for each of its values, so far apart as 0 is from 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tuners.space import Branch, Categorical, Config, Domain, Integers, Ordinal, Value, legal, same

Array = npt.NDArray[np.float64]


def owners(branch: Branch) -> npt.NDArray[np.int64]:
    """(columns,): the place of each column's knob in the branch."""
    widths = [_width(knob.domain) for knob in branch.knobs]
    return np.repeat(np.arange(len(widths)), widths)


def encoded(branch: Branch, configs: Sequence[Config]) -> Array:
    """(configs, columns)."""
    columns: list[Array] = []
    for knob in branch.knobs:
        values = [config[knob.path] for config in configs]
        if isinstance(knob.domain, Ordinal | Categorical):
            places = {_token(v): i for i, v in enumerate(knob.domain.values)}
            at = np.array([places[_token(v)] for v in values], dtype=np.int64)
            if isinstance(knob.domain, Ordinal):
                columns.append(at[:, None] / max(1, len(places) - 1))
            else:
                columns.append(np.eye(len(places))[at] / math.sqrt(2.0))
        else:
            numbers = np.array([float(str(v)) for v in values])
            low, high = float(knob.domain.low), float(knob.domain.high)
            if knob.domain.log:
                numbers, low, high = np.log(numbers), math.log(low), math.log(high)
            columns.append(((numbers - low) / (high - low))[:, None])
    return np.hstack([np.zeros((len(configs), 0)), *columns])


def placed(branch: Branch, shares: Sequence[float]) -> Config:
    """The configuration at these shares (0 … 1) of each knob's range."""
    return {
        **branch.fixed,
        **{k.path: _at(k.domain, share) for k, share in zip(branch.knobs, shares, strict=True)},
    }


def neighbours(branch: Branch, config: Config) -> Iterator[Config]:
    """Those that differ by one or two steps of one knob; of a choice by its value."""
    for knob in branch.knobs:
        for value in _near(knob.domain, config[knob.path]):
            yield {**config, knob.path: value}


def _width(domain: Domain) -> int:
    return len(domain.values) if isinstance(domain, Categorical) else 1


def _token(value: Value) -> tuple[str, Value]:
    return type(value).__name__, value


def _at(domain: Domain, share: float) -> Value:
    if isinstance(domain, Ordinal | Categorical):
        return domain.values[min(len(domain.values) - 1, int(share * len(domain.values)))]
    low, high = float(domain.low), float(domain.high)
    found = low * (high / low) ** share if domain.log else low + (high - low) * share
    if isinstance(domain, Integers):
        return domain.low + round((found - domain.low) / domain.step) * domain.step
    return min(max(found, domain.low), domain.high)


def _near(domain: Domain, value: Value) -> Iterator[Value]:
    if isinstance(domain, Categorical):
        yield from (v for v in domain.values if not same(v, value))
    elif isinstance(domain, Ordinal):
        at = next(i for i, v in enumerate(domain.values) if same(v, value))
        yield from (
            domain.values[at + step]
            for step in (-2, -1, 1, 2)
            if 0 <= at + step < len(domain.values)
        )
    else:
        number = float(str(value))
        for step in (-2, -1, 1, 2):
            if domain.log:
                moved = number * (domain.high / domain.low) ** (step / 16)
            else:
                moved = number + step * (domain.high - domain.low) / 16
            if isinstance(domain, Integers):
                whole = domain.low + round((moved - domain.low) / domain.step) * domain.step
                moved = (
                    whole if whole != value else whole + (domain.step if step > 0 else -domain.step)
                )
            if legal(domain, moved):
                yield moved
