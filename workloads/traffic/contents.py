"""What each request of a schedule asks: its lengths, and its text or the pieces it is made of.

Four kinds of content have the same three methods. ``lengths(start, count)`` gives the (count,)
prompt and output tokens asked for; ``pieces(index, num_tokens)`` the noise a prompt is made of;
``given(index)`` a file's own words instead, or None. Warm-up rows are always noise of their own, so
that warming up puts nothing into a prefix cache that measured requests find there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from results.samples import BoolColumn, IntColumn
from workloads.traffic.files import refuse
from workloads.traffic.lengths import lengths
from workloads.traffic.prompt_files import Entry, Message
from workloads.traffic.prompts import Piece
from workloads.traffic.randomness import Stream, uniforms
from workloads.traffic.sessions import SessionRows
from workloads.traffic.spec import FilePrompts, SharedPrefixPrompts, Traffic
from workloads.traffic.tokenizer import Tokenizer
from workloads.traffic.trace_tables import BLOCK_TOKENS
from workloads.traffic.traces import TraceRows

Given = str | tuple[Message, ...]


class Content(Protocol):
    def lengths(self, start: int, count: int) -> tuple[IntColumn, IntColumn]: ...

    def pieces(self, index: int, num_tokens: int) -> tuple[Piece, ...]: ...

    def given(self, index: int) -> Given | None: ...


def _own(index: int, num_tokens: int) -> tuple[Piece, ...]:
    """Noise that no other request has."""
    return (Piece(stream=Stream.PROMPT, number=index, num_tokens=num_tokens),)


def _drawn(traffic: Traffic, start: int, count: int) -> tuple[IntColumn, IntColumn]:
    return (
        lengths(traffic.prompt_tokens, traffic.seed, Stream.PROMPT_LENGTH, start, count),
        lengths(traffic.output_tokens, traffic.seed, Stream.OUTPUT_LENGTH, start, count),
    )


def _order(traffic: Traffic, count: int) -> IntColumn:
    """(count,) the numbers below count in an order that the seed decides."""
    return np.argsort(uniforms(traffic.seed, Stream.ORDER, 0, count), kind="stable")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Which entry of a pool, and which turn of it, a row asks for."""

    num_warmup: int
    sessions: SessionRows | None

    def slots(self, start: int, count: int) -> IntColumn:
        """(count,) places in the pool's order, before its size is taken off; a session has one.
        Negative for warm-up rows."""
        rows = np.arange(start - self.num_warmup, start - self.num_warmup + count, dtype=np.int64)
        if self.sessions is None or not len(self.sessions.session):
            return rows
        return np.where(rows < 0, rows, self.sessions.session[np.maximum(rows, 0)])

    def turns(self, start: int, count: int) -> IntColumn:
        """(count,) 0 without sessions and for warm-up."""
        rows = np.arange(start - self.num_warmup, start - self.num_warmup + count, dtype=np.int64)
        if self.sessions is None or not len(self.sessions.turn):
            return np.zeros(count, dtype=np.int64)
        return np.where(rows < 0, 0, self.sessions.turn[np.maximum(rows, 0)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RandomContent:
    traffic: Traffic

    def lengths(self, start: int, count: int) -> tuple[IntColumn, IntColumn]:
        return _drawn(self.traffic, start, count)

    def pieces(self, index: int, num_tokens: int) -> tuple[Piece, ...]:
        return _own(index, num_tokens)

    def given(self, index: int) -> Given | None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharedPrefixContent:
    """A pool of prompts; prompt j belongs to group j // prompts_per_group. Later turns of a session
    ask a question of their own, as the prefix stands in the conversation already."""

    traffic: Traffic
    prompts: SharedPrefixPrompts
    rows: Rows
    order: IntColumn  # (pool,)
    prefix_tokens: IntColumn  # (groups,)
    question_tokens: IntColumn  # (pool,)

    def _pool(self, start: int, count: int) -> tuple[IntColumn, IntColumn]:
        """(count,) the prompts' numbers, and their groups'."""
        number = self.order[self.rows.slots(start, count) % len(self.order)]
        return number, number // self.prompts.prompts_per_group

    def lengths(self, start: int, count: int) -> tuple[IntColumn, IntColumn]:
        number, group = self._pool(start, count)
        first = self.prefix_tokens[group] + self.question_tokens[number]
        asked, seed = self.prompts.question_tokens, self.traffic.seed
        later = lengths(asked, seed, Stream.PROMPT_LENGTH, start, count)
        prompt = np.where(self.rows.turns(start, count) > 0, later, first)
        return prompt, _drawn(self.traffic, start, count)[1]

    def pieces(self, index: int, num_tokens: int) -> tuple[Piece, ...]:
        if index < self.rows.num_warmup or self.rows.turns(index, 1)[0] > 0:
            return _own(index, num_tokens)
        number, group = (int(column[0]) for column in self._pool(index, 1))
        shared = int(self.prefix_tokens[group])
        return (
            Piece(stream=Stream.PREFIX, number=group, num_tokens=shared),
            Piece(stream=Stream.QUESTION, number=number, num_tokens=num_tokens - shared),
        )

    def given(self, index: int) -> Given | None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TraceContent:
    """The lengths of a trace; equal block hashes are equal tokens. The prompts of a conversation
    hold what was said before: without hashes each of them begins as the others do."""

    traffic: Traffic
    trace: TraceRows
    sessions: SessionRows | None

    def lengths(self, start: int, count: int) -> tuple[IntColumn, IntColumn]:
        warmup = self.traffic.num_warmup_requests
        num_drawn = min(max(warmup - start, 0), count)
        drawn = _drawn(self.traffic, start, num_drawn)
        rows = slice(max(start - warmup, 0), max(start - warmup + count, 0))
        recorded = (self.trace.prompt_tokens[rows], self.trace.output_tokens[rows])
        return (
            np.concatenate([drawn[0], recorded[0]]),
            np.concatenate([drawn[1], recorded[1]]),
        )

    def pieces(self, index: int, num_tokens: int) -> tuple[Piece, ...]:
        row = index - self.traffic.num_warmup_requests
        if row < 0:
            return _own(index, num_tokens)
        at = self.trace.block_offset
        made, left = [], num_tokens
        for block in self.trace.block_hashes[at[row] : at[row + 1]].tolist():
            size = min(left, BLOCK_TOKENS)
            made.append(Piece(stream=Stream.BLOCK, number=block, num_tokens=size))
            left -= size
        if self.sessions is not None and not made:
            number = int(self.sessions.session[row])
            return (Piece(stream=Stream.CONVERSATION, number=number, num_tokens=left),)
        return (*made, *(_own(index, left) if left else ()))

    def given(self, index: int) -> Given | None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FileContent:
    """The prompts of a file. ``texts`` and the counts hold every turn of every entry that is asked
    for, in the order of asking; entry e has those from ``offset[e]`` on."""

    traffic: Traffic
    rows: Rows
    texts: Sequence[Given]
    offset: IntColumn  # (entries + 1,)
    prompt_tokens: IntColumn  # (turns,) −1: there is no tokenizer to count with
    output_tokens: IntColumn  # (turns,) −1: neither file nor tokenizer says

    def _at(self, start: int, count: int) -> IntColumn:
        entries = self.rows.slots(start, count) % (len(self.offset) - 1)
        return self.offset[entries] + self.rows.turns(start, count)

    def lengths(self, start: int, count: int) -> tuple[IntColumn, IntColumn]:
        drawn_prompt, drawn_output = _drawn(self.traffic, start, count)
        at = self._at(start, count)
        known: BoolColumn = self.output_tokens[at] > 0
        is_warmup = np.arange(start, start + count) < self.rows.num_warmup
        return (
            np.where(is_warmup, drawn_prompt, self.prompt_tokens[at]),
            np.where(known & ~is_warmup, self.output_tokens[at], drawn_output),
        )

    def pieces(self, index: int, num_tokens: int) -> tuple[Piece, ...]:
        return _own(index, num_tokens)

    def given(self, index: int) -> Given | None:
        if index < self.rows.num_warmup:
            return None
        return self.texts[int(self._at(index, 1)[0])]


def shared_prefix_content(
    traffic: Traffic, prompts: SharedPrefixPrompts, sessions: SessionRows | None
) -> SharedPrefixContent:
    pool, seed = prompts.num_groups * prompts.prompts_per_group, traffic.seed
    return SharedPrefixContent(
        traffic=traffic,
        prompts=prompts,
        rows=Rows(num_warmup=traffic.num_warmup_requests, sessions=sessions),
        order=_order(traffic, pool),
        prefix_tokens=lengths(
            prompts.prefix_tokens, seed, Stream.PREFIX_LENGTH, 0, prompts.num_groups
        ),
        question_tokens=lengths(prompts.question_tokens, seed, Stream.QUESTION_LENGTH, 0, pool),
    )


def entries_in_order(
    traffic: Traffic, prompts: FilePrompts, entries: Sequence[Entry]
) -> Sequence[Entry]:
    if not prompts.shuffle:
        return entries
    return [entries[i] for i in _order(traffic, len(entries)).tolist()]


def file_content(
    traffic: Traffic,
    path: str,
    entries: Sequence[Entry],
    sessions: SessionRows | None,
    tokenizer: Tokenizer | None,
) -> FileContent:
    """``entries`` are those that are asked for, in the order of asking.

    Raises TrafficFileUnusable for whole messages in a file that goes to the completions API.
    """
    last_turn = None if sessions is not None else 1
    texts: list[Given] = []
    answers: list[str] = []
    outputs: list[int] = []
    for entry in entries:
        if entry.messages and traffic.api != "chat":
            refuse(path, entry.line, "messages need api: chat; completions take a prompt")
        texts += [entry.messages] if entry.messages else entry.turns[:last_turn]
        texts[len(outputs)] = _salted(texts[len(outputs)], traffic.salt)
        answers += entry.answers[:last_turn]
        outputs += entry.output_tokens[:last_turn]
    sizes = [len(entry.turns[:last_turn]) for entry in entries]
    prompt = np.full(len(texts), -1, dtype=np.int64)
    output = np.array(outputs, dtype=np.int64)
    if tokenizer is not None:
        prompt = np.array(tokenizer.counts([_words(t) for t in texts]), dtype=np.int64)
        counted = np.array(tokenizer.counts(answers), dtype=np.int64)
        output = np.where((output < 0) & (counted > 0), counted, output)
    return FileContent(
        traffic=traffic,
        rows=Rows(num_warmup=traffic.num_warmup_requests, sessions=sessions),
        texts=texts,
        offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        prompt_tokens=prompt,
        output_tokens=output,
    )


def _salted(text: Given, salt: str) -> Given:
    """The salt goes first: what is shared from the first token on would be found in the cache."""
    if not salt:
        return text
    if isinstance(text, str):
        return f"{salt} {text}"
    first, *rest = text
    return ({**first, "content": f"{salt} {first['content']}"}, *rest)


def _words(text: Given) -> str:
    return text if isinstance(text, str) else "\n".join(m["content"] for m in text)
