"""The seam to what is read beside a load: one source, one read at a time.

Contract of ``Sampler`` (``harness.telemetry.testing.SamplerContract`` is the same in code):

* Opening a source that is not there raises SourceAbsent with the reason; nothing else.
* ``read`` returns what the source says now, in well under a second; every value is finite. It
  raises SourceFailed, and nothing else, when the source does not answer; the next read may succeed.
* ``close`` gives back what was opened. It may be called twice.

One thread uses a sampler at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Reading(NamedTuple):
    """One value. ``label`` tells series of one name apart (``core=3``, ``gpu=0``, ``le=0.1``).

    ``ends_only``: only its first and its last reading are worth keeping (a histogram's buckets).
    """

    name: str
    value: float
    replica: str = ""
    label: str = ""
    ends_only: bool = False


class Sampler(Protocol):
    """See the module's contract."""

    def read(self) -> Sequence[Reading]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source by its name, not yet opened. ``open`` raises SourceAbsent."""

    name: str
    open: Callable[[], Sampler]
