"""The client's own report as measurements: what a reader must see beside the latencies."""

from __future__ import annotations

from results.client import ClientReport
from results.distributions import single
from results.measurement import Measurement


def measure_client(client: ClientReport | None) -> tuple[Measurement, ...]:
    """Nothing where nothing was sent by us; a part that was not measured says so."""
    if client is None:
        return ()
    ceiling = client.calibration.ceiling_rps if client.calibration is not None else None
    bound = client.calibration is None or client.calibration.ceiling_is_bound
    n = len(client.workers)
    return (
        *_lag(client),
        single(
            "client_loop_stall_s",
            max((w.max_loop_stall_s for w in client.workers), default=None),
            n,
            "" if n else "no worker reported",
        ),
        single(
            "client_cpu_share",
            max((w.cpu_share for w in client.workers), default=None),
            n,
            "" if n else "no worker reported",
        ),
        Measurement(
            metric="client_ceiling_rate",
            statistic="value",
            value=ceiling,
            n=1 if ceiling is not None else 0,
            method="" if bound else "at least: the search stopped before the client did",
            reason="" if ceiling is not None else "the client was not calibrated before the run",
        ),
    )


def _lag(client: ClientReport) -> tuple[Measurement, ...]:
    audit = client.audit
    found = []
    for statistic, value in (
        ("p50", audit.lag_p50_s if audit else None),
        ("p99", audit.lag_p99_s if audit else None),
    ):
        found.append(
            Measurement(
                metric="client_lag_s",
                statistic=statistic,
                # Two clocks of one host can cross by their resolution.
                value=max(value, 0.0) if value is not None else None,
                n=audit.num_reads if audit else 0,
                method="kernel's receive time against ours, sampled reads",
                reason="" if value is not None else "the kernel gave no receive times",
            )
        )
    return tuple(found)
