"""What an imported result says of the deployment behind it, as its record's spec keeps it.

A run of ours has a spec of its own for that; a foreign one has only what its tool wrote down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SERVING: Final = "serving"  # the key in the record's spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """``setting``: the tool's own name of the configuration, where it has one: two of different
    names are never taken for repeats. ``resolved``: what is known of how it ran (precision).
    ``concurrency``: requests in flight, held by the load.
    """

    model_server: str = ""
    version: str = ""
    image: str = ""
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    parallelism: Mapping[str, int] = field(default_factory=dict)
    resolved: Mapping[str, Any] = field(default_factory=dict)
    arrivals: str = ""
    input_tokens: float | None = None
    output_tokens: float | None = None
    concurrency: float | None = None
    setting: str = ""
