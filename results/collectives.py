"""Collectives measured: what a time means as a bandwidth, and what is wrong with it. Pure.

Sizes, algbw and busbw are those of nccl-tests (github.com/NVIDIA/nccl-tests, doc/PERFORMANCE.md,
commit 03a204a): algbw = S/t and busbw = algbw × a factor of the collective, with S the bytes of the
whole array: what each rank holds before an all-reduce, a reduce-scatter or an all-to-all, and after
an all-gather or a broadcast. busbw is to be compared with the links' own bandwidth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from results.alpha_beta import AlphaBeta, fit_alpha_beta
from results.distributions import distribution, single
from results.environment import Environment
from results.measurement import Measurement
from results.metrics import Area, metric
from results.record import Doubt, Placement
from results.samples import BoolColumn, CollectiveSamples

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")
# gloo moves the bytes with threads of its own beside the one that waits for them.
_THREADS_PER_GLOO_RANK = 2
_SHOWN = ("mean", "p50")


def bus_factor(collective: str, num_ranks: int) -> float:
    """busbw / algbw; 0 for one rank where nothing has to move. Raises KeyError."""
    n = num_ranks
    return {
        "all_reduce": 2.0 * (n - 1) / n,
        "all_gather": (n - 1) / n,
        "reduce_scatter": (n - 1) / n,
        "all_to_all": (n - 1) / n,
        "broadcast": 1.0,
    }[collective]


def num_messages(collective: str, num_ranks: int) -> int:
    """Messages one after the other in a ring: what α is counted by.

    n − 1 for each of a reduction and a distribution, so 2(n − 1) for an all-reduce (Patarasu &
    Yuan, JPDC 69, 2009). Raises KeyError.
    """
    rings = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "all_to_all": 1, "broadcast": 1}
    return rings[collective] * (num_ranks - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveTimes:
    """One collective at one size: ``call_s`` (rounds,), the slowest rank of each round."""

    collective: str
    num_ranks: int
    size_bytes: int
    call_s: np.ndarray[tuple[int], np.dtype[np.float64]]

    @property
    def group(self) -> str:
        return f"{series_group(self.collective, self.num_ranks)}/{size_text(self.size_bytes)}"


def series_group(collective: str, num_ranks: int) -> str:
    """``all_reduce/4 ranks``: the group of α and β."""
    return f"{collective}/{num_ranks} ranks"


def size_text(num_bytes: int) -> str:
    """Exact: ``1 MiB``, ``1536 B``."""
    for factor, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if num_bytes >= factor and num_bytes % factor == 0:
            return f"{num_bytes // factor} {name}"
    return f"{num_bytes} B"


def times_of(samples: CollectiveSamples) -> tuple[CollectiveTimes, ...]:
    """By collective, in the order of ``COLLECTIVES``, then by size."""
    found = []
    seen = set(samples.collective)
    for name in (known for known in COLLECTIVES if known in seen):
        of_name = samples.collective == name
        for size in np.unique(samples.size_bytes[of_name]):
            rows = of_name & (samples.size_bytes == size)
            found.append(
                CollectiveTimes(
                    collective=str(name),
                    num_ranks=int(samples.num_ranks[rows][0]),
                    size_bytes=int(size),
                    call_s=_slowest(samples, rows),
                )
            )
    return tuple(found)


def _slowest(
    samples: CollectiveSamples, rows: BoolColumn
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    rounds, index = np.unique(samples.round[rows], return_inverse=True)
    longest = np.zeros(len(rounds))
    np.maximum.at(longest, index, samples.call_s[rows])
    return longest


def measure_collectives(samples: CollectiveSamples) -> tuple[Measurement, ...]:
    """Time, algbw and busbw of each collective and size, then α and β of each collective."""
    times = times_of(samples)
    found: list[Measurement] = []
    for one in times:
        found += _at_one_size(one)
    for name in dict.fromkeys(t.collective for t in times):
        found += _alpha_beta([t for t in times if t.collective == name])
    return tuple(found)


def _at_one_size(one: CollectiveTimes) -> Iterator[Measurement]:
    time_s = [
        m
        for m in distribution("collective_time_s", one.call_s, group=one.group)
        if m.statistic in _SHOWN
    ]
    yield from time_s
    mean = next(m for m in time_s if m.statistic == "mean")
    for name, factor in (("algbw", 1.0), ("busbw", bus_factor(one.collective, one.num_ranks))):
        moved = one.size_bytes * factor
        if not mean.value:
            yield single(name, None, mean.n, "no call was timed", one.group)
            continue
        bounded = mean.low is not None and mean.high is not None and mean.low > 0
        yield Measurement(
            metric=name,
            statistic="value",
            value=moved / mean.value,
            n=mean.n,
            low=moved / mean.high if bounded and mean.high else None,
            high=moved / mean.low if bounded and mean.low else None,
            method=f"S × {factor:.4g} / the mean time; nccl-tests' definition",
            group=one.group,
        )


def fit_of(series: Iterable[CollectiveTimes]) -> AlphaBeta | str:
    """α and β of one message, from the median time of each size; or why there are none."""
    times = list(series)
    if not times or times[0].num_ranks < 2:
        return "one rank sends no message"
    first = times[0]
    return fit_alpha_beta(
        np.array([t.size_bytes for t in times], dtype=np.float64),
        np.array([np.median(t.call_s) for t in times]),
        num_messages=num_messages(first.collective, first.num_ranks),
        share_sent=bus_factor(first.collective, first.num_ranks),
    )


def _alpha_beta(series: list[CollectiveTimes]) -> Iterator[Measurement]:
    group = series_group(series[0].collective, series[0].num_ranks)
    fitted = fit_of(series)
    if isinstance(fitted, str):
        for name in ("alpha_s", "beta_s_per_byte"):
            yield single(name, None, len(series), fitted, group)
        return
    for name, found in (("alpha_s", fitted.alpha), ("beta_s_per_byte", fitted.beta)):
        if found.value < 0:
            why = f"the line through the sizes gives {found.value:.2g}; {fitted.told()}"
            yield single(name, None, len(series), why, group)
            continue
        yield Measurement(
            metric=name,
            statistic="value",
            value=found.value,
            n=len(series),
            low=max(found.low, 0.0),
            high=found.high,
            method=fitted.told(),
            group=group,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveRow:
    """What a record says of one collective, over ranks, at one size; or of its α and β (size 0).

    ``by`` are its measurements by metric and statistic.
    """

    collective: str
    num_ranks: int
    size_bytes: int
    by: Mapping[tuple[str, str], Measurement]


def rows_of(measurements: Iterable[Measurement]) -> tuple[CollectiveRow, ...]:
    """The rows of a record in its own order: the inverse of the groups that are made here."""
    groups: dict[str, dict[tuple[str, str], Measurement]] = {}
    for m in measurements:
        if metric(m.metric).area is Area.COLLECTIVES:
            groups.setdefault(m.group, {})[m.metric, m.statistic] = m
    found = []
    for group, by in groups.items():
        collective, ranks, size = [*group.split("/"), "0 B"][:3]
        found.append(
            CollectiveRow(
                collective=collective,
                num_ranks=int(ranks.split()[0]),
                size_bytes=parse_size(size),
                by=by,
            )
        )
    return tuple(found)


def parse_size(text: str) -> int:
    """``64 KiB``, ``64KiB``, ``65536`` → bytes. Raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size; accepted: 65536, 64KiB, 1MiB, 1GiB")
    return int(found[1]) * _FACTORS[(found[2] or "B").lower()]


_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?", re.IGNORECASE)
_FACTORS = {"b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def collective_doubts(
    samples: CollectiveSamples, environment: Environment | None, placement: Placement | None
) -> Iterator[Doubt]:
    """Wrong results invalidate; what was shared or not there at all is said."""
    yield from _wrong_results(samples)
    num_ranks = int(samples.num_ranks.max()) if samples.num_rows else 0
    if num_ranks == 1:
        yield Doubt(code="one_rank", message="one rank alone exchanges nothing: nothing was moved")
    if placement is None or environment is None or not environment.hardware or num_ranks < 2:
        return
    num_nodes = len(set(placement.nodes)) or 1
    if num_nodes == 1:
        yield Doubt(
            code="one_host",
            message=f"all {num_ranks} ranks are on one host: no network between hosts was measured",
        )
    if placement.num_chips and not placement.virtual:
        return
    num_cpus = environment.hardware[0].num_cpus
    busy = -(-num_ranks // num_nodes) * _THREADS_PER_GLOO_RANK
    if busy > num_cpus:
        yield Doubt(
            code="ranks_share_cores",
            message=f"{-(-num_ranks // num_nodes)} ranks on a host of {num_cpus} CPUs, each with "
            f"{_THREADS_PER_GLOO_RANK} busy threads: their wait for cores is part of these times",
        )


def _wrong_results(samples: CollectiveSamples) -> Iterator[Doubt]:
    wrong = samples.num_wrong > 0
    for name in dict.fromkeys(samples.collective[wrong]):
        rows = wrong & (samples.collective == name)
        sizes = ", ".join(size_text(int(s)) for s in np.unique(samples.size_bytes[rows]))
        yield Doubt(
            code="wrong_result",
            message=f"{name}: up to {int(samples.num_wrong[rows].max())} elements of the result "
            f"are wrong, at {sizes}",
            invalidates=True,
        )
    if samples.num_rows and np.all(samples.num_wrong < 0):
        yield Doubt(code="not_verified", message="no result was looked at: all may be wrong")
