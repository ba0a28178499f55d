"""The driver's side of sampling on another node: one axis, and trouble told as absence."""

from __future__ import annotations

from typing import Any

import pytest
from ray.exceptions import RayError

from harness.errors import DeploymentError, NodeLost
from harness.on_ray.server_watch import ServerWatch
from harness.startup import CALL_RESOLUTION_S, Anchor
from results.telemetry import READ_S, Row, Telemetry
from results.testing import FakeClock

READ = Telemetry.of([Row(5.0, "host", READ_S, 0.001), Row(5.0, "host", "load_1m", 0.5)])


class FakeHandle:
    """Of ``ServerHandle`` the three methods that a watch uses."""

    def __init__(self, answer: Any, begins: Exception | None = None) -> None:
        self.answer, self.begins = answer, begins
        self.num_stopped = 0

    def sample(self, interval_s: float, device_kind: str) -> None:
        if self.begins is not None:
            raise self.begins

    def sampled(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def stop_sampling(self) -> None:
        self.num_stopped += 1
        if isinstance(self.answer, Exception):
            raise self.answer


def watch(handle: FakeHandle) -> ServerWatch:
    made: Any = ServerWatch
    found: ServerWatch = made(handle, "cpu", FakeClock(), 1.0)
    return found


def test_another_hosts_times_come_onto_our_clock_with_their_blur() -> None:
    one = watch(FakeHandle((READ, Anchor(origin_s=1000.0, resolution_s=0.02))))
    one.begin()
    telemetry = one.end()
    assert set(telemetry.t_s[telemetry.source == "host"]) == {1005.0}
    assert telemetry.resolution_s == 0.02


def test_one_clock_has_no_blur() -> None:
    one = watch(FakeHandle((READ, Anchor(origin_s=0.0, resolution_s=CALL_RESOLUTION_S))))
    one.begin()
    assert one.end().resolution_s == 0.0


@pytest.mark.parametrize(
    "trouble",
    [NodeLost("load", "node n went away"), DeploymentError("load", "no answer"), RayError("odd")],
)
def test_trouble_is_told_and_never_raised(trouble: Exception) -> None:
    for handle in (FakeHandle(None, begins=trouble), FakeHandle(trouble)):
        one = watch(handle)
        one.begin()
        notes = one.end().sources()
        assert {note.source for note in notes} == {"vllm", "host"}
        assert all(str(trouble) in note.absent for note in notes)
        one.abandon()
        assert handle.num_stopped == 1


def test_a_node_that_sampled_nothing_says_so() -> None:
    one = watch(FakeHandle((None, Anchor(origin_s=0.0, resolution_s=0.001))))
    one.begin()
    assert all("nothing was being sampled" in note.absent for note in one.end().sources())
