from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.settings import read_settings, secret


def test_defaults_stay_in_the_working_folder() -> None:
    settings = read_settings({})
    assert settings.home == Path("var")
    assert settings.store_url == "var/store"
    assert settings.models_dir == Path("var/models")


def test_the_store_may_be_a_bucket() -> None:
    settings = read_settings({"WINDTUNNEL_HOME": "/data", "WINDTUNNEL_STORE": "gs://team/runs"})
    assert settings.store_url == "gs://team/runs"
    assert settings.reports_dir == Path("/data/reports")


def test_a_secret_that_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "abc")
    monkeypatch.setenv("EMPTY_KEY", "")
    assert secret("SOME_KEY") == "abc"
    assert secret("EMPTY_KEY") is None
    assert secret("") is None


def test_how_often_the_server_is_looked_at() -> None:
    assert read_settings({}).telemetry_interval_s == 1.0
    assert read_settings({"WINDTUNNEL_TELEMETRY_S": "0.25"}).telemetry_interval_s == 0.25
    for wrong in ("often", "-1", "inf", "nan"):
        with pytest.raises(SpecError, match="WINDTUNNEL_TELEMETRY_S"):
            read_settings({"WINDTUNNEL_TELEMETRY_S": wrong})
