"""Traces in the formats they are published in, replayed; files are written here, by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from workloads.errors import TrafficFileUnusable
from workloads.traffic import traces
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import FixedLength, TraceReplay, Traffic
from workloads.traffic.trace_tables import quick_columns
from workloads.traffic.traces import read_trace

MOONCAKE = """\
{"timestamp": 0, "input_length": 6755, "output_length": 500, "hash_ids": \
[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]}
{"timestamp": 0, "input_length": 1100, "output_length": 490, "hash_ids": [0, 1, 14]}
{"timestamp": 3052, "input_length": 1024, "output_length": 794, "hash_ids": [0, 29]}

{"timestamp": 6104, "input_length": 100, "output_length": 316}
"""
AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:16:46.6805900,879,55
"""
AZURE_2024 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:00.017335+00:00,2399,6
2024-05-10 02:00:01.009930+02:00,76,15
"""
BURSTGPT = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
118,GPT-4,417,0,417,API log
"""


def trace(tmp_path: Path, text: str, form: str, **fields: object) -> TraceReplay:
    path = tmp_path / f"trace.{form}"
    path.write_text(text, encoding="utf-8")
    return TraceReplay(path=str(path), format=form, **fields)  # type: ignore[arg-type]


def traffic(arrivals: TraceReplay, **fields: object) -> Traffic:
    return Traffic(arrivals=arrivals, **{"num_warmup_requests": 0, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "form", "times", "prompts", "outputs"),
    [
        (MOONCAKE, "mooncake", [0, 0, 3.052, 6.104], [6755, 1100, 1024, 100], [500, 490, 794, 316]),
        (AZURE, "azure", [0, 4.314579, 60.0], [374, 396, 879], [44, 109, 55]),
        (AZURE_2024, "azure", [0, 0.007405, 1.0], [2162, 2399, 76], [5, 6, 15]),
        (BURSTGPT, "burstgpt", [0, 40, 113], [472, 1087, 417], [18, 230, 1]),
    ],
)
def test_a_trace_brings_its_arrivals_and_lengths(
    tmp_path: Path, text: str, form: str, times: list[float], prompts: list[int], outputs: list[int]
) -> None:
    schedule = build_schedule(traffic(trace(tmp_path, text, form)))
    np.testing.assert_allclose(schedule.intended_s, times, atol=1e-6)
    assert schedule.prompt_tokens.tolist() == prompts
    assert schedule.output_tokens.tolist() == outputs
    assert [len(schedule.prompt(i)) for i in range(len(times))] == prompts
    half = build_schedule(traffic(trace(tmp_path, text, form, speed=2.0)))
    np.testing.assert_allclose(half.intended_s * 2, times, atol=2e-6)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (MOONCAKE, "mooncake"),
        (AZURE, "azure"),
        (AZURE_2024.replace("+02:00", "+00:00"), "azure"),
        (BURSTGPT, "burstgpt"),
    ],
)
@pytest.mark.parametrize(("offset", "limit"), [(0, None), (1, None), (0, 2), (1, 1)])
def test_both_readers_read_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    form: str,
    offset: int,
    limit: int | None,
) -> None:
    asked = trace(tmp_path, text, form, offset=offset, limit=limit)
    assert quick_columns(asked.path, form, offset, limit, 100) is not None
    quick = read_trace(asked)
    monkeypatch.setattr(traces, "quick_columns", lambda *_: None)
    traces._read.cache_clear()
    careful = read_trace(asked)
    for name in ("prompt_tokens", "output_tokens", "block_hashes", "block_offset"):
        one, other = getattr(quick, name), getattr(careful, name)
        assert one.dtype == other.dtype == np.int64
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(quick.times_s, careful.times_s, atol=1.1e-6)
    assert quick.num_raised == careful.num_raised


def test_what_the_quick_reader_does_not_know_is_read_all_the_same(tmp_path: Path) -> None:
    by_hand = "\ufeff" + BURSTGPT.replace("472,18", "472.0, 18")
    rows = read_trace(trace(tmp_path, by_hand, "burstgpt"))
    assert rows.prompt_tokens.tolist() == [472, 1087, 417]
    mixed = read_trace(trace(tmp_path, AZURE + AZURE_2024.splitlines()[-1], "azure"))
    assert mixed.times_s[-1] == pytest.approx(176 * 86400 - 65746.68059 + 1.00993)


def test_more_rows_than_anyone_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MAX_REQUESTS", 2)
    with pytest.raises(TrafficFileUnusable, match="more than 2 rows; take fewer with limit"):
        read_trace(trace(tmp_path, AZURE, "azure"))
    assert len(read_trace(trace(tmp_path, AZURE, "azure", limit=2)).times_s) == 2


def test_a_failed_request_was_an_arrival_all_the_same(tmp_path: Path) -> None:
    assert read_trace(trace(tmp_path, BURSTGPT, "burstgpt")).num_raised == 1
    assert read_trace(trace(tmp_path, AZURE, "azure")).num_raised == 0


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    longer = (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,"
        "Log Type\n1.5,s,2.0,GPT-4,10,20,30,API log\n"
    )
    rows = read_trace(trace(tmp_path, longer, "burstgpt"))
    assert (rows.prompt_tokens.tolist(), rows.output_tokens.tolist()) == ([10], [20])


def test_equal_hashes_are_equal_tokens(tmp_path: Path) -> None:
    schedule = build_schedule(traffic(trace(tmp_path, MOONCAKE, "mooncake")), 32_000)
    a, b, c, d = (np.asarray(schedule.prompt(i)) for i in range(4))
    np.testing.assert_array_equal(a[:1024], b[:1024])  # blocks 0 and 1
    np.testing.assert_array_equal(a[:512], c[:512])  # block 0 alone
    for one, other, at in ((a, b, 1024), (a, c, 512), (b, c, 512)):
        assert np.mean(one[at : at + 64] == other[at : at + 64]) < 0.1
    assert np.mean(d == a[:100]) < 0.1  # no hashes: shares with nobody
    # The same blocks under another seed or salt are other tokens, shared in the same way.
    for change in ({"seed": 1}, {"salt": "x"}):
        other_run = build_schedule(traffic(trace(tmp_path, MOONCAKE, "mooncake"), **change), 32_000)
        again = np.asarray(other_run.prompt(0))
        assert np.mean(again == a) < 0.1
        np.testing.assert_array_equal(again[:1024], np.asarray(other_run.prompt(1))[:1024])


def test_chat_shares_blocks_as_words(tmp_path: Path) -> None:
    schedule = build_schedule(traffic(trace(tmp_path, MOONCAKE, "mooncake"), api="chat"))
    first, second = (str(schedule.prompt(i)).split(" ") for i in (0, 1))
    assert (len(first), len(second)) == (6755, 1100)
    assert first[:1024] == second[:1024]
    assert first[1024:1100] != second[1024:]


def test_rows_are_put_in_order_with_their_blocks(tmp_path: Path) -> None:
    lines = [line for line in MOONCAKE.splitlines() if line]
    shuffled = "\n".join([lines[3], lines[2], lines[0], lines[1]])
    in_order = build_schedule(traffic(trace(tmp_path, MOONCAKE, "mooncake")), 32_000)
    sorted_again = build_schedule(traffic(trace(tmp_path, shuffled, "mooncake")), 32_000)
    np.testing.assert_array_equal(in_order.intended_s, sorted_again.intended_s)
    for i in range(3):
        np.testing.assert_array_equal(
            np.asarray(in_order.prompt(i)), np.asarray(sorted_again.prompt(i))
        )


def test_part_of_a_trace(tmp_path: Path) -> None:
    rows = "".join(f"{i},m,{10 + i},{20 + i},0,x\n" for i in range(100))
    text = BURSTGPT.splitlines()[0] + "\n" + rows
    part = build_schedule(traffic(trace(tmp_path, text, "burstgpt", offset=10, limit=5)))
    assert part.intended_s.tolist() == [0, 1, 2, 3, 4]
    assert part.prompt_tokens.tolist() == [20, 21, 22, 23, 24]
    stopped = build_schedule(traffic(trace(tmp_path, text, "burstgpt"), duration_s=7.5))
    assert stopped.intended_s.tolist() == list(range(8))
    counted = build_schedule(
        traffic(trace(tmp_path, text, "burstgpt", speed=4.0), num_requests=3, duration_s=7.5)
    )
    assert counted.intended_s.tolist() == [0, 0.25, 0.5]


def test_warm_up_has_the_lengths_of_the_spec(tmp_path: Path) -> None:
    schedule = build_schedule(
        traffic(
            trace(tmp_path, AZURE, "azure"),
            num_warmup_requests=2,
            prompt_tokens=FixedLength(tokens=9),
            output_tokens=FixedLength(tokens=3),
        )
    )
    assert schedule.prompt_tokens.tolist() == [9, 9, 374, 396, 879]
    assert schedule.output_tokens.tolist() == [3, 3, 44, 109, 55]
    assert schedule.is_warmup.tolist() == [True, True, False, False, False]
    assert len(schedule.prompt(0)) == 9


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    arrivals = trace(tmp_path, AZURE, "azure")
    assert len(read_trace(arrivals).times_s) == 3
    Path(arrivals.path).write_text(AZURE_2024 + AZURE_2024.splitlines()[-1] + "\n")
    os.utime(arrivals.path, ns=(1, 1))
    assert len(read_trace(arrivals).times_s) == 4


HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.mark.parametrize(
    ("form", "text", "complaint"),
    [
        ("mooncake", '{"timestamp": 0}\nx', ":1: input_length: is missing; accepted: a whole"),
        ("mooncake", MOONCAKE + "{", ":6: is not JSON"),
        ("mooncake", MOONCAKE + "[1]", ":6: found a list; each line is one JSON object"),
        ("mooncake", '{"input_length": 1, "output_length": 1}', ":1: timestamp: is missing"),
        (
            "mooncake",
            '{"timestamp": "1", "input_length": 1, "output_length": 1}',
            ":1: timestamp: found text; accepted: a number of milliseconds",
        ),
        (
            "mooncake",
            '\n{"timestamp": 1, "input_length": 1.5, "output_length": 1}',
            ":2: input_length: found number 1.5",
        ),
        (
            "mooncake",
            '{"timestamp": 1, "input_length": 1, "output_length": -1}',
            ":1: output_length: found number -1",
        ),
        (
            "mooncake",
            '{"timestamp": 1, "input_length": 512, "output_length": 1, "hash_ids": [1, 2]}',
            ":1: hash_ids: found 2 blocks of 512 tokens for input_length = 512; accepted: at most",
        ),
        (
            "mooncake",
            '{"timestamp": 1, "input_length": 512, "output_length": 1, "hash_ids": [-1]}',
            ":1: hash_ids: accepted: a list of whole numbers, 0 or more",
        ),
        (
            "mooncake",
            '{"timestamp": NaN, "input_length": 512, "output_length": 1}',
            ":1: time: found nan",
        ),
        ("mooncake", "", "has no row from offset 0 on"),
        ("azure", BURSTGPT, ":1: no column TIMESTAMP, ContextTokens, GeneratedTokens; found Time"),
        ("azure", "", ":1: no column TIMESTAMP, ContextTokens, GeneratedTokens; found none"),
        ("azure", HEAD + "2023-11-16 18:15:46,1,2\nlater,1,2\n", ":3: TIMESTAMP: found 'later'"),
        ("azure", HEAD + "2023-11-16 18:15:46,1\n", ":2: found 2 fields; the header has 3"),
        ("azure", HEAD + "2023-11-16 18:15:46,one,2\n", ":2: ContextTokens: found 'one'"),
        ("azure", HEAD + "2023-11-16 18:15:46,1,inf\n", ":2: GeneratedTokens: found 'inf'"),
        ("burstgpt", AZURE, ":1: no column Timestamp, Request tokens, Response tokens"),
        ("burstgpt", BURSTGPT + "soon,m,1,2,3,x\n", ":5: Timestamp: found 'soon'"),
        ("burstgpt", BURSTGPT + "inf,m,1,2,3,x\n", ":5: time: found inf"),
    ],
)
def test_a_fault_names_file_and_line(tmp_path: Path, form: str, text: str, complaint: str) -> None:
    with pytest.raises(TrafficFileUnusable) as error:
        build_schedule(traffic(trace(tmp_path, text, form)))
    assert f"trace.{form}" in str(error.value)
    assert complaint in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = TraceReplay(path=str(tmp_path / "no.csv"), format="azure")
    with pytest.raises(TrafficFileUnusable, match=r"no\.csv: cannot be read: No such file"):
        read_trace(missing)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrafficFileUnusable, match=r"bytes\.csv: is not UTF-8 text"):
        read_trace(TraceReplay(path=str(tmp_path / "bytes.csv"), format="azure"))
    with pytest.raises(TrafficFileUnusable, match="has no row from offset 3 on"):
        read_trace(trace(tmp_path, AZURE, "azure", offset=3))
