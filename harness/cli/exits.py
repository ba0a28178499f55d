"""Exit codes, and the one place where an error becomes a sentence and a code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType

import typer

from harness.errors import ClientTooSlow, HarnessError, SpecError
from results.errors import ForeignFormatError, NotExportable, RecordNotFound, ResultsError
from results.record import Failed, Invalid, RunRecord
from workloads.errors import WorkloadError


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


@contextmanager
def told() -> Iterator[None]:
    """Our own errors become one message on stderr and their exit code, without traceback."""
    try:
        yield
    except (SpecError, RecordNotFound, ForeignFormatError, NotExportable) as error:
        _say(error)
        raise typer.Exit(Exit.USAGE) from None
    except ClientTooSlow as error:
        _say(error)
        raise typer.Exit(Exit.INVALID) from None
    except (HarnessError, ResultsError, WorkloadError) as error:
        _say(error)
        raise typer.Exit(Exit.INFRASTRUCTURE) from None
    except KeyboardInterrupt:
        print("windtunnel: stopped; nothing was left running", file=sys.stderr)  # noqa: T201
        raise typer.Exit(Exit.INTERRUPTED) from None
    except BrokenPipeError:
        # `windtunnel runs list | head`: the reader has gone, and Python must not flush to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.OK) from None


def _say(error: Exception) -> None:
    print(f"windtunnel: {error}", file=sys.stderr)  # noqa: T201


def interrupt_on_sigterm() -> None:
    """SIGTERM (a pod that is evicted, `timeout`) ends a run as Ctrl-C does: sealed and cleaned."""

    def stop(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
