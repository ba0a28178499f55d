"""Calibrations of this machine that are kept, so that not every load has to make its own."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from harness.settings import read_settings
from results.client import Calibration
from results.clock import Clock

_VALID_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationStore:
    """Calibrations of this machine, kept for a day as one small file each."""

    folder: Path
    clock: Clock

    def get(self, key: str) -> Calibration | None:
        try:
            kept = json.loads((self.folder / f"{key}.json").read_text())
            age = self.clock.now_utc() - datetime.fromisoformat(kept["measured_at"])
            if 0 <= age.total_seconds() <= _VALID_S:
                return Calibration(**kept["calibration"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # none, torn, or of another version: measured anew
        return None

    def put(self, key: str, calibration: Calibration) -> None:
        """A folder that cannot be written is no reason not to measure."""
        document = {
            "measured_at": self.clock.now_utc().isoformat(),
            "calibration": asdict(calibration),
        }
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = self.folder / f".{key}.{secrets.token_hex(4)}"
            draft.write_text(json.dumps(document))
            draft.replace(self.folder / f"{key}.json")

    def drop(self, key: str) -> None:
        with suppress(OSError):
            (self.folder / f"{key}.json").unlink(missing_ok=True)


def calibration_store(clock: Clock) -> CalibrationStore:
    """The one under our own home."""
    return CalibrationStore(folder=read_settings().home / "calibration", clock=clock)
