"""``windtunnel nightly --calibrate``: how far the alarms of nights can be believed."""

from __future__ import annotations

from dataclasses import asdict

from harness.cli.calibration_tables import calibration_tables
from harness.cli.live import Shown, progress
from harness.cli.output import print_json, stderr, stdout
from reports.calibration import calibrate as measured
from results.clock import Clock, SystemClock


def calibrate(num_series: int, seed: int, *, as_json: bool, quiet: bool) -> bool:
    """Print what the detector calls on made-up nights; whether it keeps what it promises."""
    with progress(stderr(), SystemClock(), quiet) as shown:
        found = measured(num_series, seed, _Told(shown, SystemClock()))
    if as_json:
        body = {"kept": found.kept, "calibration": asdict(found)}
        print_json("windtunnel.nightly-calibration/1", body)
    else:
        for table in calibration_tables(found):
            stdout().print(table)
    return found.kept


class _Told:
    """Says what is counted, and about how long the rest will take."""

    def __init__(self, shown: Shown, clock: Clock) -> None:
        self._shown, self._clock = shown, clock
        self._begun_s, self._phase = clock.monotonic_s(), ""

    def __call__(self, what: str, noise: str, num_done: int, num_total: int) -> None:
        elapsed_s = self._clock.monotonic_s() - self._begun_s
        if what != self._phase:
            self._shown.phase("calibrate", what)
            self._phase = what
        left = (
            f", some {elapsed_s / num_done * (num_total - num_done):.0f} s left" if num_done else ""
        )
        self._shown.note(f"{noise}{left}")
        self._shown.advance(num_done, num_total, elapsed_s)
