"""When each member of an all-reduce has its result, given when each was ready. Max-plus algebra.

A member sends its next message when it has received the one before and its own last one is out, so
a late member delays its neighbours one hop at a time. With equal messages the last member ends at
(the latest ready) + hops × (one message), the closed form; with unequal ones the delays add up
along the worst chain, which no closed form has and the events below do.
"""

from __future__ import annotations

import numpy as np

from results.collective_time import Algorithm, Link, ring_hops, tree_hops
from results.samples import FloatColumn
from workloads.errors import SimulationRefused
from workloads.simulated.training.noise import lognormal

MAX_MESSAGES = 200_000_000  # of one call: a few seconds of drawing


def all_reduce_done_s(
    ready_s: FloatColumn,
    num_bytes: float,
    link: Link,
    algorithm: Algorithm,
    message_cv: float,
    rng: np.random.Generator,
) -> FloatColumn:
    """``ready_s`` (S, m): S independent steps of m members each. Returns (S,): the last one's end.

    ``num_bytes``: what each member has to reduce. Raises SimulationRefused where unequal messages
    would be too many to draw.
    """
    num_steps, members = ready_s.shape
    latest: FloatColumn = ready_s.max(axis=1)
    if members == 1:
        return latest
    if algorithm == "ring":
        hops, message_s = ring_hops(members), _message_s(num_bytes / members, link)
    else:
        hops = tree_hops(members)
        # The bytes are pipelined: paid once up and once down, spread here over the levels.
        message_s = link.alpha_s + 2.0 * num_bytes * link.beta_s_per_byte / hops
    if message_cv == 0.0:
        return latest + hops * message_s
    if num_steps * members * hops > MAX_MESSAGES:
        raise SimulationRefused(
            f"{num_steps} steps of a {algorithm} over {members} domains are "
            f"{num_steps * members * hops:.2g} messages to draw; at most {MAX_MESSAGES:.0e}: "
            "ask for a tree, larger domains, or message_cv 0"
        )
    walk = _ring if algorithm == "ring" else _tree
    return walk(ready_s, hops, message_s, message_cv, rng)


def _message_s(num_bytes: float, link: Link) -> float:
    return link.alpha_s + num_bytes * link.beta_s_per_byte


def _ring(
    ready_s: FloatColumn, hops: int, message_s: float, message_cv: float, rng: np.random.Generator
) -> FloatColumn:
    """Hop by hop: a member's message leaves when its last one is out and its neighbour's is in."""
    now = ready_s
    for _ in range(hops):
        now = np.maximum(now, np.roll(now, 1, axis=1)) + message_s * lognormal(
            message_cv, now.shape, rng
        )
    done: FloatColumn = now.max(axis=1)
    return done


def _tree(
    ready_s: FloatColumn, hops: int, message_s: float, message_cv: float, rng: np.random.Generator
) -> FloatColumn:
    """Up, two members becoming one at each level, then down again along the same links."""
    now = ready_s
    for _ in range(hops // 2):
        if now.shape[1] % 2:
            now = np.pad(now, ((0, 0), (0, 1)), constant_values=-np.inf)
        pairs = now.reshape(len(now), -1, 2)
        sent = pairs + message_s * lognormal(message_cv, pairs.shape, rng)
        now = sent.max(axis=2)
    width, members = 1, ready_s.shape[1]
    while width < members:
        width = min(2 * width, members)
        now = np.repeat(now, 2, axis=1)[:, :width]
        now = now + message_s * lognormal(message_cv, now.shape, rng)
    done: FloatColumn = now.max(axis=1)
    return done
