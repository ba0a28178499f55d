"""Shared by all tests: what a missing optional part means, and a home that is thrown away."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def require() -> Callable[[bool, str], None]:
    """Skip where an optional part is missing, with its reason; fail where CI says it must be."""

    def check(present: bool, reason: str) -> None:
        if present:
            return
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have it: {reason}")
        pytest.skip(reason)

    return check


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the developer's own results."""
    monkeypatch.setenv("WINDTUNNEL_HOME", str(tmp_path / "windtunnel-home"))
