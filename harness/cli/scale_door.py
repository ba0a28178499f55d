"""``windtunnel scale``: measured, or with ``--simulate`` modelled. One command of two halves."""

from __future__ import annotations

from harness.cli.joined import joined
from harness.cli.scale import scale as measured
from harness.cli.scale_simulated import scale_simulated

scale = joined(measured, scale_simulated, flag="simulate")
