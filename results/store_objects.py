"""Bytes under names, written once: the little that a store needs of a folder or a bucket.

A folder gets there by a temporary file, fsync and a hard link, which refuses a name that is taken;
a bucket by the service's own put-if-absent. A file system that has neither is refused rather than
raced.
"""

from __future__ import annotations

import errno
import inspect
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from results.errors import StoreError, StoreUnwritable
from results.store_layout import MARKER, MARKER_TEXT, TEMPORARY

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem


# What a large table is, is a view of a file.
Data = bytes | memoryview

NO_OBJECT: Final = ""
NOT_TOLD: Final = "?"

# A bucket answers from afar: most of a question's time is the way there and back.
_REMOTE_AT_ONCE: Final = 32
# What the services call the things that change with an object's bytes.
_REMOTE_STAMPS: Final = (
    "size", "ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated",
    "mtime", "created",
)  # fmt: skip


class Objects(Protocol):
    """``path`` is relative to the store, with ``/``. Reading what is not there raises
    FileNotFoundError; writing where it cannot be done raises StoreUnwritable."""

    url: str
    num_at_once: int  # questions that are worth having under way together

    def prepare(self) -> None:
        """Before the first write: lay the marker, or refuse the place and say why."""
        ...

    def put_new(self, path: str, data: Data) -> None:
        """All of ``data`` or nothing, durable on return, never over something else: a name that
        holds other bytes raises FileExistsError. The same bytes are no error, so that an answer
        lost on the way back from a bucket is no false duplicate."""
        ...

    def read(self, path: str) -> bytes: ...

    def exists(self, path: str) -> bool: ...

    def names(self, path: str) -> tuple[str, ...]:
        """The names right beneath ``path``, sorted; none where there is nothing."""
        ...

    def stamps(self, path: str, leaf: str = "") -> Mapping[str, str]:
        """Of every name right beneath ``path`` a word that changes when the object does: the one of
        that name, or ``leaf`` beneath it. Nothing is opened. NO_OBJECT where there is none,
        NOT_TOLD where the place does not say."""
        ...

    def remove(self, path: str) -> None:
        """What is not there is no error."""
        ...


def open_objects(url: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Objects:
    """A plain path and ``file://`` are a local folder; any other URL is fsspec's.

    ``options`` go to the file system (``endpoint_url``, ``project``, …). Raises StoreUnwritable
    when the place cannot hold a store.
    """
    text = os.fspath(url)
    if text.startswith("file://"):
        return LocalObjects(Path(text.removeprefix("file://")))
    if "://" not in text:
        return LocalObjects(Path(text))
    import fsspec  # of no use to a local folder

    try:
        fs, root = fsspec.core.url_to_fs(text, **dict(options or {}))
    except Exception as error:  # no plug-in, an unknown scheme, no credentials: each has its own
        raise StoreUnwritable(f"store {text}: {error}") from error
    return RemoteObjects(text, fs, root)


_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted (a file system without hard links is no store; use a bucket URL)",
    errno.EOPNOTSUPP: "the file system has no hard links; use another folder, or a bucket URL",
    errno.ENOTDIR: "not a folder",
}


class LocalObjects:
    """A folder. Every directory that leads to an object is fsynced once by this process."""

    num_at_once = 1

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self.url = str(self.root)
        self._durable: set[Path] = set()
        if self.root.exists() and not self.root.is_dir():
            raise StoreUnwritable(f"store {self.url}: not a folder")

    def prepare(self) -> None:
        try:
            found = self.read(MARKER)
        except FileNotFoundError:
            self.put_new(MARKER, MARKER_TEXT)
            return
        _check_marker(self.url, found)

    def put_new(self, path: str, data: Data) -> None:
        final = self.root / path
        with self._explained(f"write {len(data)} bytes to {path}"):
            self._make_folder(final.parent)
            temporary = final.parent / f"{TEMPORARY}-{os.getpid()}-{secrets.token_hex(6)}"
            try:
                _write_durably(temporary, data)
                try:
                    os.link(temporary, final)
                except FileExistsError:
                    if final.read_bytes() != data:
                        raise
                _fsync_folder(final.parent)
            finally:
                with suppress(OSError):
                    temporary.unlink()

    def read(self, path: str) -> bytes:
        with self._readable(path):
            return (self.root / path).read_bytes()

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def names(self, path: str) -> tuple[str, ...]:
        try:
            with self._readable(path):
                return tuple(sorted(child.name for child in (self.root / path).iterdir()))
        except FileNotFoundError:
            return ()

    def stamps(self, path: str, leaf: str = "") -> Mapping[str, str]:
        found: dict[str, str] = {}
        try:
            with self._readable(path), os.scandir(self.root / path) as entries:
                for entry in entries:
                    found[entry.name] = _stamp(f"{entry.path}/{leaf}" if leaf else entry.path)
        except FileNotFoundError:
            return {}
        return found

    def remove(self, path: str) -> None:
        with self._explained(f"remove {path}"), suppress(FileNotFoundError):
            (self.root / path).unlink()

    def _make_folder(self, folder: Path) -> None:
        if folder in self._durable and folder.is_dir():
            return
        if folder != self.root:
            self._make_folder(folder.parent)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # something else of that name: no duplicate of ours
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(folder)) from error
        # What lies above the store may be closed to us; it is not ours to make durable.
        with suppress(PermissionError) if folder == self.root else nullcontext():
            _fsync_folder(folder.parent)
        self._durable.add(folder)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, str(error))
            raise StoreUnwritable(f"store {self.url}: cannot {what}: {reason}") from error

    @contextmanager
    def _readable(self, path: str) -> Iterator[None]:
        try:
            yield
        except (NotADirectoryError, FileNotFoundError) as error:
            raise FileNotFoundError(path) from error
        except OSError as error:
            raise StoreError(f"store {self.url}: cannot read {path}: {error}") from error


def _stamp(path: str) -> str:
    """A file that was replaced is another inode, one that was written over has another time or
    size. Not the time of its change of status: a backup made of hard links changes that."""
    try:
        told = os.stat(path)  # noqa: PTH116  (a hundred thousand of them; a Path costs more)
    except (FileNotFoundError, NotADirectoryError):
        return NO_OBJECT
    except OSError:
        return NOT_TOLD  # reading it will say what is wrong
    return f"{told.st_size}-{told.st_mtime_ns}-{told.st_ino}"


def _write_durably(path: Path, data: Data) -> None:
    with path.open("xb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RemoteObjects:
    """A bucket, or whatever else fsspec reaches that has put-if-absent."""

    num_at_once = _REMOTE_AT_ONCE

    def __init__(self, url: str, fs: AbstractFileSystem, root: str) -> None:
        self.url = url
        self._fs = fs
        self._root = root.rstrip("/")

    def prepare(self) -> None:
        """Writes the marker twice: a service that takes the second one would overwrite records."""
        scheme = self.url.split("://")[0]
        refusal = (
            f"store {self.url}: {type(self._fs).__name__} ({scheme}://) has no put-if-absent, "
            "so two runs could overwrite each other; use gs://, s3://, abfs:// or a local folder"
        )
        if not _offers_create(self._fs):
            raise StoreUnwritable(refusal)
        for attempt in ("first", "second"):
            with self._explained("write the marker"):
                try:
                    self._fs.pipe_file(self._full(MARKER), MARKER_TEXT, mode="create")
                except FileExistsError:
                    break
                except NotImplementedError as error:
                    raise StoreUnwritable(refusal) from error
            if attempt == "second":
                raise StoreUnwritable(refusal)
        _check_marker(self.url, self.read(MARKER))

    def put_new(self, path: str, data: Data) -> None:
        with self._explained(f"write {len(data)} bytes to {path}"):
            try:
                self._fs.pipe_file(self._full(path), bytes(data), mode="create")
            except Exception:
                # Refused, or the answer to an accepted write was lost: what lies there decides.
                try:
                    found = self._fs.cat_file(self._full(path))
                except FileNotFoundError:
                    found = None
                if found is None:
                    raise
                if found != data:
                    raise FileExistsError(path) from None

    def read(self, path: str) -> bytes:
        with self._readable(path):
            return bytes(self._fs.cat_file(self._full(path)))

    def exists(self, path: str) -> bool:
        with self._readable(path):
            self._fs.invalidate_cache()
            return bool(self._fs.exists(self._full(path)))

    def names(self, path: str) -> tuple[str, ...]:
        try:
            with self._readable(path):
                self._fs.invalidate_cache()  # another process may have written since
                found = self._fs.ls(self._full(path), detail=False)
        except FileNotFoundError:
            return ()
        return tuple(sorted({n.rstrip("/").rsplit("/", 1)[-1] for n in found} - {""}))

    def stamps(self, path: str, leaf: str = "") -> Mapping[str, str]:
        full, found = self._full(path), dict[str, str]()
        try:
            with self._readable(path):
                self._fs.invalidate_cache()
                listed = self._fs.find(full, detail=True)
        except FileNotFoundError:
            return {}
        for key, info in listed.items():
            name, _, rest = key.strip("/").removeprefix(f"{full.strip('/')}/").partition("/")
            found.setdefault(name, NO_OBJECT)
            if rest == leaf:
                told = (str(info[k]) for k in _REMOTE_STAMPS if info.get(k) is not None)
                found[name] = "-".join(told) or NOT_TOLD
        return found

    def remove(self, path: str) -> None:
        with self._explained(f"remove {path}"), suppress(FileNotFoundError):
            self._fs.rm_file(self._full(path))

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (FileExistsError, StoreError):
            raise
        except Exception as error:  # every plug-in has errors of its own, few of them OSErrors
            raise StoreUnwritable(f"store {self.url}: cannot {what}: {error!r}") from error

    @contextmanager
    def _readable(self, path: str) -> Iterator[None]:
        try:
            yield
        except (NotADirectoryError, FileNotFoundError) as error:
            raise FileNotFoundError(path) from error
        except Exception as error:
            raise StoreError(f"store {self.url}: cannot read {path}: {error!r}") from error


def _offers_create(fs: AbstractFileSystem) -> bool:
    """Whether the file system writes ``mode="create"`` itself: fsspec's own default looks first
    and writes after, which is a race, and a method without the argument would ignore it."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    if isinstance(fs, AsyncFileSystem):
        method, default = type(fs)._pipe_file, AsyncFileSystem._pipe_file
    else:
        method, default = type(fs).pipe_file, AbstractFileSystem.pipe_file
    return method is not default and "mode" in inspect.signature(method).parameters


def _check_marker(url: str, found: bytes) -> None:
    if found != MARKER_TEXT:
        raise StoreUnwritable(
            f"store {url}: {MARKER} says {found[:80].decode('utf-8', 'replace')!r}, not "
            f"{MARKER_TEXT.decode().strip()!r}: made by a newer windtunnel, or no store of ours"
        )
