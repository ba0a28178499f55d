"""stdout carries the result and nothing else: tables for people, one JSON document for programs."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.errors import HarnessError, SpecError
from results.record import RunRecord

# Tables keep their width when they go to a file, so that nothing is folded or lost.
PLAIN_WIDTH = 140


class _Console(Console):
    """Shows text as it is: a model may be called `a[/]b`, and a reason hold `:bug:`. A reader who
    has seen enough (`| head`) ends neither the command nor its exit code."""

    def __init__(self, *, stderr: bool, is_terminal: bool) -> None:
        super().__init__(
            stderr=stderr,
            highlight=False,
            markup=False,
            emoji=False,
            width=None if is_terminal else PLAIN_WIDTH,
        )

    def _check_buffer(self) -> None:
        """Rich knows of a pipe that is gone; a terminal that was closed is an EIO."""
        try:
            super()._check_buffer()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with suppress(OSError, ValueError):  # no file at all
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def stdout() -> Console:
    return _Console(stderr=False, is_terminal=sys.stdout.isatty())


def stderr() -> Console:
    return _Console(stderr=True, is_terminal=sys.stderr.isatty())


_printed: list[str] = []  # the schema of each document so far


def has_printed() -> bool:
    """Whether standard output has its document: a second one would make both unreadable."""
    return bool(_printed)


def print_json(schema: str, body: Mapping[str, Any]) -> None:
    """One document: ``{"schema": "windtunnel.<what>/<version>", …}``. Refuses NaN and infinity."""
    text = json_text(schema, body)
    _printed.append(schema)
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as error:
        # Python would try once more at exit, and say so in its own way.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise HarnessError(
            f"standard output could not be written: {error.strerror or error}"
        ) from None


def check_writable(option: str, path: Path | None) -> None:
    """Before the load: afterwards it would be too late. Raises SpecError."""
    if path is None:
        return
    folder = path.resolve().parent
    if not folder.is_dir():
        raise SpecError(f"{option} {path}: there is no folder {folder}")
    if path.is_dir():
        raise SpecError(f"{option} {path}: is a folder; name a file in it")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise SpecError(f"{option} {path}: may not be written")


@contextmanager
def writing(path: Path, option: str) -> Iterator[None]:
    """Raises HarnessError, which names the path and the option, for an OSError within."""
    try:
        yield
    except OSError as error:
        raise HarnessError(
            f"cannot write {path}: {error.strerror or error}; name another with {option}"
        ) from None


def write_document(path: Path, option: str, schema: str, body: Mapping[str, Any]) -> None:
    """The document as a file, whole or not at all."""
    write_whole(path, option, json_text(schema, body) + "\n")


def write_whole(path: Path, option: str, text: str) -> None:
    """Who reads the file meanwhile sees the old one or the new one. What is no plain file (a pipe,
    a terminal) is written to as it is. Raises HarnessError."""
    with writing(path, option):
        path = path.resolve()
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def json_text(schema: str, body: Mapping[str, Any]) -> str:
    document = {"schema": schema, **body}
    return json.dumps(document, indent=2, allow_nan=False, default=str)


def record_document(record: RunRecord) -> dict[str, Any]:
    """The record as the store keeps it."""
    from results.codec import dumps_record  # brings pydantic, which most commands never need

    document: dict[str, Any] = json.loads(dumps_record(record))
    return document
