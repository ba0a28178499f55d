"""What a table keeps of a profile: its JSON whole, its facts, and only what this program reads."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest

from results.api.encode import answer_document
from results.lookup.recent import Recent
from results.lookup.refresh import refresh
from results.lookup.snapshot import current_id, readable_id
from results.lookup.table import lookup_of, open_lookup
from results.lookup.writing import FORMAT, write_snapshot
from results.recommendation.answer import Flag
from results.recommendation.profile import Estimated, EvidenceKind, Profile
from results.recommendation.question import ALLOWED, Question, Target
from results.recommendation.testing import MEASURED_AT, a_profile, generated
from results.store_files import FileStore
from results.store_index import RunIndex


def test_a_row_is_the_profile_whole() -> None:
    odd = '"load":{"'  # what the text is cut at, as a text in it
    profile = a_profile(model=f"a/{odd}", engine_args={odd: odd, "n": 1.5}, study=odd)
    lookup = lookup_of([profile])
    assert lookup.at(0) == profile
    text = lookup.snapshot.row(0).text
    assert msgspec.json.decode(text, type=Profile) == profile
    assert list(msgspec.json.decode(text)) == list(Profile.__dataclass_fields__)


def test_an_answer_that_is_written_is_the_one_that_is_looked_into() -> None:
    profiles = list(generated(2, 30, 4))
    stale = replace(profiles[3].evidence, stale=True, why_stale="old", failures={"hang": 2})
    profiles[3] = replace(profiles[3], evidence=stale)
    lookup = lookup_of(profiles)
    names = [m.model for m in lookup.models()]
    for limit_s in (1e-6, 0.5, 5.0):
        for metric in ("ttft_s", "tpot_s"):
            question = Question(
                model=names[0],
                rate_rps=3.0,
                targets=(Target(metric=metric, limit_s=limit_s),),
                min_repeats=1 if limit_s < 1.0 else 2,
            )
            one, other = (
                lookup.answer(question, MEASURED_AT, written=written) for written in (False, True)
            )
            assert answer_document(one) == answer_document(other)
    assert other.recommendations


def an_estimate(profile: Profile) -> Profile:
    estimated = Estimated(made_at=MEASURED_AT, margin=0.2, words="transferred: from elsewhere")
    evidence = replace(
        profile.evidence, kind=EvidenceKind.TRANSFERRED, repeats=0, estimated=estimated
    )
    bare = (replace(one, low=None, high=None, num_runs=0) for one in profile.statistics)
    return replace(profile, evidence=evidence, statistics=tuple(bare))


def test_an_answer_with_estimates_is_the_same_written_and_looked_into() -> None:
    profiles = list(generated(2, 30, 4))
    one, other = dict.fromkeys(p.configuration.model for p in profiles)
    # All that is known of the one model is estimated; of the other, what is behind.
    last = [p.configuration_id for p in profiles if p.configuration.model == other][-1]
    lookup = lookup_of(
        [
            an_estimate(p) if p.configuration.model == one or p.configuration_id == last else p
            for p in profiles
        ]
    )
    assert lookup.snapshot.about.num_estimates > 4
    found = {}
    target = Target(metric="ttft_s", limit_s=50.0, percentile=99)
    for model in (one, other):
        for allow in ((), ALLOWED):
            for targets in ((), (target,)):
                question = Question(model=model, allow=allow, targets=targets)
                answers = [
                    lookup.answer(question, MEASURED_AT, written=written)
                    for written in (False, True)
                ]
                assert answer_document(answers[0]) == answer_document(answers[1])
                found[model, bool(allow), bool(targets)] = answers[0]
    none = found[one, False, False].no_answer
    assert none is not None and none.binding == "not_estimated"
    assert "an estimate says that" in none.words and none.measure_next[0].profile_id
    first = found[one, True, True].recommendations[0]
    assert first.flags[:2] == (Flag.TRANSFERRED, Flag.NO_INTERVAL)
    assert Flag.SINGLE_RUN not in first.flags
    assert first.notes[0] == "transferred: from elsewhere"
    assert first.probability is None and first.targets[0].reason == "never measured"
    assert any("nothing that was measured will do" in c for c in found[one, True, True].comments)
    measured = found[other, False, True]
    assert measured.recommendations and not any(
        r.profile.evidence.estimated for r in measured.recommendations
    )


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1])
def test_a_table_of_another_format_is_made_anew(tmp_path: Path, number: int) -> None:
    store, folder = FileStore(tmp_path / "s"), tmp_path / "t"
    refresh(RunIndex(store), folder)
    name = current_id(folder)
    assert readable_id(folder) == name
    about = folder / name / "about.json"
    about.write_text(about.read_text().replace(f'"format":{FORMAT}', f'"format":{number}'))
    assert readable_id(folder) == ""
    assert refresh(RunIndex(store), folder).changed
    assert open_lookup(folder).num_profiles == 0


def test_what_is_used_least_goes_first_and_what_is_too_large_is_not_kept() -> None:
    recent: Recent[str] = Recent(80)
    for name in "abcdefgh":
        recent.put(name, name.upper(), 10)
    assert recent.get("a") == "A"
    recent.put("i", "I", 10)
    recent.put("large", "L", 11)
    assert [recent.get(name) for name in ("a", "b", "i", "large")] == ["A", None, "I", None]


def test_the_same_profiles_are_one_snapshot(tmp_path: Path) -> None:
    profiles = list(generated(1, 5, 2))
    assert write_snapshot(tmp_path / "a", profiles) == write_snapshot(tmp_path / "b", profiles)


@pytest.mark.parametrize(("available", "asked"), [(2**40, 1), (2, 0)])
def test_only_what_fits_into_memory_is_read_ahead(
    monkeypatch: pytest.MonkeyPatch, available: int, asked: int
) -> None:
    calls: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *given: calls.append(given), raising=False)
    memory = SimpleNamespace(available=available)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    lookup = lookup_of(list(generated(1, 5, 2)))
    lookup.snapshot.expect_all()
    assert len(calls) == asked
    assert lookup.at(3).configuration.model
