"""A study's file read, with everything that follows from it before anything runs: its space, held
against the engine at hand, what it wants, and what is foreseen of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.cli.tune_make import ascent_of
from harness.cli.tune_runs import configured
from harness.errors import SpecError
from harness.fitting import is_cpu, is_tpu
from harness.settings import read_settings
from harness.spec import RunSpec
from harness.specfile import read_specs, read_yaml_as
from results.brief import Brief
from results.slo import as_limits, parse_slo
from results.store_index import RunIndex
from tuners.engine_options import held_against
from tuners.engine_probe import snapshot_at_hand
from tuners.goals import Wish
from tuners.loop import Budget
from tuners.predict import Foresight, foresight
from tuners.prior import Prior, evidence_for, prior_of
from tuners.seeds import Predict, key
from tuners.space import Config, Space
from tuners.space_files import read_space
from tuners.study_spec import StudySpec, check_study, expanded, space_of, wish_of
from tuners.varied import varies
from workloads.params import VllmWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study's file and everything that follows from it before anything runs."""

    spec: StudySpec
    base: RunSpec
    space: Space
    wish: Wish
    foresight: Foresight
    storage: str
    path: Path
    dropped: tuple[str, ...] = ()  # of its spaces, what the installed engine does not have

    @property
    def budget(self) -> Budget:
        asked = self.spec.budget
        return Budget(
            num_trials=asked.num_trials,
            wall_s=asked.wall_s or None,
            chip_hours=asked.chip_hours or None,
            usd=asked.usd or None,
        )


def read_study(path: Path, storage: str = "") -> Study:
    """Raises SpecError (the file or the run's file) and TunerError."""
    check = partial(check_study, beside=path.parent)
    asked = read_yaml_as(str(path), StudySpec, check)
    specs = read_specs(str(path.parent / asked.spec))
    if len(specs) != 1:
        raise SpecError(
            f"{asked.spec} holds {len(specs)} specs; a study varies one: put it in a file of its "
            "own"
        )
    base = _with_slo(specs[0], asked)
    _refuse_other_workloads(asked, path.parent, base)
    ascent_of(asked, base)
    spec, dropped = _for_engine(expanded(asked, path.parent), asked, base)
    space, wish = space_of(spec), wish_of(spec)
    for branch in space.branches():  # a knob that leads nowhere is found before anything runs
        for knob in branch.knobs:
            some = _some(knob.domain)
            try:
                configured(base, {knob.path: some})
            except SpecError as error:
                said = str(error).removeprefix("spec: ").removeprefix(f"knob {knob.path}: ")
                raise SpecError(f"{path}: knob {knob.path} = {some}: {said}") from None
    return Study(
        spec=spec,
        base=base,
        space=space,
        wish=wish,
        foresight=_once(foresight(varies(base, configured), wish, base)),
        storage=storage or str(read_settings().home / "studies" / f"{spec.name}.journal"),
        path=path,
        dropped=dropped,
    )


def _once(foreseen: Foresight) -> Foresight:
    """The same forecast is asked for by the plan, the seeds and the memory filter."""
    known: dict[object, Mapping[str, float] | str] = {}
    predict: Predict = foreseen.predict

    def remembering(config: Config) -> Mapping[str, float] | str:
        which = key(config)
        if which not in known:
            known[which] = predict(config)
        return known[which]

    return replace(foreseen, predict=remembering)


def _refuse_other_workloads(study: StudySpec, beside: Path, base: RunSpec) -> None:
    for name in study.space:
        meant = read_space(name, beside).workloads
        if meant and base.workload.kind not in meant:
            raise SpecError(
                f"the space {name} is of {' and '.join(meant)} workloads, and {base.name} is a "
                f"{base.workload.kind}"
            )


def _with_slo(base: RunSpec, study: StudySpec) -> RunSpec:
    """The study's limits are the run's too, where it has none: goodput counts by them."""
    if not study.slo or base.slo or base.traffic is None:
        return base
    return replace(base, slo=as_limits(parse_slo(study.slo)))


def _for_engine(
    spec: StudySpec, asked: StudySpec, base: RunSpec
) -> tuple[StudySpec, tuple[str, ...]]:
    """Without the knobs of its spaces that the vLLM at hand does not have, where that is known."""
    workload = base.workload
    if not asked.space or not isinstance(workload, VllmWorkload):
        return spec, ()
    snapshot, version = snapshot_at_hand(workload.python, spaces_home())
    if snapshot is None:
        found = f"vllm {version}" if version else "a vLLM that is not here"
        return spec, (
            f"not held against {found}: `windtunnel study space --engine vllm` asks it for its "
            "options",
        )
    held = held_against(spec.knobs, snapshot, _device(base))
    return replace(spec, knobs=held.knobs), held.dropped


def _device(base: RunSpec) -> str:
    asked = base.hardware[0].accelerator
    return "cpu" if is_cpu(asked) else "tpu" if is_tpu(asked) else "cuda"


def spaces_home() -> Path:
    """Where the options of the engines that were asked are kept."""
    return read_settings().home / "spaces"


def _some(domain: Any) -> Any:
    """A value that is not null, where there is one."""
    values = [v for v in getattr(domain, "values", ()) if v is not None]
    return values[0] if values else getattr(domain, "low", None)


def prior(study: Study, index: RunIndex) -> Prior:
    """What earlier runs of the store know of this study, as its index has them: of each, what the
    study's own goals and bounds are about."""
    branches, wish = study.space.branches(), study.wish
    records: tuple[Brief, ...] = ()
    if not study.foresight.why_no_forecast:
        index.refresh()
        about = (
            *((goal.metric, goal.statistic) for goal in wish.goals),
            *((bound.metric, bound.statistic) for bound in wish.bounds),
        )
        records = index.briefs(ended_well(index, evidence_for(study.base)), about)
    return prior_of(records, study.base, branches, wish, study.foresight)


def ended_well(index: RunIndex, evidence: str) -> list[str]:
    """The ids of the runs of that kind that can have a forecast, oldest first."""
    query = (
        "SELECT run_id FROM runs WHERE outcome = 'succeeded' AND evidence = ? "
        "AND workload IN ('vllm', 'simulated') ORDER BY run_id"
    )
    return [run_id for (run_id,) in index.query(query, (evidence,))]
