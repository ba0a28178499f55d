"""``compare`` and ``nightly`` as a user meets them: what is printed, and how it ends."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import reports.calibration
from harness.cli.app import app
from results.events import Said, read_events
from results.measurement import Measurement
from results.nights import NightRole, night_tags
from results.store_files import FileStore
from results.testing import EPOCH, make_record

ORDER = "ABBAABBAABBA"


@pytest.fixture
def windtunnel() -> Any:
    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    return invoke


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """Six interleaved pairs: the new engine's TTFT is 20 % worse, its startup as before."""
    kept = FileStore(tmp_path / "store")
    for i, side in enumerate(ORDER):
        ttft = 0.1 * (1.2 if side == "B" else 1.0) * (1.0 + 0.002 * (i % 3))
        measured = {("ttft_s", "p50"): ttft, ("startup_s", "value"): 40.0 + 0.01 * i}
        kept.seal(
            make_record(
                index=i,
                started_at=EPOCH + timedelta(minutes=2 * i),
                experiment_id=f"experiment-{side}",
                spec={"name": "llama", "tags": {"engine": "new" if side == "B" else "old"}},
                measurements=tuple(
                    Measurement(metric=m, statistic=s, value=v, n=1)
                    for (m, s), v in measured.items()
                ),
            ),
            {},
        )
    return kept


def test_a_regression_is_exit_code_1(windtunnel: Any, store: FileStore) -> None:
    done = windtunnel("compare", "engine=old", "engine=new", "--store", store.url)
    assert done.exit_code == 1, done.output
    assert "1 regressed: TTFT p50 +20.0 %" in done.stdout
    assert "no change larger than" in done.stdout and "6 pairs" in done.stdout


def test_better_is_exit_code_0(windtunnel: Any, store: FileStore) -> None:
    done = windtunnel("compare", "experiment-B", "experiment-A", "--store", store.url)
    assert done.exit_code == 0, done.output
    assert "1 improved: TTFT p50 −16.7 %" in done.stdout


def test_what_cannot_be_told_is_exit_code_4(windtunnel: Any, store: FileStore) -> None:
    first, second = (make_record(index=i, started_at=EPOCH + timedelta(minutes=2 * i)).run_id
                     for i in (0, 1))  # fmt: skip
    done = windtunnel("compare", first, second, "--store", store.url)
    assert done.exit_code == 4, done.output
    assert "needs two pairs" in done.stdout


def test_the_document_is_whole(windtunnel: Any, store: FileStore, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    words = ("compare", "old", "new", "--store", store.url, "--metric", "ttft_p50")
    done = windtunnel(*words, "--json", "--out", str(page))
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["schema"] == "windtunnel.compare/1" and document["verdict"] == "regressed"
    (change,) = document["comparison"]["changes"]
    assert change["change"] == pytest.approx(0.2, abs=0.01) and change["num_pairs"] == 6
    assert "windtunnel compare old new" in page.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("engine=old", "engine=newest"), "engine=new"),
        (("engine=old", "engine=old"), "share 6 runs"),
        (("engine=old", "engine=new", "--metric", "tttf"), "--metric tttf"),
        (("engine=old", "engine=new", "--metric", "offered_rate"), "neither better"),
        (("engine=old", "engine=new", "--margin", "often"), "--margin often"),
        (("engine=old", "engine=new", "--margin", "0"), "--margin 0"),
        (("engine=old", "engine=new", "--metric", "tpot_p50"), "no run of either side"),
    ],
)
def test_what_cannot_be_asked_is_told(
    windtunnel: Any, store: FileStore, words: tuple[str, ...], said: str
) -> None:
    done = windtunnel("compare", *words, "--store", store.url)
    assert said in done.output
    assert done.exit_code == (4 if "either side" in said else 2)


def test_unlike_workloads_are_refused(windtunnel: Any, store: FileStore) -> None:
    store.seal(make_record(index=99, workload_hash="ff" * 8, experiment_id="other"), {})
    done = windtunnel("compare", "experiment-A", "other", "--store", store.url, "--json")
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "not_comparable" and "workload hash" in error["message"]


def test_people_say_what_they_think(windtunnel: Any, tmp_path: Path) -> None:
    where = ("--store", str(tmp_path / "store"))
    for word in ("ack", "expected", "invalid"):
        done = windtunnel("nights", word, "2026-11-24", "--reason", f"because {word}", *where)
        assert done.exit_code == 0, done.output
    first = done.stdout.strip()
    back = windtunnel("nights", "withdraw", first, "--reason", "wrong night", *where, "--json")
    assert json.loads(back.stdout)["event"]["withdraws"] == first
    events, torn = read_events(FileStore(tmp_path / "store").objects)
    assert [e.said for e in events if e.said is not Said.WITHDRAWN] != [] and torn == ()
    listed = windtunnel("nights", "verdicts", *where)
    assert listed.stdout.count("because") == 3 and listed.stdout.count("(withdrawn)") == 1
    rows = json.loads(windtunnel("nights", "verdicts", *where, "--json").stdout)["events"]
    assert sum(row["in_force"] for row in rows) == 2


def test_a_verdict_on_what_is_not_there_is_kept_and_said_to_be_so(
    windtunnel: Any, store: FileStore
) -> None:
    tags = night_tags(
        night_id="20261124T010000Z-0123456789",
        on=date(2026, 11, 24),
        suite="s",
        series="chat",
        role=NightRole.RUN,
        slot="chat#1",
        metrics=("ttft_p50",),
    )
    store.seal(make_record(index=98, name="chat", spec={"name": "chat", "tags": tags}), {})
    where = ("--reason", "x", "--store", store.url)
    other = windtunnel("nights", "ack", "2026-11-23", *where)
    assert other.exit_code == 0 and "no night of 2026-11-23" in other.stderr
    assert "2026-11-24" in other.stderr
    typo = windtunnel("nights", "ack", "2026-11-24", "--series", "*/chat/ttft_s p5", *where)
    assert "did you mean" in typo.stderr and "chat/ttft_s p50" in typo.stderr
    fits = windtunnel("nights", "ack", "2026-11-24", "--series", "*/ttft_s p50", *where, "--json")
    assert json.loads(fits.stdout)["num_series"] == 1 and fits.stderr == ""


@pytest.mark.parametrize(
    "words",
    [
        ("nights", "nobody"),
        ("nights", "ack", "yesterday", "--reason", "x"),
        ("nights", "ack", "2026-11-24", "--reason", " "),
        ("nights", "ack", "2026-11-24"),
        ("nights", "withdraw", "2026", "--reason", "x"),
    ],
)
def test_half_a_sentence_is_usage(windtunnel: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
    where = ("--store", str(tmp_path)) if len(words) > 1 else ()
    assert windtunnel(*words, *where).exit_code == 2


def test_the_calibration_is_a_table_and_a_document(
    windtunnel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = reports.calibration.calibrate(num_series=4, seed=1)
    monkeypatch.setattr(reports.calibration, "calibrate", lambda *_: small)
    done = windtunnel("nightly", "--calibrate", "--quiet")
    assert done.exit_code == (0 if small.kept else 4)
    for words in (
        "random-walk drift",
        "step of 10 %",
        "too young",
        "interleaved (ABBA)",
        "blocked",
    ):
        assert words in done.stdout
    document = json.loads(windtunnel("nightly", "--calibrate", "--json").stdout)
    assert len(document["calibration"]["false_alarms"]) == len(small.false_alarms) > 20
    assert len(document["calibration"]["young"]) == len(small.young) > 0
