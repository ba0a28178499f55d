"""Where pages are published: a folder or any fsspec URL, in which files may be replaced.

Unlike the store nothing here is evidence: everything can be made again from the store.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

import fsspec

from results.errors import StoreUnwritable


class Pages:
    """Raises StoreUnwritable, which names the place, for what cannot be written there."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._is_local = "://" not in url

    def at(self, name: str) -> str:
        return f"{self.url}/{name}"

    def put(self, name: str, text: str) -> None:
        """Whole or not at all: nobody who reads ever sees half of a page."""
        try:
            if self._is_local:
                _swap(Path(self.url) / name, text)
            else:
                with fsspec.open(self.at(name), "w", encoding="utf-8") as file:
                    file.write(text)
        except Exception as error:  # each file system has errors of its own
            reason = getattr(error, "strerror", None) or error
            raise StoreUnwritable(f"cannot write {self.at(name)}: {reason}") from error

    def names(self, pattern: str) -> tuple[str, ...]:
        """The files there that fit ``*.json``-like; none where there is no such place yet."""
        try:
            filesystem, root = fsspec.core.url_to_fs(self.url)
            found = filesystem.ls(root, detail=False)
        except FileNotFoundError:
            return ()
        names = (str(path).rstrip("/").rpartition("/")[2] for path in found)
        return tuple(sorted(name for name in names if fnmatchcase(name, pattern)))

    def read(self, name: str) -> bytes:
        with fsspec.open(self.at(name), "rb") as file:
            data: bytes = file.read()
        return data


def _swap(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
