"""Trials at once and load points, as a study's plan tells of them and its records doubt them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from harness.capacity.ascent import Ascent
from harness.cli.tune_race import own_ascent
from harness.errors import SpecError
from harness.runner import RunContext, bind
from harness.side_by_side import check_beside, num_at_once
from harness.spec import RunSpec
from tuners.study_spec import StudySpec, loads_in_turns


def longest(base: RunSpec, ascent: Ascent | None) -> RunSpec:
    """The run with the load of a whole trial, if it goes to the last load point: what a plan counts
    time by."""
    if ascent is None or base.traffic is None:
        return base
    num, deadlines = len(ascent.loads), base.deadlines
    num_windows = 2 * num if ascent.probe_s else num
    return replace(
        base,
        traffic=replace(
            base.traffic,
            duration_s=num * (ascent.duration_s + ascent.probe_s),
            num_requests=None,
        ),
        deadlines=replace(deadlines, load_s=num_windows * deadlines.load_s),
    )


def loads_lines(study: StudySpec, base: RunSpec, ascent: Ascent | None) -> Iterator[str]:
    yield f"  race      {_race_words(study, base, ascent)}"
    if ascent is not None and not ascent.loads[0].is_own:
        listed = ", ".join(load.words for load in ascent.loads)
        probe = f", each after a probe of {ascent.probe_s:g} s" if ascent.probe_s else ""
        end = "to the first that breaks the limits" if ascent.conditions else "to the last"
        yield f"  loads     {listed}: windows of {ascent.duration_s:g} s{probe}; upward {end}"
    if study.parallel > 1:
        room = "as far as the pools have room"
        yield f"  at once   {study.parallel} trials, {room}{_turn_words(study)}"


def _turn_words(study: StudySpec) -> str:
    num = loads_in_turns(study)
    if not num:
        return ""
    one = "one of them is" if num == 1 else f"{num} of them are"
    return f"; {one} loaded at a time, the others start, or wait for their turn"


def check_turns(study: StudySpec, base: RunSpec) -> None:
    """Raises SpecError where trials are to be loaded in turns, and cannot wait for it."""
    if loads_in_turns(study) and base.traffic is None:
        raise SpecError(
            f"loads_at_once: {base.name} has no traffic, and what has begun to work cannot wait "
            "for its turn; leave loads_at_once out"
        )


def _race_words(study: StudySpec, base: RunSpec, ascent: Ascent | None) -> str:
    if study.race is None:
        return "none: the study asks for none; race: {} does"
    if ascent is None or not ascent.probe_s:
        own = own_ascent(study, base) if study.load is None else "its load points have no probe"
        return f"none: {own if isinstance(own, str) else 'its window is short by itself'}"
    race = study.race
    return (
        f"a probe of {ascent.probe_s:g} s before each window of {ascent.duration_s:g} s; a trial "
        f"that it shows to be worse by more than {race.margin:.0%} is stopped, wrongly in at most "
        f"{race.error:.0%} of cases"
    )


def loads_document(study: StudySpec, ascent: Ascent | None) -> dict[str, Any]:
    race = study.race
    return {
        "parallel": study.parallel,
        "loads_at_once": loads_in_turns(study) or study.parallel,
        "race": None
        if race is None or ascent is None or not ascent.probe_s
        else {"probe_s": ascent.probe_s, "margin": race.margin, "error": race.error},
        "loads": None
        if ascent is None or ascent.loads[0].is_own
        else {
            "at": [load.words for load in ascent.loads],
            "window_s": ascent.duration_s,
            "probe_s": ascent.probe_s,
            "until": "slo" if ascent.conditions else "end",
        },
    }


def doubts_beside(study: StudySpec, base: RunSpec, context: RunContext) -> tuple[str, ...]:
    """Says how many trials fit at once. Raises PlanRefused where the baseline can never be placed,
    SpecError where several would measure each other."""
    plan = bind(base, context.deployer.inventory(), context.prices)
    asked = study.parallel
    doubts = tuple(check_beside(plan, asked, study.share_cores, loads_in_turns(study)))
    room = num_at_once(plan, asked)
    if room < asked:
        context.progress.phase(
            "parallel",
            f"{asked} trials at once are asked; the pools hold {room} of the size of "
            f"{base.name}, so some wait for a place",
        )
    return doubts
