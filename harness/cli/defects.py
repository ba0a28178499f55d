"""An exception that nobody foresaw: a defect of windtunnel, told as one, and no regression.

Python would end with exit code 1, which here says that a metric has regressed.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from harness.cli import output
from harness.cli.exits import Exit, print_error
from harness.errors import HarnessError
from harness.settings import read_settings, wants_traceback
from results.clock import SystemClock

ROOT = Path(__file__).parents[2]


class Defect(HarnessError):
    pass


def tell_defect(error: Exception, as_json: bool) -> Exit:
    """One message on stderr, the traceback in a file of the home or on stderr, and the exit code.

    The traceback is kept at once: what ended a night after three hours is not soon seen again.
    """
    text = "".join(traceback.format_exception(error))
    if wants_traceback():
        _say(text.rstrip())
    words = " ".join(str(error).split())[:300]
    named = type(error).__name__ + (f": {words}" if words else "")
    defect = Defect(
        f"this is a defect of windtunnel, no result and no regression: {named} "
        f"({_place(error)}). {_kept(text)}; with WINDTUNNEL_TRACEBACK=1 it is printed"
    )
    _say(f"windtunnel: {defect}")
    if as_json and not output.has_printed():
        print_error(defect, Exit.INFRASTRUCTURE)
    return Exit.INFRASTRUCTURE


def _place(error: Exception) -> str:
    """Where our own code was last: ``harness/plan.py:42, in make_plan``."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        f for f in frames if Path(f.filename).is_relative_to(ROOT) and ".venv" not in f.filename
    ]
    if not (ours or frames):
        return "nowhere known"
    last = (ours or frames)[-1]
    where = Path(last.filename)
    shown = where.relative_to(ROOT) if where.is_relative_to(ROOT) else where.name
    return f"{shown}:{last.lineno}, in {last.name}"


def _kept(text: str) -> str:
    stamp = f"{SystemClock().now_utc():%Y%m%dT%H%M%SZ}"
    try:
        folder = read_settings().home / "defects"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stamp}-{os.getpid()}.txt"
        path.write_text(text)
    except (OSError, HarnessError) as why:
        return f"Its traceback could not be kept ({why})"
    return f"Its traceback is in {path}: please report it"


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
