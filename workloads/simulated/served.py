"""What a simulated server did with each request, by its own clock: a client's truth."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workloads.simulated.answers import Fault
from workloads.simulated.wire import WirePlan

SCHEMA = "windtunnel.simulated.served/1"


@dataclass(slots=True, kw_only=True)
class Served:
    """One request; times are ``SystemClock.monotonic_s`` of this host, taken right before the bytes
    went to the kernel. NaN: did not happen."""

    number: int  # in order of arrival
    arrived_s: float
    num_prompt_tokens: int = -1
    num_output_tokens: int
    fault: Fault
    peer_port: int = -1  # the client's end of the connection
    started_s: float = math.nan  # left the queue
    first_token_s: float = math.nan
    ended_s: float = math.nan
    plan: WirePlan | None = None
    write_s: array[float] = field(default_factory=lambda: array("d"))  # (writes,) of the plan

    def chunks(self) -> list[tuple[float, float, int]]:
        """(planned, written, tokens) of each token-bearing chunk that was written."""
        if self.plan is None:
            return []
        return [
            (self.started_s + at_s, written_s, size)
            for at_s, written_s, sizes in zip(
                self.plan.at_s, self.write_s, self.plan.token_chunks, strict=False
            )
            for size in sizes
        ]

    def lateness_s(self) -> list[float]:
        """(writes,) how long after its planned time each write was made."""
        if self.plan is None:
            return []
        planned = zip(self.plan.at_s, self.write_s, strict=False)
        return [written_s - self.started_s - at_s for at_s, written_s in planned]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def document(served: Sequence[Served], *, with_tokens: bool = True) -> bytes:
    """All of them as one JSON document of columns, null for NaN; ragged columns are lists."""
    columns: dict[str, Any] = {
        name: [getattr(s, name) for s in served]
        for name in ("number", "num_prompt_tokens", "num_output_tokens", "fault", "peer_port")
    }
    for name in ("arrived_s", "started_s", "first_token_s", "ended_s"):
        columns[name] = [_number(getattr(s, name)) for s in served]
    if with_tokens:
        chunks = [s.chunks() for s in served]
        columns["planned_s"] = [[c[0] for c in one] for one in chunks]
        columns["token_s"] = [[c[1] for c in one] for one in chunks]
        columns["chunk_tokens"] = [[c[2] for c in one] for one in chunks]
    return json.dumps({"schema": SCHEMA, "num_requests": len(served), **columns}).encode()


def lateness(served: Iterable[Served]) -> Mapping[str, float | int | None]:
    """How late the server itself was, over all its writes: count, p50, p90, p99 and maximum."""
    late = sorted(value for s in served for value in s.lateness_s())
    n = len(late)
    found: dict[str, float | int | None] = {"num_writes": n}
    for name, q in (("p50_s", 0.5), ("p90_s", 0.9), ("p99_s", 0.99), ("max_s", 1.0)):
        found[name] = late[min(n - 1, int(q * n))] if n else None
    return found
