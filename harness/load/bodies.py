"""What is sent: request bodies as bytes, made before the load begins.

Servers differ in which fields they take. A *dialect* is a set of them; the driver asks the server
with a probe, from the richest dialect down, and keeps to the first that is not refused (HTTP 400 or
422). ``full`` pins output lengths (``ignore_eos``, ``min_tokens``) and has the server count tokens
chunk by chunk; ``plain`` is OpenAI's own API; ``bare`` is the least that any server takes. In the
latter two an answer may end before the length asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from workloads.base import ServerTarget
from workloads.traffic.prompts import prompt_ids, prompt_text
from workloads.traffic.randomness import Stream
from workloads.traffic.schedule import Schedule

# Bodies made ahead are held in memory; those beyond this are made just before they are sent.
MAX_BODY_BYTES_AHEAD = 256 * 2**20
# Of an open-ended schedule, this many are made ahead.
_NUM_OPEN_ENDED_AHEAD = 1000
PROBE_PROMPT_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    name: str
    pins_length: bool
    include_usage: bool
    continuous_usage: bool

    def fields(self, num_output_tokens: int) -> dict[str, Any]:
        """The fields beside model and prompt."""
        fields: dict[str, Any] = {"stream": True, "max_tokens": num_output_tokens}
        if self.include_usage:
            options = {"include_usage": True}
            if self.continuous_usage:
                options["continuous_usage_stats"] = True
            # Greedy: the same prompt gets the same answer, so that repeats are alike.
            fields |= {"temperature": 0.0, "stream_options": options}
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
    asked = (
        {"messages": [{"role": "user", "content": prompt}]} if api == "chat" else {"prompt": prompt}
    )
    return json.dumps({"model": model, **asked, **fields}, separators=(",", ":")).encode()


def probe_body(
    target: ServerTarget, api: str, dialect: Dialect, number: int, num_tokens: int
) -> bytes:
    """A small request that is no part of any schedule; no two ``number``s share a prompt."""
    seed = 0  # the probes' stream of it is nobody else's
    prompt: Any
    if api == "chat":
        prompt = prompt_text(seed, number, PROBE_PROMPT_TOKENS, Stream.PROBE)
    else:
        size = target.vocab_size
        prompt = prompt_ids(seed, number, PROBE_PROMPT_TOKENS, size, Stream.PROBE).tolist()
    return _encode(target.model, api, prompt, dialect.fields(num_tokens))


class Bodies:
    """The bodies of one schedule, in the dialect the server takes."""

    def __init__(self, target: ServerTarget, schedule: Schedule, dialect: Dialect) -> None:
        self._target = target
        self._schedule = schedule
        self._dialect = dialect
        self._ahead: dict[int, bytes] = {}

    def make_ahead(self) -> None:
        """Make bodies until the schedule or the memory for them is at its end."""
        count = self._schedule.num_requests
        if self._schedule.is_open_ended:
            count += _NUM_OPEN_ENDED_AHEAD
        held = 0
        for index in range(count):
            self._ahead[index] = body = self._make(index)
            held += len(body)
            if held > MAX_BODY_BYTES_AHEAD:
                return

    def take(self, index: int) -> bytes:
        """The body of request ``index``; it is then no longer held here."""
        body = self._ahead.pop(index, None)
        return self._make(index) if body is None else body

    def _make(self, index: int) -> bytes:
        schedule, api = self._schedule, self._schedule.traffic.api
        prompt: Any = (
            schedule.prompt_text(index) if api == "chat" else schedule.prompt_ids(index).tolist()
        )
        fields = self._dialect.fields(schedule.shape(index)[1])
        return _encode(self._target.model, api, prompt, fields)
