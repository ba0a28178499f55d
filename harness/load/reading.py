"""What the bytes said: one answer of an OpenAI-compatible server, streamed or in one piece. Pure.

An event is a chunk with text in it: content, completion text or reasoning alike. A chunk that holds
a role, a usage count or no text is none. Its tokens are what the server's running count grew by
since the event before, so tokens whose text was held back count with the chunk that shows them.
Without a running count, an answer of as many chunks as tokens has one token in each; otherwise
they are −1, not known.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeVar, get_type_hints

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


# Text is Any: a server that puts something else there is read as far as it goes, not refused.
# msgspec skips the fields that are not named here without making objects of them.
class _Words(msgspec.Struct, gc=False):
    content: Any = None
    # vLLM says ``reasoning``, DeepSeek and SGLang ``reasoning_content``.
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(msgspec.Struct, gc=False):
    text: Any = None
    delta: _Words | None = None
    message: _Words | None = None
    finish_reason: Any = None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    completion_tokens: int | None = None
    prompt_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Document(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    object: Any = None
    message: Any = None


_DECODER = msgspec.json.Decoder(_Document)
_LENIENT = msgspec.json.Decoder()
_DATA = b"data: "
_DONE = b"[DONE]"


def read_stream(raw: bytes, *, keep_text: bool = False) -> Reading:
    """Read the body of a streamed 2xx answer. Never raises: what cannot be read is an error in
    words."""
    reading = Reading()
    texts: list[str] | None = [] if keep_text else None
    if not _read_plainly(raw, reading, texts):
        reading = Reading()
        texts = [] if keep_text else None
        _read_carefully(raw, reading, texts)
        if reading.error:
            return reading
    reading.text = "".join(texts or ())
    _count_by_chunks(reading)
    reading.error = _ending(reading, raw)
    return reading


def _read_plainly(raw: bytes, reading: Reading, texts: list[str] | None) -> bool:
    """All events at once, where each is one line of data and an empty one, and JSON of the shape
    it should have. False: it is not so, and ``reading`` is not to be used."""
    blocks = raw.split(b"\n\n")
    num = len(blocks) - 1
    if blocks.pop() or raw.count(b"\n") != 2 * num or b"\r" in raw or not raw.startswith(_DATA):
        return False
    # An empty line that is left would be one before a line that begins otherwise.
    lines = raw[len(_DATA) : -2].replace(b"\n\n" + _DATA, b"\n")
    if lines.count(b"\n") != num - 1:
        return False
    if lines.endswith(b"\n" + _DONE):
        reading.is_finished = True
        lines, num = lines[: -len(_DONE) - 1], num - 1
    try:
        chunks = _DECODER.decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    if len(chunks) != num:
        return False
    ends = [end + 2 * k for k, end in enumerate(accumulate(map(len, blocks)))]
    return _take_all(chunks, ends, reading, texts)


def _take_all(
    chunks: list[_Document], ends: list[int], reading: Reading, texts: list[str] | None
) -> bool:
    """False where a chunk is an error."""
    num_counted = 0  # tokens of the events so far, where the server keeps count
    for chunk, end in zip(chunks, ends, strict=False):
        if chunk.error or chunk.object == "error":
            return False
        num_counted = _take(chunk, end, reading, num_counted, texts)
    return True


def _take(
    chunk: _Document, end: int, reading: Reading, num_counted: int, texts: list[str] | None
) -> int:
    usage, count = chunk.usage, -1
    if usage is not None and usage.completion_tokens is not None:
        count = reading.output_tokens = usage.completion_tokens
        if usage.prompt_tokens is not None:
            reading.prompt_tokens = usage.prompt_tokens
        details = usage.prompt_tokens_details
        if details is not None and details.cached_tokens is not None:
            reading.cached_tokens = details.cached_tokens
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
    reading.event_reasoning.append(is_reasoning)
    if count < num_counted:
        reading.event_tokens.append(-1)
        return num_counted
    reading.event_tokens.append(count - num_counted)
    return count


def _read_carefully(raw: bytes, reading: Reading, texts: list[str] | None) -> None:
    """Event by event, up to the first that cannot be read."""
    num_counted = 0
    for data, end in events(raw):
        if data == _DONE:
            reading.is_finished = True
            return
        chunk = _parse(data)
        if isinstance(chunk, str):
            reading.error = chunk
            return
        num_counted = _take(chunk, end, reading, num_counted, texts)


def read_whole(raw: bytes) -> Reading:
    """Read the body of a 2xx answer that was not asked to be a stream. No token has a time."""
    document = _parse(raw)
    if isinstance(document, str):
        return Reading(error=document)
    reading = Reading()
    _take(_Document(usage=document.usage), 0, reading, 0, None)
    reading.is_finished = True
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
    error, message = document.get("error"), document.get("message")
    if error or document.get("object") == "error":
        return f"server_error: {_message(error, message)}"
    choices = document.get("choices")
    fitting = _fit(choices[0], _Choice) if isinstance(choices, list) and choices else None
    return _Document(
        choices=None if fitting is None else [fitting], usage=_fit(document.get("usage"), _Usage)
    )


_Shape = TypeVar("_Shape", bound=msgspec.Struct)


def _fit(value: Any, shape: type[_Shape]) -> _Shape | None:
    """The fields of ``value`` that are of the type they should be; None for no object."""
    if not isinstance(value, dict):
        return None
    taken = shape()
    for name, hint in get_type_hints(shape).items():
        with suppress(msgspec.ValidationError):
            setattr(taken, name, msgspec.convert(value.get(name), hint))
    return taken


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
