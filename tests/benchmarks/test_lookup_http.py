"""The benchmark of the lookup runs to its end, on a table of a few profiles that it really asks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import lookup_http, many_profiles
from results.lookup.table import open_lookup
from results.recommendation.lookup import ProfileFilter


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (many_profiles, lookup_http):
        monkeypatch.setattr(module, "SETTINGS", 4)
    monkeypatch.setattr(many_profiles, "MADE_MODELS", 2)


def test_a_copied_model_is_like_the_one_it_is_a_copy_of(few: None, tmp_path: Path) -> None:
    assert many_profiles.make_table(tmp_path, 6 * 4 * many_profiles.LOADS) == 6
    table = open_lookup(tmp_path)
    assert table.num_profiles == 6 * 4 * many_profiles.LOADS
    names = [one.model for one in table.models()]
    assert len(set(names)) == 6
    first, _, copied, *_ = (table.profiles(ProfileFilter(model=name)) for name in names)
    assert first.total == copied.total == 4 * many_profiles.LOADS
    for one, other in zip(first.profiles, copied.profiles, strict=True):
        assert one.statistics == other.statistics
        assert one.configuration.model != other.configuration.model
        assert one.profile_id != other.profile_id
        assert table.profile(other.profile_id) == other


def test_every_route_answers(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--profiles", "120", "--seconds", "1", "--rate", "50", "--users", "2"]
    monkeypatch.setattr(sys, "argv", ["lookup_http", *asked, "--home", str(tmp_path)])
    lookup_http.main()
    told = json.loads(capsys.readouterr().out)
    assert told["profiles"] == 120
    rows = {"native": told["native"], "paced": told["native_paced"], **told["routes"]}
    assert len(rows) == 12
    for name, row in rows.items():
        assert list(row["statuses"]) == ["200"], name
