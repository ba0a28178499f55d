"""An answer as the writes that bring it: what goes to the socket, and when. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

from workloads.simulated.answers import Ask, Behaviour, Fault, stream_entries, whole_answer
from workloads.simulated.transport import (
    END_OF_CHUNKS,
    EVENT_STREAM_HEAD,
    chunk,
    whole_response,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WirePlan:
    """(writes,) each; ``at_s`` counts from the beginning of service and ascends strictly."""

    at_s: tuple[float, ...]
    data: tuple[bytes, ...]
    token_chunks: tuple[tuple[int, ...], ...]  # tokens of each token-bearing event in the write
    closes: bool = False  # the connection is cut off after the last write

    @property
    def end_s(self) -> float:
        return self.at_s[-1]


def wire_plan(ask: Ask, behaviour: Behaviour, fault: Fault) -> WirePlan:
    """The writes of an answer. What is due at the same time is one write: a stream whose times are
    all zero, headers and end included, is a single one."""
    if not ask.stream:
        end_s = max(entry.at_s for entry in stream_entries(ask, behaviour, Fault.NONE))
        body = json.dumps(whole_answer(ask)).encode()
        tokens = ((ask.num_output_tokens,),)
        return WirePlan(at_s=(end_s,), data=(whole_response(200, body),), token_chunks=tokens)
    # The headers go out when service begins, as engines send them before the first token.
    due: dict[float, list[bytes]] = {0.0: [EVENT_STREAM_HEAD]}
    tokens_due: dict[float, list[int]] = {0.0: []}
    for entry in stream_entries(ask, behaviour, fault):
        due.setdefault(entry.at_s, []).append(chunk(entry.data))
        counts = tokens_due.setdefault(entry.at_s, [])
        if entry.num_tokens:
            counts.append(entry.num_tokens)
    if fault is not Fault.DISCONNECT:
        next(reversed(due.values())).append(END_OF_CHUNKS)
    return WirePlan(
        at_s=tuple(due),
        data=tuple(b"".join(parts) for parts in due.values()),
        token_chunks=tuple(tuple(counts) for counts in tokens_due.values()),
        closes=fault is Fault.DISCONNECT,
    )
