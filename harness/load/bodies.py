"""What is sent: request bodies as bytes, made before the load begins.

Servers differ in which fields they take. A *dialect* is a set of them; the driver asks the server
with a probe, from the richest dialect down, and keeps to the first that is not refused (HTTP 400 or
422). ``full`` pins output lengths (``ignore_eos``, ``min_tokens``) and has the server count tokens
chunk by chunk; ``plain`` is OpenAI's own API; ``bare`` is the least that any server takes. In the
latter two an answer may end before the length asked for.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

import msgspec

from workloads.base import ServerTarget
from workloads.traffic.prompts import prompt_ids, prompt_text
from workloads.traffic.randomness import Stream
from workloads.traffic.schedule import Schedule

# Bodies made ahead are held in memory, those beyond this in a file that the kernel caches, and
# those beyond that too are made just before they are sent.
MAX_BODY_BYTES_AHEAD = 256 * 2**20
MAX_BODY_BYTES_IN_FILE = 8 * 2**30
PROBE_PROMPT_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    name: str
    pins_length: bool
    include_usage: bool
    continuous_usage: bool

    def fields(self, num_output_tokens: int, *, stream: bool = True) -> dict[str, Any]:
        """The fields beside model and prompt."""
        fields: dict[str, Any] = {"stream": stream, "max_tokens": num_output_tokens}
        if self.include_usage:
            # Greedy: the same prompt gets the same answer, so that repeats are alike.
            fields["temperature"] = 0.0
        if self.include_usage and stream:
            options = {"include_usage": True}
            if self.continuous_usage:
                options["continuous_usage_stats"] = True
            fields["stream_options"] = options
        if self.pins_length:
            fields |= {"ignore_eos": True, "min_tokens": num_output_tokens}
        return fields


DIALECTS = (
    Dialect(name="full", pins_length=True, include_usage=True, continuous_usage=True),
    Dialect(name="plain", pins_length=False, include_usage=True, continuous_usage=False),
    Dialect(name="bare", pins_length=False, include_usage=False, continuous_usage=False),
)


def api_path(api: str) -> str:
    return "/v1/chat/completions" if api == "chat" else "/v1/completions"


def _encode(model: str, api: str, prompt: Any, fields: dict[str, Any]) -> bytes:
    asked = {"messages" if api == "chat" else "prompt": prompt}
    return msgspec.json.encode({"model": model, **asked, **fields})


def probe_body(
    target: ServerTarget, api: str, dialect: Dialect, number: int, num_tokens: int
) -> bytes:
    """A small request that is no part of any schedule; no two ``number``s share a prompt."""
    seed = 0  # the probes' stream of it is nobody else's
    prompt: Any
    if api == "chat":
        prompt = _messages(prompt_text(seed, number, PROBE_PROMPT_TOKENS, Stream.PROBE))
    else:
        size = target.vocab_size
        prompt = prompt_ids(seed, number, PROBE_PROMPT_TOKENS, size, Stream.PROBE).tolist()
    return _encode(target.model, api, prompt, dialect.fields(num_tokens))


class Bodies:
    """The bodies of one share of a schedule, in the dialect the server takes."""

    def __init__(self, target: ServerTarget, schedule: Schedule, dialect: Dialect) -> None:
        self._target = target
        self._schedule = schedule
        self._dialect = dialect
        self._ahead: dict[int, bytes] = {}
        self._answers: dict[int, str] = {}
        self._in_file: dict[int, tuple[int, int]] = {}
        self._file: IO[bytes] | None = None

    def make_ahead(self, indices: Iterable[int]) -> None:
        """Make bodies of these requests until they or the room for them are at their end."""
        held = filed = 0
        for index in filter(self.knows_ahead, indices):
            body = self._make(index)
            if held + len(body) <= MAX_BODY_BYTES_AHEAD:
                self._ahead[index] = body
                held += len(body)
                continue
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``close``
            self._in_file[index] = (filed, len(body))
            filed += self._file.write(body)
            if filed > MAX_BODY_BYTES_IN_FILE:
                break
        if self._file is not None:
            self._file.flush()

    def take(self, index: int) -> bytes:
        """The body of request ``index``; it is then no longer held here."""
        body = self._ahead.pop(index, None)
        if body is not None:
            return body
        where = self._in_file.pop(index, None)
        if where is not None:
            assert self._file is not None
            return os.pread(self._file.fileno(), where[1], where[0])
        return self._make(index)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def knows_ahead(self, index: int) -> bool:
        """False for a later turn of a session where the answers before it are part of it."""
        return not (self._schedule.sends_answers and self._schedule.earlier_turns(index))

    def keep_answer(self, index: int, text: str) -> None:
        """What the server said in a turn that others will follow."""
        self._answers[index] = text

    def _make(self, index: int) -> bytes:
        fields = self._dialect.fields(
            self._schedule.shape(index)[1], stream=self._schedule.traffic.is_stream
        )
        model = self._schedule.model_of(index) or self._target.model
        return _encode(model, self._schedule.traffic.api, self._prompt(index), fields)

    def _prompt(self, index: int) -> Any:
        """With the conversation so far."""
        schedule = self._schedule
        if not schedule.traffic.sends_text:
            return schedule.conversation_ids(index).tolist()
        prompt: Any = schedule.prompt(index)
        earlier = schedule.earlier_turns(index)
        if schedule.traffic.api == "chat":
            return [m for turn in earlier for m in self._said(turn)] + _messages(prompt)
        if not earlier:
            return prompt
        said = [t for turn in earlier for t in (schedule.prompt(turn), self._answers[turn])]
        return "\n".join([*map(str, said), str(prompt)])

    def _said(self, turn: int) -> list[dict[str, str]]:
        """A turn that is over, as messages: what was asked, and what the server answered."""
        answer = {"role": "assistant", "content": self._answers[turn]}
        return [*_messages(self._schedule.prompt(turn)), answer]


def _messages(prompt: Any) -> list[dict[str, str]]:
    """A prompt as chat has it: messages of a file as they are, a text as one user's."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [dict(message) for message in prompt]
