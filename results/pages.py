"""Where pages are published: a folder or any fsspec URL, in which files may be replaced.

Unlike the store nothing here is evidence: everything can be made again from the store.
"""

from __future__ import annotations

import mimetypes
import os
import re
import secrets
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import fsspec

from results.errors import StoreUnwritable

# Names of a bucket are no folders; making one could make a bucket that nobody asked for.
_BUCKETS: Final = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "r2", "memory"}
)
# How each service is told what a file is: a browser saves what it is not told to show.
_TYPED: Final = {"s3": "ContentType", "s3a": "ContentType", "gs": "content_type"}
_TYPES: Final = {".md": "text/markdown", ".json": "application/json"}


class Pages:
    """Raises StoreUnwritable, which names the place, for what cannot be written there."""

    def __init__(self, url: str) -> None:
        self.url = url.removeprefix("file://").rstrip("/")
        self._is_local = "://" not in self.url

    def at(self, name: str) -> str:
        """Where a file lies, in words: without a password that the URL may hold."""
        return f"{without_password(self.url)}/{name}"

    def check(self) -> None:
        """What can be known before anything is written: a folder that may be, a scheme that is
        known and whose driver is installed. Nobody is asked over a network."""
        try:
            if self._is_local:
                Path(self.url).mkdir(parents=True, exist_ok=True)
                if not os.access(self.url, os.W_OK):
                    raise PermissionError(0, "may not be written")
            else:
                fsspec.get_filesystem_class(self.url.partition("://")[0])
        except Exception as error:
            raise self._refused("pages", error) from error

    def put(self, name: str, text: str) -> None:
        """Whole or not at all: nobody who reads ever sees half of a page."""
        try:
            if self._is_local:
                _swap(Path(self.url) / name, text)
            else:
                filesystem, path = fsspec.core.url_to_fs(f"{self.url}/{name}")
                protocols = _protocols(filesystem)
                if not protocols & _BUCKETS:
                    filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
                filesystem.pipe_file(path, text.encode(), **_type_of(name, protocols))
        except Exception as error:  # each file system has errors of its own
            raise self._refused(name, error) from error

    def put_index(
        self, name: str, pattern: str, made: Callable[[Mapping[str, bytes]], str]
    ) -> None:
        """A page made of all files that fit ``pattern``, as text by name. Where another publisher
        adds one meanwhile it is made again, so that whoever writes last has seen every file."""
        known: tuple[str, ...] | None = None
        while (found := self.names(pattern)) != known:
            self.put(name, made(self.read_all(found)))
            known = found

    def names(self, pattern: str) -> tuple[str, ...]:
        """The files there that fit ``*.json``-like; none where there is no such place yet."""
        try:
            filesystem, root = fsspec.core.url_to_fs(self.url)
            filesystem.invalidate_cache()  # others publish there as well
            found = filesystem.ls(root, detail=False)
        except FileNotFoundError:
            return ()
        except Exception as error:
            raise self._refused(pattern, error, "list") from error
        names = (str(path).rstrip("/").rpartition("/")[2] for path in found)
        return tuple(sorted(name for name in names if fnmatchcase(name, pattern)))

    def read_all(self, names: tuple[str, ...]) -> dict[str, bytes]:
        """Many files, from a bucket at the same time. What is gone again is left out."""
        if not names:
            return {}
        try:
            filesystem, root = fsspec.core.url_to_fs(self.url)
            paths = [f"{root.rstrip('/')}/{name}" for name in names]
            found = filesystem.cat(paths, on_error="return")
        except Exception as error:
            raise self._refused(names[0], error, "read") from error
        read: dict[str, bytes] = {}
        for path, data in found.items():
            name = str(path).rpartition("/")[2]
            if isinstance(data, bytes):
                read[name] = data
            elif not isinstance(data, FileNotFoundError):
                raise self._refused(name, data, "read") from data
        return read

    def read(self, name: str) -> bytes:
        with fsspec.open(f"{self.url}/{name}", "rb") as file:
            data: bytes = file.read()
        return data

    def _refused(self, name: str, error: Exception, what: str = "write") -> StoreUnwritable:
        reason = str(getattr(error, "strerror", None) or error) or type(error).__name__
        reason = reason.replace(self.url, without_password(self.url))
        return StoreUnwritable(f"cannot {what} {self.at(name)}: {reason}")


_SECRET_PARAMETER = re.compile(r"([?&][^=&]*(?:password|secret|token|key)=)[^&#]*", re.IGNORECASE)


def without_password(url: str) -> str:
    """The URL as it may be printed: who signs in stays, the password does not."""
    url = _SECRET_PARAMETER.sub(r"\1***", url)
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    if not at or not colon:
        return url
    return urlunsplit(parts._replace(netloc=f"{name}:***@{host}"))


def _protocols(filesystem: Any) -> frozenset[str]:
    named = filesystem.protocol
    return frozenset((named,) if isinstance(named, str) else named)


def _type_of(name: str, protocols: frozenset[str]) -> dict[str, str]:
    keys = [_TYPED[p] for p in sorted(protocols) if p in _TYPED]
    suffix = Path(name).suffix
    kind = _TYPES.get(suffix) or mimetypes.types_map.get(suffix)
    return {keys[0]: f"{kind}; charset=utf-8"} if keys and kind else {}


def _swap(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two pods on one claim have the same process id.
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
