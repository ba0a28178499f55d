"""Puts the startup timeline together out of what each witness saw. Pure.

Every witness counts on a clock of its own. Readings of two hosts' clocks are never subtracted: a
server tells durations since *its* begin, and ``anchor`` says where that begin lies on the driver's
clock, and how exactly that is known.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from results.startup import PhaseSource, StartupPhase, StartupTimeline

# One reading of a clock beside one call, on one host.
CALL_RESOLUTION_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Where another clock's zero lies on ours, and the bound of its error."""

    origin_s: float
    resolution_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMarks:
    """What the server's process told, in seconds since the call that began it (its own zero)."""

    started_s: float
    started_resolution_s: float
    healthy_s: float
    healthy_resolution_s: float
    retried_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverMarks:
    """What the driver saw, in seconds since the ask."""

    placed_s: float
    prepared_s: float  # the launch is known; a model that had to be made is made
    actor_started_s: float
    first_token_sent_s: float
    first_token_s: float
    first_token_resolution_s: float
    placed_detail: str = ""


def anchor(
    *, sent_s: float, received_s: float, elapsed_s: float, same_clock_s: float | None = None
) -> Anchor:
    """The zero of the other side's count, in our own readings or differences of them.

    The other side began counting after ``sent_s`` and had counted to ``elapsed_s`` before
    ``received_s``, so its zero lies between ``sent_s`` and ``received_s - elapsed_s``. Where both
    stand on one host, ``same_clock_s`` is that zero read on the shared clock; it is believed only
    if it lies in those bounds (containers may be given clocks of their own).
    """
    latest_s = max(received_s - elapsed_s, sent_s)
    if same_clock_s is not None and sent_s <= same_clock_s <= latest_s + CALL_RESOLUTION_S:
        return Anchor(origin_s=same_clock_s, resolution_s=CALL_RESOLUTION_S)
    return Anchor(origin_s=latest_s, resolution_s=latest_s - sent_s + CALL_RESOLUTION_S)


def log_reader(path: str) -> Callable[[list[tuple[float, str]]], Any] | None:
    """The function that a launch names as ``module:function``; None for an empty path."""
    if not path:
        return None
    module, _, name = path.partition(":")
    found: Callable[[list[tuple[float, str]]], Any] = getattr(importlib.import_module(module), name)
    return found


def merge(log: Iterable[StartupPhase], spans: Iterable[StartupPhase]) -> tuple[StartupPhase, ...]:
    """One phase per name, by start. Names are the same when their letters and digits are.

    Where the log and a span tell of the same phase, the one with the finer resolution is kept, and
    the span where they are equal: both its ends are the engine's own readings, while a log line is
    stamped when it reaches us. A name that one witness gives twice (one per worker, one per graph)
    is kept twice.
    """
    spans = [phase for phase in spans if phase.end_s >= phase.start_s]
    log = [phase for phase in log if phase.end_s >= phase.start_s]
    finest_log, finest_span = _finest(log), _finest(spans)
    kept = [p for p in spans if _finer_or_equal(finest_span, finest_log, _key(p.name))]
    kept += [p for p in log if not _finer_or_equal(finest_span, finest_log, _key(p.name))]
    return tuple(sorted(kept, key=lambda phase: (phase.start_s, phase.end_s)))


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.lower())


def _finest(phases: list[StartupPhase]) -> dict[str, float]:
    finest: dict[str, float] = {}
    for phase in phases:
        key = _key(phase.name)
        finest[key] = min(finest.get(key, phase.resolution_s), phase.resolution_s)
    return finest


def _finer_or_equal(these: dict[str, float], those: dict[str, float], key: str) -> bool:
    return key in these and these[key] <= those.get(key, float("inf"))


def assemble(
    driver: DriverMarks,
    server: ServerMarks,
    server_anchor: Anchor,
    *,
    log_phases: tuple[StartupPhase, ...] = (),
    span_phases: tuple[StartupPhase, ...] = (),
    page_cache: float | None = None,
) -> StartupTimeline:
    """The timeline of a server, ask → first token.

    ``log_phases`` and ``span_phases`` count from the start of the server's process. ``healthy`` is
    an instant (start = end): what the engine did until then is for its own phases to say, and what
    they leave open stays unattributed.
    """
    zero_s, blur_s = server_anchor.origin_s, server_anchor.resolution_s
    process_s = zero_s + server.started_s
    engine = [
        replace(
            phase,
            start_s=process_s + phase.start_s,
            end_s=process_s + phase.end_s,
            resolution_s=max(phase.resolution_s, blur_s),
        )
        for phase in merge(log_phases, span_phases)
    ]
    healthy_s = zero_s + server.healthy_s
    phases = [
        *_before_the_process(driver, server, server_anchor),
        *engine,
        _phase(
            "healthy",
            healthy_s,
            healthy_s,
            PhaseSource.HTTP,
            max(server.healthy_resolution_s, blur_s),
        ),
        _phase(
            "first token",
            driver.first_token_sent_s,
            driver.first_token_s,
            PhaseSource.CLIENT,
            driver.first_token_resolution_s,
        ),
    ]
    return StartupTimeline(
        phases=tuple(phases), ready_s=driver.first_token_s, page_cache=page_cache
    )


def before_the_job(
    placed_s: float, prepared_s: float, placed_detail: str
) -> tuple[StartupPhase, StartupPhase]:
    """What every placed workload begins with, in seconds since the ask."""
    return (
        _phase("placed", 0.0, placed_s, PhaseSource.RAY, CALL_RESOLUTION_S, placed_detail),
        _phase("launch prepared", placed_s, prepared_s, PhaseSource.DRIVER, CALL_RESOLUTION_S),
    )


def _before_the_process(
    driver: DriverMarks, server: ServerMarks, server_anchor: Anchor
) -> list[StartupPhase]:
    """From the ask to the running command."""
    zero_s, blur_s = server_anchor.origin_s, server_anchor.resolution_s
    phases = [
        *before_the_job(driver.placed_s, driver.prepared_s, driver.placed_detail),
        _phase(
            "actor start",
            driver.placed_s,
            driver.actor_started_s,
            PhaseSource.RAY,
            CALL_RESOLUTION_S,
        ),
    ]
    begun_s = zero_s
    if server.retried_s is not None:
        begun_s = zero_s + server.retried_s
        phases.append(
            _phase(
                "port retry",
                zero_s,
                begun_s,
                PhaseSource.PROCESS,
                max(CALL_RESOLUTION_S, blur_s),
                "the first port was taken",
            )
        )
    phases.append(
        _phase(
            "process start",
            begun_s,
            zero_s + server.started_s,
            PhaseSource.PROCESS,
            max(server.started_resolution_s, blur_s),
        )
    )
    return phases


def _phase(
    name: str,
    start_s: float,
    end_s: float,
    source: PhaseSource,
    resolution_s: float,
    detail: str = "",
) -> StartupPhase:
    """``end_s`` never lies before ``start_s``: two witnesses may disagree by their resolution."""
    return StartupPhase(
        name=name,
        start_s=start_s,
        end_s=max(start_s, end_s),
        source=source,
        resolution_s=resolution_s,
        detail=detail,
    )
