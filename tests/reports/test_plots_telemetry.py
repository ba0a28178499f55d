"""The server's side as pictures: what is in them is what was read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import altair as alt
import numpy as np
import pytest

from reports.html import render_html
from reports.model import Block, Facts, Plot, Plots, Section, Table
from reports.plots_telemetry import telemetry_plots
from reports.run_report import run_report
from reports.server_side import client_section, server_section
from results.client import Calibration, ClientReport, ClockAudit, WorkerReport
from results.samples import RequestSamples
from results.telemetry import ABSENT, GAP, READ_S, Row, Telemetry
from results.telemetry_measure import window_of

MAX_PAGE_BYTES = 2_000_000


def readings(
    seconds: int = 60, *, replicas: int = 2, gpus: int = 8, step: float = 1.0
) -> Telemetry:
    """A server that fills up and empties again, read every ``step`` seconds from −3 s on."""
    rng = np.random.default_rng(3)
    rows: list[Row] = []
    for t in np.arange(-3.0, seconds + 2.0, step):
        load = math.sin(math.pi * min(max(t / seconds, 0.0), 1.0))
        done = max(t, 0.0)
        rows += [Row(t, source, READ_S, 0.003) for source in ("vllm", "host", "nvml")]
        for r in range(replicas):
            at = ("vllm", f"0/{r}")
            for name, value in (
                ("num_requests_running", round(12 * load)),
                ("num_requests_waiting", round(max(20 * load - 12, 0))),
                ("kv_cache_usage_perc", 0.9 * load * (1 - 0.2 * r)),
                ("generation_tokens", 300.0 * done),
                ("prompt_tokens", 500.0 * done),
                ("prefix_cache_queries", 500.0 * done),
                ("prefix_cache_hits", 40.0 * done),
                ("num_preemptions", float(round(max(t - 20, 0) / 8))),
            ):
                rows.append(Row(t, at[0], f"vllm:{name}", float(value), at[1]))
        for gpu in range(gpus):
            noise = rng.normal(0, 0.02)
            label = f"gpu={gpu}"
            busy = min(max(0.95 * load + noise, 0), 1)
            rows.append(Row(t, "nvml", "device_utilisation", busy, label=label))
            rows.append(Row(t, "nvml", "device_power_w", 120 + 500 * load, label=label))
            rows.append(Row(t, "nvml", "device_memory_used_bytes", 70e9 + gpu, label=label))
        cores = [min(max(0.2 + 0.5 * load + rng.normal(0, 0.1), 0), 1) for _ in range(16)]
        rows.append(Row(t, "host", "cpu_busy", float(np.mean(cores))))
        rows += [Row(t, "host", "cpu_busy", v, label=f"core={i}") for i, v in enumerate(cores)]
        rows.append(Row(t, "host", "cpu_steal", 0.03))
        rows.append(Row(t, "host", "engine_cpu_s", 40.0 + 3.2 * done))
    rows.append(Row(-3.0, "tpu", ABSENT, math.nan, label="the kernel shows no TPU chip"))
    rows.append(Row(30.0, "nvml", GAP, math.nan, label="NVML, gpu=3: GPU is lost"))
    return Telemetry.of(rows)


def a_client(num_workers: int = 2) -> ClientReport:
    return ClientReport(
        dialect="full",
        max_in_flight=37,
        workers=tuple(
            WorkerReport(
                worker=i,
                host=f"load-{i}",
                num_requests=100,
                cpu_share=0.95 if i == 1 else 0.31,
                max_loop_stall_s=0.001 * (i + 1),
                mean_loop_stall_s=0.00005,
                clock_offset_s=1.5 * i,
                clock_resolution_s=0.0002 * i,
            )
            for i in range(num_workers)
        ),
        origin_s=1234.0,
        audit=ClockAudit(num_reads=420, lag_p50_s=6e-5, lag_p99_s=2e-4, lag_max_s=9e-4),
        calibration=Calibration(
            asked_rps=12.0,
            ceiling_rps=2400.0,
            ceiling_is_bound=False,
            floor_ttft_p50_s=0.0004,
            floor_ttft_p99_s=0.0011,
            duration_s=2.0,
            num_workers=2,
        ),
    )


@pytest.fixture(scope="module")
def samples(make: SimpleNamespace) -> RequestSamples:
    found: RequestSamples = make.request_samples(n=200, failures=0)
    return found


def of(plots: tuple[Plot, ...]) -> dict[str, Plot]:
    return {plot.key.removeprefix("x-telemetry-"): plot for plot in plots}


def columns(plot: Plot) -> dict[str, list[Any]]:
    for rows in plot.spec["datasets"].values():
        if "value" in rows[0]:
            found: dict[str, list[Any]] = rows[0]
            return found
    raise AssertionError(f"no data in {plot.key}")


def line(plot: Plot, name: str) -> tuple[list[float], list[float]]:
    found = columns(plot)
    rows = [i for i, series in enumerate(found["series"]) if series == name]
    return [found["t"][i] for i in rows], [found["value"][i] for i in rows]


def test_the_multiples_of_a_run_and_one_axis(samples: RequestSamples) -> None:
    telemetry = readings()
    plots = of(telemetry_plots(telemetry, samples, "x-", 4000))
    assert list(plots) == [
        "requests",
        "kv",
        "tokens",
        "hits",
        "preemptions",
        "devices",
        "memory",
        "power",
        "cpu",
    ]
    start, end = float(telemetry.t_s.min()), float(telemetry.t_s.max())
    for plot in plots.values():
        text = json.dumps(plot.spec, allow_nan=False)
        alt.Chart.from_dict(dict(plot.spec))  # raises where Vega-Lite's schema is not kept
        assert "config" not in plot.spec
        assert '"url"' not in text
        assert f'"scale": {{"domain": [{start}, {end}]' in text, plot.key
        assert plot.description.endswith(".")
        assert plot.summary.rows


def test_lines_are_what_was_read(samples: RequestSamples) -> None:
    telemetry = readings()
    plots = of(telemetry_plots(telemetry, samples, "x-", 4000))
    times, running = line(plots["requests"], "running")
    total = telemetry.total("vllm:num_requests_running")
    assert total is not None
    assert times == total.t_s.tolist()
    assert running == total.value.tolist()  # of both replicas together
    assert [m.name for m in plots["requests"].marks] == ["running", "waiting"]
    _, tokens = line(plots["tokens"], "output tokens")
    assert max(tokens) == pytest.approx(600.0)  # two replicas at 300 tokens/s
    _, hits = line(plots["hits"], "share")
    assert set(hits) == {0.08}
    _, preempted = line(plots["preemptions"], "since the first reading")
    assert preempted[-1] == 2 * round(41 / 8)
    assert [m.name for m in plots["kv"].marks] == ["engine 0/0", "engine 0/1"]
    _, power = line(plots["power"], "power")
    assert max(power) == pytest.approx(8 * 620.0, rel=1e-3)
    _, engine = line(plots["cpu"], "the engine's share of all cores")
    assert max(engine) == pytest.approx(3.2 / 16)


def test_the_table_tells_the_measured_window_alone(samples: RequestSamples) -> None:
    plot = of(telemetry_plots(readings(), samples, "x-", 4000))["requests"]
    name, mean, largest, num = (cell.text for cell in plot.summary.rows[0])
    _, end = window_of(samples)
    assert name == "running"
    assert largest == "24 requests"
    inside = readings().total("vllm:num_requests_running")
    assert inside is not None
    assert int(num) == int(np.sum((inside.t_s >= 0) & (inside.t_s <= end)))
    assert mean == f"{np.mean(inside.within(0.0, end)):.1f} requests"


def test_many_devices_are_three_lines_and_idle_things_none(samples: RequestSamples) -> None:
    telemetry = readings(gpus=8)
    plots = of(telemetry_plots(telemetry, samples, "x-", 4000))
    assert [m.name for m in plots["devices"].marks] == ["highest of 8", "median", "lowest"]
    few = of(telemetry_plots(readings(gpus=2), samples, "x-", 4000))
    assert [m.name for m in few["devices"].marks] == ["gpu 0", "gpu 1"]
    none = of(telemetry_plots(readings(gpus=0), samples, "x-", 4000))
    assert "devices" not in none
    assert telemetry_plots(Telemetry.of([]), samples, "x-", 4000) == ()


def test_a_long_run_is_thinned_and_says_so(samples: RequestSamples) -> None:
    plots = of(telemetry_plots(readings(1200, gpus=2), samples, "x-", 2000))
    total = sum(len(columns(plot)["value"]) for plot in plots.values())
    assert total <= 2000
    plot = plots["requests"]
    assert "evenly; extremes kept" in plot.note
    assert max(line(plot, "running")[1]) == 24.0


def tables(section: Section | None) -> dict[str, Table]:
    assert section is not None
    return {b.caption: b for b in section.blocks if isinstance(b, Table)}


def test_what_was_read_and_what_was_not(samples: RequestSamples) -> None:
    section = server_section(readings(), samples, "x-", 2000)
    table = tables(section)["What was read"]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert rows["tpu"] == ["0", "0", "n/a", "n/a", "the kernel shows no TPU chip"]
    assert rows["nvml"] == ["65", "1", "3.00 ms", "3.00 ms", "NVML, gpu=3: GPU is lost"]
    assert rows["vllm"][1] == "0"
    assert server_section(None, samples, "x-", 2000) is None
    moved = readings().plus([Row(0.0, "axis", "resolution_s", 0.02)])
    note = tables(server_section(moved, samples, "x-", 2000))["What was read"].note
    assert "known to 20.0 ms" in note


def facts_of(blocks: tuple[Block, ...]) -> dict[str, str]:
    return {f.label: f.value for b in blocks if isinstance(b, Facts) for f in b.facts}


def test_the_clients_own_health(make: SimpleNamespace) -> None:
    section = client_section(make.record(client=a_client()), "x-")
    assert section is not None
    facts = facts_of(section.blocks)
    assert facts["most in flight"] == "37"
    assert facts["behind the kernel"] == "p50 60.0 µs, p99 200 µs, largest 900 µs"
    assert facts["ceiling"] == "at least 2,400 requests/s"
    assert facts["used of it"] == "0.500 %"
    rows = tables(section)["Workers"].rows
    # The worst stall first, and the one that was the limit is marked.
    assert [row[0].text for row in rows] == ["1", "0"]
    assert (rows[0][2].text, rows[0][2].tone) == ("95.0 %", "warn")
    assert (rows[0][5].text, rows[0][5].detail) == ("1.50 s", "± 200 µs")
    assert rows[1][5].text == "the driver's"
    many = tables(client_section(make.record(client=a_client(40)), "x-"))["Workers"]
    assert (len(many.rows), many.note) == (12, "28 more workers had shorter stalls.")
    assert client_section(make.record(), "x-") is None


def test_both_sections_stand_in_the_report_of_a_run(make: SimpleNamespace) -> None:
    runs = make.serving_run()
    record = replace(runs.records[0], client=a_client())
    page = readings(600, gpus=2).to_table()

    def table(asked: Any, name: str) -> Any:
        return page if name == "telemetry" else runs.table(asked, name)

    report = run_report([record], table)
    headings = [s.heading for s in report.sections]
    at = headings.index("The server's side")
    assert headings[at - 1 : at + 2] == ["Over time", "The server's side", "The load client"]
    plots = [b for s in report.sections for b in s.blocks if isinstance(b, Plots)]
    keys = [p.key for block in plots for p in block.plots]
    assert len(keys) == len(set(keys))
    assert len(render_html(report).encode()) < MAX_PAGE_BYTES
    again = run_report([record, replace(record, run_id=f"{record.run_id[:-1]}f")], table)
    assert len(render_html(again).encode()) < MAX_PAGE_BYTES
