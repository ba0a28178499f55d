"""Why a rank is gone: what is told with evidence, with none, and without anybody to ask."""

from __future__ import annotations

import pytest
import ray

from harness.on_ray.train_deaths import deaths_told
from workloads.host_memory import MemorySeen

GONE = ray.exceptions.ActorDiedError()
EVICTED = ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")
BEFORE = MemorySeen(
    cgroup="/sys/fs/cgroup", kills_in_cgroup=0, kills_on_machine=4, rss_peak_bytes=3 << 29
)


def test_a_count_that_has_grown_says_that_memory_ran_out() -> None:
    after = BEFORE._replace(kills_in_cgroup=1, kills_on_machine=5, rss_peak_bytes=1)
    got = deaths_told({1: GONE}, "", {1: BEFORE}, {1: after}.get)
    assert got.error == "out_of_memory"
    assert "process of rank 1 because memory ran out: it had held at most 1.50 GiB" in got.message


def test_a_count_that_has_not_says_that_it_was_something_else() -> None:
    got = deaths_told({1: GONE}, "", {1: BEFORE}, {1: BEFORE}.get)
    assert got.error == "worker_died"
    assert "process of rank 1 died: killed from outside or crashed, and not for want" in got.message


def test_where_nobody_can_be_asked_memory_is_a_suspect() -> None:
    got = deaths_told({0: GONE}, "", {0: BEFORE}, lambda rank: None)
    assert got.error == "worker_died"
    assert "memory is a suspect, it had held at most 1.50 GiB" in got.message
    assert "not known" in deaths_told({0: GONE}, "", {}, lambda rank: None).message


def test_rays_own_verdict_is_taken_and_explains_the_others() -> None:
    after = dict.fromkeys(range(2), BEFORE)
    got = deaths_told({0: GONE, 1: EVICTED}, "", after, after.get)
    assert got.error == "out_of_memory"
    assert "Ray ended the process of rank 1 because its node ran out of memory" in got.message
    assert "running low on memory" in got.message


def test_a_blow_of_the_schedule_needs_no_inquiry() -> None:
    def nobody(rank: int) -> None:
        pytest.fail("the cause is known")

    got = deaths_told({1: GONE}, "kill_worker@step=7,rank=1", {1: BEFORE}, nobody)
    assert got.error == "worker_died"
    assert "died: struck by kill_worker@step=7,rank=1" in got.message
