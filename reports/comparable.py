"""What may be compared, and what differs where it may: hashes first, numbers after.

Runs that were asked different things are refused. Runs that were answered by different machinery
are compared, and the difference is named: it may be the very thing that is under test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.side_by_side import answered_of, asked_of
from results.errors import NotComparable
from results.record import RunRecord

_MOST_NAMED = 5  # differing keys in one message


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One key that is not the same on both sides: its values, "–" where a side has none."""

    key: str
    a: str
    b: str


def check_comparable(
    a_runs: Sequence[RunRecord], b_runs: Sequence[RunRecord], a: str, b: str
) -> None:
    """Raises NotComparable, saying what differs, unless both sides were asked the same."""
    for label, runs in ((a, a_runs), (b, b_runs)):
        if not runs:
            raise NotComparable(f"{label} has no runs")
        hashes = dict.fromkeys(r.workload_hash for r in runs)
        if len(hashes) > 1:
            names = ", ".join(dict.fromkeys(r.name for r in runs))
            raise NotComparable(
                f"{label} holds runs of {len(hashes)} different workloads ({names}); "
                "narrow it down to one, with --name for instance"
            )
    shared = {r.run_id for r in a_runs} & {r.run_id for r in b_runs}
    if shared:
        raise NotComparable(f"{a} and {b} share {len(shared)} runs, {min(shared)} among them")
    first, second = a_runs[0], b_runs[0]
    if first.workload_hash != second.workload_hash:
        raise NotComparable(
            f"{a} has workload hash {first.workload_hash[:8]}, {b} has "
            f"{second.workload_hash[:8]}: they were asked different things and cannot be compared"
            f"{_what_differs(first, second)}"
        )
    for what, one, other in (
        ("evidence", first.evidence.value, second.evidence.value),
        ("pool", _pool_kind(first), _pool_kind(second)),
    ):
        if one != other:
            raise NotComparable(f"{a} is {one}, {b} is {other}: unlike {what} is never compared")


def _pool_kind(record: RunRecord) -> str:
    virtual = record.placement is not None and record.placement.virtual
    return "of a virtual pool" if virtual else "of a real pool"


def _what_differs(first: RunRecord, second: RunRecord) -> str:
    found = differing(asked_of(first), asked_of(second))
    if not found:
        return ""
    named = "; ".join(f"{d.key}: {d.a} / {d.b}" for d in found[:_MOST_NAMED])
    more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return f" ({named}{more})"


def differing(a: dict[str, str], b: dict[str, str]) -> tuple[Difference, ...]:
    """In the order of ``a``, then of what only ``b`` has."""
    return tuple(
        Difference(key=key, a=a.get(key, "–"), b=b.get(key, "–"))
        for key in dict.fromkeys([*a, *b])
        if a.get(key) != b.get(key)
    )


def differences_of(
    a_runs: Sequence[RunRecord], b_runs: Sequence[RunRecord]
) -> tuple[Difference, ...]:
    """What answered differently, of the first run of each side's first environment hash that the
    other does not have; none where the hashes are alike, or nothing is known of a side."""
    a_known = [r for r in a_runs if r.environment is not None]
    b_known = [r for r in b_runs if r.environment is not None]
    a_hashes, b_hashes = ({r.environment_hash for r in runs} for runs in (a_known, b_known))
    if not a_known or not b_known or a_hashes == b_hashes:
        return ()
    one = next((r for r in a_known if r.environment_hash not in b_hashes), a_known[0])
    other = next((r for r in b_known if r.environment_hash not in a_hashes), b_known[0])
    return differing(answered_of(one), answered_of(other))
