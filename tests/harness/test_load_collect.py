import json
import math
from random import Random
from typing import Any

import numpy as np
import pytest

from harness.load.bodies import DIALECTS, Bodies
from harness.load.collect import MAX_ERROR_CHARS, HowToRead, Unsent, collect, short_error
from harness.load.reading import read_stream, read_whole
from harness.load.spool import Spool
from harness.load.wire import Exchange, root_url
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import ClosedLoop, FixedLength, Traffic, UniformLength


def sse(*documents: Any, done: bool = True) -> bytes:
    raw = b"".join(b"data: " + json.dumps(d).encode() + b"\n\n" for d in documents)
    return raw + (b"data: [DONE]\n\n" if done else b"")


def text(content: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": content, "finish_reason": finish}], **more}


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def test_only_chunks_with_text_are_events_and_reasoning_is_text() -> None:
    raw = sse(
        delta(role="assistant", content=""),
        delta(content=None, reasoning_content="hm"),
        delta(reasoning="so"),
        delta(content="yes"),
        delta(content="", tool_calls=None),
        {"choices": [], **usage(7, 4)},
    )
    reading = read_stream(raw)
    assert reading.error == ""
    assert len(reading.event_end) == 3
    assert reading.event_tokens == [-1, -1, -1]  # four tokens in three chunks: who knows where
    assert (reading.prompt_tokens, reading.output_tokens) == (7, 4)


def test_a_running_count_gives_tokens_per_chunk() -> None:
    raw = sse(
        text("a b", **usage(5, 2)), text("", **usage(5, 3)), text("c", "length", **usage(5, 7))
    )
    reading = read_stream(raw)
    assert reading.event_tokens == [2, 5]
    assert reading.output_tokens == 7


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "empty_answer"),
        (b"\n\n", "empty_answer"),
        (sse(), "empty_answer"),
        (sse(text("", "stop")), "empty_answer"),
        (sse(text("", "stop", **usage(5, 0))), "empty_answer"),
        (sse(text("a"), done=False), "truncated"),
        (sse(text("a"))[:-20] + b"data: {nonsense\n\n", "malformed_stream"),
        (sse(["no", "object"]), "malformed_stream"),
        (b"<html>hello</html>", "malformed_stream"),
        (json.dumps(text("all at once", "stop")).encode(), "not_a_stream"),
        (sse(text("a"), {"error": {"message": "out of memory"}}), "server_error: out of memory"),
        (sse({"object": "error", "message": "too long"}), "server_error: too long"),
    ],
)
def test_every_bad_ending_has_its_kind(raw: bytes, kind: str) -> None:
    assert read_stream(raw).error.startswith(kind)


@pytest.mark.parametrize(
    "raw",
    [
        sse(text("a", "stop"), done=False),  # a finish reason, no [DONE]
        sse(text("a")),  # [DONE], no finish reason
        sse(text("a"))[:-2],  # no last blank line
        sse(text("", "length", **usage(5, 4))),  # tokens without text are tokens
        b"data: null\n\n"[:0] + sse({"choices": None}, text("a")),
    ],
)
def test_every_good_ending_is_good(raw: bytes) -> None:
    assert read_stream(raw).error == ""


HEAD = b"HTTP/1.1 %s\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def over(index: int, intended_s: float, **seen: Any) -> Exchange:
    exchange = Exchange(index, intended_s, b"", seen.pop("is_warmup", False))
    for name, value in seen.items():
        setattr(exchange, name, value)
    return exchange


def test_rows_are_in_order_and_times_count_from_the_origin() -> None:
    spool = Spool()
    first, second = sse(text("a", **usage(2, 1)), done=False), sse(text("b", "stop", **usage(2, 2)))
    denied = b'{"error": {"message": "bad key\\n  sk-secret"}}'
    spool.put(
        over(
            3,
            101.0,
            dispatched_s=101.0,
            done_s=102.0,
            read_s=[101.5],
            parts=[b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%b" % (len(denied), denied)],
        )
    )
    spool.put(
        over(
            0,
            99.0,
            is_warmup=True,
            dispatched_s=99.5,
            written_s=99.6,
            done_s=101.5,
            read_s=[100.25, 100.5, 101.0],
            parts=[HEAD % b"200 OK", chunk(first), chunk(second) + chunk(b"")],
        )
    )
    refused = over(1, 100.0, dispatched_s=100.0, done_s=100.25, error="refused: nobody there")
    spool.put(refused)
    not_sent = "not_sent: the load ended before its turn"
    samples = collect(
        spool.read(),
        [Unsent(index=2, intended_s=105.0, is_warmup=False, error=not_sent)],
        origin_s=100.0,
        how=HowToRead(worker=3, secrets=("sk-secret",), num_prompt_tokens=lambda i: 10 + i),
    )
    assert samples.index.tolist() == [0, 1, 2, 3]
    assert samples.num_bytes.tolist() == [len(first + second), -1, -1, len(denied)]
    assert samples.own_prompt_tokens.tolist() == [10, 11, -1, 13]
    np.testing.assert_equal(samples.first_byte_s, [0.25, math.nan, math.nan, 1.5])
    np.testing.assert_equal(samples.intended_s, [-1.0, 0.0, 5.0, 1.0])
    np.testing.assert_equal(samples.dispatched_s, [-0.5, 0.0, math.nan, 1.0])
    np.testing.assert_equal(samples.first_token_s, [0.5, math.nan, math.nan, math.nan])
    np.testing.assert_equal(samples.done_s, [1.5, 0.25, math.nan, 2.0])
    assert samples.status.tolist() == [200, -1, -1, 401]
    assert samples.error.tolist() == [
        "",
        "refused: nobody there",
        "not_sent: the load ended before its turn",
        "http_401: bad key ***",
    ]
    assert samples.is_warmup.tolist() == [True, False, False, False]
    assert samples.worker.tolist() == [3] * 4
    assert samples.event_offset.tolist() == [0, 2, 2, 2, 2]
    assert samples.event_s.tolist() == [0.5, 1.0]
    assert samples.event_tokens.tolist() == [1, 1]
    assert samples.output_tokens.tolist() == [2, -1, -1, -1]
    back = RequestSamples.from_table(samples.to_table())
    for name in RequestSamples.__slots__:
        np.testing.assert_array_equal(getattr(back, name), getattr(samples, name))


def test_errors_are_short_and_on_one_line() -> None:
    error = short_error("http_500: " + "x\n" * 500)
    assert len(error) == MAX_ERROR_CHARS
    assert "\n" not in error


def test_what_is_beyond_the_memory_limit_waits_in_a_file_and_comes_back_as_it_was() -> None:
    spool = Spool(max_bytes_in_memory=4_000)
    sent = [
        over(
            i,
            float(i),
            dispatched_s=i + 0.5,
            error="é" * (i % 3),
            read_s=[i + 0.25 * k for k in range(i % 5)],
            parts=[bytes([i % 256]) * (100 * k) for k in range(i % 5)],
        )
        for i in range(300)
    ]
    for exchange in Random(0).sample(sent, len(sent)):  # as they end, in any order
        spool.put(exchange)
    meanwhile = [ended.index for ended in spool.read()]
    spool.flush()
    came = list(spool.read())
    assert 1 < len(meanwhile) <= len(came) == 300
    assert meanwhile == sorted(meanwhile)
    for exchange, ended in zip(sent, came, strict=True):
        assert (ended.index, ended.intended_s, ended.error) == (
            exchange.index,
            exchange.intended_s,
            exchange.error,
        )
        assert math.isnan(ended.written_s)
        assert ended.read_s.tolist() == exchange.read_s
        assert ended.raw == b"".join(exchange.parts)
        assert np.diff([0, *ended.part_end]).tolist() == [len(p) for p in exchange.parts]
    spool.close()


def test_many_events_are_handed_over_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool()
    for i in range(5):
        body = sse(*[text("a", "stop" if k == i else None) for k in range(i + 1)])
        parts = [HEAD % b"200 OK", chunk(body) + chunk(b"")]
        spool.put(over(i, 10.0, read_s=[10.0 + i, 10.5 + i], parts=parts))
    whole = collect(spool.read(), origin_s=10.0)
    assert whole.event_offset.tolist() == [0, 1, 3, 6, 10, 15]
    assert whole.event_s.tolist() == [i + 0.5 for i in range(5) for _ in range(i + 1)]
    monkeypatch.setattr("harness.load.collect._EVENTS_PER_BLOCK", 2)
    blocks = collect(spool.read(), origin_s=10.0)
    for name in RequestSamples.__slots__:
        np.testing.assert_array_equal(getattr(blocks, name), getattr(whole, name))


def test_a_disk_that_is_full_is_told_when_the_load_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.load.spool._write_all", full)
    spool = Spool(max_bytes_in_memory=10)
    spool.put(over(0, 0.0, parts=[b"x" * 100], read_s=[0.0]))
    with pytest.raises(OSError, match="No space left"):
        spool.flush()


def test_an_answer_in_one_piece_has_counts_and_no_times() -> None:
    whole = {"choices": [{"message": {"content": "yes", "reasoning": "hm"}}], **usage(7, 3)}
    reading = read_whole(json.dumps(whole).encode())
    assert (reading.error, reading.text, reading.reasoning) == ("", "yes", "hm")
    assert (reading.prompt_tokens, reading.output_tokens, reading.event_end) == (7, 3, [])
    assert read_whole(b"{}").error.startswith("empty_answer")
    assert read_whole(b"<html>").error.startswith("malformed")


def test_reasoning_is_told_apart_and_cached_tokens_are_counted() -> None:
    cached = {"prompt_tokens_details": {"cached_tokens": 5}}
    last = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, **cached}}
    reading = read_stream(sse(delta(reasoning="hm"), delta(content="a"), delta(content="b"), last))
    assert reading.event_reasoning == [True, False, False]
    assert reading.event_tokens == [1, 1, 1]  # as many chunks as tokens
    assert reading.cached_tokens == 5


@pytest.mark.parametrize("api", ["completions", "chat"])
@pytest.mark.parametrize("ends", [{"num_requests": 30}, {"duration_s": 5.0}])
def test_a_body_is_the_same_made_ahead_or_in_time(
    api: Any, ends: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = Traffic(
        arrivals=ClosedLoop(num_users=1),
        prompt_tokens=UniformLength(low=1, high=9),
        output_tokens=UniformLength(low=1, high=9),
        api=api,
        **ends,
    )
    schedule = build_schedule(traffic, 500)
    target = ServerTarget(base_url="http://nowhere", model="m", vocab_size=500)
    in_time = Bodies(target, schedule, DIALECTS[0])
    monkeypatch.setattr("harness.load.bodies.MAX_BODY_BYTES_AHEAD", 2_000)
    monkeypatch.setattr("harness.load.bodies.MAX_BODY_BYTES_IN_FILE", 1_000)
    ahead = Bodies(target, schedule, DIALECTS[0])
    ahead.make_ahead(range(30))
    for i in range(32):
        body = ahead.take(i)
        assert body == in_time.take(i)
        asked = json.loads(body)
        prompt, output = schedule.shape(i)
        assert asked["max_tokens"] == asked["min_tokens"] == output
        if api == "chat":
            assert len(asked["messages"][0]["content"].split()) == prompt
        else:
            assert asked["prompt"] == schedule.prompt_ids(i).tolist()
            assert len(asked["prompt"]) == prompt
    ahead.close()


def test_dialects_ask_for_less_and_less() -> None:
    full, plain, bare = (set(d.fields(4)) for d in DIALECTS)
    assert full > plain > bare == {"stream", "max_tokens"}
    assert DIALECTS[0].fields(4)["stream_options"]["continuous_usage_stats"] is True
    assert DIALECTS[1].fields(4)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("given", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_urls_with_and_without_v1(given: str) -> None:
    assert root_url(given) == "http://h:1"


def test_fixed_lengths_need_no_luck() -> None:
    traffic = Traffic(
        arrivals=ClosedLoop(num_users=1), output_tokens=FixedLength(tokens=3), num_requests=1
    )
    assert build_schedule(traffic).shape(10**6)[1] == 3
