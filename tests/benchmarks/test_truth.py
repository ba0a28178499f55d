from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from benchmarks.truth import Diary, error_share, latency, read_diary, truth_of

TTFT_NS, ITL_NS = 50_000_000, 10_000_000


def diary_bytes(*requests: tuple[int, int, int, list[int]]) -> bytes:
    """(arrival, asked tokens, flags, token times), as paced_server.c writes them."""
    head, times = b"", []
    for arrival, asked, flags, written in requests:
        head += struct.pack("=qqiiii", arrival, len(times), len(written), asked, 40_000, flags)
        times += written
    counts = struct.pack("=8sqq", b"WTPACED1", len(requests), len(times))
    return counts + head + struct.pack(f"={len(times)}q", *times)


def kept(tmp_path: Path, raw: bytes) -> Path:
    path = tmp_path / "server.bin"
    path.write_bytes(raw)
    return path


def on_time(arrival: int, num_tokens: int, late: int = 0) -> list[int]:
    return [arrival + TTFT_NS + k * ITL_NS + late for k in range(num_tokens)]


def read(tmp_path: Path, *requests: tuple[int, int, int, list[int]]) -> Diary:
    return read_diary(kept(tmp_path, diary_bytes(*requests)))


def test_a_server_on_time_says_what_it_was_asked_for(tmp_path: Path) -> None:
    arrivals = [1_000_000_000 * k for k in range(1, 6)]
    diary = read(tmp_path, *((a, 4, 0, on_time(a, 4)) for a in arrivals))
    truth = truth_of(diary, num_tokens=4, ttft_s=0.05, itl_s=0.01)
    assert (truth.num_arrived, truth.num_complete, truth.num_tokens) == (5, 5, 20)
    assert truth.ttft_s and truth.itl_s and truth.tpot_s and truth.late_p99_s is not None
    assert truth.ttft_s.p50 == pytest.approx(0.05)
    assert truth.itl_s.p99 == pytest.approx(0.01)
    assert truth.tpot_s.p50 == pytest.approx(0.01)
    assert truth.late_p99_s == pytest.approx(0.0, abs=1e-9)
    assert truth.arrival_rate == pytest.approx(1.0)
    # first arrival at 1 s, last token at 5 s + 50 ms + 3 gaps
    assert truth.tokens_per_s == pytest.approx(20 / 4.08)


def test_lateness_is_the_servers_and_tpot_is_a_mean_of_gaps(tmp_path: Path) -> None:
    times = [1_060_000_000, 1_070_000_000, 1_100_000_000]  # due at +50, +60, +70 ms
    truth = truth_of(
        read(tmp_path, (1_000_000_000, 3, 0, times)), num_tokens=3, ttft_s=0.05, itl_s=0.01
    )
    assert truth.ttft_s and truth.tpot_s and truth.itl_s
    assert truth.ttft_s.p50 == pytest.approx(0.06)
    assert truth.tpot_s.p50 == pytest.approx(0.02)
    assert truth.itl_s.p50 == pytest.approx(0.02)  # of 10 and 30 ms
    assert truth.late_p99_s == pytest.approx(np.quantile([0.01, 0.01, 0.03], 0.99))
    assert truth.arrival_rate is None


def test_probes_and_unfinished_requests_are_no_latencies(tmp_path: Path) -> None:
    second = 1_000_000_000
    diary = read(
        tmp_path,
        (1 * second, 1, 0, on_time(second, 1)),  # a probe
        (2 * second, 3, 1, on_time(2 * second, 2)),  # hung up on
        (3 * second, 3, 0, on_time(3 * second, 3, late=5_000_000)),
        (4 * second, 3, 1, []),  # hung up on before its first token
    )
    truth = truth_of(diary, num_tokens=3, ttft_s=0.05, itl_s=0.01)
    assert truth.first_contact_s == pytest.approx(1.0)
    assert truth.first_arrival_s == pytest.approx(2.0)
    assert (truth.num_arrived, truth.num_complete, truth.num_tokens) == (3, 1, 5)
    assert truth.ttft_s and truth.ttft_s.p99 == pytest.approx(0.055)


def test_a_noop_answer_counts_all_its_tokens_and_has_no_gaps(tmp_path: Path) -> None:
    diary = read(tmp_path, (10**9, 50, 2, [10**9 + 8_000]), (2 * 10**9, 50, 2, [2 * 10**9 + 8_000]))
    truth = truth_of(diary, num_tokens=50, ttft_s=0.0, itl_s=0.0)
    assert (truth.num_complete, truth.num_tokens) == (2, 100)
    assert truth.ttft_s and truth.ttft_s.p50 == pytest.approx(8e-6, rel=1e-3)
    assert truth.itl_s is None
    assert truth.late_p99_s is None


def test_a_diary_without_the_load_has_no_numbers(tmp_path: Path) -> None:
    truth = truth_of(read(tmp_path), num_tokens=64, ttft_s=0.05, itl_s=0.01)
    assert truth.num_arrived == truth.num_tokens == 0
    assert truth.ttft_s is truth.arrival_rate is truth.tokens_per_s is truth.first_contact_s is None


@pytest.mark.parametrize(
    ("raw", "why"),
    [(b"{}", "no diary"), (diary_bytes((1, 1, 0, [2]))[:-1], "cut off")],
)
def test_what_is_no_whole_diary_is_refused(tmp_path: Path, raw: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_diary(kept(tmp_path, raw))


def test_shares_of_error() -> None:
    assert error_share(0.055, 0.05) == pytest.approx(0.1)
    assert error_share(0.04, 0.05) == pytest.approx(-0.2)
    assert error_share(None, 0.05) is error_share(0.05, None) is error_share(0.05, 0.0) is None


def test_percentiles_are_linear() -> None:
    found = latency(np.array([1.0, 2.0, 3.0, 4.0]))
    assert found and (found.p50, found.p99) == (2.5, pytest.approx(3.97))
    assert latency(np.array([])) is None
