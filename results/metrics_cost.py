"""What a run costs, as rows of the registry in ``results.metrics``. No price known, no cost."""

from __future__ import annotations

from typing import Final

from results.metrics_server import ServerMetric as Row

COST_METRICS: Final = (
    Row("chip_hours", "chip-hours", "lower", "chips × hours from placement to teardown"),
    Row(
        "cost_usd",
        "USD",
        "lower",
        "chip-hours × the pool's price; none where the pool has no price or is virtual",
    ),
    Row(
        "cost_per_million_output_tokens_usd",
        "USD",
        "lower",
        "the chips' price for the time that a million output tokens take at the measured rates, an "
        "input token counted as a quarter of one; startup and idle time are not in it",
    ),
    Row(
        "cost_per_million_training_tokens_usd",
        "USD",
        "lower",
        "the chips' price for the time that a million tokens of training take at the measured rate",
    ),
)
