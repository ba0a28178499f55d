"""Exit codes, and the one place where an error becomes a sentence and a code."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType

import typer

from harness.cli.output import print_json
from harness.errors import ClientTooSlow, DeploymentError, HarnessError, SpecError
from harness.settings import read_settings
from results.errors import (
    ForeignFormatError,
    InvalidQuestion,
    NotComparable,
    NotDeployable,
    NotExportable,
    NothingSelected,
    RecordNotFound,
    ResultsError,
)
from results.record import Failed, Invalid, RunRecord
from workloads.errors import WorkloadError

ERROR_SCHEMA = "windtunnel.error/1"


class Exit(IntEnum):
    OK = 0
    REGRESSION = 1
    USAGE = 2
    INFRASTRUCTURE = 3
    INVALID = 4  # inconclusive or invalid
    INTERRUPTED = 130  # what shells report for Ctrl-C


def exit_code(records: Iterable[RunRecord]) -> Exit:
    """The gravest outcome decides: failed, then invalid, then ok."""
    outcomes = [r.outcome for r in records]
    if any(isinstance(o, Failed) for o in outcomes):
        return Exit.INFRASTRUCTURE
    if any(isinstance(o, Invalid) for o in outcomes):
        return Exit.INVALID
    return Exit.OK


class Interrupted(Exception):
    """Ctrl-C, or SIGTERM."""

    def __init__(self) -> None:
        super().__init__("stopped; nothing was left running")


class Afterwards(Exception):
    """``error`` came after the command's document was printed, and must not bring a second one."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


_OURS = (HarnessError, ResultsError, WorkloadError)
_USAGE = (
    SpecError,
    RecordNotFound,
    NothingSelected,
    NotComparable,
    ForeignFormatError,
    NotExportable,
    NotDeployable,
    InvalidQuestion,
)
_WHAT_TO_DO = {
    Exit.USAGE: "Correct what was asked; `windtunnel COMMAND --help` shows what is accepted.",
    Exit.INFRASTRUCTURE: "Put right what the message names, then ask again; `windtunnel doctor` "
    "looks at this machine.",
    Exit.INTERRUPTED: "Ask again; what was measured until then is in the store, and a study or a "
    "night goes on with --resume.",
    Exit.INVALID: "Ask for less, or give the load client more of a machine.",
}


@contextmanager
def told(as_json: bool = False) -> Iterator[None]:
    """Our own errors become one message on stderr and their exit code, without traceback.

    ``as_json``: and a document on stdout, because a program that asked for one reads nothing else.
    """
    try:
        yield
    except Afterwards as late:
        _say(late.error)
        raise typer.Exit(_code_of(late.error)) from None
    except _OURS as error:
        code = _code_of(error)
        _say(error)
        if as_json:
            print_error(error, code)
        raise typer.Exit(code) from None
    except KeyboardInterrupt:
        _say(Interrupted())
        if as_json:
            print_error(Interrupted(), Exit.INTERRUPTED)
        raise typer.Exit(Exit.INTERRUPTED) from None
    except BrokenPipeError:
        # `windtunnel runs list | head`: the reader has gone, and Python must not flush to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.OK) from None
    except OSError as error:
        full = _full(error)
        if full is None:
            raise
        _say(full)
        if as_json:
            print_error(full, Exit.INFRASTRUCTURE)
        raise typer.Exit(Exit.INFRASTRUCTURE) from None


_NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_LITTLE_BYTES = 2**20


def _full(error: OSError) -> HarnessError | None:
    """What is full, where that is what went wrong. A write says that it failed, seldom where."""
    why = _NO_ROOM.get(error.errno or 0)
    if why is None:
        return None
    settings = read_settings()
    places = [Path(tempfile.gettempdir()), settings.home]
    if "://" not in settings.store_url:
        places.append(Path(settings.store_url))
    full = [str(place) for place in places if _free_bytes(place) < _LITTLE_BYTES]
    where = str(error.filename or ", ".join(full) or "a file")
    return HarnessError(
        f"cannot write {where}: {why}; what is sealed is kept. Make room, then ask again"
    )


def _free_bytes(place: Path) -> float:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return math.inf


def _code_of(error: Exception) -> Exit:
    if isinstance(error, _USAGE):
        return Exit.USAGE
    return Exit.INVALID if isinstance(error, ClientTooSlow) else Exit.INFRASTRUCTURE


def print_error(error: Exception, code: Exit, message: str = "") -> None:
    """``windtunnel.error/1``: kind, message, what to do. ``message``: other than the error's."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(error).__name__).lower()
    body = {
        "kind": getattr(error, "error", "") or words,
        "message": message or str(error),
        "what_to_do": _WHAT_TO_DO[code],
        "exit_code": int(code),
    }
    if isinstance(error, DeploymentError):
        body |= {"stage": error.stage, "log_tail": list(error.log_tail)}
    print_json(ERROR_SCHEMA, {"error": body})


def _say(error: Exception) -> None:
    print(f"windtunnel: {error}", file=sys.stderr)  # noqa: T201


def lose_no_interrupt() -> None:
    """A Ctrl-C that comes while Python runs a finalizer or a callback is printed and forgotten by
    it, and the command goes on to its end. Here it comes a second time, a moment later."""
    before = sys.unraisablehook

    def again(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            threading.Timer(_AGAIN_S, interrupt_main).start()
        else:
            before(lost)

    sys.unraisablehook = again


_AGAIN_S = 0.05  # until the finalizer is over


def interrupt_main() -> None:
    """A real signal, which also wakes a main thread that waits."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGINT)


def interrupt_on_sigterm() -> None:
    """SIGTERM (a pod that is evicted, `timeout`) and SIGHUP (a terminal that is closed) end a run
    as Ctrl-C does: sealed and cleaned. Under nohup SIGHUP stays ignored."""
    terminals = [number for number in _OUTPUTS if os.isatty(number)]

    def stop(_signum: int, _frame: FrameType | None) -> None:
        # The shell tells its jobs, and then the kernel does: a second one would cut the sealing.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in terminals:
            if not os.isatty(number):  # it is gone, and what is said must not fail for it
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, stop)


_OUTPUTS = (1, 2)
