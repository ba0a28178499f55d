"""Factors, measurements and doubts of collectives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.collectives import (
    COLLECTIVES,
    bus_factor,
    collective_doubts,
    measure_collectives,
    num_messages,
    parse_size,
    rows_of,
    size_text,
    times_of,
)
from results.environment import Environment, Hardware, Software
from results.measurement import Measurement
from results.record import Placement
from results.samples import CollectiveSamples
from results.units import format_measurement, format_value, metric_label


def simulated_bytes(collective: str, n: int) -> float:
    """The busiest rank's sent share of S, counted by moving blocks along a ring step by step."""
    blocks = n  # S is n blocks
    steps = {"all_reduce": 2 * (n - 1), "all_gather": n - 1, "reduce_scatter": n - 1}
    if collective in steps:
        return steps[collective] / blocks  # one block per step
    if collective == "all_to_all":
        return sum(1 for peer in range(n) if peer != 0) / blocks
    return 1.0  # a root's every byte leaves it once


@given(n=st.integers(2, 4096), collective=st.sampled_from(COLLECTIVES))
def test_the_factor_is_the_share_that_a_rank_sends(n: int, collective: str) -> None:
    assert bus_factor(collective, n) == pytest.approx(simulated_bytes(collective, n))


def test_the_factors_of_the_page() -> None:
    """https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md, for n = 8."""
    table = {
        "all_reduce": 1.75,
        "all_gather": 0.875,
        "reduce_scatter": 0.875,
        "all_to_all": 0.875,
        "broadcast": 1.0,
    }
    assert {name: bus_factor(name, 8) for name in COLLECTIVES} == table
    assert [num_messages("all_reduce", n) for n in (2, 8)] == [2, 14]
    assert num_messages("all_gather", 8) == 7


def made(
    *, alpha: float = 5e-5, beta: float = 2e-10, n: int = 4, rounds: int = 40, seed: int = 1
) -> CollectiveSamples:
    """All-reduces of known α and β with 2 % noise; rank 0 is always quicker."""
    generator = np.random.default_rng(seed)
    sizes = [1024 * 4**k for k in range(9)]
    rows = [
        (size, r, rank, (2 * (n - 1) * alpha + 2 * (n - 1) / n * size * beta) * noise)
        for size in sizes
        for r in range(rounds)
        for noise in [1.0 + 0.02 * generator.standard_normal()]
        for rank in range(n)
    ]
    call = np.array([t * (0.9 if rank == 0 else 1.0) for _, _, rank, t in rows])
    return CollectiveSamples(
        collective=np.array(["all_reduce"] * len(rows), dtype=object),
        size_bytes=np.array([row[0] for row in rows]),
        num_ranks=np.full(len(rows), n),
        round=np.array([row[1] for row in rows]),
        rank=np.array([row[2] for row in rows]),
        start_s=np.zeros(len(rows)),
        call_s=call,
        num_wrong=np.zeros(len(rows), dtype=np.int64),
    )


def of(measurements: tuple[Measurement, ...], name: str, group: str) -> Measurement:
    (found,) = [
        m
        for m in measurements
        if (m.metric, m.group) == (name, group) and m.statistic in ("value", "p50")
    ]
    return found


def test_what_is_measured_of_known_times() -> None:
    measured = measure_collectives(made())
    alpha = of(measured, "alpha_s", "all_reduce/4 ranks")
    beta = of(measured, "beta_s_per_byte", "all_reduce/4 ranks")
    assert alpha.low is not None and alpha.high is not None
    assert alpha.low <= 5e-5 <= alpha.high
    assert beta.low is not None and beta.high is not None
    assert beta.low <= 2e-10 <= beta.high
    exact_s = 6 * 5e-5 + 1.5 * 2**20 * 2e-10
    one = "all_reduce/4 ranks/1 MiB"
    assert of(measured, "algbw", one).value == pytest.approx(2**20 / exact_s, rel=0.02)
    bus = of(measured, "busbw", one)
    assert bus.value == pytest.approx(1.5 * 2**20 / exact_s, rel=0.02)
    assert bus.low is not None and bus.high is not None
    assert bus.low < 1.5 * 2**20 / exact_s < bus.high
    assert of(measured, "collective_time_s", one).value == pytest.approx(exact_s, rel=0.02)


def test_the_slowest_rank_counts() -> None:
    (one, *_) = times_of(made(rounds=3))
    assert len(one.call_s) == 3
    assert one.call_s.min() > 0.9 * (6 * 5e-5)


def test_rows_come_back_from_the_measurements() -> None:
    rows = rows_of(measure_collectives(made()))
    assert [row.size_bytes for row in rows] == [1024 * 4**k for k in range(9)] + [0]
    assert {(row.collective, row.num_ranks) for row in rows} == {("all_reduce", 4)}
    assert set(rows[-1].by) == {("alpha_s", "value"), ("beta_s_per_byte", "value")}


def test_one_rank_has_times_and_no_messages() -> None:
    measured = measure_collectives(replace(made(n=2), num_ranks=np.ones(720, dtype=np.int64)))
    assert of(measured, "alpha_s", "all_reduce/1 ranks").reason == "one rank sends no message"
    assert of(measured, "busbw", "all_reduce/1 ranks/1 MiB").value == 0.0


def test_a_table_keeps_all() -> None:
    samples = made(rounds=2)
    back = CollectiveSamples.from_table(samples.to_table())
    assert back.collective.tolist() == samples.collective.tolist()
    assert back.call_s.tolist() == samples.call_s.tolist()


# --- doubts ---

SOFTWARE = Software(python="3.12", windtunnel="0")
HOST = Hardware(node="n", cpu_model="c", num_cpus=8, memory_bytes=2**34, kernel="k")


def codes(samples: CollectiveSamples, nodes: tuple[str, ...], num_chips: int = 0) -> list[str]:
    environment = Environment(software=SOFTWARE, hardware=(HOST,))
    placement = Placement(
        pool="p", accelerator="H100", num_chips=num_chips, capacity="", nodes=nodes
    )
    return [d.code for d in collective_doubts(samples, environment, placement)]


def test_wrong_elements_invalidate() -> None:
    samples = made(rounds=2)
    samples.num_wrong[5] = 3
    (wrong, *_) = [d for d in collective_doubts(samples, None, None) if d.code == "wrong_result"]
    assert wrong.invalidates
    assert wrong.message == "all_reduce: up to 3 elements of the result are wrong, at 1 KiB"
    unseen = replace(made(rounds=2), num_wrong=np.full(72, -1))
    assert "not_verified" in codes(unseen, ("a", "b"))


def test_what_the_ranks_share_is_said() -> None:
    assert codes(made(), ("a",)) == ["one_host"]  # 4 ranks of two threads on 8 CPUs
    assert codes(made(n=5), ("a",)) == ["one_host", "ranks_share_cores"]
    assert codes(made(n=5), ("a", "b")) == []
    assert codes(made(n=5), ("a",), num_chips=5) == ["one_host"]


# --- words ---


@pytest.mark.parametrize(
    ("text", "num_bytes"), [("1KiB", 1024), ("64 MiB", 2**26), ("1536", 1536), ("2gib", 2**31)]
)
def test_sizes_are_read(text: str, num_bytes: int) -> None:
    assert parse_size(text) == num_bytes
    assert parse_size(size_text(num_bytes)) == num_bytes


def test_what_is_no_size_is_refused() -> None:
    for text in ("", "1KB", "-1", "1.5MiB"):
        with pytest.raises(ValueError, match="is no size"):
            parse_size(text)


def test_units() -> None:
    assert format_value(12.34e9, "bytes/s") == "12.3 GB/s"
    assert format_value(0.5e6, "bytes/s") == "500 kB/s"
    assert format_value(0.0, "bytes/s") == "0 B/s"
    assert format_value(2.5e-10, "s/byte") == "250 ps/byte"
    assert format_value(2.5e-9, "s/byte") == "2.50 ns/byte"
    assert metric_label("beta_s_per_byte") == "β"
    assert metric_label("alpha_s") == "α"
    m = Measurement(metric="busbw", statistic="value", value=1e9, n=3, low=0.9e9, high=1.1e9)
    assert format_measurement(m) == "1.00 GB/s (0.90–1.10 GB/s)"
