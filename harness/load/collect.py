"""What the bytes said: transcripts in, columns out. Runs after the load has ended.

An event is a chunk with text in it: content, completion text or reasoning alike. A chunk that holds
a role, a usage count or no text is none. An event is seen at the read that brought the last byte of
its data. Its tokens are what the server's running count grew by since the event before, so tokens
whose text was held back count with the chunk that shows them; without a running count they are −1.
"""

from __future__ import annotations

import bisect
import json
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.load.client import RawStore, Transcript
from harness.load.sse import events
from results.samples import RequestSamples

MAX_ERROR_CHARS = 200
# vLLM says ``reasoning``, DeepSeek and SGLang ``reasoning_content``.
_TEXT_FIELDS = ("content", "reasoning_content", "reasoning")


@dataclass(slots=True, kw_only=True)
class Reading:
    """What one response said. ``event_end`` are byte counts: an event's last byte of data."""

    error: str = ""
    prompt_tokens: int = -1
    output_tokens: int = -1
    is_finished: bool = False
    event_end: list[int] = field(default_factory=list)
    event_tokens: list[int] = field(default_factory=list)


def read_stream(raw: bytes) -> Reading:
    """Read the body of a 2xx response. Never raises: what cannot be read is an error in words."""
    reading = Reading()
    num_counted = 0  # tokens of the events so far, where the server keeps count
    for data, end in events(raw):
        if data == b"[DONE]":
            reading.is_finished = True
            break
        try:
            chunk = json.loads(data)
        except ValueError:
            reading.error = f"malformed_stream: not JSON: {_words(data)}"
            return reading
        if not isinstance(chunk, dict):
            reading.error = f"malformed_stream: not an object: {_words(data)}"
            return reading
        if chunk.get("error") or chunk.get("object") == "error":
            reading.error = f"server_error: {_message(chunk)}"
            return reading
        num_counted = _read_chunk(chunk, end, reading, num_counted)
    reading.error = _ending(reading, raw)
    return reading


def _read_chunk(chunk: dict[str, Any], end: int, reading: Reading, num_counted: int) -> int:
    usage = chunk.get("usage")
    count = _count(usage, "completion_tokens")
    if count >= 0:
        reading.output_tokens = count
        reading.prompt_tokens = max(reading.prompt_tokens, _count(usage, "prompt_tokens"))
    choices = chunk.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return num_counted
    if choice.get("finish_reason") is not None:
        reading.is_finished = True
    delta = choice.get("delta")
    has_text = bool(choice.get("text")) or (
        isinstance(delta, dict) and any(delta.get(name) for name in _TEXT_FIELDS)
    )
    if not has_text:
        return num_counted
    reading.event_end.append(end)
    reading.event_tokens.append(count - num_counted if count >= num_counted else -1)
    return max(count, num_counted)


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) else -1


def _ending(reading: Reading, raw: bytes) -> str:
    """Why a stream without a bad chunk is still no full answer; empty: it is one."""
    if reading.is_finished:
        # Some servers end a request they cannot serve at once and politely, with no token.
        if not reading.event_end and reading.output_tokens <= 0:
            return "empty_answer: the stream ended without a token"
        return ""
    if reading.event_end:
        return "truncated: the stream ended without a finish reason or [DONE]"
    if not raw.strip():
        return "empty_answer: the response has no body"
    if raw.lstrip().startswith(b"{"):
        return "not_a_stream: the server answered in one piece, so no token has a time"
    return f"malformed_stream: no event in {len(raw)} bytes: {_words(raw)}"


def _words(raw: bytes) -> str:
    return repr(raw[:80].decode(errors="replace"))


def _message(document: dict[str, Any]) -> str:
    error = document.get("error")
    if isinstance(error, dict):
        error = error.get("message")
    return str(error or document.get("message") or document.get("detail") or "no message")


def _status_error(status: int, raw: bytes) -> str:
    try:
        document = json.loads(raw)
        text = _message(document) if isinstance(document, dict) else str(document)
    except ValueError:
        text = raw.decode(errors="replace")
    return f"http_{status}: {text}"


def read_transcript(transcript: Transcript, raw: bytes) -> Reading:
    """Read one response; what the client itself saw go wrong is the first word on it."""
    if 200 <= transcript.status < 300:
        reading = read_stream(raw)
    elif transcript.status >= 0:
        reading = Reading(error=_status_error(transcript.status, raw))
    else:
        reading = Reading(error="no_response: the connection ended before a status line")
    if transcript.error:
        reading.error = transcript.error
    return reading


def event_times(transcript: Transcript, reading: Reading) -> list[float]:
    """(events,) when the read that held each event's last byte of data returned."""
    return [
        transcript.read_s[bisect.bisect_left(transcript.read_end, end)] for end in reading.event_end
    ]


def collect(
    transcripts: Sequence[Transcript],
    store: RawStore,
    *,
    origin_s: float,
    worker: int = 0,
    secrets: Iterable[str] = (),
) -> RequestSamples:
    """One row per transcript, in their order. Times count from ``origin_s``.

    ``secrets`` are blotted out of error texts: a server may quote the key it was given.
    """
    secrets = tuple(s for s in secrets if s)
    event_s, event_tokens, offsets = array("d"), array("q"), array("q", [0])
    first_token, prompt, output, errors = array("d"), array("q"), array("q"), []
    for transcript in transcripts:
        if np.isnan(transcript.dispatched_s):
            reading = Reading(error=transcript.error or "not_sent: the load ended before its turn")
        else:
            reading = read_transcript(transcript, store.get(transcript.raw))
        times = event_times(transcript, reading)
        event_s.extend(times)
        event_tokens.extend(reading.event_tokens)
        offsets.append(len(event_s))
        first_token.append(times[0] if times else np.nan)
        prompt.append(reading.prompt_tokens)
        output.append(reading.output_tokens)
        errors.append(short_error(reading.error, secrets))

    def times_of(name: str) -> Any:
        return np.array([getattr(t, name) for t in transcripts], dtype=np.float64) - origin_s

    return RequestSamples(
        intended_s=times_of("intended_s"),
        dispatched_s=times_of("dispatched_s"),
        written_s=times_of("written_s"),
        first_byte_s=times_of("first_byte_s"),
        first_token_s=np.array(first_token, dtype=np.float64) - origin_s,
        done_s=times_of("done_s"),
        prompt_tokens=np.array(prompt, dtype=np.int64),
        output_tokens=np.array(output, dtype=np.int64),
        status=np.array([t.status for t in transcripts], dtype=np.int64),
        error=np.array(errors, dtype=object),
        is_warmup=np.array([t.is_warmup for t in transcripts], dtype=np.bool_),
        worker=np.full(len(transcripts), worker, dtype=np.int64),
        event_offset=np.array(offsets, dtype=np.int64),
        event_s=np.array(event_s, dtype=np.float64) - origin_s,
        event_tokens=np.array(event_tokens, dtype=np.int64),
    )


def short_error(error: str, secrets: Iterable[str] = ()) -> str:
    """One line of at most MAX_ERROR_CHARS, with every secret blotted out."""
    for secret in secrets:
        error = error.replace(secret, "***")
    error = " ".join(error.split())
    return error if len(error) <= MAX_ERROR_CHARS else error[: MAX_ERROR_CHARS - 1] + "…"
