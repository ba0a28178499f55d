"""What measuring versions in pairs would take: how many runs, and how long. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from harness.nightly.bisect import num_questions
from harness.nightly.suite import ConfirmSpec, Series
from results.record import RunRecord, Succeeded

# Fewer pairs make no verdict (``reports.compare.MIN_PAIRS``, which this room may not see).
LEAST_FOR_A_VERDICT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsOutlook:
    """``num_sets`` sets of pairs, one for each version or series asked about; ``most_sets``: where
    none of them can be told. Runs and seconds from ``fewest`` to ``most`` are of ``num_sets``.
    ``run_s``: of one run, by the median of ``from_runs`` earlier ones; None: nobody knows."""

    num_sets: int
    most_sets: int
    pairs: int
    max_pairs: int
    fewest_runs: int
    most_runs: int
    run_s: float | None
    from_runs: int

    @property
    def fewest_s(self) -> float | None:
        return None if self.run_s is None else self.run_s * self.fewest_runs

    @property
    def most_s(self) -> float | None:
        return None if self.run_s is None else self.run_s * self.most_runs


def outlook_of_halving(
    num_versions: int, series: Series, confirm: ConfirmSpec, past: Sequence[RunRecord]
) -> PairsOutlook:
    sets = num_questions(num_versions)
    fewest = 2 * sets * max(confirm.pairs, LEAST_FOR_A_VERDICT)
    return _outlook(sets, num_versions + (num_versions > 1), fewest, [series], confirm, past)


def outlook_across(
    series: Sequence[Series], confirm: ConfirmSpec, past: Sequence[RunRecord]
) -> PairsOutlook:
    num = len(series)
    fewest = 2 * num * max(confirm.pairs, LEAST_FOR_A_VERDICT)
    return _outlook(num, num, fewest, series, confirm, past)


def _outlook(
    sets: int,
    most_sets: int,
    fewest: int,
    series: Sequence[Series],
    confirm: ConfirmSpec,
    past: Sequence[RunRecord],
) -> PairsOutlook:
    ended = [r.duration_s for r in past if isinstance(r.outcome, Succeeded)]
    asked = [one.spec.traffic.duration_s for one in series if one.spec.traffic is not None]
    known = [s for s in asked if s is not None]
    # Without an earlier run only the sending is known, and a training says nothing of its time.
    by_spec = max(known) if known and len(known) == len(series) else None
    return PairsOutlook(
        num_sets=sets,
        most_sets=most_sets,
        pairs=confirm.pairs,
        max_pairs=confirm.max_pairs,
        fewest_runs=fewest,
        most_runs=max(2 * sets * confirm.max_pairs, fewest),
        run_s=median(ended) if ended else by_spec,
        from_runs=len(ended),
    )
