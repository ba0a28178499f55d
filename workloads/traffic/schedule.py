"""Traffic as a schedule: which requests, how long, and when each is meant to be sent.

A pure function of the traffic (and of the files it names): one worker or a hundred make the same.

The first ``num_warmup_requests`` rows are warm-up. They are sent one after another *before* the
measured schedule begins, so that they neither queue among themselves nor overlap what is measured;
``intended_s`` counts from the moment the last of them is answered. ``num_requests`` and
``duration_s`` bound the measured rows only.

Closed loop has no times in advance: a user's next request is meant to be sent when the last one is
answered and thought over. Closed loop by ``duration_s`` alone has no count in advance either; then
``is_open_ended`` is true, the columns hold the warm-up rows only, and ``shape``, ``prompt`` and
``model_of`` answer for every index there may be.

Of a session only the first turn has a time in advance; ``after`` and ``think_s`` say when the
others are meant to be sent. A session's turns stand one below the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from results.samples import BoolColumn, FloatColumn, IntColumn
from workloads.traffic.arrivals import open_loop_times, peak_rate
from workloads.traffic.checks import check_traffic
from workloads.traffic.contents import (
    Content,
    RandomContent,
    TraceContent,
    entries_in_order,
    file_content,
    shared_prefix_content,
)
from workloads.traffic.mix import drawn_models, model_names
from workloads.traffic.prompt_files import Entry, Message, read_prompts
from workloads.traffic.prompts import Piece, id_range, pieces_as_ids, pieces_as_text
from workloads.traffic.randomness import Stream, salted
from workloads.traffic.sessions import SessionRows, by_conversation, session_rows
from workloads.traffic.spec import (
    ClosedLoop,
    FilePrompts,
    SharedPrefixPrompts,
    TraceReplay,
    Traffic,
)
from workloads.traffic.tokenizer import Tokenizer, load_tokenizer
from workloads.traffic.traces import TraceRows, read_trace, replayed_s, rows_at

__all__ = ["Schedule", "build_schedule", "check_traffic"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """One row per request that can be named in advance; n rows. Without sessions they are in the
    order of sending; with them, in the order of their sessions' beginnings."""

    traffic: Traffic
    vocab_size: int | None
    intended_s: FloatColumn  # (n,) ascending but for NaN: warm-up, closed loop, later turns
    prompt_tokens: IntColumn  # (n,) asked for, history not counted; −1: a file's, not counted
    output_tokens: IntColumn  # (n,) asked for
    is_warmup: BoolColumn  # (n,)
    after: IntColumn  # (n,) the row whose answer must be in before this one is meant; −1: none
    think_s: FloatColumn  # (n,) seconds from that answer; NaN: ``after`` is −1
    session: IntColumn  # (n,) from 0; −1: none
    turn: IntColumn  # (n,) of its session, from 0
    model_number: IntColumn  # (n,) into the sorted names of ``traffic.models``; −1: none
    is_open_ended: bool
    content: Content
    tokenizer: Tokenizer | None

    @property
    def num_requests(self) -> int:
        """Rows, warm-up included."""
        return len(self.intended_s)

    def shape(self, index: int) -> tuple[int, int]:
        """(prompt tokens, output tokens) of request ``index``, named in advance or not."""
        if index < self.num_requests:
            return int(self.prompt_tokens[index]), int(self.output_tokens[index])
        prompt, output = self.content.lengths(index, 1)
        return int(prompt[0]), int(output[0])

    def prompt(self, index: int) -> IntColumn | str | tuple[Message, ...]:
        """What request ``index`` asks: token ids, a text (chat: of one user), or whole messages.

        Of a later turn it is the new text of that turn alone; the conversation so far goes before
        it. Raises TrafficFileUnusable where a tokenizer has no text of the length asked for.
        """
        given = self.content.given(index)
        if given is not None:
            return given
        return self.prompt_text(index) if self.traffic.sends_text else self.prompt_ids(index)

    def prompt_ids(self, index: int) -> IntColumn:
        """(prompt tokens,) token ids of request ``index``; not for the prompts of a file."""
        pieces = self.content.pieces(index, self.shape(index)[0])
        return pieces_as_ids(self._prompt_seed, pieces, self.vocab_size)

    def prompt_text(self, index: int) -> str:
        """The text of request ``index``, made up: a word, or with a tokenizer a token, for every
        prompt token asked for; not for the prompts of a file."""
        pieces = self.content.pieces(index, self.shape(index)[0])
        return pieces_as_text(self._prompt_seed, pieces, self.tokenizer)

    @property
    def _prompt_seed(self) -> int:
        return salted(self.traffic.seed, self.traffic.salt)

    def earlier_turns(self, index: int) -> tuple[int, ...]:
        """The rows of the turns that go before ``index``'s own words, the first one first; none for
        a trace, whose prompts hold them already."""
        if index >= self.num_requests or isinstance(self.content, TraceContent):
            return ()
        return tuple(range(index - int(self.turn[index]), index))

    @property
    def sends_answers(self) -> bool:
        """Whether later turns hold what the server answered before: conversations in text do.

        A server gives text, and no ids of it that all servers agree on: conversations in token ids
        hold made-up answers of the length that was asked for.
        """
        is_trace = isinstance(self.traffic.arrivals, TraceReplay)
        return self.traffic.sessions is not None and self.traffic.sends_text and not is_trace

    def conversation_ids(self, index: int) -> IntColumn:
        """Token ids of request ``index`` with the conversation before it: each earlier turn, and
        noise as long as the answer that it asked for."""
        said: list[IntColumn] = []
        for turn in self.earlier_turns(index):
            answer = Piece(stream=Stream.ANSWER, number=turn, num_tokens=self.shape(turn)[1])
            answered = pieces_as_ids(self._prompt_seed, [answer], self.vocab_size)
            said += [self.prompt_ids(turn), answered]
        return np.concatenate([*said, self.prompt_ids(index)])

    def num_sent_tokens(self, index: int) -> int:
        """Our own count of a prompt as it is sent; −1: only the server knows. Exact for ids, and
        for a first turn's text of a tokenizer's tokens."""
        if self.traffic.api == "chat" or (self.traffic.sends_text and self.tokenizer is None):
            return -1
        earlier = self.earlier_turns(index)
        if earlier and self.traffic.sends_text:
            return -1
        return self.shape(index)[0] + sum(sum(self.shape(turn)) for turn in earlier)

    def model_of(self, index: int) -> str:
        """The model that request ``index`` names; "" is the server's own."""
        names = model_names(self.traffic.models)
        if not names:
            return ""
        if index < self.num_requests:
            return names[int(self.model_number[index])]
        return names[int(drawn_models(self.traffic.models, self.traffic.seed, index, 1)[0])]

    def peak_rate_rps(self) -> float | None:
        """The most arrivals in any one second; None for closed loop, whose answers decide.

        A session's later turns count as if each answer came at once, which is the most they can do.
        """
        if isinstance(self.traffic.arrivals, ClosedLoop):
            return None
        thought_s = np.cumsum(np.nan_to_num(self.think_s))
        first = np.arange(self.num_requests) - self.turn
        times = self.intended_s[first] + (thought_s - thought_s[first])
        return peak_rate(np.sort(times[~self.is_warmup]))

    def rows_of(self, worker: int, num_workers: int) -> IntColumn:
        """The row indices that one of ``num_workers`` senders takes: every num_workers-th row, or
        every num_workers-th session with all its rows.

        Each row belongs to exactly one worker, and what a row holds does not depend on the split.
        """
        rows = np.arange(self.num_requests, dtype=np.int64)
        dealt = np.where(self.session < 0, rows, self.session)
        mine: IntColumn = rows[dealt % num_workers == worker]
        return mine


def build_schedule(traffic: Traffic, vocab_size: int | None = None) -> Schedule:
    """The schedule of ``traffic``: the same value for the same arguments, on any machine.

    ``vocab_size`` is the server's; None takes ids that every language model has.
    Raises ValueError as ``check_traffic``, ``open_loop_times`` and ``id_range`` do, and
    TrafficFileUnusable for a file that it cannot be made of.
    """
    check_traffic(traffic)
    id_range(vocab_size)
    tokenizer = load_tokenizer(traffic.tokenizer) if traffic.tokenizer else None
    arrivals, prompts, warmup = traffic.arrivals, traffic.prompts, traffic.num_warmup_requests
    has_sessions = traffic.sessions is not None
    trace = (
        read_trace(arrivals, with_sessions=has_sessions)
        if isinstance(arrivals, TraceReplay)
        else None
    )
    entries: tuple[Entry, ...] = ()
    if isinstance(prompts, FilePrompts):
        found = read_prompts(prompts, with_sessions=has_sessions)
        entries = tuple(entries_in_order(traffic, prompts, found))
    sessions: SessionRows | None
    if trace is not None and has_sessions:
        trace, sessions = _recorded_sessions(traffic, trace)
        times = sessions.intended_s
    else:
        times = _times(traffic, trace)
        sessions = _sessions(traffic, times, entries)
        times = times if sessions is None else sessions.intended_s
    is_open_ended = isinstance(arrivals, ClosedLoop) and traffic.num_requests is None
    if not is_open_ended and entries:
        num_asked = _num_sessions(sessions) if sessions is not None else len(times)
        entries = entries[: max(num_asked, 1)]
    content = _content(traffic, trace, entries, sessions, tokenizer)
    count = warmup + len(times)
    prompt, output = content.lengths(0, count)
    session, turn, after, think_s = _session_columns(sessions, warmup, count)
    # All turns of a session go to the model of its first.
    models = drawn_models(traffic.models, traffic.seed, 0, count)[np.arange(count) - turn]
    return Schedule(
        traffic=traffic,
        vocab_size=vocab_size,
        intended_s=np.concatenate([np.full(warmup, np.nan), times]),
        prompt_tokens=prompt,
        output_tokens=output,
        is_warmup=np.arange(count) < warmup,
        after=after,
        think_s=think_s,
        session=session,
        turn=turn,
        model_number=models,
        is_open_ended=is_open_ended,
        content=content,
        tokenizer=tokenizer,
    )


def _times(traffic: Traffic, trace: TraceRows | None) -> FloatColumn:
    """(n,) when the measured requests, or the sessions, are meant to begin; NaN: closed loop."""
    arrivals = traffic.arrivals
    if isinstance(arrivals, ClosedLoop):
        return np.full(traffic.num_requests or 0, np.nan)
    if isinstance(arrivals, TraceReplay):
        assert trace is not None
        times = replayed_s(trace, arrivals)
        if traffic.duration_s is not None:
            times = times[times < traffic.duration_s]
        return times[: traffic.num_requests]
    return open_loop_times(
        arrivals,
        seed=traffic.seed,
        first_index=traffic.num_warmup_requests,
        duration_s=traffic.duration_s,
        num_requests=traffic.num_requests,
    )


def _sessions(
    traffic: Traffic, starts_s: FloatColumn, entries: tuple[Entry, ...]
) -> SessionRows | None:
    if traffic.sessions is None:
        return None
    available = None
    if entries:
        turns = np.array([len(entry.turns) for entry in entries], dtype=np.int64)
        available = np.resize(turns, len(starts_s))
    return session_rows(
        traffic.sessions,
        starts_s,
        seed=traffic.seed,
        num_warmup=traffic.num_warmup_requests,
        num_requests=traffic.num_requests,
        num_available=available,
    )


def _recorded_sessions(traffic: Traffic, trace: TraceRows) -> tuple[TraceRows, SessionRows]:
    """The rows of a trace, conversation by conversation. First turns come at their own times, later
    ones once they were thought over; the turns beyond those asked for are left out."""
    arrivals, sessions = traffic.arrivals, traffic.sessions
    assert isinstance(arrivals, TraceReplay) and sessions is not None
    order, sizes = by_conversation(trace.session)
    firsts = np.cumsum(sizes) - sizes
    starts_s = replayed_s(trace, arrivals)[order[firsts]]
    starts_s = starts_s[starts_s < (traffic.duration_s or np.inf)]
    rows = session_rows(
        sessions,
        starts_s,
        seed=traffic.seed,
        num_warmup=traffic.num_warmup_requests,
        num_requests=traffic.num_requests,
        num_available=sizes[: len(starts_s)],
    )
    return rows_at(trace, order[firsts[rows.session] + rows.turn]), rows


def _num_sessions(sessions: SessionRows) -> int:
    return int(sessions.session[-1]) + 1 if len(sessions.session) else 0


def _content(
    traffic: Traffic,
    trace: TraceRows | None,
    entries: tuple[Entry, ...],
    sessions: SessionRows | None,
    tokenizer: Tokenizer | None,
) -> Content:
    prompts = traffic.prompts
    if trace is not None:
        return TraceContent(traffic=traffic, trace=trace, sessions=sessions)
    if isinstance(prompts, SharedPrefixPrompts):
        return shared_prefix_content(traffic, prompts, sessions)
    if isinstance(prompts, FilePrompts):
        return file_content(traffic, prompts.path, entries, sessions, tokenizer)
    return RandomContent(traffic=traffic)


def _session_columns(
    sessions: SessionRows | None, warmup: int, count: int
) -> tuple[IntColumn, IntColumn, IntColumn, FloatColumn]:
    """(count,) each: session, turn, after, think_s."""
    session = np.full(count, -1, dtype=np.int64)
    turn = np.zeros(count, dtype=np.int64)
    think_s = np.full(count, np.nan)
    if sessions is not None:
        session[warmup:] = sessions.session
        turn[warmup:] = sessions.turn
        think_s[warmup:] = sessions.think_s
    after = np.where(turn > 0, np.arange(count) - 1, -1)
    return session, turn, after, think_s
