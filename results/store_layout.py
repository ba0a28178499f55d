"""Where things lie in a store, and what may be called a run id. Names only: nothing here reads.

::

    store.json                                  what kind of store this is; laid once
    open/<run id>.json                          planned, not yet sealed
    runs/dt=YYYY-MM-DD/<run id>/record.json     sealed; written last
    runs/dt=YYYY-MM-DD/<run id>/<table>.parquet
    compacted/dt=YYYY-MM-DD/records-<hash>.parquet
    compacted/dt=YYYY-MM-DD/manifest-NNNNNN.json   the highest number counts; written last
    flags/<time>-<random>.json                  what was said of runs as evidence afterwards
    estimates/<time>-<random>.json              figures made from runs, not measured
    events/<event id>.json                      what people said of nights; only ever appended
    index.sqlite                                a cache, local stores only
    lookup/                                     a cache, local stores only: the recommendations

A run's folder follows from its id alone, never from a clock: two processes that seal the same run
meet at the same name, and one of them loses.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Final

from results.errors import RecordFormatError, RecordNotFound

MARKER: Final = "store.json"
MARKER_TEXT: Final = b'{"format": "windtunnel-store", "layout": 1}\n'
RUNS: Final = "runs"
OPEN: Final = "open"
COMPACTED: Final = "compacted"
EVENTS: Final = "events"
RECORD: Final = "record.json"
FLAGS: Final = "flags"
ESTIMATES: Final = "estimates"
INDEX: Final = "index.sqlite"
LOOKUP: Final = "lookup"
TEMPORARY: Final = "_tmp"  # no name that begins so is ever looked into

_MOST_CANDIDATES: Final = 50  # of a prefix; more are ambiguous without asking which are sealed

_RUN_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9A-Za-z][0-9A-Za-z._-]*")
_DAY: Final = re.compile(r"dt=(\d{4})-(\d{2})-(\d{2})")
_TABLE: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]*")


def is_run_id(text: str) -> bool:
    """Whether ``text`` has the shape that ``record.new_run_id`` gives, its date a real one."""
    if not _RUN_ID.fullmatch(text):
        return False
    try:
        datetime.strptime(text[:16], "%Y%m%dT%H%M%SZ")
    except ValueError:
        return False
    return True


def day_of(run_id: str) -> str:
    """``dt=YYYY-MM-DD``; RecordFormatError for what is no run id."""
    if not is_run_id(run_id):
        raise RecordFormatError(
            f"{run_id!r} is no run id; one looks like 20261123T170000Z-1f0c3a9b2e (new_run_id)"
        )
    return f"dt={run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}"


def day_date(day: str) -> date | None:
    """The date of ``dt=YYYY-MM-DD``, or None for any other name."""
    match = _DAY.fullmatch(day)
    if not match:
        return None
    try:
        return date(*map(int, match.groups()))
    except ValueError:
        return None


def run_folder(run_id: str) -> str:
    return f"{RUNS}/{day_of(run_id)}/{run_id}"


def record_path(run_id: str) -> str:
    return f"{run_folder(run_id)}/{RECORD}"


def open_path(run_id: str) -> str:
    day_of(run_id)  # refuses what is no run id
    return f"{OPEN}/{run_id}.json"


def check_table_name(name: str) -> None:
    """RecordFormatError unless ``name`` is a plain file stem."""
    if not _TABLE.fullmatch(name):
        raise RecordFormatError(f"{name!r} is no table name; one is letters, digits, _ and -")


def resolve_run_id(
    asked: str, run_ids: Sequence[str], where: str, is_sealed: Callable[[str], bool]
) -> str:
    """The one sealed id among ``run_ids`` that ``asked`` is a prefix of.

    Raises RecordNotFound with the ids the prefix fits, or with the nearest ones where it fits none.
    """
    fits = [run_id for run_id in run_ids if asked and run_id.startswith(asked)]
    sealed = [run_id for run_id in fits[:_MOST_CANDIDATES] if is_sealed(run_id)]
    if len(sealed) == 1 and len(fits) <= _MOST_CANDIDATES:
        return sealed[0]
    if sealed:
        shown = ", ".join(sealed[:5])
        raise RecordNotFound(f"{asked!r} fits {len(fits)} runs of {where}: {shown}, …; ask more")
    if fits:
        raise RecordNotFound(f"run {fits[0]} of {where} was begun and is not sealed")
    near = difflib.get_close_matches(asked, run_ids, n=3, cutoff=0.0) if run_ids else []
    hint = f"nearest: {', '.join(near)}" if near else "it holds no run"
    raise RecordNotFound(f"no run {asked!r} in {where}; {hint}")
