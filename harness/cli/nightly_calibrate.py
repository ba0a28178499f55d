"""``windtunnel nightly --calibrate``: how far the alarms of nights can be believed."""

from __future__ import annotations

from dataclasses import asdict

from harness.cli.calibration_tables import calibration_tables
from harness.cli.output import print_json, stderr, stdout
from reports.calibration import calibrate as measured


def calibrate(num_series: int, seed: int, *, as_json: bool, quiet: bool) -> bool:
    """Print what the detector calls on made-up nights; whether it keeps what it promises."""
    if quiet or as_json:
        found = measured(num_series, seed)
    else:
        with stderr().status("") as status:
            found = measured(num_series, seed, status.update)
    if as_json:
        body = {"kept": found.kept, "calibration": asdict(found)}
        print_json("windtunnel.nightly-calibration/1", body)
    else:
        for table in calibration_tables(found):
            stdout().print(table)
    return found.kept
