"""What earlier runs know of a study before its first trial: how far the forecast is off on this
hardware, and what won on others. Pure; made of records alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.spec import RunSpec
from results.record import RunRecord
from tuners.calibration import Calibration, Hardware, Look, calibrations, hardware_of
from tuners.goals import Wish
from tuners.predict import Foresight
from tuners.seeds import Seeder
from tuners.space import Branch
from tuners.transfer import Transferred, transferred


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """``calibration``: of the study's own hardware; where too little was measured there, of the
    other hardware that most is known of: how far an engine stays behind the arithmetic differs less
    from chip to chip than the arithmetic does. None: neither. ``elsewhere``: by branch, what won on
    other hardware, scored for this one."""

    calibration: Calibration | None = None
    elsewhere: Mapping[str, tuple[Transferred, ...]] = field(default_factory=dict)

    def seeder(self, branch: Branch, wish: Wish, foresight: Foresight, seed: int) -> Seeder:
        return Seeder(
            branch,
            wish,
            foresight.predict,
            seed=seed,
            prior=self.calibration.ratios() if self.calibration else {},
            rescored=[(t.config, t.expected) for t in self.elsewhere.get(branch.name, ())],
            forecasts=not foresight.why_no_forecast,
        )

    def describe(self, names: Iterable[str]) -> dict[str, Any] | None:
        """The calibration of the statistics in ``names``, JSON-like; None where there is none."""
        if self.calibration is None:
            return None
        return {
            "accelerator": self.calibration.hardware.accelerator,
            "evidence": self.calibration.hardware.evidence,
            "measured_over_forecast": {
                name: {
                    "ratio": factor.ratio,
                    "spread": factor.spread,
                    "num_configs": factor.num_configs,
                }
                for name, factor in self.calibration.factors.items()
                if name in set(names)
            },
        }


def prior_of(
    records: Iterable[RunRecord],
    base: RunSpec,
    branches: Sequence[Branch],
    wish: Wish,
    foresight: Foresight,
) -> Prior:
    """Of a study that varies ``base``; empty where nothing is forecast, for then nothing scores."""
    evidence = evidence_for(base)
    here = hardware_of(base, evidence)
    if foresight.why_no_forecast or here is None:
        return Prior()
    kept = (record for record in records if record.evidence == evidence)
    found = [one for one in map(Look().seen, kept) if one is not None]
    usual = calibrations(found)
    others = max(usual.values(), key=lambda c: c.num_configs, default=None)
    return Prior(
        calibration=usual.get(here, others),
        elsewhere={
            branch.name: transferred(found, branch, wish, foresight.predict, here, usual, base)
            for branch in branches
        },
    )


def evidence_for(base: RunSpec) -> str:
    """The kind of records that can say something of it: simulated ones never speak for others."""
    return "simulated" if base.workload.kind == "simulated" else "measured"


def transferred_from(
    elsewhere: Sequence[Transferred], config: Mapping[str, Any]
) -> Hardware | None:
    """The hardware that ``config`` won on, where it is among those that were scored again."""
    return next((t.hardware for t in elsewhere if dict(t.config) == dict(config)), None)
