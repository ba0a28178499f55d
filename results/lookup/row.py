"""What is kept of a profile beside its columns: the few facts that an answer is made with, and the
profile as JSON, ready to be put into one.

An answer shows profiles whole and looks at little of them. So nothing is decoded that is only shown
(``Row.text``), and what is looked at comes as one flat array (``Facts``): both are made once, when
the table is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import msgspec

from results.cost import tokens_per_s
from results.recommendation.profile import UNSTATED, Machine, Profile

SECONDS_PER_DAY: Final = 86400.0


class Stated(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A statistic that has a value; see ``Statistic``."""

    value: float
    log_mean: float | None
    log_spread: float | None
    num_runs: int


class Estimate(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is told of figures that nobody measured. ``kind``: of its evidence; ``words`` are those
    of ``Estimated``."""

    kind: str
    words: str
    has_interval: bool


class Facts(msgspec.Struct, array_like=True, frozen=True, gc=False, kw_only=True):
    """``stated`` by "ttft_s p99". ``tokens_per_s``: see ``results.cost``. ``why_stale`` and the
    counts are the evidence's; ``last_measured`` in seconds since 1970."""

    profile_id: str
    stated: dict[str, Stated]
    has_unstated: bool  # any statistic that its source does not name
    rate_rps: float | None
    tokens_per_s: tuple[float, float] | None
    lengths_known: bool
    rate_derived: bool
    superseded: bool
    repeats: int
    num_invalid: int
    failures: dict[str, int]
    last_measured: float
    seconds_per_run: float | None
    stale: bool
    why_stale: str
    estimate: Estimate | None = None  # None: measured, or imported

    def age_days(self, now_s: float) -> float:
        """As ``Evidence.age_days``; ``now_s`` in seconds since 1970."""
        return max((now_s - self.last_measured) / SECONDS_PER_DAY, 0.0)


class Row(NamedTuple):
    """``machine`` without its zone. ``text``: the profile as JSON, all of it."""

    facts: Facts
    model: str
    machine: Machine
    text: bytes


def key_of(metric: str, statistic: str) -> str:
    """Of ``Facts.stated``."""
    return f"{metric} {statistic}"


def facts_of(profile: Profile) -> Facts:
    evidence, load = profile.evidence, profile.load
    stated = {
        key_of(one.metric, one.statistic): Stated(
            one.value, one.log_mean, one.log_spread, one.num_runs
        )
        for one in profile.statistics
        if one.value is not None
    }
    return Facts(
        profile_id=profile.profile_id,
        stated=stated,
        has_unstated=any(
            one.statistic == UNSTATED for one in profile.statistics if one.value is not None
        ),
        rate_rps=load.rate_rps,
        tokens_per_s=tokens_per_s(profile),
        lengths_known=load.input_tokens is not None,
        rate_derived=load.derived.startswith("rate"),
        superseded=bool(profile.superseded_by),
        repeats=evidence.repeats,
        num_invalid=evidence.num_invalid,
        failures=dict(evidence.failures),
        last_measured=evidence.last_measured.timestamp(),
        seconds_per_run=evidence.seconds_per_run,
        stale=evidence.stale,
        why_stale=evidence.why_stale,
        estimate=_estimate(profile),
    )


def _estimate(profile: Profile) -> Estimate | None:
    evidence = profile.evidence
    if evidence.estimated is None:
        return None
    has_interval = any(one.low is not None for one in profile.statistics)
    return Estimate(evidence.kind.value, evidence.estimated.words, has_interval)


def row_of(profile: Profile) -> Row:
    """The row of a profile that is at hand."""
    machine = replace(profile.machine, zone="")
    return Row(facts_of(profile), profile.configuration.model, machine, encoded(profile))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):  # a frozen one
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is no JSON")


_JSON: Final = msgspec.json.Encoder(enc_hook=_plain)
_FACTS: Final = msgspec.msgpack.Encoder()
_PROFILE: Final = msgspec.json.Decoder(Profile)
_READ_FACTS: Final = msgspec.msgpack.Decoder(Facts)


def encoded(value: Any) -> bytes:
    """As JSON: dataclasses as objects, every field named; a float that is not finite as null."""
    return _JSON.encode(value)


def encoded_row(profile: Profile) -> tuple[bytes, bytes]:
    """(its facts, its JSON)."""
    return _FACTS.encode(facts_of(profile)), encoded(profile)


def decoded_facts(data: bytes | memoryview) -> Facts:
    return _READ_FACTS.decode(data)


def decoded_profile(text: bytes) -> Profile:
    return _PROFILE.decode(text)
