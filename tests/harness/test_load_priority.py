"""The client goes before the engine where the kernel lets it, and goes on where it does not."""

from __future__ import annotations

import os
import threading

import pytest

from harness.on_ray.load_actor import CLIENT_NICENESS, go_first


def test_threads_that_the_client_starts_go_first_too() -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    def hurry() -> None:
        go_first()
        inner = threading.Thread(target=look)
        inner.start()
        inner.join()

    outer = threading.Thread(target=hurry)
    outer.start()
    outer.join()
    if os.geteuid() != 0:
        pytest.skip("only root may go before others")
    assert seen == [CLIENT_NICENESS]
    assert os.getpriority(os.PRIO_PROCESS, 0) == 0


def test_without_the_right_to_it_waits_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def refuse(which: int, who: int, priority: int) -> None:
        calls.append(priority)
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    go_first()
    assert calls == [CLIENT_NICENESS]
