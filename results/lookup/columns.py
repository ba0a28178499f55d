"""A profile as a row of numbers: what has to be looked at to choose, and nothing else.

Only the rows that are answered become profiles again. Numbers are 4-byte floats: a choice between
two deployments that differ in the eighth digit is no choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from results.cost import tokens_per_s
from results.recommendation.estimate import ESTIMATED_KINDS
from results.recommendation.observation import LATENCIES, STATISTICS
from results.recommendation.profile import EvidenceKind, Profile, Statistic

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

KINDS: Final = tuple(EvidenceKind)
ESTIMATES: Final = tuple(KINDS.index(kind) for kind in ESTIMATED_KINDS)  # in the column ``kind``

# Bits of the column ``bits``.
SUPERSEDED, STALE, DERIVED, FAILURES, SIMULATED = 1, 2, 4, 8, 16

# The typical value: the first of these that a profile has.
TYPICAL: Final = ("p50", "mean", "unstated")

# Indices into the snapshot's lists of names; −1: none.
ID_COLUMNS: Final = ("model", "server", "version", "configuration", "hardware")
INT_COLUMNS: Final = ("bits", "kind", "repeats")
FLOAT_COLUMNS: Final = (
    "input_tokens",
    "output_tokens",
    "rate_rps",
    "concurrency",
    "input_per_s",
    "output_per_s",
    "error_share",
    "startup_s",
)
TIME_COLUMN: Final = "last_measured"  # whole seconds since 1970, int64

# Of every latency and statistic: the mean over runs, and what the probability of a limit needs.
PARTS: Final = ("value", "log_mean", "log_spread", "runs")


def latency_columns() -> Iterator[tuple[str, str, str]]:
    """(metric, statistic, part); the statistic ``typical`` among them."""
    for metric in LATENCIES:
        for statistic in (*STATISTICS, "typical"):
            for part in PARTS:
                yield metric, statistic, part


def column_name(metric: str, statistic: str, part: str) -> str:
    return f"{metric}.{statistic}.{part}"


def numbers_of(profile: Profile) -> dict[str, float]:
    """The float columns of one profile; what it does not state is left out."""
    load = profile.load
    found = {
        "input_tokens": load.input_tokens,
        "output_tokens": load.output_tokens,
        "rate_rps": load.rate_rps,
        "concurrency": load.concurrency,
    }
    tokens = tokens_per_s(profile)
    if tokens is not None:
        found |= {"input_per_s": tokens[0], "output_per_s": tokens[1]}
    stated: dict[tuple[str, str], Statistic] = {}
    for one in profile.statistics:
        if one.value is not None:
            stated[one.metric, one.statistic] = one
    for name in ("error_share", "startup_s"):
        if (single := stated.get((name, "value"))) is not None:
            found[name] = single.value
    for metric in LATENCIES:
        for statistic in STATISTICS:
            if (said := stated.get((metric, statistic))) is not None:
                _put(found, metric, statistic, said)
        if (typical := typical_of(stated, metric)) is not None:
            _put(found, metric, "typical", typical)
    return {name: value for name, value in found.items() if value is not None}


def typical_of(stated: dict[tuple[str, str], Statistic], metric: str) -> Statistic | None:
    return next((one for s in TYPICAL if (one := stated.get((metric, s))) is not None), None)


def _put(found: dict[str, float | None], metric: str, statistic: str, one: Statistic) -> None:
    found[column_name(metric, statistic, "value")] = one.value
    found[column_name(metric, statistic, "log_mean")] = one.log_mean
    found[column_name(metric, statistic, "log_spread")] = one.log_spread
    found[column_name(metric, statistic, "runs")] = float(one.num_runs)


def bits_of(profile: Profile) -> int:
    evidence = profile.evidence
    return (
        SUPERSEDED * bool(profile.superseded_by)
        | STALE * evidence.stale
        | DERIVED * profile.load.derived.startswith("rate")
        | FAILURES * bool(evidence.failures)
        | SIMULATED * (evidence.kind is EvidenceKind.SIMULATED)
    )


def seconds_of(profile: Profile) -> int:
    return math.floor(profile.evidence.last_measured.timestamp())
