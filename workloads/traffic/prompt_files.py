"""Prompts that somebody brings: JSON lines, or conversations in ShareGPT's format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from workloads.traffic.files import (
    Stamp,
    json_lines,
    kind_name,
    opened,
    refuse,
    stamp_of,
    whole_number,
)
from workloads.traffic.spec import FilePrompts

Message = dict[str, str]  # {"role": …, "content": …}

_ASKS = ("human", "user")
_ANSWERS = ("gpt", "chatgpt", "assistant", "bing", "bard", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One prompt, or one conversation. ``answers`` are the texts that were answered there, ""
    where none is known; ``messages`` stand instead of the only turn where a file gives them whole.
    """

    turns: tuple[str, ...]
    answers: tuple[str, ...]
    output_tokens: tuple[int, ...]  # of each turn's answer; −1: not known
    messages: tuple[Message, ...] = ()
    line: int | None = None
    session: str = ""  # of a line that is one turn of several


def read_prompts(prompts: FilePrompts, *, with_sessions: bool = False) -> tuple[Entry, ...]:
    """Every entry of the file. Raises TrafficFileUnusable, with the line or the conversation.

    Conversations in which nobody asks anything are left out. With ``with_sessions`` the JSON lines
    of one ``session_id`` are the turns of one entry, in their order; a line without one is a
    conversation of one turn.
    """
    entries = _read(prompts.path, stamp_of(prompts.path), prompts.format)
    if with_sessions and prompts.format == "jsonl":
        return _joined(prompts.path, entries)
    return entries


def _joined(path: str, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.messages:
            refuse(path, entry.line, "messages hold a conversation already; sessions take prompt")
        found.setdefault(entry.session or f" alone {entry.line}", []).append(entry)
    if not any(entry.session for entry in entries):
        refuse(path, None, "no line has a session_id, which the turns of sessions go by")
    return tuple(
        Entry(
            turns=tuple(e.turns[0] for e in parts),
            answers=("",) * len(parts),
            output_tokens=tuple(e.output_tokens[0] for e in parts),
            line=parts[0].line,
        )
        for parts in found.values()
    )


@lru_cache(maxsize=2)
def _read(path: str, _: Stamp, form: str) -> tuple[Entry, ...]:
    entries = tuple(_json_lines(path) if form == "jsonl" else _sharegpt(path))
    if not entries:
        refuse(path, None, "holds no prompt")
    return entries


def _json_lines(path: str) -> Iterator[Entry]:
    with opened(path) as stream:
        for number, row in json_lines(path, stream):
            if ("prompt" in row) == ("messages" in row):
                refuse(path, number, "accepted: either prompt or messages")
            output = _output_tokens(path, number, row)
            if "messages" in row:
                messages = _messages(path, number, row["messages"])
                yield Entry(
                    turns=("",),
                    answers=("",),
                    messages=messages,
                    output_tokens=(output,),
                    line=number,
                )
                continue
            text = row["prompt"]
            if not isinstance(text, str) or not text:
                found = "no text" if text == "" else kind_name(text)
                refuse(path, number, f"prompt: found {found}; accepted: text")
            name = row.get("session_id")
            yield Entry(
                turns=(text,),
                answers=("",),
                output_tokens=(output,),
                line=number,
                session="" if name is None else str(name),
            )


def _output_tokens(path: str, number: int, row: dict[str, Any]) -> int:
    if "output_tokens" not in row:
        return -1
    tokens = whole_number(row["output_tokens"])
    if tokens is None or tokens < 1:
        found = kind_name(row["output_tokens"])
        refuse(path, number, f"output_tokens: found {found}; accepted: 1 or more")
    return tokens


def _messages(path: str, number: int, found: Any) -> tuple[Message, ...]:
    if not isinstance(found, list) or not found:
        refuse(path, number, "messages: accepted: a list with at least one {role, content}")
    for i, one in enumerate(found):
        for key in ("role", "content"):
            if not isinstance(one, dict) or not isinstance(one.get(key), str):
                refuse(path, number, f"messages.{i}.{key}: accepted: text")
    return tuple({"role": one["role"], "content": one["content"]} for one in found)


def _sharegpt(path: str) -> Iterator[Entry]:
    with opened(path) as stream:
        text = stream.read()
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        refuse(path, error.lineno, f"is not JSON: {error.msg}")
    if not isinstance(found, list):
        refuse(path, None, f"found {kind_name(found)}; accepted: a list of conversations")
    for number, one in enumerate(found):
        said = one.get("conversations") if isinstance(one, dict) else None
        if not isinstance(said, list):
            refuse(path, None, f"entry {number}: accepted: an object with a list conversations")
        entry = _conversation(path, number, said)
        if entry.turns:
            yield entry


def _conversation(path: str, number: int, said: list[Any]) -> Entry:
    """Each text of the human is a turn; what the model says next is its answer."""
    turns: list[str] = []
    answers: list[str] = []
    for i, one in enumerate(said):
        who = one.get("from") if isinstance(one, dict) else None
        text = one.get("value") if isinstance(one, dict) else None
        if not isinstance(who, str) or not isinstance(text, str):
            refuse(
                path,
                None,
                f"entry {number}: conversations.{i}: accepted: the texts from and value",
            )
        if who.lower() in _ASKS and text:
            turns.append(text)
            answers.append("")
        elif who.lower() in _ANSWERS and turns and not answers[-1]:
            answers[-1] = text
    return Entry(turns=tuple(turns), answers=tuple(answers), output_tokens=(-1,) * len(turns))
