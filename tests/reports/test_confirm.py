"""Environment or code: every combination of what is known, and what may be said of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from reports.comparable import Difference
from reports.compare import Change, Comparison, Scale, Verdict
from reports.confirm import (
    Cause,
    Confirmation,
    Decision,
    Finding,
    canary_moved,
    confirmation_of,
    decide,
)
from reports.documents import dumps, loads
from reports.suspicion import Kind, State, Suspicion
from results.metrics import Direction
from results.pairs import Design

NIGHT = date(2026, 11, 20)
SUSPICION = Suspicion(
    series="h100/chat/ttft_s p50",
    name="chat",
    pool="h100",
    metric="ttft_s",
    statistic="p50",
    direction=Direction.LOWER,
    canary=False,
    kind=Kind.STEP,
    found=NIGHT,
    earliest=NIGHT - timedelta(days=4),
    likely=NIGHT - timedelta(days=3),
    latest=NIGHT - timedelta(days=2),
    before=0.100,
    after=0.110,
    change=0.10,
    low=0.08,
    high=0.12,
    p_value=1e-5,
    threshold=0.02,
    num_before=21,
    num_after=4,
    environments=("e0", "e0"),
)
CANARY = replace(SUSPICION, series="h100/canary/ttft_s p50", name="canary", canary=True)
DRIVER = (Difference(key="node 1.driver", a="570", b="580"),)
NEW_ENVIRONMENT = replace(SUSPICION, environments=("e0", "e1"))


def confirmation(verdict: Verdict, design: Design = Design.PAIRED) -> Confirmation:
    change = Change(
        metric="ttft_s",
        statistic="p50",
        direction=Direction.LOWER,
        scale=Scale.RATIO,
        verdict=verdict,
        num_pairs=8,
        change=0.1,
    )
    return Confirmation(
        series=SUSPICION.series,
        night=NIGHT,
        change=change,
        design=design,
        a_runs=("a",),
        b_runs=("b",),
        differences=(Difference(key="packages.vllm", a="0.31", b="0.32"),),
    )


REGRESSED, UNCHANGED, UNCLEAR, IMPROVED = (
    confirmation(v)
    for v in (Verdict.REGRESSED, Verdict.UNCHANGED, Verdict.INCONCLUSIVE, Verdict.IMPROVED)
)
BLOCKED = confirmation(Verdict.REGRESSED, Design.BLOCKED)
OPEN, JUMP = SUSPICION, replace(SUSPICION, kind=Kind.JUMP)
F, C = Finding, Cause


@pytest.mark.parametrize(
    ("suspicion", "confirmed", "canary", "finding", "cause", "words"),
    [
        # nothing else moved
        (OPEN, None, None, F.SUSPECTED, C.UNKNOWN, "not confirmed yet"),
        (JUMP, None, None, F.WATCHED, C.UNKNOWN, "one night"),
        (OPEN, REGRESSED, None, F.REGRESSION, C.CODE, "differ"),
        (JUMP, REGRESSED, None, F.REGRESSION, C.CODE, "differ"),
        (OPEN, UNCHANGED, None, F.NOT_CONFIRMED, C.UNKNOWN, "alike"),
        (OPEN, UNCLEAR, None, F.SUSPECTED, C.UNKNOWN, "could not tell"),
        (OPEN, IMPROVED, None, F.IMPROVEMENT, C.CODE, "other way round"),
        (replace(OPEN, change=-0.1), IMPROVED, None, F.IMPROVEMENT, C.CODE, "differ"),
        # runs that were not interleaved confirm nothing
        (OPEN, BLOCKED, None, F.SUSPECTED, C.UNKNOWN, "could not tell"),
        # the canary moved as well
        (OPEN, None, CANARY, F.ENVIRONMENT, C.ENVIRONMENT, "canary"),
        (OPEN, REGRESSED, CANARY, F.REGRESSION, C.CODE, "besides, the canary"),
        (OPEN, UNCHANGED, CANARY, F.ENVIRONMENT, C.ENVIRONMENT, "alike, and the canary"),
        (OPEN, UNCLEAR, CANARY, F.ENVIRONMENT, C.ENVIRONMENT, "canary"),
        (CANARY, None, None, F.ENVIRONMENT, C.ENVIRONMENT, "the canary moved"),
        # the environment changed
        (NEW_ENVIRONMENT, None, None, F.ENVIRONMENT, C.ENVIRONMENT, "570 → 580"),
        (NEW_ENVIRONMENT, REGRESSED, None, F.REGRESSION, C.CODE, "besides, the environment"),
        (NEW_ENVIRONMENT, UNCHANGED, None, F.ENVIRONMENT, C.ENVIRONMENT, "570 → 580"),
        (NEW_ENVIRONMENT, None, CANARY, F.ENVIRONMENT, C.ENVIRONMENT, "and the environment"),
        # people have spoken
        (replace(OPEN, state=State.EXPECTED, said="new driver"), REGRESSED, None, F.KNOWN,
         C.UNKNOWN, "expected: new driver"),
        (replace(OPEN, state=State.ACKNOWLEDGED, said="bug 412"), None, CANARY, F.KNOWN,
         C.ENVIRONMENT, "acknowledged: bug 412"),
    ],
)  # fmt: skip
def test_what_may_be_said(
    suspicion: Suspicion,
    confirmed: Confirmation | None,
    canary: Suspicion | None,
    finding: Finding,
    cause: Cause,
    words: str,
) -> None:
    differences = DRIVER if suspicion.environment_changed else ()
    found = decide(suspicion, confirmation=confirmed, canary=canary, differences=differences)
    assert (found.finding, found.cause) == (finding, cause)
    assert words in found.why
    assert found.confirmation is confirmed
    assert loads(Decision, dumps(Decision, found)) == found


def test_a_confirmed_regression_shows_what_the_two_sides_differ_in() -> None:
    assert decide(OPEN, confirmation=REGRESSED).differences == REGRESSED.differences
    assert decide(NEW_ENVIRONMENT, differences=DRIVER).differences == DRIVER


def test_what_the_suite_asks_otherwise_is_no_environment() -> None:
    asked = (
        Difference(key="resolved.asked.engine_args.max-num-seqs", a="16", b="1"),
        Difference(key="resolved.observed.max_num_batched_tokens", a="2048", b="512"),
    )
    alone = decide(NEW_ENVIRONMENT, differences=asked)
    assert (alone.finding, alone.differences) == (decide(OPEN).finding, asked)
    found = decide(NEW_ENVIRONMENT, confirmation=REGRESSED, differences=asked)
    assert found.finding is Finding.REGRESSION and "environment" not in found.why
    unclear = decide(NEW_ENVIRONMENT, confirmation=UNCLEAR, differences=asked)
    assert unclear.finding is Finding.SUSPECTED
    alike = decide(NEW_ENVIRONMENT, confirmation=UNCHANGED, differences=asked)
    assert alike.finding is Finding.NOT_CONFIRMED


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({}, True),
        ({"pool": "a100"}, False),
        ({"canary": False}, False),
        ({"earliest": NIGHT - timedelta(days=1), "latest": NIGHT}, True),  # a night apart
        ({"earliest": NIGHT, "latest": NIGHT}, False),
        ({"earliest": NIGHT - timedelta(days=40), "latest": NIGHT - timedelta(days=30)}, False),
    ],
)
def test_a_canary_of_the_pool_that_moved_then(changes: dict[str, object], moved: bool) -> None:
    other = replace(CANARY, **changes)  # type: ignore[arg-type]
    assert canary_moved(SUSPICION, [SUSPICION, other]) == (other if moved else None)


def test_a_confirmation_is_of_the_suspicions_metric() -> None:
    found = Comparison(
        a="old",
        b="new",
        a_runs=("a",),
        b_runs=("b",),
        workload_hash="0" * 16,
        a_environments=("e0",),
        b_environments=("e0",),
        differences=(),
        design=Design.PAIRED,
        num_pairs=8,
        margin=0.03,
        changes=(REGRESSED.change,),
    )
    assert confirmation_of(SUSPICION, found, NIGHT).change is REGRESSED.change
    with pytest.raises(ValueError, match="tpot_s"):
        confirmation_of(replace(SUSPICION, metric="tpot_s"), found, NIGHT)
