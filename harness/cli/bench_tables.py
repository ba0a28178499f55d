"""One bench as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from harness.bench.measure import Ending, Measured
from harness.cli.again import and_so
from harness.cli.tables import load_tables, slo_lines
from results.record import RunRecord
from results.slo import Slo
from results.slo_verdict import judge_slo
from results.units import counted, format_value


def bench_tables(
    measured: Measured, document: Mapping[str, Any], slo: Slo | None, record: RunRecord | None
) -> RenderableType:
    """``document`` is the JSON of the same bench."""
    parts: list[RenderableType] = [
        load_tables(_head(measured, document), measured.measurements, measured.doubts)
    ]
    if slo is not None:
        parts += slo_lines(judge_slo(slo, measured.measurements))
    parts.append(_client(measured))
    if record is not None:
        text = Text("record  ", style="dim")
        text.append(f"{record.run_id}", style="default")
        text.append(f"  (windtunnel report {record.run_id}{and_so('--store')})")
        parts.append(text)
    return Group(*parts)


def _head(measured: Measured, document: Mapping[str, Any]) -> Text:
    text = Text(f"\n{document['endpoint']}", style="bold")
    text.append(f"  {document['model']}  ", style="default")
    if measured.ending is Ending.INTERRUPTED:
        text.append("interrupted: what there was until then", style="yellow")
    elif measured.valid:
        text.append("valid", style="green")
    else:
        text.append(f"invalid ({', '.join(measured.reasons)})", style="yellow")
    if measured.simulated:
        text.append("  [simulated]", style="magenta")
    text.append(
        f"  {document['num_requests']} requests, {document['num_failed']} failed", style="dim"
    )
    if measured.ending is Ending.ENOUGH:
        text.append("  ended early: precise enough", style="dim")
    return text


def _client(measured: Measured) -> Text:
    client = measured.client
    share = max(worker.cpu_share for worker in client.workers)
    text = Text(
        f"client  {counted(len(client.workers), 'worker')}, {share:.0%} of a core at most, "
        f"{client.max_in_flight} requests in flight at most",
        style="dim",
    )
    found = client.calibration
    if found is None:
        return text.append("; not calibrated")
    bound = "" if found.ceiling_is_bound else "at least "
    text.append(
        f"; asked up to {found.asked_rps:.0f}/s of a ceiling of {bound}{found.ceiling_rps:.0f}/s"
    )
    if found.floor_ttft_p50_s is not None:
        text.append(f"; reports a TTFT of {format_value(found.floor_ttft_p50_s, 's')} for no wait")
    return text
