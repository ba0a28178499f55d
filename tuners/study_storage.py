"""Where a study is kept: a journal file, or a database for a team. Imports optuna."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import get_lock_file
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from tuners.errors import StorageLost, StudyError
from tuners.storage_url import shown_storage, without_password


def storage_at(url: str) -> BaseStorage:
    """A path is a journal file, which many processes of one machine may share; ``sqlite:///``,
    ``postgresql://`` and ``mysql://`` a database for a team. Raises StudyError."""
    if "://" not in url:
        path = Path(url)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(path), _healed(path)))
        except OSError as error:
            raise StudyError(f"no study storage at {url}: {error}") from error
    try:
        return _database(url)
    except ImportError as error:
        raise StudyError(
            f"no study storage at {shown_storage(url)}: its driver is not installed ({error}); "
            "PostgreSQL's comes with `pip install 'windtunnel[postgres]'`"
        ) from error
    except NoSuchModuleError as error:
        said = without_password(str(error), url)
        hint = "; PostgreSQL's is postgresql://" if url.startswith("postgres:") else ""
        raise StudyError(f"no study storage at {shown_storage(url)}: {said}{hint}") from error
    except Exception as error:  # of SQLAlchemy, or of the driver that the URL names
        said = _said(error, url)
        raised = StudyError if isinstance(error, ArgumentError) else StorageLost
        raise raised(f"no study storage at {shown_storage(url)}: {said}") from error


def _said(error: Exception, url: str) -> str:
    """The driver's own words, without SQLAlchemy's around them, nor the password."""
    return without_password(str(getattr(error, "orig", None) or error).strip(), url)


@contextmanager
def kept_at(url: str) -> Iterator[BaseStorage]:
    """``storage_at``, given back at the end. Raises StorageLost where it is lost meanwhile."""
    storage = storage_at(url)
    try:
        yield storage
    except (StorageInternalError, SQLAlchemyError) as error:
        said = _said(error, url)
        raise StorageLost(
            f"the study storage at {shown_storage(url)} was lost: {said}; what was measured is in "
            "the record store, and --resume goes on"
        ) from error
    finally:
        with suppress(SQLAlchemyError):  # what is lost cannot be given back
            close_storage(storage)


def close_storage(storage: BaseStorage) -> None:
    """Give a database's connections back; a file has none."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def _database(url: str) -> RDBStorage:
    """Of two processes that make the tables at the same moment one fails, and finds them then."""
    try:
        return RDBStorage(url)
    except (ImportError, ArgumentError):
        raise
    except Exception:
        return RDBStorage(url)


def _healed(path: Path) -> JournalFileSymlinkLock:
    """The journal's lock. A last line without an end is a write that a crash cut off: nobody was
    told that it was kept, and no line could follow it."""
    lock = JournalFileSymlinkLock(str(path))
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        with get_lock_file(lock), path.open("r+b") as file:
            kept = file.read()
            if kept and not kept.endswith(b"\n"):
                file.truncate(kept.rfind(b"\n") + 1)
    return lock
