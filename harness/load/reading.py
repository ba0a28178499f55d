"""What the bytes said: one answer of an OpenAI-compatible server, streamed or in one piece. Pure.

An event is a chunk with text in it: content, completion text or reasoning alike. A chunk that holds
a role, a usage count or no text is none. Its tokens are what the server's running count grew by
since the event before, so tokens whose text was held back count with the chunk that shows them.
Without a running count, an answer of as many chunks as tokens has one token in each; otherwise
they are −1, not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from harness.load.sse import events


@dataclass(slots=True, kw_only=True)
class Reading:
    """What one answer said. ``event_end`` are byte counts: an event's last byte of data.

    ``text`` is the answer without its reasoning; kept only where it was asked for.
    """

    error: str = ""
    prompt_tokens: int = -1
    output_tokens: int = -1
    cached_tokens: int = -1
    is_finished: bool = False
    event_end: list[int] = field(default_factory=list)
    event_tokens: list[int] = field(default_factory=list)
    event_reasoning: list[bool] = field(default_factory=list)
    text: str = ""
    reasoning: str = ""


# Everything is Any: a server that puts something else where text should be is read as far as it
# goes, not refused. msgspec skips the fields that are not named here without making objects.
class _Words(msgspec.Struct):
    content: Any = None
    # vLLM says ``reasoning``, DeepSeek and SGLang ``reasoning_content``.
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(msgspec.Struct):
    text: Any = None
    delta: _Words | None = None
    message: _Words | None = None
    finish_reason: Any = None


class _Document(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    object: Any = None
    message: Any = None


_DECODER = msgspec.json.Decoder(_Document)
_LENIENT = msgspec.json.Decoder()


def read_stream(raw: bytes, *, keep_text: bool = False) -> Reading:
    """Read the body of a streamed 2xx answer. Never raises: what cannot be read is an error in
    words."""
    reading = Reading()
    num_counted = 0  # tokens of the events so far, where the server keeps count
    texts: list[str] = []
    for data, end in events(raw):
        if data == b"[DONE]":
            reading.is_finished = True
            break
        chunk = _parse(data)
        if isinstance(chunk, str):
            reading.error = chunk
            return reading
        num_counted = _read_chunk(chunk, end, reading, num_counted, texts if keep_text else None)
    reading.text = "".join(texts)
    _count_by_chunks(reading)
    reading.error = _ending(reading, raw)
    return reading


def read_whole(raw: bytes) -> Reading:
    """Read the body of a 2xx answer that was not asked to be a stream. No token has a time."""
    document = _parse(raw)
    if isinstance(document, str):
        return Reading(error=document)
    reading = Reading(is_finished=True)
    _read_usage(document.usage, reading)
    choice = document.choices[0] if document.choices else None
    words = choice.message if choice is not None else None
    if choice is not None:
        reading.text = _text(words.content if words is not None else choice.text)
        reading.reasoning = _text(words.reasoning or words.reasoning_content) if words else ""
    if not reading.text and not reading.reasoning and reading.output_tokens <= 0:
        reading.error = "empty_answer: the answer holds no token"
    return reading


def _parse(data: bytes) -> _Document | str:
    """The document, or the error in words."""
    try:
        document = _DECODER.decode(data)
    except msgspec.ValidationError:
        return _parse_leniently(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"malformed_stream: not JSON: {words_of(data)}"
    if document.error or document.object == "error":
        return f"server_error: {_message(document.error, document.message)}"
    return document


def _parse_leniently(data: bytes) -> _Document | str:
    """A document whose parts are not of the shape that they should have: what fits is taken."""
    document = _LENIENT.decode(data)
    if not isinstance(document, dict):
        return f"malformed_stream: not an object: {words_of(data)}"
    fit = {name: document.get(name) for name in ("usage", "error", "object", "message")}
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    taken = []
    if isinstance(choice, dict):
        delta = choice.get("delta")
        words = (
            _Words(**{n: delta.get(n) for n in _Words.__struct_fields__})
            if isinstance(delta, dict)
            else None
        )
        taken.append(
            _Choice(text=choice.get("text"), delta=words, finish_reason=choice.get("finish_reason"))
        )
    if fit["error"] or fit["object"] == "error":
        return f"server_error: {_message(fit['error'], fit['message'])}"
    return _Document(choices=taken, **fit)


def _read_chunk(
    chunk: _Document, end: int, reading: Reading, num_counted: int, texts: list[str] | None
) -> int:
    count = -1 if chunk.usage is None else _read_usage(chunk.usage, reading)
    if not chunk.choices:
        return num_counted
    choice = chunk.choices[0]
    if choice.finish_reason is not None:
        reading.is_finished = True
    words, text, is_reasoning = choice.delta, choice.text, False
    if words is not None:
        text = words.content or text
        is_reasoning = not text and bool(words.reasoning or words.reasoning_content)
    if not text and not is_reasoning:
        return num_counted
    if texts is not None and text:
        texts.append(_text(text))
    reading.event_end.append(end)
    reading.event_tokens.append(count - num_counted if count >= num_counted else -1)
    reading.event_reasoning.append(is_reasoning)
    return max(count, num_counted)


def _read_usage(usage: Any, reading: Reading) -> int:
    """Takes the counts; returns that of the output, −1: there is none."""
    count = _count(usage, "completion_tokens")
    if count >= 0:
        reading.output_tokens = count
        reading.prompt_tokens = max(reading.prompt_tokens, _count(usage, "prompt_tokens"))
        details = usage.get("prompt_tokens_details")
        reading.cached_tokens = max(reading.cached_tokens, _count(details, "cached_tokens"))
    return count


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) else -1


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count_by_chunks(reading: Reading) -> None:
    tokens = reading.event_tokens
    if tokens and len(tokens) == reading.output_tokens and all(t < 0 for t in tokens):
        reading.event_tokens = [1] * len(tokens)


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
    return f"malformed_stream: no event in {len(raw)} bytes: {words_of(raw)}"


def words_of(raw: bytes) -> str:
    return repr(raw[:80].decode(errors="replace"))


def _message(error: Any, message: Any) -> str:
    if isinstance(error, dict):
        error = error.get("message")
    return str(error or message or "no message")


def status_error(status: int, raw: bytes) -> str:
    """A refusal in words: what the server says, or the beginning of what it sent."""
    text = raw.decode(errors="replace")
    try:
        document = _LENIENT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        document = None
    if isinstance(document, dict):
        text = _message(document.get("error"), document.get("message") or document.get("detail"))
    elif document is not None:
        text = str(document)
    return f"http_{status}: {text}"
