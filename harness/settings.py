"""The only reader of ``os.environ``: everything the surroundings may say, read once.

A variable of ours starts with ``WINDTUNNEL_``. What belongs to one run belongs into its spec.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import SpecError

DEFAULT_TELEMETRY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``home`` holds what the program writes: ``store/``, ``models/``, ``reports/``.

    ``store_url`` is a folder or any fsspec URL; it defaults to ``home/store``.
    ``telemetry_interval_s``: between two looks at the server's side of a load; 0: none is taken.
    """

    home: Path
    store_url: str
    image_digest: str = ""
    telemetry_interval_s: float = DEFAULT_TELEMETRY_S
    named_store_url: str = ""  # where the environment names one

    @property
    def models_dir(self) -> Path:
        return self.home / "models"

    @property
    def reports_dir(self) -> Path:
        return self.home / "reports"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from ``environ`` (default: this process's own). Raises SpecError."""
    env = os.environ if environ is None else environ
    home = Path(env.get("WINDTUNNEL_HOME") or "var").expanduser()
    return Settings(
        home=home,
        store_url=env.get("WINDTUNNEL_STORE") or str(home / "store"),
        named_store_url=env.get("WINDTUNNEL_STORE", ""),
        image_digest=env.get("WINDTUNNEL_IMAGE_DIGEST", ""),
        telemetry_interval_s=_seconds(env, "WINDTUNNEL_TELEMETRY_S", DEFAULT_TELEMETRY_S),
    )


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise SpecError(f"{name} = {text!r}: seconds are asked for, 0 or more, as 0.5")
    return value


def wants_traceback() -> bool:
    """Whether an unforeseen exception is to be printed whole."""
    return os.environ.get("WINDTUNNEL_TRACEBACK", "") not in ("", "0")


def secret(name: str) -> str | None:
    """The value of the variable a spec names for its API key; None where it is not set or empty.

    Raises SpecError, without the value, for one that no header can hold.
    """
    value = (os.environ.get(name) or None) if name else None
    if value is not None and not (value.isascii() and value.isprintable()):
        raise SpecError(
            f"the key in ${name} holds a line break or another character that no HTTP header "
            "takes; look for a stray carriage return at its end"
        )
    return value
