"""Runs by the names that people have for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from results.errors import NothingSelected
from results.record import RunRecord
from results.selection import select
from results.store_files import FileStore
from results.store_index import RunIndex
from results.testing import EPOCH, make_record

BASE = make_record()
assert BASE.environment is not None
SOFTWARE = replace(
    BASE.environment.software, git_sha="d99073389ab0", image_digest="sha256:0011223344"
)


def run(index: int, experiment: str, **tags: str) -> RunRecord:
    assert BASE.environment is not None
    return make_record(
        index=index,
        started_at=EPOCH + timedelta(minutes=index),
        experiment_id=experiment,
        spec={"name": "llama", "tags": tags},
        environment=replace(BASE.environment, software=SOFTWARE)
        if index >= 2
        else BASE.environment,
    )


RUNS = [run(0, "exp-a", engine="old"), run(1, "exp-a", engine="old"), run(2, "exp-b", engine="new")]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> RunIndex:
    store = FileStore(tmp_path_factory.mktemp("selection"))
    for record in RUNS:
        store.seal(record, {})
    return RunIndex(store)


@pytest.mark.parametrize(
    ("asked", "kind", "found"),
    [
        (RUNS[1].run_id, "run", [1]),
        (f"{RUNS[0].run_id}, {RUNS[2].run_id}", "run", [0, 2]),
        (RUNS[2].run_id[:16], "run", [2]),
        ("exp-a", "experiment", [0, 1]),
        ("exp-b", "experiment", [2]),
        ("engine=old", "tag", [0, 1]),
        ("new", "tag", [2]),
        ("d990733", "revision", [2]),
        ("sha256:001122", "image", [2]),
        ("vllm==0.32.0", "package", [0, 1, 2]),
        ("llama-on-h100", "name", [0, 1, 2]),
    ],
)
def test_one_text_names_one_kind_of_thing(
    index: RunIndex, asked: str, kind: str, found: list[int]
) -> None:
    selection = select(index, asked)
    assert selection.kind == kind
    assert [r.run_id for r in selection.records] == [RUNS[i].run_id for i in found]
    assert selection.records[0].measurements == RUNS[found[0]].measurements


def test_a_name_narrows_everything(index: RunIndex) -> None:
    assert len(select(index, "engine=old", "llama-on-h100").records) == 2
    for asked in ("engine=old", "exp-a", "vllm==0.32.0", RUNS[0].run_id):
        with pytest.raises(NothingSelected, match="holds no run"):
            select(index, asked, "another")


def test_what_is_not_there_is_told_with_what_is(index: RunIndex, tmp_path: Path) -> None:
    for asked in ("engine=newest", "vllm==0.1", "sha256:ffffff", "abcdef0", "", "%", "' OR 1 --"):
        with pytest.raises(NothingSelected, match="llama-on-h100; tags engine=old, engine=new"):
            select(index, asked)
    with pytest.raises(NothingSelected, match="holds no run"):
        select(RunIndex(FileStore(tmp_path / "empty")), "engine=new")


def test_a_beginning_that_many_share_is_refused(index: RunIndex) -> None:
    for asked in ("20261123", "exp-"):
        with pytest.raises(NothingSelected, match="begins"):
            select(index, asked)
