"""Real nights: RocksDB's own benchmarks of 2023, 8 tests x 99 runs over 11 commits (Nyrkiö's public
data, Apache-2.0). Runs of one commit are alike, so whatever is called among them is false."""

from __future__ import annotations

import json
import math
import tarfile
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from reports.compare import MARGIN, Verdict, verdict_of
from reports.confirm import Confirmation, Finding, decide
from reports.history import read_history
from reports.series import Night, Series
from results.metrics import Direction
from results.pairs import pair_up, paired_shift, unpaired_shift

DATA = next(
    (
        path
        for up in Path(__file__).resolve().parents
        if (path := up / "shared" / "data" / "rocksdb.2023.tgz").exists()
    ),
    None,
)
pytestmark = pytest.mark.skipif(DATA is None, reason="the public data is not on this machine")
METRICS = {"ops_sec": Direction.HIGHER, "p50": Direction.LOWER, "p99": Direction.LOWER,
           "p99.9": Direction.LOWER}  # fmt: skip
FIRST = date(2026, 1, 1)

Run = tuple[int, str, dict[str, float]]  # time, commit, metrics


@pytest.fixture(scope="module")
def runs() -> dict[str, list[Run]]:
    assert DATA is not None
    found: dict[str, list[Run]] = {}
    with tarfile.open(DATA) as archive:
        for member in archive:
            if member.name.endswith(".json"):
                file = archive.extractfile(member)
                assert file is not None
                (one,) = json.load(file)
                values = {m["name"]: float(m["value"]) for m in one["metrics"]}
                test = Path(member.name).parent.name
                found.setdefault(test, []).append(
                    (one["timestamp"], one["_id"]["git_commit"], values)
                )
    assert len(found) == 8 and all(len(some) == 99 for some in found.values())
    return {test: sorted(some, key=lambda run: run[0]) for test, some in sorted(found.items())}


def logs_of_one_commit(runs: dict[str, list[Run]]) -> list[np.ndarray]:
    """Stretches of 16 runs of one commit, as logarithms, of each test and metric."""
    found = []
    for some in runs.values():
        for commit in dict.fromkeys(commit for _, commit, _ in some):
            mine = [values for _, c, values in some if c == commit]
            for name in METRICS:
                logs = np.array([math.log(values[name]) for values in mine])
                found += [logs[i : i + 16] for i in range(0, len(logs) - 9, 16)]
    return [logs[: len(logs) // 2 * 2] for logs in found if len(logs) >= 10]


def called(logs: np.ndarray) -> Verdict:
    sides = [bool(s) for s in np.resize([False, True, True, False], len(logs))]
    pairs = pair_up(sides).pairs
    shift = paired_shift(np.array([logs[list(b)].mean() - logs[list(a)].mean() for a, b in pairs]))
    assert shift is not None
    return verdict_of(shift, shift.p_value, math.log1p(MARGIN), Direction.LOWER)[0]


def test_the_same_commit_against_itself(runs: dict[str, list[Run]]) -> None:
    stretches = logs_of_one_commit(runs)
    assert len(stretches) > 100
    false = sum(called(logs) in (Verdict.REGRESSED, Verdict.IMPROVED) for logs in stretches)
    assert false / len(stretches) <= 0.05
    # The same runs, first half against second half: what interleaving is for.
    halves = [unpaired_shift(*np.split(logs, 2)) for logs in stretches]
    blocked = sum(shift is not None and shift.p_value < 0.05 for shift in halves)
    assert blocked / len(stretches) > 0.15


def test_no_confirmed_alarm_within_a_commit(runs: dict[str, list[Run]]) -> None:
    """Whatever the history suspects within one commit, an interleaved confirmation of that commit
    against itself does not confirm."""
    every, boundaries = [], {}
    for test, some in runs.items():
        commits = [commit for _, commit, _ in some]
        for name, direction in METRICS.items():
            nights = tuple(
                Night(night=FIRST + timedelta(days=i), values=(values[name],), revision=commit)
                for i, (_, commit, values) in enumerate(some)
            )
            key = f"x/{test}/{name}"
            every.append(
                Series(
                    key=key,
                    name=test,
                    pool="x",
                    metric="e2e_s",
                    statistic="p50",
                    direction=direction,
                    nights=nights,
                )
            )
            boundaries[key] = commits
    history = read_history(every)
    assert history.num_tested >= 28
    for suspicion in history.suspicions:
        first = (suspicion.earliest - FIRST).days
        last = (suspicion.latest - FIRST).days
        commits = boundaries[suspicion.series]
        if len(set(commits[max(first - 1, 0) : last + 1])) > 1:
            continue  # a commit came in between: it may be the commit's
        series = next(s for s in every if s.key == suspicion.series)
        same = [n.value for n, c in zip(series.nights, commits, strict=True) if c == commits[last]]
        if len(same) >= 10:
            assert _decided(suspicion, np.log(same[-16:])) is not Finding.REGRESSION


def _decided(suspicion, logs: np.ndarray) -> Finding:  # type: ignore[no-untyped-def]
    from reports.compare import Change, Scale
    from results.pairs import Design

    change = Change(
        metric=suspicion.metric,
        statistic=suspicion.statistic,
        direction=suspicion.direction,
        scale=Scale.RATIO,
        verdict=called(logs[: len(logs) // 2 * 2]),
        num_pairs=len(logs) // 2,
    )
    confirmation = Confirmation(
        series=suspicion.series,
        night=suspicion.found,
        change=change,
        design=Design.PAIRED,
        a_runs=(),
        b_runs=(),
    )
    return decide(suspicion, confirmation=confirmation).finding
