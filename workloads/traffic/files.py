"""Files that traffic is made of: opened, kept while unchanged, and refused by file and line."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, TextIO

from workloads.errors import TrafficFileUnusable

# What names one state of a file, so that what was read of it may be kept.
Stamp = tuple[int, int]


def refuse(path: str, line: int | None, message: str) -> NoReturn:
    """Raise TrafficFileUnusable that names the file and, where there is one, the line."""
    where = path if line is None else f"{path}:{line}"
    raise TrafficFileUnusable(f"{where}: {message}")


def stamp_of(path: str) -> Stamp:
    """(time of the last change in ns, size in bytes). Raises TrafficFileUnusable."""
    try:
        found = Path(path).stat()
    except OSError as error:
        refuse(path, None, f"cannot be read: {error.strerror}")
    return found.st_mtime_ns, found.st_size


def digest_of(path: str) -> str:
    """``sha256:…`` of what is in the file; read once while it is unchanged. Raises
    TrafficFileUnusable."""
    return _digest(path, stamp_of(path))


@lru_cache(maxsize=16)
def _digest(path: str, _: Stamp) -> str:
    try:
        with Path(path).open("rb") as stream:
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    except OSError as error:
        refuse(path, None, f"cannot be read: {error.strerror}")


@contextmanager
def opened(path: str) -> Iterator[TextIO]:
    """The file as UTF-8 text; what the system says against it becomes TrafficFileUnusable."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            yield stream
    except UnicodeDecodeError:
        refuse(path, None, "is not UTF-8 text")
    except csv.Error as error:
        refuse(path, None, f"is not CSV: {error}")
    except OSError as error:
        refuse(path, None, f"cannot be read: {error.strerror}")


def json_lines(path: str, stream: TextIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of every line that is not blank."""
    for number, line in enumerate(stream, start=1):
        if line.strip():
            yield number, json_object(path, number, line)


def json_object(path: str, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        refuse(path, number, f"is not JSON: {error}")
    if not isinstance(value, dict):
        refuse(path, number, f"found {kind_name(value)}; each line is one JSON object")
    return value


def kind_name(value: Any) -> str:
    """A JSON value's kind, as a person would name it."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), f"number {value}")


def whole_number(value: Any) -> int | None:
    """A JSON number that counts something (``3``, ``3.0``), or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():  # infinity and NaN are none either
        return None
    return int(value)
