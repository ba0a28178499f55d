import json
import math
from typing import Any

import numpy as np
import pytest

from harness.load.bodies import DIALECTS, Bodies
from harness.load.client import RawStore, Transcript, root_url
from harness.load.collect import MAX_ERROR_CHARS, collect, read_stream, short_error
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
        {"choices": [], **usage(7, 3)},
    )
    reading = read_stream(raw)
    assert reading.error == ""
    assert len(reading.event_end) == 3
    assert reading.event_tokens == [-1, -1, -1]
    assert (reading.prompt_tokens, reading.output_tokens) == (7, 3)


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


def test_rows_are_in_order_and_times_count_from_the_origin() -> None:
    store = RawStore()
    answered = Transcript(index=0, is_warmup=True, intended_s=99.0, dispatched_s=99.5, status=200)
    raw = sse(text("a", **usage(2, 1)), text("b", "stop", **usage(2, 2)))
    answered.read_end.extend([raw.index(b"\n\n") + 2, len(raw)])
    answered.read_s.extend([100.5, 101.0])
    answered.raw, answered.done_s = store.put(raw), 101.5
    refused = Transcript(index=1, intended_s=100.0, dispatched_s=100.0, done_s=100.25)
    refused.error = "refused: nobody there"
    unsent = Transcript(index=2, intended_s=105.0)
    denied = Transcript(index=3, intended_s=101.0, dispatched_s=101.0, done_s=102.0, status=401)
    denied.raw = store.put(b'{"error": {"message": "bad key\\n  sk-secret"}}')
    samples = collect(
        [answered, refused, unsent, denied], store, origin_s=100.0, worker=3, secrets=["sk-secret"]
    )
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


def test_answers_beyond_the_memory_limit_wait_in_a_file() -> None:
    store = RawStore(max_bytes_in_memory=10)
    pieces = [bytes([i]) * i for i in range(9)]
    refs = [store.put(piece) for piece in pieces]
    assert sum(len(r) for r in refs if isinstance(r, bytes)) <= 10
    assert any(isinstance(r, tuple) for r in refs)
    for i in (8, 0, 5, 3, 8, 1):
        assert store.get(refs[i]) == pieces[i]
    store.close()


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
    ahead = Bodies(target, schedule, DIALECTS[0])
    ahead.make_ahead()
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
