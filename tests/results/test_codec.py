from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.client import Calibration, ClientReport, ClockAudit, WorkerReport
from results.codec import (
    UPGRADES,
    dumps_open_run,
    dumps_record,
    loads_open_run,
    loads_record,
)
from results.environment import Environment, Hardware, HostNoise, Software
from results.errors import RecordFormatError
from results.measurement import Measurement
from results.metrics import REGISTRY
from results.record import (
    SCHEMA_VERSION,
    Artifact,
    Doubt,
    Evidence,
    Failed,
    Invalid,
    Placement,
    RungTried,
    RunRecord,
    Succeeded,
)
from results.slo_verdict import LimitVerdict, Verdict
from results.startup import PhaseSource, StartupPhase, StartupTimeline
from results.store import OpenRun
from results.testing import EPOCH, make_open_run, make_record, make_run_id

GOLDEN = Path(__file__).parents[1] / "data" / "records"

finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
count = st.integers(0, 2**62)
dates = st.datetimes(
    datetime(2000, 1, 1),
    datetime(2100, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7)), timezone(timedelta(hours=5))]),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(text, json_values, max_size=3)


def tuples(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=2).map(tuple)


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    declared = REGISTRY[draw(st.sampled_from(sorted(REGISTRY)))]
    high = min(declared.high, 1e300)
    low, value, top = sorted(draw(st.lists(st.floats(0.0, high), min_size=3, max_size=3)))
    if draw(st.booleans()):
        return Measurement(
            metric=declared.name, statistic="p99.9", value=None, n=draw(count), reason="too few"
        )
    return Measurement(
        metric=declared.name, statistic="p50", value=value, n=draw(count), low=low, high=top
    )


outcomes = (
    st.just(Succeeded())
    | st.builds(Invalid, reasons=tuples(text))
    | st.builds(Failed, stage=text, error=text, message=text, log_tail=tuples(text))
)
placements = st.builds(
    Placement,
    pool=text,
    accelerator=text,
    num_chips=count,
    capacity=text,
    nodes=tuples(text),
    topology=text,
    zone=text,
    virtual=st.booleans(),
    rungs=tuples(st.builds(RungTried, pool=text, capacity=text, waited_s=finite, outcome=text)),
)
environments = st.builds(
    Environment,
    software=st.builds(
        Software,
        python=text,
        windtunnel=text,
        packages=st.dictionaries(text, text, max_size=2),
        git_sha=text,
        git_dirty=st.booleans(),
        image_digest=text,
    ),
    hardware=tuples(
        st.builds(
            Hardware,
            node=text,
            cpu_model=text,
            num_cpus=count,
            memory_bytes=count,
            kernel=text,
            accelerators=tuples(text),
            driver=text,
        )
    ),
    noise=st.none()
    | st.builds(
        HostNoise,
        load_1m_before=finite,
        load_1m_after=finite,
        cpu_pressure_avg10_before=st.none() | finite,
        cpu_pressure_avg10_after=st.none() | finite,
    ),
)
timelines = st.builds(
    StartupTimeline,
    phases=tuples(
        st.builds(
            StartupPhase,
            name=text,
            start_s=finite,
            end_s=finite,
            source=st.sampled_from(PhaseSource),
            resolution_s=finite,
            detail=text,
        )
    ),
    ready_s=finite,
    page_cache=st.none() | finite,
)
clients = st.builds(
    ClientReport,
    dialect=text,
    max_in_flight=count,
    workers=tuples(
        st.builds(
            WorkerReport,
            worker=count,
            host=text,
            num_requests=count,
            cpu_share=finite,
            max_loop_stall_s=finite,
            mean_loop_stall_s=finite,
            clock_offset_s=finite,
            clock_resolution_s=finite,
            node_id=text,
        )
    ),
    origin_s=st.none() | finite,
    audit=st.none()
    | st.builds(
        ClockAudit,
        num_reads=count,
        lag_p50_s=st.none() | finite,
        lag_p99_s=st.none() | finite,
        lag_max_s=st.none() | finite,
    ),
    calibration=st.none()
    | st.builds(
        Calibration,
        asked_rps=finite,
        ceiling_rps=finite,
        ceiling_is_bound=st.booleans(),
        floor_ttft_p50_s=st.none() | finite,
        floor_ttft_p99_s=st.none() | finite,
        duration_s=finite,
        num_workers=count,
        busy_share=st.none() | finite,
    ),
)
limits = st.builds(
    LimitVerdict,
    asked=text,
    metric=text,
    statistic=text,
    limit=finite,
    verdict=st.sampled_from(Verdict),
    value=st.none() | finite,
    low=st.none() | finite,
    high=st.none() | finite,
    reason=text,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "run_id": text,
    "experiment_id": text,
    "name": text,
    "workload": text,
    "evidence": st.sampled_from(Evidence),
    "workload_hash": text,
    "environment_hash": text,
    "started_at": dates,
    "ended_at": dates,
    "duration_s": finite,
    "outcome": outcomes,
    "repeat_index": count,
    "num_repeats": count,
    "attempt": count,
    "spec": documents,
    "plan": documents,
    "resolved": documents,
    "seeds": st.dictionaries(text, count, max_size=2),
    "placement": st.none() | placements,
    "environment": st.none() | environments,
    "startup": st.none() | timelines,
    "client": st.none() | clients,
    "measurements": tuples(measurements()),
    "slo": tuples(limits),
    "doubts": tuples(st.builds(Doubt, code=text, message=text, invalidates=st.booleans())),
    "artifacts": tuples(
        st.builds(Artifact, name=text, sha256=text, num_bytes=count, num_rows=count)
    ),
}


def test_the_property_covers_every_field() -> None:
    assert {f.name for f in fields(RunRecord)} == {*FIELDS, "schema_version"}


@settings(max_examples=60, deadline=None)
@given(st.builds(RunRecord, **FIELDS))
def test_any_record_comes_back_as_it_was(record: RunRecord) -> None:
    written = dumps_record(record, "token")
    assert loads_record(written) == record
    assert loads_record(written.encode()) == record
    assert json.loads(written)["write_token"] == "token"


@settings(max_examples=20, deadline=None)
@given(
    st.builds(
        OpenRun,
        **{f.name: FIELDS[f.name] for f in fields(OpenRun) if f.name in FIELDS},
        host=text,
        boot_id=text,
        pid=count,
        process_started_s=finite,
    )
)
def test_any_open_run_comes_back_as_it_was(run: OpenRun) -> None:
    assert loads_open_run(dumps_open_run(run, "token")) == run


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_record_cut_short_is_never_read(data: st.DataObject) -> None:
    written = dumps_record(make_record()).encode()
    length = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(RecordFormatError):
        loads_record(written[:length])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=64) | json_values.map(json.dumps))
def test_what_is_no_record_is_a_format_error_and_nothing_else(junk: str | bytes) -> None:
    with pytest.raises(RecordFormatError):
        loads_record(junk)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("path", ["duration_s", "spec.a[1]", "placement.rungs[0].waited_s"])
def test_what_is_not_finite_is_refused_by_its_path(bad: float, path: str) -> None:
    placement = make_record().placement
    assert placement is not None
    changes: dict[str, Any] = {
        "duration_s": {"duration_s": bad},
        "spec.a[1]": {"spec": {"a": [1, bad]}},
        "placement.rungs[0].waited_s": {
            "placement": replace(placement, rungs=(replace(placement.rungs[0], waited_s=bad),))
        },
    }[path]
    with pytest.raises(RecordFormatError) as caught:
        dumps_record(make_record(**changes))
    assert f".{path} is {bad}" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spec": {"path": Path("x")}}, r"spec\.path is a PosixPath"),
        ({"resolved": {"a": {1: 2}}}, r"resolved\.a has the key 1"),
        ({"repeat_index": np.int64(3)}, "repeat_index"),
        ({"name": None}, "name"),
        ({"started_at": datetime(2026, 1, 1)}, "started_at .* no time zone"),
        ({"schema_version": 0}, "schema 0"),
    ],
)
def test_what_would_not_come_back_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecordFormatError, match=says):
        dumps_record(make_record(run_id=make_run_id(), **changes))


def test_a_log_line_that_was_no_utf8_does_not_lose_the_run() -> None:
    line = b"caf\xe9".decode("utf-8", "surrogateescape")
    outcome = Failed(stage="startup", error="engine_died", message="died", log_tail=(line,))
    kept = loads_record(dumps_record(make_record(outcome=outcome)))
    assert isinstance(kept.outcome, Failed)
    assert kept.outcome.log_tail == ("caf\ufffd",)


def changed(**changes: Any) -> str:
    return json.dumps({**json.loads(dumps_record(make_record())), **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"duration_s": "90"}, "duration_s"),
        ({"duration_s": None}, "duration_s"),
        ({"repeat_index": 1.5}, "repeat_index"),
        ({"evidence": "guessed"}, "evidence"),
        ({"outcome": {"kind": "maybe"}}, "outcome"),
        ({"started_at": "2026-11-23T17:00:00"}, "no time zone"),
        ({"measurements": [{"metric": "speed", "statistic": "p50", "value": 1, "n": 1}]}, "speed"),
        ({"schema_version": None}, "schema_version"),
        ({"schema_version": True}, "schema_version"),
        ({"schema_version": -1}, "schema_version"),
    ],
)
def test_reading_is_strict_about_types(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecordFormatError, match=says):
        loads_record(changed(**changes))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_not_read(number: str) -> None:
    with pytest.raises(RecordFormatError):
        loads_record(changed(duration_s=0.25).replace("0.25", number))


def test_a_missing_field_is_named() -> None:
    document = json.loads(dumps_record(make_record()))
    del document["workload_hash"]
    with pytest.raises(RecordFormatError, match="workload_hash"):
        loads_record(json.dumps(document))


def test_a_newer_schema_is_refused_and_says_so() -> None:
    with pytest.raises(RecordFormatError, match=f"schema {SCHEMA_VERSION + 1}.*newer windtunnel"):
        loads_record(changed(schema_version=SCHEMA_VERSION + 1))


def test_a_field_added_by_a_newer_program_changes_nothing() -> None:
    document = json.loads(dumps_record(make_record()))
    document["carbon_g"] = 12.0
    document["placement"]["rack"] = "r12"
    document["measurements"][0]["sketch"] = [1, 2, 3]
    assert loads_record(json.dumps(document)) == make_record()


def test_there_is_one_upgrade_for_every_step() -> None:
    assert sorted(UPGRADES) == list(range(SCHEMA_VERSION))


def test_the_golden_of_schema_1_opens() -> None:
    record = loads_record((GOLDEN / "schema-1.json").read_text())
    assert record.client is None
    # Expected values were read off the file by eye, not computed.
    assert record.run_id == "20261123T170000Z-0000000000"
    assert record.started_at == EPOCH and record.duration_s == 90.25
    assert record.outcome == Invalid(reasons=("client_slow",))
    assert record.doubts == (
        Doubt(code="client_slow", message="the client lagged by 12 ms at p99", invalidates=False),
    )
    assert [(m.metric, m.statistic, m.value) for m in record.measurements] == [
        ("startup_s", "value", 40.0),
        ("ttft_s", "p50", 0.125),
        ("ttft_s", "p99", None),
        ("output_throughput", "value", 1234.5),
    ]
    assert record.measurements[1].low == 0.118 and record.measurements[1].high == 0.131
    assert record.placement is not None and record.placement.rungs[0].waited_s == 60.0
    assert record.startup is not None and record.startup.unattributed_s == 19.5
    assert record.environment is not None and len(record.environment.hardware) == 2
    assert record.environment.software.packages == {"vllm": "0.32.0", "torch": "2.13.0"}
    [artifact] = record.artifacts
    assert (artifact.name, artifact.num_rows) == ("requests.parquet", 3)


def test_the_golden_of_schema_2_opens() -> None:
    text = (GOLDEN / "schema-2.json").read_text()
    record = loads_record(text)
    assert record.client is not None and record.client.dialect == "full"
    assert record.client.workers[0].host == "node-a"
    assert record.client.audit is not None and record.client.audit.lag_p99_s == 0.00019
    assert record.client.calibration is not None
    assert record.client.calibration.ceiling_rps == 2000.0
    # Nobody judged its SLO, nor looked how busy the machine was.
    assert '"slo"' not in text and record.slo == ()
    assert record.client.workers[0].node_id == ""
    assert record.client.calibration.busy_share is None
    assert loads_record(dumps_record(record)) == record


def test_the_golden_of_schema_3_opens() -> None:
    text = (GOLDEN / "schema-3.json").read_text()
    record = loads_record(text)
    p99, share = record.slo
    assert (p99.asked, p99.verdict, p99.value) == ("ttft p99 ≤ 500 ms", Verdict.MET, 0.412)
    assert (p99.low, p99.high, p99.limit) == (0.398, 0.433, 0.5)
    assert share.verdict is Verdict.UNDECIDED
    assert share.reason == "the limit is within the interval"
    assert record.client is not None and record.client.workers[0].node_id == "ab12"
    assert record.client.calibration is not None
    assert record.client.calibration.busy_share == 0.03
    # What is written today is what was written then, key for key and byte for byte, but for the
    # one field that this schema has got since.
    added = text.replace('"zone": "zone-b",\n', '"zone": "zone-b",\n  "machine_type": "",\n')
    assert dumps_record(record, json.loads(text)["write_token"]) == added != text


def test_the_golden_of_a_failure_opens() -> None:
    record = loads_record((GOLDEN / "schema-1-failed.json").read_text())
    assert record.outcome == Failed(
        stage="startup",
        error="engine_died",
        message="the server exited with 1",
        log_tail=("ValueError: no such model",),
    )
    assert (record.placement, record.startup, record.measurements) == (None, None, ())


def test_the_golden_of_schema_0_opens_as_today() -> None:
    text = (GOLDEN / "schema-0.json").read_text()
    assert '"wall_s": 90.25' in text and "duration_s" not in json.loads(text)
    record = loads_record(text)
    assert record.run_id == "20261120T080000Z-00000000aa"
    assert record.schema_version == SCHEMA_VERSION
    assert record.duration_s == 90.25
    assert record.doubts == (Doubt(code="client_slow", message="client_slow"),)
    assert loads_record(dumps_record(record)) == record


def test_a_broken_old_record_says_which_step_failed() -> None:
    document = json.loads((GOLDEN / "schema-0.json").read_text())
    del document["wall_s"]
    with pytest.raises(RecordFormatError, match=r"schema 0.*brought to 1.*wall_s"):
        loads_record(json.dumps(document))


def test_open_runs_are_read_strictly_too() -> None:
    document = json.loads(dumps_open_run(make_open_run()))
    assert loads_open_run(json.dumps(document | {"later": 1})) == make_open_run()
    with pytest.raises(RecordFormatError, match="pid"):
        loads_open_run(json.dumps(document | {"pid": "4242"}))
    with pytest.raises(RecordFormatError, match="zero bytes"):
        loads_open_run(b"")
