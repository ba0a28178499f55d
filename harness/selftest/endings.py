"""Servers that end or fall silent in the middle of a load: the client must end, and say so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import numpy as np

from harness.selftest.check import Check, at_most, equal, near
from harness.selftest.scenarios import Scenario, Setting, traffic_of
from results.clock import SystemClock
from results.metrics import Unit
from results.samples import RequestSamples
from workloads.simulated.answers import Behaviour
from workloads.simulated.process import GoldenProcess, golden_process
from workloads.traffic.spec import ConstantArrivals

RATE, NUM_REQUESTS = 50.0, 100
_STRIKES_AFTER_S = 1.0  # of load, at least: the client's own start comes first
_ENDS_WITHIN_S = 5.0
_now_s = SystemClock().monotonic_s


def death(setting: Setting) -> tuple[Check, ...]:
    """SIGKILL. Connections break, and later ones are refused."""
    behaviour = Behaviour(ttft_s=0.02, itl_s=0.01)
    with golden_process(behaviour) as server:
        samples, took_s = _struck(setting, server, server.kill, deadline_s=setting.deadline_s)
    return _rows(samples, took_s, NUM_REQUESTS / RATE)


def hang(setting: Setting) -> tuple[Check, ...]:
    """SIGSTOP. The kernel still takes connections and bytes, and nothing comes back: the deadline
    of the load must end it."""
    behaviour, deadline_s = Behaviour(ttft_s=0.02, itl_s=0.01), 5.0
    with golden_process(behaviour) as server:

        def stop() -> None:
            server.child.send_signal(signal.SIGSTOP)

        try:
            samples, took_s = _struck(setting, server, stop, deadline_s=deadline_s)
        finally:
            server.child.send_signal(signal.SIGCONT)
    return _rows(samples, took_s, deadline_s)


def _struck(
    setting: Setting, server: GoldenProcess, strike: Callable[[], None], deadline_s: float
) -> tuple[RequestSamples, float]:
    """Drive a load, and strike when it is under way. Returns what came of it, and how long it took
    in all."""
    over = threading.Event()

    def when_under_way() -> None:
        while not over.wait(0.1):
            if server.served(with_tokens=False)["num_requests"] >= RATE * _STRIKES_AFTER_S:
                strike()
                return

    watch = threading.Thread(target=when_under_way, name="selftest-strike", daemon=True)
    watch.start()
    traffic = traffic_of(ConstantArrivals(rate_rps=RATE), NUM_REQUESTS, 16)
    begun_s = _now_s()
    try:
        samples = setting.drive(server.target, traffic, deadline_s)
        return samples, _now_s() - begun_s
    finally:
        over.set()
        watch.join()


def _rows(samples: RequestSamples, took_s: float, expected_s: float) -> tuple[Check, ...]:
    kept = ~samples.is_warmup
    failed = samples.error[kept] != ""
    num_failed = int(failed.sum())
    order = np.flatnonzero(~failed)
    last_sound = int(order[-1]) + 1 if len(order) else 0
    intended = samples.intended_s[kept]
    return (
        equal("rows", float(kept.sum()), NUM_REQUESTS, Unit.REQUESTS),
        near(
            "rows answered before",
            float(len(order)),
            RATE * _STRIKES_AFTER_S,
            rel=0.5,
            unit=Unit.REQUESTS,
        ),
        equal(
            "rows after the last answered one, all failed",
            float(failed[last_sound:].sum()),
            NUM_REQUESTS - last_sound,
            Unit.REQUESTS,
        ),
        near("rows failed", num_failed, NUM_REQUESTS - len(order), rel=0.0, unit=Unit.REQUESTS),
        at_most(
            "intended times against the schedule, worst",
            float(np.abs(intended - np.arange(len(intended)) / RATE).max()),
            1e-6,
        ),
        near("the load's end", took_s, expected_s, rel=0.0, floor=_ENDS_WITHIN_S),
    )


ENDINGS: tuple[Scenario, ...] = (
    Scenario(name="death", about="the server is killed in mid-load", run=death),
    Scenario(name="hang", about="the server falls silent in mid-load", run=hang),
)
