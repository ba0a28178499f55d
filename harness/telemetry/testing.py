"""The contract of samplers as tests, and a fake that keeps it.

``SamplerContract`` is the contract in ``harness.telemetry.sampler`` in code; a sampler's own test
class subclasses it and gives the fixture ``sampler``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from harness.errors import SourceAbsent, SourceFailed
from harness.telemetry.sampler import Reading, Sampler, Source
from results.clock import SystemClock

QUICK_S = 1.0


class FakeSampler:
    """Says what it was told to, read by read, and the last of it from then on.

    A step is a value of ``load``, or the words with which the read fails. ``before`` is called at
    each read. Like a real one it refuses to be read once it is closed.
    """

    def __init__(self, steps: Sequence[float | str] = (1.0,), before: object = None) -> None:
        self.steps = list(steps)
        self.num_reads = self.num_closed = 0
        self._before = before

    def read(self) -> tuple[Reading, ...]:
        if self.num_closed:
            raise SourceFailed("it is closed")
        if callable(self._before):
            self._before()
        step = self.steps[min(self.num_reads, len(self.steps) - 1)]
        self.num_reads += 1
        if isinstance(step, str):
            raise SourceFailed(step)
        # A gauge, and a histogram's bucket that counts the reads.
        return (
            Reading("load", step),
            Reading("took_bucket", float(self.num_reads), label="le=inf", ends_only=True),
        )

    def close(self) -> None:
        self.num_closed += 1


def fake_source(sampler: Sampler, name: str = "fake") -> Source:
    return Source(name=name, open=lambda: sampler)


def absent_source(why: str, name: str = "absent") -> Source:
    def refuse() -> Sampler:
        raise SourceAbsent(why)

    return Source(name=name, open=refuse)


class SamplerContract:
    """Subclass it as ``TestMine`` and define the fixture ``sampler``, newly opened."""

    @pytest.fixture
    def sampler(self) -> Sampler:
        raise NotImplementedError("a subclass gives the sampler to test")

    def test_it_reads_finite_values_under_one_name_each(self, sampler: Sampler) -> None:
        for _ in range(2):  # what is a difference to the read before needs one
            readings = sampler.read()
        assert readings
        assert all(math.isfinite(r.value) for r in readings)
        keys = [(r.name, r.replica, r.label) for r in readings]
        assert len(keys) == len(set(keys))
        assert all(name and " " not in name for name, _, _ in keys)

    def test_a_read_is_quick(self, sampler: Sampler) -> None:
        clock = SystemClock()
        begun_s = clock.monotonic_s()
        sampler.read()
        assert clock.monotonic_s() - begun_s < QUICK_S

    def test_it_may_be_closed_twice(self, sampler: Sampler) -> None:
        sampler.read()
        sampler.close()
        sampler.close()
