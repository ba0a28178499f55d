"""Progress where there is no terminal: lines, and a heartbeat only while nothing is said."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.cli.live import (
    HEARTBEAT_S,
    TerminalLines,
    _Lines,
    phase_bars,
    progress,
    pulse_words,
)
from harness.load.fleet import Pulse, nothing_seen
from results.testing import FakeClock


def lines_to(text: io.StringIO, clock: FakeClock, quiet: bool = False) -> _Lines:
    return _Lines(Console(file=text, width=120), clock, quiet)


def test_a_phase_is_a_line_and_a_long_one_says_it_still_lasts() -> None:
    text, clock = io.StringIO(), FakeClock()
    lines = lines_to(text, clock)
    clock.advance(2.0)
    lines.phase("engine", "starting the engine")
    clock.advance(HEARTBEAT_S - 0.1)
    lines.beat()
    assert text.getvalue() == "[   2.0 s] starting the engine\n"
    clock.advance(0.2)
    lines.beat()
    lines.beat()
    assert text.getvalue().count("…") == 1
    assert "after 10 s" in text.getvalue()


def test_the_heartbeat_says_how_far_it_is() -> None:
    text, clock = io.StringIO(), FakeClock()
    lines = lines_to(text, clock)
    lines.phase("load", "sending")
    lines.advance(12, 40, 3.0)
    clock.advance(HEARTBEAT_S)
    lines.beat()
    assert "12/40" in text.getvalue()


def test_quiet_is_quiet() -> None:
    text = io.StringIO()
    lines_to(text, FakeClock(), quiet=True).phase("load", "sending")
    assert text.getvalue() == ""


def test_no_control_characters_where_there_is_no_terminal() -> None:
    text = io.StringIO()
    with progress(Console(file=text), FakeClock()) as shown:
        shown.phase("load", "sending")
        shown.advance(1, 2, 0.5)
    assert "\x1b" not in text.getvalue()
    assert "\r" not in text.getvalue()


def test_a_terminal_has_one_live_region_that_is_cleared() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with progress(console, FakeClock()) as shown:
        shown.phase("load", "sending")
        shown.advance(1, 2, 0.5)
        shown.phase("seal", "sealing")
    assert "sending" in text.getvalue() or "sealing" in text.getvalue()
    # The cursor goes up and the line is erased: nothing of it stays on the screen.
    assert "\x1b[2K" in text.getvalue()


def test_an_interrupt_in_the_midst_of_a_phase_is_not_lost_in_the_next() -> None:
    bars = phase_bars(Console(file=io.StringIO(), force_terminal=True))
    lines = TerminalLines(bars)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bars, "add_task", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lines.phase("load", "sending")
    lines.phase("teardown", "ending the server")
    assert [task.description for task in bars.tasks] == ["ending the server"]


def test_a_note_is_shown_with_the_heartbeat_until_the_phase_ends() -> None:
    text, clock = io.StringIO(), FakeClock()
    lines = lines_to(text, clock)
    lines.phase("load", "sending")
    lines.advance(3, -1, 0.0)
    lines.note("12.0/s done")
    clock.advance(HEARTBEAT_S)
    lines.beat()
    lines.phase("stop", "stopping")
    clock.advance(HEARTBEAT_S)
    lines.beat()
    assert "… sending: 3 after 10 s (12.0/s done)\n" in text.getvalue()
    assert "… stopping: after 10 s\n" in text.getvalue()


def test_on_a_narrow_terminal_the_note_comes_first() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=60)
    with progress(console, FakeClock()) as shown:
        shown.phase("load", "sending " + "x" * 80)
        shown.note("12.0/s done")
    assert "12.0/s done · sending" in text.getvalue()


def test_percentiles_so_far_are_shown_once_there_are_enough_answers() -> None:
    def words(values: list[float]) -> str:
        pulse = Pulse(
            num_done=7,
            num_total=9,
            elapsed_s=1.0,
            rate_rps=412.04,
            num_failed=0,
            ttft=nothing_seen().added(values),
        )
        return pulse_words(pulse)

    assert words([]) == "412.0/s done, 0 failed"
    assert words([0.1] * 19) == "412.0/s done, 0 failed"
    assert words([0.1] * 20) == "412.0/s done, 0 failed, TTFT p50 100 ms so far"
    slow_tail = [0.1] * 980 + [2.0] * 20
    assert words(slow_tail) == "412.0/s done, 0 failed, TTFT p50 100 ms, p99 2.00 s so far"
