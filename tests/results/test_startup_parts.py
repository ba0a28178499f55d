"""A start by its parts: they add up, overlapping phases count once, names of engines are known."""

from __future__ import annotations

import pytest

from results.startup import PhaseSource, StartupParts, StartupPhase, StartupTimeline, parts_of


def timeline(ready_s: float, *phases: tuple[str, float, float]) -> StartupTimeline:
    return StartupTimeline(
        phases=tuple(
            StartupPhase(
                name=name, start_s=begin, end_s=end, source=PhaseSource.LOG, resolution_s=0.0
            )
            for name, begin, end in phases
        ),
        ready_s=ready_s,
    )


def total(parts: StartupParts) -> float:
    return (
        parts.place_s
        + parts.imports_s
        + parts.load_s
        + parts.compile_s
        + parts.warmup_s
        + parts.rest_s
    )


def test_a_start_of_vllm() -> None:
    parts = parts_of(
        timeline(
            45.0,
            ("placed", 0.0, 1.0),
            ("process start", 1.0, 1.2),
            ("imports: API server", 1.2, 15.0),
            ("imports: engine core", 15.0, 28.0),
            ("engine init", 15.0, 44.0),  # holds the others, and is no part
            ("load model", 28.0, 32.0),
            ("load weights", 29.0, 30.0),
            ("profile, KV cache, warm-up", 32.0, 40.0),
            ("compile", 33.0, 36.0),  # within the warm-up: counted there no more
            ("first token", 44.5, 45.0),
        )
    )
    assert parts.place_s == pytest.approx(1.2)
    assert parts.imports_s == pytest.approx(26.8)
    assert parts.load_s == pytest.approx(4.0)
    assert parts.compile_s == pytest.approx(3.0)
    assert parts.warmup_s == pytest.approx(5.5)
    assert parts.rest_s == pytest.approx(4.5)
    assert total(parts) == pytest.approx(45.0)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("load compiled", "compile_s"),
        ("compile and first run", "warmup_s"),
        ("capture graphs", "compile_s"),
        ("download weights", "load_s"),
        ("inspect model", "imports_s"),
        ("start API server", "rest_s"),
    ],
)
def test_the_longest_beginning_decides(name: str, part: str) -> None:
    parts = parts_of(timeline(10.0, (name, 2.0, 6.0)))
    assert getattr(parts, part) == (4.0 if part != "rest_s" else 10.0)


def test_what_comes_after_the_first_token_is_no_part_of_a_start() -> None:
    assert total(parts_of(timeline(5.0, ("compile", 4.0, 9.0)))) == pytest.approx(5.0)
    assert parts_of(timeline(0.0)) == StartupParts()


def test_starts_add_up_part_by_part() -> None:
    both = StartupParts(imports_s=1.0, rest_s=2.0).plus(StartupParts(imports_s=3.0, load_s=1.0))
    assert both == StartupParts(imports_s=4.0, load_s=1.0, rest_s=2.0)
