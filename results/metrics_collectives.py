"""The metrics of collectives, as rows of the registry in ``results.metrics``."""

from __future__ import annotations

from typing import Final

from results.metrics_server import ServerMetric as Row

COLLECTIVE_METRICS: Final = (
    Row(
        "collective_time_s",
        "s",
        "lower",
        "one call of a collective, slowest rank, of a size and a number of ranks",
    ),
    Row(
        "algbw",
        "bytes/s",
        "higher",
        "size S / mean time of a call, S counted as nccl-tests do",
    ),
    Row(
        "busbw",
        "bytes/s",
        "higher",
        "algbw × the collective's factor of nccl-tests, which makes numbers of ranks comparable",
    ),
    Row(
        "alpha_s",
        "s",
        "lower",
        "what one message costs before its first byte, fitted over all sizes of a collective",
    ),
    Row(
        "beta_s_per_byte",
        "s/byte",
        "lower",
        "what each further byte costs that a rank sends, fitted over all sizes of a collective",
    ),
)
