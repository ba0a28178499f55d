"""AIConfigurator's table: what it says, what it does not, and what is made of it."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from results.errors import ForeignFormatError
from results.interop.importing import import_path
from results.interop.sanity import Refused
from results.lookup.table import lookup_of
from results.prices import PriceBook, PriceTable
from results.recommendation.answer import Flag
from results.recommendation.build import build
from results.recommendation.observation import Observation
from results.recommendation.observe import observe
from results.recommendation.question import Question, Target
from results.record import Evidence, Invalid

SHARED = Path(__file__).resolve().parents[3] / "shared/data/aiconfigurator_silicon_sample.csv"
SIZES = ("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
COLUMNS = (
    "id", "silicon_data_source", "backend", "backend_version", "model_path", "system",
    "precision", "mode", "isl", "osl", "gemm_quant_mode", "moe_quant_mode", "batch_size", *SIZES,
    "prefill_batch_size", "prefill_num_workers", *(f"prefill_{name}" for name in SIZES),
    "decode_batch_size", "decode_num_workers", *(f"decode_{name}" for name in SIZES),
    "silicon_ttft_ms", "silicon_tpot_ms",
)  # fmt: skip
# In the shapes of the table, with numbers of our own.
DENSE = {
    "id": "a", "silicon_data_source": "db-dump/2026-04-27; config_id=7; silicon_concurrency=32; "
    "measured=2026-04-17T00:00:00.000Z; workflow_run_id=1; vllm/vllm-openai:v0.19.0",
    "backend": "vllm", "backend_version": "0.19.0", "model_path": "a/dense", "system": "h200_sxm",
    "precision": "fp8", "mode": "agg", "isl": "1024", "osl": "101", "batch_size": "16",
    "tp_size": "2", "pp_size": "1", "attention_dp_size": "2", "moe_tp_size": "1",
    "moe_ep_size": "1", "silicon_ttft_ms": "500", "silicon_tpot_ms": "15",
}  # fmt: skip
UNDATED = DENSE | {"id": "b", "silicon_data_source": "source_file=/Users/x/y/z/q.csv; "
                   "silicon_concurrency=64", "silicon_ttft_ms": "900"}  # fmt: skip
APART = DENSE | {
    "id": "c", "mode": "disagg", "tp_size": "", "prefill_num_workers": "3", "prefill_tp_size": "2",
    "prefill_attention_dp_size": "2", "decode_num_workers": "1", "decode_tp_size": "8",
}  # fmt: skip
UNCOUNTED = APART | {"id": "d", "prefill_num_workers": ""}


def a_table(folder: Path, *rows: dict[str, str]) -> Path:
    path = folder / "silicon_sample.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def observed(path: Path) -> list[Observation]:
    found = [observe(imported.record) for imported in import_path(path)]
    return [one for one in found if isinstance(one, Observation)]


def test_a_row_becomes_an_imported_record(tmp_path: Path) -> None:
    (imported,) = import_path(a_table(tmp_path, DENSE))
    record = imported.record
    assert record.evidence is Evidence.IMPORTED
    assert record.started_at == datetime(2026, 4, 17, tzinfo=UTC)
    values = {(m.metric, m.statistic): m.value for m in record.measurements if m.value}
    assert values == {("ttft_s", "unstated"): 0.5, ("tpot_s", "unstated"): pytest.approx(0.015)}
    assert record.placement is not None
    assert (record.placement.accelerator, record.placement.num_chips) == ("H200", 4)
    codes = {d.code for d in record.doubts}
    assert {"imported", "statistic_unstated", "knobs_unrecorded"} <= codes
    assert "timer_starts_at_send" not in codes  # nobody says so
    assert not imported.tables


def test_its_rate_follows_from_littles_law_and_says_so(tmp_path: Path) -> None:
    (profile,) = build(observed(a_table(tmp_path, DENSE))).profiles
    # 32 in flight, each for 0.5 s + 100 × 15 ms.
    assert profile.load.rate_rps == pytest.approx(32 / 2.0)
    assert "Little" in profile.load.derived
    assert profile.load.concurrency == 32
    assert profile.configuration.model_server_version == "0.19.0"
    assert profile.configuration.image == "vllm/vllm-openai:v0.19.0"
    assert profile.configuration.parallelism == {"tensor": 2, "attention_data": 2}


def test_an_undated_row_is_not_held_for_fresh_and_carries_nobodys_path(tmp_path: Path) -> None:
    _, imported = import_path(a_table(tmp_path, DENSE, UNDATED))
    assert imported.record.started_at == datetime(2026, 4, 17, tzinfo=UTC)
    assert "no_date" in {d.code for d in imported.record.doubts}
    assert "/Users" not in str(imported.record.spec)


def test_prefill_and_decode_apart_count_the_chips_of_both(tmp_path: Path) -> None:
    both = import_path(a_table(tmp_path, APART, UNCOUNTED))
    chips = [i.record.placement.num_chips for i in both if i.record.placement]
    assert chips == [3 * 2 * 2 + 8, 0]
    assert "chips_unknown" in {d.code for d in both[1].record.doubts}


def test_a_figure_that_may_not_be_measured_is_invalid(tmp_path: Path) -> None:
    hybrid = DENSE | {"silicon_data_source": DENSE["silicon_data_source"] + "; aic_database_mode=H"}
    (imported,) = import_path(a_table(tmp_path, hybrid))
    assert isinstance(imported.record.outcome, Invalid)


def test_repeats_need_the_same_recorded_settings(tmp_path: Path) -> None:
    again = DENSE | {"id": "e", "silicon_ttft_ms": "520"}
    other = DENSE | {"id": "f", "precision": "fp4"}
    profiles = build(observed(a_table(tmp_path, DENSE, again, other))).profiles
    assert sorted(p.evidence.repeats for p in profiles) == [1, 2]


def test_what_is_no_such_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ForeignFormatError, match="aiconfigurator"):
        import_path(path)
    broken = a_table(tmp_path, DENSE | {"silicon_ttft_ms": "fast"})
    with pytest.raises(
        ForeignFormatError, match="row 1: silicon_ttft_ms is 'fast'; wanted: a fini"
    ):
        import_path(broken)


NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("silicon_ttft_ms", "-5"),
        ("silicon_ttft_ms", "nan"),
        ("silicon_tpot_ms", "inf"),
        ("silicon_tpot_ms", ""),
        ("isl", "-2048"),
        ("osl", "0"),
        ("osl", "1.5"),
        ("tp_size", "-1"),
        ("silicon_data_source", "measured=0001-01-01"),
        ("silicon_data_source", "measured=2126-01-01"),
        ("silicon_data_source", "silicon_concurrency=-3"),
    ],
)
def test_a_row_that_cannot_be_is_refused_and_the_rest_is_read(
    tmp_path: Path, field: str, found: str
) -> None:
    path = a_table(tmp_path, DENSE, DENSE | {field: found}, UNDATED)
    refused: list[Refused] = []
    taken = import_path(path, now=NOW, on_refused=refused.append)
    assert len(taken) == 2
    # A date that cannot be does not become that of the row that has none.
    assert taken[0].record.started_at == taken[1].record.started_at
    (row,) = refused
    assert (row.file, row.row) == (str(path), 2)
    assert row.wanted and str(row).startswith(f"{path}: row 2: ")


def test_the_public_table_answers_on_day_one() -> None:
    if not SHARED.exists():
        pytest.skip("the table is not here")
    found = observed(SHARED)
    assert len(found) == 5221
    lookup = lookup_of(build(found).profiles, _prices())
    assert len(lookup.models()) == 15
    question = Question(
        model="Qwen/Qwen3-32B",
        input_tokens=2048,
        output_tokens=512,
        rate_rps=10.0,
        targets=(Target(metric="ttft_s", limit_s=2.0), Target(metric="tpot_s", limit_s=0.05)),
    )
    answer = lookup.answer(question, datetime(2026, 11, 24, tzinfo=UTC))
    # An independent way to the same: every row of the file, by hand.
    assert answer.recommendations[0].cost.usd_per_hour == pytest.approx(_cheapest(question))
    for one in answer.recommendations:
        assert {Flag.RATE_DERIVED, Flag.STATISTIC_UNSTATED, Flag.STALE} <= set(one.flags)
        assert one.probability is None or one.profile.evidence.repeats > 1


def _prices() -> PriceBook:
    rates = {"H100": {"on-demand": 4.0}, "H200": {"on-demand": 5.0}, "GB200": {"on-demand": 9.0}}
    table = PriceTable(as_of=date(2026, 10, 1), source="test", usd_per_chip_hour=rates)
    return PriceBook(tables=(table,))


def _cheapest(question: Question) -> float:
    usd = {"h100_sxm": 4.0, "h200_sxm": 5.0, "gb200": 9.0}
    costs = []
    with SHARED.open(newline="") as file:
        for row in csv.DictReader(file):
            ttft, tpot = float(row["silicon_ttft_ms"]) / 1e3, float(row["silicon_tpot_ms"]) / 1e3
            fits = (
                row["model_path"] == question.model
                and row["mode"] == "agg"
                and row["system"] in usd
                and 2048 / 1.1 <= float(row["isl"]) <= 4096
                and 512 / 1.1 <= float(row["osl"]) <= 1024
                and ttft <= 2.0
                and tpot <= 0.05
                and "HYBRID" not in row["silicon_data_source"]
            )
            if not fits:
                continue
            told = dict(
                p.strip().split("=", 1) for p in row["silicon_data_source"].split(";") if "=" in p
            )
            users = float(told.get("silicon_concurrency") or row["batch_size"])
            rate = users / (ttft + tpot * (float(row["osl"]) - 1))
            chips = float(row["tp_size"]) * float(row["pp_size"] or 1)
            replicas = -(-10.0 // rate)
            costs.append(replicas * chips * usd[row["system"]])
    return min(costs)
