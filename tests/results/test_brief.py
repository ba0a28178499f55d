"""A brief says of its record what the record says, less what the docstring leaves out."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from results.brief import Brief, Unpacker, Wanted, pack
from results.codec import dumps_record, loads_record
from results.environment import HostNoise
from results.errors import RecordFormatError
from results.measurement import Measurement, of_group
from results.recommendation.observe import observe
from results.record import Doubt, Failed, Invalid, RunRecord
from results.testing import make_record

LEFT_OUT = {"startup", "client", "slo", "artifacts", "measurements", "plan"}
BASE = make_record()
assert BASE.environment is not None
RECORDS = {
    "whole": BASE,
    "failed": make_record(
        outcome=Failed(stage="load", error="oom", message="no room", log_tail=("a", "b")),
        placement=None,
        environment=None,
        measurements=(),
        plan={"rungs": [{"device": {"accelerator": "H100", "num_chips": 2}}], "much": "more"},
    ),
    "invalid": make_record(
        outcome=Invalid(reasons=("slow", "late")),
        doubts=(Doubt(code="slow", message="it was", invalidates=True),),
        environment=replace(
            BASE.environment, noise=HostNoise(load_1m_before=0.5, load_1m_after=1.5)
        ),
        seeds={"traffic": 2**70, "negative": -1},
        spec={"tags": {"a": "b"}, "traffic": {"seed": 2**70}, "deep": [{"x": None}, 1.5]},
        started_at=datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))),
    ),
    "odd tags": make_record(spec={"tags": ["not", "ours"]}),
    "groups": make_record(
        measurements=(
            Measurement(metric="ttft_s", statistic="p50", value=0.1, n=9, group="adapter"),
            Measurement(metric="ttft_s", statistic="p50", value=0.2, n=9),
        )
    ),
}
OLD = sorted((Path(__file__).parents[1] / "data" / "records").glob("*.json"))


def briefed(record: RunRecord, wanted: Wanted | None = None) -> Brief:
    packed, parts = pack(record)
    return Unpacker(parts.__getitem__, wanted).brief(record.run_id, packed)


def check(record: RunRecord) -> None:
    brief = briefed(record)
    for name in (f.name for f in fields(RunRecord) if f.name not in LEFT_OUT):
        assert getattr(brief, name) == getattr(record, name), name
    assert brief.measurements == of_group(record.measurements)
    assert brief.plan == {k: v for k, v in record.plan.items() if k == "rungs"}
    assert (brief.startup, brief.client, brief.slo, brief.artifacts) == (None, None, (), ())
    assert observe(brief) == observe(record)


@pytest.mark.parametrize("kind", sorted(RECORDS))
def test_a_brief_says_what_its_record_says(kind: str) -> None:
    check(RECORDS[kind])


@pytest.mark.parametrize("path", OLD, ids=lambda p: p.name)
def test_records_of_every_schema_have_a_brief(path: Path) -> None:
    check(loads_record(path.read_bytes()))


def test_only_what_is_wanted_is_decoded() -> None:
    wanted = (("ttft_s", "p99"), ("ttft_s", "p50"), ("ttft_s", "p50"), ("mfu", "value"))
    found = briefed(BASE, wanted).measurements
    assert found == tuple(
        m
        for s in ("p99", "p50")
        for m in BASE.measurements
        if (m.metric, m.statistic) == ("ttft_s", s)
    )
    assert briefed(BASE, ()).measurements == ()


def test_alike_records_share_their_parts() -> None:
    one, parts = pack(make_record(spec={"tags": {"slot": "1"}, "model": "m"}))
    two, others = pack(make_record(index=1, spec={"tags": {"slot": "2"}, "model": "m"}))
    assert parts == others and (one.spec, one.environment) == (two.spec, two.environment)


def test_no_brief_is_sealed() -> None:
    with pytest.raises(RecordFormatError, match="brief"):
        dumps_record(briefed(BASE))
