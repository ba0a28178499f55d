"""What the simulated server says and when: an answer is a list of (seconds, bytes). Pure.

The whole answer is laid out before its first byte is sent, so the server has nothing left to do but
keep to the times, and a test can ask what should have been seen.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

DONE = b"data: [DONE]\n\n"
# Request fields that OpenAI's own API does not have and refuses.
EXTENSIONS = ("ignore_eos", "min_tokens")
DEFAULT_MAX_TOKENS = 16


class Fault(StrEnum):
    NONE = ""
    STATUS_500 = "status_500"  # refused with HTTP 500 at once
    NEVER_ANSWERS = "never_answers"  # accepted; not a byte comes back
    DISCONNECT = "disconnect"  # connection reset in the middle of the stream
    MALFORMED = "malformed"  # something that is not JSON, in the middle of the stream
    TRUNCATED = "truncated"  # a clean end of the response, in the middle of the stream
    ERROR_EVENT = "error_event"  # an error object, in the middle of the stream
    STALL = "stall"  # silence of ``stall_s`` in the middle of the stream; then it goes on, and well


# What leaves the client without its full answer.
FAILURES = tuple(fault for fault in Fault if fault not in (Fault.NONE, Fault.STALL))


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the simulated server behaves. Shares are of requests, drawn from ``seed`` in the order
    of arrival; their sum is at most 1."""

    ttft_s: float = 0.05  # service begins → first token
    itl_s: float = 0.01  # one token → the next
    tokens_per_chunk: int = 1
    capacity: int | None = None  # requests served at once; the others queue in order of arrival
    num_empty_chunks: int = 0  # chunks without text, sent ahead of the first token
    num_reasoning_tokens: int = 0  # chat: this many tokens come as reasoning, not as content
    eos_after: int | None = None  # an answer ends here unless ``ignore_eos`` is asked
    refuses_extensions: bool = False  # HTTP 400 for fields that OpenAI's API does not have
    refuses_stream_options: bool = False  # HTTP 400 for ``stream_options`` at all
    wants_key: str = ""  # HTTP 401, quoting the key it was given, for any other one
    reports_continuous_usage: bool = True
    fail_share: float = 0.0
    never_answer_share: float = 0.0
    disconnect_share: float = 0.0
    malformed_share: float = 0.0
    truncate_share: float = 0.0
    error_event_share: float = 0.0
    stall_share: float = 0.0
    stall_s: float = 1.0
    keeps_log: bool = True  # of every request and every write, in memory
    seed: int = 0
    model: str = "simulated"

    @property
    def has_faults(self) -> bool:
        return any(share > 0 for _, share in self.shares)

    @property
    def shares(self) -> tuple[tuple[Fault, float], ...]:
        return (
            (Fault.STATUS_500, self.fail_share),
            (Fault.NEVER_ANSWERS, self.never_answer_share),
            (Fault.DISCONNECT, self.disconnect_share),
            (Fault.MALFORMED, self.malformed_share),
            (Fault.TRUNCATED, self.truncate_share),
            (Fault.ERROR_EVENT, self.error_event_share),
            (Fault.STALL, self.stall_share),
        )

    def fault(self, number: int) -> Fault:
        """The fault of the ``number``-th request to arrive, or ``Fault.NONE``."""
        left = random.Random(f"{self.seed}:{number}").random()
        for fault, share in self.shares:
            if left < share:
                return fault
            left -= share
        return Fault.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request as the simulated server reads it."""

    chat: bool
    stream: bool
    num_prompt_tokens: int
    num_output_tokens: int
    include_usage: bool
    continuous_usage: bool

    def usage(self, num_tokens: int) -> dict[str, int]:
        return {
            "prompt_tokens": self.num_prompt_tokens,
            "completion_tokens": num_tokens,
            "total_tokens": self.num_prompt_tokens + num_tokens,
        }


def cut_ids(raw: bytes) -> tuple[bytes, int]:
    """A request's body less the ids of its prompt, and how many they were.

    Only how many there are matters here, and reading 50,000 numbers would stop every other stream
    of the server for milliseconds. (raw, −1) when they cannot be cut out unread.
    """
    start = raw.find(_IDS)
    end = raw.find(b"]", start)
    if start < 0 or end < 0:
        return raw, -1
    ids = raw[start + len(_IDS) : end]
    if not ids or ids.translate(None, b"0123456789, "):
        return raw, -1
    return b"".join((raw[:start], b'"prompt":null', raw[end + 1 :])), ids.count(b",") + 1


def parse_body(raw: bytes, rest: bytes, num_ids: int) -> dict[str, Any]:
    """The JSON object of a request; raises ValueError when it is none.

    A prompt that was cut comes back as a ``range`` of the same length.
    """
    body = json.loads(rest)
    # Else what was cut were the ids of something inside, and the prompt is another.
    if num_ids >= 0 and isinstance(body, dict) and body.get("prompt", "") is None:
        return body | {"prompt": range(num_ids)}
    if num_ids >= 0:
        body = json.loads(raw)
    if not isinstance(body, dict):
        raise ValueError(f"a request is an object, not a {type(body).__name__}")
    return body


_IDS = b'"prompt":['


def refusal(body: Mapping[str, Any], behaviour: Behaviour) -> str:
    """Why a request is answered with HTTP 400; empty: it is not."""
    options = body.get("stream_options") or {}
    if behaviour.refuses_extensions:
        unknown = [name for name in EXTENSIONS if name in body]
        unknown += ["continuous_usage_stats"] if "continuous_usage_stats" in options else []
        if unknown:
            return f"Unrecognized request argument supplied: {unknown[0]}"
    if behaviour.refuses_stream_options and options:
        return "Unrecognized request argument supplied: stream_options"
    if not isinstance(body.get("max_tokens", 1), int) or body.get("max_tokens", 1) < 1:
        return f"max_tokens must be at least 1, got {body.get('max_tokens')!r}"
    return ""


def read_ask(body: Mapping[str, Any], behaviour: Behaviour, *, chat: bool) -> Ask:
    """Words count as tokens of the simulated model, and so does each id of a prompt of ids."""
    if chat:
        texts = [str(m.get("content", "")) for m in body.get("messages", ())]
        num_prompt = sum(len(t.split()) for t in texts)
    else:
        prompt = body.get("prompt", "")
        num_prompt = len(prompt.split()) if isinstance(prompt, str) else len(prompt)
    num_output = int(body.get("max_tokens") or DEFAULT_MAX_TOKENS)
    if behaviour.eos_after is not None and not body.get("ignore_eos"):
        num_output = min(num_output, behaviour.eos_after)
    options = body.get("stream_options") or {}
    include = bool(options.get("include_usage"))
    continuous = include and bool(options.get("continuous_usage_stats"))
    return Ask(
        chat=chat,
        stream=bool(body.get("stream")),
        num_prompt_tokens=num_prompt,
        num_output_tokens=num_output,
        include_usage=include,
        continuous_usage=continuous and behaviour.reports_continuous_usage,
    )


def token_times(ask: Ask, behaviour: Behaviour) -> list[tuple[float, int]]:
    """(seconds from the beginning of service, tokens in the chunk) of every token-bearing chunk.

    A chunk goes out when its last token is ready, as engines that batch their stream do; the first
    chunk when its first token is, so that ``ttft_s`` is the time to first token.
    """
    n, step = ask.num_output_tokens, behaviour.tokens_per_chunk
    chunks = []
    for first in range(0, n, step):
        size = min(step, n - first)
        ready = 0 if first == 0 else first + size - 1
        chunks.append((behaviour.ttft_s + ready * behaviour.itl_s, size))
    return chunks


@lru_cache(maxsize=1024)
def _opening(chat: bool, choice: str) -> bytes:
    """An event up to its usage; ``choice`` is a JSON object, or empty for an event without one."""
    kind = "chat.completion.chunk" if chat else "text_completion"
    opening = f'data: {{"id":"simulated","object":"{kind}","created":0,"model":"simulated",'
    return f'{opening}"choices":[{choice}]'.encode()


_USAGE = b',"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}'


def event(ask: Ask, choice: str, num_tokens: int | None) -> bytes:
    """One server-sent event; ``num_tokens`` so far stand in its usage, None: it has none."""
    if num_tokens is None:
        return _opening(ask.chat, choice) + b"}\n\n"
    num_prompt = ask.num_prompt_tokens
    usage = _USAGE % (num_prompt, num_tokens, num_prompt + num_tokens)
    return b"%b%b}\n\n" % (_opening(ask.chat, choice), usage)


@lru_cache(maxsize=1024)
def text_choice(chat: bool, num_tokens: int, *, reasoning: bool = False, last: bool = False) -> str:
    """The ``choices`` entry of a chunk of so many tokens, as JSON."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if last else None}
    text = " tok" * num_tokens
    if chat:
        choice["delta"] = {"reasoning_content" if reasoning else "content": text}
    else:
        choice["text"] = text
    return json.dumps(choice, separators=(",", ":"))


ROLE = '{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}'


class Entry(NamedTuple):
    """A part of a stream: when it is due, in seconds from the beginning of service, and what."""

    at_s: float
    data: bytes
    num_tokens: int = 0


def stream_entries(ask: Ask, behaviour: Behaviour, fault: Fault) -> tuple[Entry, ...]:
    """The whole stream in the order of its times.

    Chat begins with a chunk that holds the role only. A stream that breaks off does so in the
    middle; what the fault itself says follows the last entry, and for DISCONNECT is the server's.
    """
    entries: list[Entry] = []
    running = ask.continuous_usage
    zero = 0 if running else None
    if ask.chat:
        entries.append(Entry(0.0, event(ask, ROLE, zero)))
    empty = event(ask, text_choice(ask.chat, 0), zero)
    entries += [Entry(0.0, empty)] * behaviour.num_empty_chunks
    chunks = token_times(ask, behaviour)
    stall_s, num_sent = 0.0, 0
    for k, (at_s, size) in enumerate(chunks):
        if fault is not Fault.NONE and k >= len(chunks) // 2:
            if fault is not Fault.STALL:
                return (*entries, Entry(at_s, _broken(fault)))
            stall_s = behaviour.stall_s
        reasoning = ask.chat and num_sent < behaviour.num_reasoning_tokens
        num_sent += size
        choice = text_choice(ask.chat, size, reasoning=reasoning, last=k == len(chunks) - 1)
        data = event(ask, choice, num_sent if running else None)
        entries.append(Entry(at_s + stall_s, data, size))
    end_s = entries[-1].at_s
    if ask.include_usage:
        entries.append(Entry(end_s, event(ask, "", num_sent)))
    return (*entries, Entry(end_s, DONE))


def stream_plan(ask: Ask, behaviour: Behaviour, fault: Fault) -> tuple[tuple[float, bytes], ...]:
    """The whole stream as (seconds from the beginning of service, bytes), ascending."""
    return tuple((entry.at_s, entry.data) for entry in stream_entries(ask, behaviour, fault))


def _broken(fault: Fault) -> bytes:
    if fault is Fault.MALFORMED:
        return b'data: {"choices": [{"text": "half an ob\n\n' + DONE
    if fault is Fault.ERROR_EVENT:
        error = {"error": {"message": "simulated engine error", "code": 500}}
        return b"data: " + json.dumps(error).encode() + b"\n\n" + DONE
    return b""


def whole_answer(ask: Ask) -> dict[str, Any]:
    """The answer in one piece, for a request that did not ask for a stream."""
    text = " tok" * ask.num_output_tokens
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
    choice |= {"message": {"role": "assistant", "content": text}} if ask.chat else {"text": text}
    return {
        "id": "simulated",
        "object": "chat.completion" if ask.chat else "text_completion",
        "created": 0,
        "model": "simulated",
        "choices": [choice],
        "usage": ask.usage(ask.num_output_tokens),
    }
