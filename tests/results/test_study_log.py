"""A study's own words in the store: written once each, read in order, and what they mean."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from results.lost import this_process
from results.store_files import FileStore
from results.study_log import (
    STUDIES,
    StudyEventKind,
    StudyLog,
    StudyState,
    read_log,
    state_of,
    study_names,
)
from results.testing import EPOCH


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


def test_what_was_logged_is_read_in_order(store: FileStore) -> None:
    log = StudyLog(store.objects, "chat")
    log.begun(EPOCH, {"top": 3}, "windtunnel tune chat.yaml")
    log.append(StudyEventKind.FORESEEN, EPOCH + timedelta(seconds=2), {"why": "90 of 80 GiB"})
    log.append(StudyEventKind.FORESEEN, EPOCH + timedelta(seconds=1), {"why": "first"})
    found = read_log(store.objects, "chat")
    assert [e.kind for e in found] == ["begun", "foreseen", "foreseen"]
    assert [e.body.get("why") for e in found] == [None, "first", "90 of 80 GiB"]
    assert found[0].body["asked"] == {"top": 3}
    assert found[0].at == EPOCH
    assert {e.sitting for e in found} == {log.sitting}
    assert read_log(store.objects, "other") == ()


@pytest.mark.parametrize("name", ["a/b", "../../out", "..", "ünï kode", "100 %", ".hidden"])
def test_any_name_stays_inside_its_folder(store: FileStore, name: str, tmp_path: Path) -> None:
    StudyLog(store.objects, name).append(StudyEventKind.ENDED, EPOCH)
    assert len(read_log(store.objects, name)) == 1
    assert study_names(store.objects) == (name,)
    assert [p.name for p in tmp_path.iterdir()] == ["store"]
    assert [p.name for p in (tmp_path / "store").iterdir()] == [STUDIES]


def test_torn_and_foreign_files_hide_nothing(store: FileStore, tmp_path: Path) -> None:
    log = StudyLog(store.objects, "chat")
    log.append(StudyEventKind.ENDED, EPOCH)
    folder = tmp_path / "store" / STUDIES / "chat"
    (written,) = folder.iterdir()
    (folder / written.name.replace("1970", "1971").replace("20", "21", 1)).write_text('{"at": "2')
    (folder / "notes.txt").write_text("hello")
    assert [e.kind for e in read_log(store.objects, "chat")] == ["ended"]


def test_the_state_follows_the_latest_sitting(store: FileStore) -> None:
    assert state_of(read_log(store.objects, "chat"))[0] is StudyState.UNKNOWN
    first = StudyLog(store.objects, "chat")
    first.begun(EPOCH, {}, "")
    events = read_log(store.objects, "chat")
    assert state_of(events)[0] is StudyState.RUNNING  # this very process began it
    assert state_of(events, alive=lambda pid, started: False)[0] is StudyState.INTERRUPTED
    elsewhere = replace(this_process(), host="another/0123")
    assert state_of(events, me=elsewhere)[0] is StudyState.NOT_ENDED

    first.append(StudyEventKind.ENDED, EPOCH, {"stopped_by": "30 trials"})
    assert state_of(read_log(store.objects, "chat")) == (StudyState.ENDED, "30 trials")
    again = StudyLog(store.objects, "chat")
    again.begun(EPOCH + timedelta(hours=1), {}, "")
    assert state_of(read_log(store.objects, "chat"))[0] is StudyState.RUNNING
    again.append(
        StudyEventKind.ENDED, EPOCH + timedelta(hours=2), {"stopped_by": "^C", "interrupted": True}
    )
    assert state_of(read_log(store.objects, "chat")) == (StudyState.INTERRUPTED, "^C")
