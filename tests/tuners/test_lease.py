"""Whether who asked lives: by the kernel on this host, by a heartbeat of any other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from results.lost import ProcessIdentity
from results.testing import FakeClock
from tuners.lease import LEASE_S, MARK_S, Leases, Owner

ME = ProcessIdentity(host="here/1", boot_id="boot/5", pid=10, process_started_s=100.0)
SIBLING = replace(ME, pid=11)
ELSEWHERE = replace(ME, host="there/2", boot_id="other/5")


def mark(who: ProcessIdentity) -> str:
    return Owner(process=who).dumps()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def leases(clock: FakeClock, alive: bool = True) -> Leases:
    return Leases(clock, me=ME, alive=lambda pid, started_s: alive)


def test_one_is_never_gone_to_oneself(clock: FakeClock) -> None:
    assert not leases(clock, alive=False).is_gone("s 1", mark(ME), {})


@pytest.mark.parametrize("alive", [True, False])
def test_the_kernel_tells_of_this_host_at_once(clock: FakeClock, alive: bool) -> None:
    assert leases(clock, alive).is_gone("s 1", mark(SIBLING), {}) is not alive


def test_another_boot_of_this_host_is_gone(clock: FakeClock) -> None:
    assert leases(clock).is_gone("s 1", mark(replace(ME, boot_id="before/5")), {})


def test_another_host_is_gone_when_its_heart_has_stood_still_for_a_lease(clock: FakeClock) -> None:
    ours, theirs = leases(clock), Owner(process=ELSEWHERE)
    for beat in range(1, 4):  # it beats, as slowly as it may
        assert not ours.is_gone("s 1", theirs.dumps(), {theirs.name: beat})
        clock.advance(LEASE_S - 1.0)
        assert not ours.is_gone("s 1", theirs.dumps(), {theirs.name: beat})
    clock.advance(1.0)
    assert ours.is_gone("s 1", theirs.dumps(), {theirs.name: 3})
    assert not ours.is_gone("s 1", theirs.dumps(), {theirs.name: 4})  # it was only slow


def test_a_container_beside_this_one_is_watched_as_another_host(clock: FakeClock) -> None:
    ours, beside = leases(clock, alive=False), replace(ME, boot_id="boot/6")
    assert not ours.is_gone("s 1", mark(beside), {})
    clock.advance(LEASE_S)
    assert ours.is_gone("s 1", mark(beside), {})


def test_what_is_not_marked_in_time_has_nobody_to_answer_it(clock: FakeClock) -> None:
    """A process that lives marks a trial right after it has begun it."""
    ours = leases(clock)
    assert not ours.is_gone("s 1", "", {})
    clock.advance(MARK_S)
    assert not ours.is_gone("s 2", "", {})
    assert ours.is_gone("s 1", "", {})
