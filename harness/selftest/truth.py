"""What the server did, out of its own log; none of the code that reads the client's side is used.

Here a latency counts from the arrival at the server, by the server's clock. What lies between a
request's intended time and that is the client's own doing, and what a check is there to find.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One request as the server tells it; NaN: did not happen."""

    arrived_s: float
    first_token_s: float
    ended_s: float
    fault: str
    num_prompt_tokens: int
    token_s: Sequence[float]  # when each token-bearing chunk was written
    chunk_tokens: Sequence[int]
    late_s: Sequence[float]  # by how much each was behind its own plan

    @property
    def ttft_s(self) -> float:
        return self.first_token_s - self.arrived_s

    @property
    def e2e_s(self) -> float:
        return self.ended_s - self.arrived_s

    @property
    def tpot_s(self) -> float:
        others = sum(self.chunk_tokens) - 1
        return (self.token_s[-1] - self.token_s[0]) / others if others > 0 else math.nan

    def chunk_gaps_s(self) -> Iterator[float]:
        for before, after in zip(self.token_s, self.token_s[1:], strict=False):
            yield after - before

    def token_gaps_s(self) -> Iterator[float]:
        """Tokens of one chunk come together: the first has the gap, the others none."""
        for k, size in enumerate(self.chunk_tokens):
            for j in range(size):
                if j:
                    yield 0.0
                elif k:
                    yield self.token_s[k] - self.token_s[k - 1]


def told(document: Mapping[str, Any], num_measured: int) -> list[Told]:
    """The last ``num_measured`` requests to arrive: probes and warm-up come before them."""
    nan = math.nan

    def number(value: float | None) -> float:
        return nan if value is None else value

    rows = [
        Told(
            arrived_s=document["arrived_s"][i],
            first_token_s=number(document["first_token_s"][i]),
            ended_s=number(document["ended_s"][i]),
            fault=document["fault"][i],
            num_prompt_tokens=document["num_prompt_tokens"][i],
            token_s=document["token_s"][i],
            chunk_tokens=document["chunk_tokens"][i],
            late_s=[
                written - planned
                for written, planned in zip(
                    document["token_s"][i], document["planned_s"][i], strict=True
                )
            ],
        )
        for i in range(document["num_requests"])
    ]
    rows.sort(key=lambda row: row.arrived_s)
    return rows[max(0, len(rows) - num_measured) :]


def faults(rows: Sequence[Told]) -> Counter[str]:
    return Counter(row.fault for row in rows)


def queued_latency_s(index: int, rate: float, num_slots: int, service_s: float) -> float:
    """Arrival → end of service of request ``index``, of constant arrivals that are more than
    ``num_slots`` servers of a constant service time can take.

    Each slot serves every num_slots-th request without a pause, so request i = q·c + r begins q
    services after request r arrived: latency = S + q·(S − c/λ).
    """
    rounds = index // num_slots
    return service_s + rounds * (service_s - num_slots / rate)
