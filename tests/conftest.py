"""Shared by all tests: what a missing optional part means, and a home that is thrown away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from reports.testing import Chromium, Page

# A raylet that was killed refuses its health checks at once; Ray believes the fifth refusal, three
# seconds apart. Here it asks more often. One that is only slow has as long to answer as ever.
HEALTH_CHECKS = {"RAY_health_check_period_ms": "400", "RAY_health_check_initial_delay_ms": "1000"}

LONG = ("ray", "engine", "torch", "browser", "chaos")


def pytest_configure() -> None:
    for name, value in HEALTH_CHECKS.items():
        os.environ.setdefault(name, value)


@pytest.hookimpl(trylast=True)  # after those that shuffle
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start clusters, engines or browsers come first: one of them, begun when all others
    are done, would have one core work and the other wait for it."""
    long = {item.path for item in items if any(map(item.get_closest_marker, LONG))}
    items.sort(key=lambda item: item.path not in long)


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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch's threads wait for each other by spinning: beside other work on the same cores a model
    as small as these takes many times as long with two of them as with one."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One headless Chromium for the session; missing, it skips at home and fails in CI."""
    binary = shutil.which("chromium")
    if binary is None:
        message = "no chromium on PATH; install it: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    from reports.testing import Chromium

    with Chromium(Path(binary), tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(chromium: Chromium) -> Iterator[Page]:
    tab = chromium.page()
    yield tab
    tab.close()
