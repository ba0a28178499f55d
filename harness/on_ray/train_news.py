"""What travels between the ranks of a training job, its coach and the driver. Light to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from workloads.base import JOB_FIRST_STEP, TrainEvent, TrainFacts
from workloads.host_memory import MemorySeen

if TYPE_CHECKING:  # it brings Arrow, which a rank may not need
    from results.telemetry import Telemetry


class RankNews(NamedTuple):
    """What one rank sends. ``sent_s`` is on its own clock, as all times in ``events`` are.

    ``round_trip_s`` is how long an answered message to the coach took; 0 before the first.
    """

    rank: int
    node_id: str
    pid: int
    sent_s: float
    round_trip_s: float
    events: tuple[TrainEvent, ...]
    raised: tuple[str, ...] = ()  # the traceback's lines, where the loop raised
    error: str = ""  # what the loop calls it: nan_loss, out_of_memory, …; "": just an exception
    attempt: int = -1  # −1: a rank's first message, which asks the coach which attempt it is
    memory: MemorySeen | None = None  # of its process and its cgroup, when it was sent
    telemetry: Telemetry | None = None  # of the rank's own devices, on its clock; its last words


class Answer(NamedTuple):
    """What the coach answers a rank: its attempt, and the job's first step as a script called it in
    an earlier one; None: not known."""

    attempt: int
    job_first_step: int | None = None


class Struck(NamedTuple):
    """A fault of the schedule is being struck, now. ``what``: as on the command line."""

    attempt: int
    what: str


class AttemptEnded(NamedTuple):
    """An attempt is over and another follows: it failed, or its number of workers changes.

    ``cause``: an ``Ending``'s error, or ``resized``.
    """

    attempt: int
    cause: str
    message: str


class AttemptBegan(NamedTuple):
    """The workers of an attempt have their processes; the loops are about to be entered.

    ``waited_s``: for how long there had been no room for them."""

    attempt: int
    num_workers: int
    waited_s: float = 0.0


class Ending(NamedTuple):
    """How the job ended. ``error`` is "" for a job whose every rank returned.

    Else one of ``raised`` (a rank's loop), ``worker_died``, ``node_lost``, ``controller``, ``hang``
    (the watchdog's), or what the loop called its error (a ``workloads.errors.TrainingFailed``).
    """

    error: str
    message: str = ""
    log_tail: tuple[str, ...] = ()


News = RankNews | Struck | AttemptBegan | AttemptEnded


class CoachNews(NamedTuple):
    """``news`` are the messages after the reader's cursor, in order of arrival."""

    news: tuple[News, ...]
    ending: Ending | None


def first_step_told(news: RankNews) -> int | None:
    """What a script calls its first step, if this is where it says so."""
    for event in news.events:
        if isinstance(event, TrainFacts) and JOB_FIRST_STEP in event.values:
            told: int = event.values[JOB_FIRST_STEP]
            return told
    return None


def last_line(raised: tuple[str, ...]) -> str:
    """The line of a traceback that names the error; notes and blank lines may follow it."""
    said = [line for line in raised if line and not line.startswith(" ")]
    return said[-1] if said else "an error without words"


def first_lines(text: str, count: int = 4) -> str:
    return " ".join(line.strip() for line in text.strip().splitlines()[:count])
