from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.load.collect import event_times, response_of
from harness.load.reading import read_stream
from harness.load.spool import pack, unpack
from harness.load.sse import events
from harness.load.wire import Exchange

# Payloads of one line, as JSON without line breaks is.
payloads = st.binary(max_size=20).filter(lambda b: not set(b) & {10, 13})
line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(data=st.lists(payloads, max_size=8), end=line_ends, spaced=st.booleans(), bom=st.booleans())
def test_events_come_back_whatever_the_line_ends(
    data: list[bytes], end: bytes, spaced: bool, bom: bool
) -> None:
    prefix = b"data: " if spaced else b"data:"
    # Without the optional space, a payload that begins with one loses it, says the standard.
    data = [d if spaced else d.lstrip(b" ") for d in data]
    lines = [prefix + d + end + end for d in data]
    raw = (b"\xef\xbb\xbf" if bom else b"") + b"".join(lines)
    got = list(events(raw))
    assert [d for d, _ in got] == data
    ends = accumulate((len(line) for line in lines), initial=3 if bom else 0)
    assert [e for _, e in got] == [
        start + len(prefix) + len(d) for start, d in zip(ends, data, strict=False)
    ]


def test_comments_and_other_fields_are_left_out_and_data_lines_joined() -> None:
    raw = b": ping\n\nevent: message\nid: 4\ndata: a\ndata: b\n\n\n\nretry: 5\n\ndata\n\ndata: c"
    assert [d for d, _ in events(raw)] == [b"a\nb", b"c"]


def test_an_event_cut_off_by_the_end_is_given() -> None:
    assert list(events(b"data: [DONE]")) == [(b"[DONE]", 12)]
    assert list(events(b"")) == []


def chunk(text: str, completion_tokens: int) -> bytes:
    return (
        b'data: {"choices":[{"text":"%b","finish_reason":null}],'
        b'"usage":{"prompt_tokens":3,"completion_tokens":%d}}\n\n'
    ) % (text.encode(), completion_tokens)


@given(cuts=st.sets(st.integers(1, 400), max_size=12), texts=st.lists(st.sampled_from(["", "é"])))
def test_an_event_is_seen_at_the_read_that_completes_its_data(
    cuts: set[int], texts: list[str]
) -> None:
    raw = b"".join(chunk(text, i + 1) for i, text in enumerate(texts)) + b"data: [DONE]\n\n"
    ends = sorted({c for c in cuts if c < len(raw)} | {len(raw)})
    exchange = Exchange(0, 0.0, b"", is_warmup=False)
    exchange.read_s = [float(i) for i in range(len(ends))]
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(raw)
    pieces = [raw[start:end] for start, end in pairwise([0, *ends])]
    exchange.parts = [head + pieces[0], *pieces[1:]]
    ended = unpack(pack(exchange))
    assert ended is not None
    response = response_of(ended)
    assert response.body == raw
    reading = read_stream(response.body)
    seen = event_times(ended, response, reading).tolist()
    # Independent of how ``events`` counts: feed the reads one by one and look what has appeared.
    expected = []
    for i, end in enumerate(ends):
        visible = sum(
            1
            for data, stop in events(raw)
            if '"é"'.encode() in data and stop <= end and raw[:end].count(data) > 0
        )
        expected += [float(i)] * (visible - len(expected))
    assert seen == expected
    # Tokens whose text was held back count with the chunk that shows them.
    shown = [i + 1 for i, text in enumerate(texts) if text]
    assert list(accumulate(reading.event_tokens)) == shown
