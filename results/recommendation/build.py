"""Runs → profiles. Pure: the same runs and flags give the same profiles, in the same order.

Runs are repeats of each other when configuration, hardware, environment and load are the same. A
value is the mean over them and its interval comes from their spread: the run is the unit, not the
request. Runs that a search made to find its candidates do not count where there are others: the
best of many noisy runs looks better than it is.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from packaging.version import InvalidVersion, Version

from results.environment import stable_hash
from results.recommendation.estimate import Estimate, estimated_profiles, place_of
from results.recommendation.flags import EvidenceFlag, FlagKind
from results.recommendation.observation import (
    BASELINE,
    LATENCIES,
    SEARCHED,
    SINGLES,
    STATISTICS,
    TRAINING_SINGLES,
    TRAINING_SPREADS,
    Observation,
)
from results.recommendation.over_runs import improvement, summarised
from results.recommendation.profile import (
    Evidence,
    EvidenceKind,
    Improvement,
    LoadPoint,
    Profile,
    Statistic,
)

SEARCH_ONLY = "search_only"  # a doubt: found by a search, and never measured again

_KEYS = tuple(f"{m} {s}" for m in LATENCIES for s in STATISTICS) + tuple(
    f"{m} value" for m in SINGLES
)
_TRAINING_KEYS = tuple(f"{m} {s}" for m in TRAINING_SPREADS for s in STATISTICS) + tuple(
    f"{m} value" for m in (*TRAINING_SINGLES, "startup_s")
)
_OLDEST = Version("0.dev0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fruitless:
    """Runs of a configuration that has no profile, because none of them can be used."""

    model: str
    accelerator: str
    error: str
    num_runs: int
    is_training: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """``profiles`` by model, configuration and rate. ``fruitless``: what never worked."""

    profiles: tuple[Profile, ...]
    fruitless: tuple[Fruitless, ...] = ()
    num_runs: int = 0


@dataclass(slots=True, kw_only=True)
class _Group:
    """Repeats of one setting at one load, and what went wrong beside them."""

    runs: list[Observation] = field(default_factory=list)
    wrong: list[Observation] = field(default_factory=list)

    @property
    def newest(self) -> Observation:
        return max(self.runs, key=lambda o: (o.ended_at, o.run_id))

    @property
    def age_key(self) -> tuple[Version, datetime]:
        newest = self.newest
        return version_of(newest.configuration.model_server_version), newest.ended_at

    @property
    def profile_id(self) -> str:
        return stable_hash([self.runs[0].setting, self.runs[0].traffic.key])


def build(
    observations: Iterable[Observation],
    flags: Iterable[EvidenceFlag] = (),
    estimates: Iterable[Estimate] = (),
) -> Built:
    """Every profile that the runs give, and of ``estimates`` those that no run has replaced. A
    retracted run is as if it had never been made; a run that drifted makes its profile stale."""
    flagged = {run_id: flag for flag in flags for run_id in flag.run_ids}
    kept = sorted(
        (o for o in observations if not _is(flagged.get(o.run_id), FlagKind.RETRACTED)),
        key=lambda o: o.run_id,
    )
    groups, orphans = _grouped(kept)
    newest = _newest_versions(groups)
    chains = _chains(groups)
    baselines = _baselines(groups)
    profiles = [
        _profile(group, chains, newest, baselines, flagged) for group in groups if group.runs
    ]
    profiles += estimated_profiles(
        estimates,
        measured={
            place_of(o.configuration, o.machine, o.traffic)
            for group in groups
            for o in group.runs[:1]
            if o.kind is not EvidenceKind.SIMULATED
        },
        retracted={r for r, flag in flagged.items() if _is(flag, FlagKind.RETRACTED)},
    )
    profiles.sort(
        key=lambda p: (
            p.configuration.model,
            p.configuration_id,
            p.load.rate_rps if p.load.rate_rps is not None else math.inf,
            p.profile_id,
        )
    )
    counted = Counter(
        (o.configuration.model, o.machine.accelerator, o.error, o.training is not None)
        for o in orphans
    )
    return Built(
        profiles=tuple(_one_configuration(profiles)),
        fruitless=tuple(
            Fruitless(
                model=model,
                accelerator=accelerator,
                error=error,
                num_runs=n,
                is_training=is_training,
            )
            for (model, accelerator, error, is_training), n in sorted(counted.items())
        ),
        num_runs=len(kept),
    )


def _is(flag: EvidenceFlag | None, kind: FlagKind) -> bool:
    return flag is not None and flag.kind is kind


def _grouped(kept: Sequence[Observation]) -> tuple[list[_Group], list[Observation]]:
    """Groups of usable runs. Unusable ones are told beside their own setting, or, where they never
    got far enough to have one, beside the runs of the same configuration nearest in time; the rest
    have no group."""
    found: dict[tuple[str, str], _Group] = defaultdict(_Group)
    for o in kept:
        if o.counts:
            found[o.setting, o.traffic.key].runs.append(o)
    by_lineage: dict[str, list[_Group]] = defaultdict(list)
    for group in found.values():
        by_lineage[group.runs[0].lineage].append(group)
    orphans = []
    for o in kept:
        if o.counts:
            continue
        own = found.get((o.setting, o.traffic.key))
        near = by_lineage.get(o.lineage, [])
        alike = [g for g in near if g.runs[0].traffic.key == o.traffic.key] or near
        if own is not None:
            own.wrong.append(o)
        elif alike:
            min(alike, key=lambda g: abs(g.newest.ended_at - o.ended_at)).wrong.append(o)
        else:
            orphans.append(o)
    return list(found.values()), orphans


def version_of(text: str) -> Version:
    """For ordering; what is no version comes before every other."""
    try:
        return Version(text.removeprefix("v"))
    except InvalidVersion:
        return _OLDEST


def _newest_versions(groups: Iterable[_Group]) -> Mapping[tuple[str, str], str]:
    newest: dict[tuple[str, str], str] = {}
    for group in groups:
        c = group.runs[0].configuration
        key = (c.model, c.model_server)
        if version_of(c.model_server_version) > version_of(newest.get(key, "")):
            newest[key] = c.model_server_version
    return newest


def _chains(groups: Iterable[_Group]) -> dict[str, tuple[str, str]]:
    """Profile id → (what it supersedes, what supersedes it): the same configuration, hardware and
    load, by engine version and then by date."""
    lines: dict[tuple[str, str], list[_Group]] = defaultdict(list)
    for group in groups:
        lines[group.runs[0].lineage, group.runs[0].traffic.key].append(group)
    chains = {}
    for line in lines.values():
        ids = [g.profile_id for g in sorted(line, key=lambda g: g.age_key)]
        for before, this, after in zip(["", *ids], ids, [*ids[1:], ""], strict=False):
            chains[this] = (before, after)
    return chains


def _baselines(groups: Iterable[_Group]) -> dict[tuple[str, str], _Group]:
    """(study, load) → the group of the study's baseline."""
    return {
        (o.study, o.traffic.key): group
        for group in groups
        for o in group.runs
        if o.study and o.phase == BASELINE
    }


def _profile(
    group: _Group,
    chains: Mapping[str, tuple[str, str]],
    newest_versions: Mapping[tuple[str, str], str],
    baselines: Mapping[tuple[str, str], _Group],
    flagged: Mapping[str, EvidenceFlag],
) -> Profile:
    newest, counted = group.newest, _counted(group)
    c = newest.configuration
    before, after = chains[group.profile_id]
    latest = newest_versions.get((c.model, c.model_server), "")
    why_stale = _why_stale(group, latest, flagged)
    doubts = dict.fromkeys(code for o in counted for code in o.doubts)
    if all(o.phase in SEARCHED for o in counted):
        doubts.setdefault(SEARCH_ONLY)
    return Profile(
        profile_id=group.profile_id,
        configuration_id=newest.setting,
        configuration=c,
        machine=newest.machine,
        load=_load(counted),
        statistics=tuple(_statistics(counted)),
        evidence=_evidence(group, counted, why_stale),
        improvement=_improvement(group, baselines),
        supersedes=before,
        superseded_by=after,
        study=next((o.study for o in reversed(group.runs) if o.study), ""),
        doubts=tuple(doubts),
        training=newest.training,
    )


def _counted(group: _Group) -> list[Observation]:
    """The repeats that a value is the mean of, oldest first."""
    fair = [o for o in group.runs if o.phase not in SEARCHED]
    return fair or group.runs


def _why_stale(group: _Group, latest: str, flagged: Mapping[str, EvidenceFlag]) -> str:
    c = group.newest.configuration
    drifted = [flagged[o.run_id] for o in group.runs if o.run_id in flagged]
    if drifted:
        return f"flagged {drifted[-1].at:%Y-%m-%d}: {drifted[-1].message}"
    if c.model_server_version and version_of(latest) > version_of(c.model_server_version):
        return (
            f"{c.model_server} {latest} has been measured with this model; this is "
            f"{c.model_server_version}"
        )
    return ""


def _evidence(group: _Group, counted: Sequence[Observation], why_stale: str) -> Evidence:
    newest = group.newest
    failed = [o for o in group.wrong if o.error != "invalid"]
    timed = [o.duration_s for o in counted if o.source == "" and o.duration_s > 0]
    return Evidence(
        kind=newest.kind,
        run_ids=tuple(o.run_id for o in counted),
        repeats=len(counted),
        first_measured=min(o.started_at for o in counted),
        last_measured=max(o.ended_at for o in counted),
        num_invalid=len(group.wrong) - len(failed),
        failures=dict(Counter(o.error for o in failed)),
        environment_hash=newest.environment_hash,
        environment=newest.environment,
        driver=newest.driver,
        git_sha=newest.git_sha,
        source=newest.source,
        seconds_per_run=sum(timed) / len(timed) if timed else None,
        stale=bool(why_stale),
        why_stale=why_stale,
    )


def _load(counted: Sequence[Observation]) -> LoadPoint:
    def mean(values: Iterable[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return sum(known) / len(known) if known else None

    newest = counted[-1]
    return LoadPoint(
        input_tokens=mean(o.traffic.input_tokens for o in counted),
        output_tokens=mean(o.traffic.output_tokens for o in counted),
        rate_rps=mean(o.values.get("achieved_rate value") for o in counted),
        concurrency=mean(o.traffic.num_users for o in counted),
        prefix_share=mean(o.values.get("prompt_cache_hit_share value") for o in counted),
        use_case=newest.traffic.use_case,
        arrivals=newest.traffic.arrivals,
        derived=newest.derived,
    )


def _statistics(counted: Sequence[Observation]) -> Iterable[Statistic]:
    for key in _TRAINING_KEYS if counted[-1].training else _KEYS:
        values = [o.values[key] for o in counted if key in o.values]
        name, _, statistic = key.partition(" ")
        if values:
            yield summarised(name, statistic, values)
        else:
            why = next((o.reasons[key] for o in reversed(counted) if key in o.reasons), "")
            if why:
                yield Statistic(metric=name, statistic=statistic, value=None, reason=why)


def _improvement(group: _Group, baselines: Mapping[tuple[str, str], _Group]) -> Improvement | None:
    """By the study's first goal, against the baseline measured in it."""
    for o in reversed(group.runs):
        base = baselines.get((o.study, o.traffic.key)) if o.study else None
        if base is None or base is group or o.goal is None:
            continue
        key = " ".join(o.goal)
        ours = [x.values[key] for x in _counted(group) if x.values.get(key, 0.0) > 0]
        theirs = [x.values[key] for x in _counted(base) if x.values.get(key, 0.0) > 0]
        if ours and theirs:
            return improvement(ours, theirs, base.profile_id, o.goal[0])
    return None


def _one_configuration(profiles: Sequence[Profile]) -> Iterable[Profile]:
    """The load points of one configuration share one value of it: that of their newest run."""
    newest: dict[str, Profile] = {}
    for p in profiles:
        known = newest.get(p.configuration_id)
        if known is None or p.evidence.last_measured > known.evidence.last_measured:
            newest[p.configuration_id] = p
    for p in profiles:
        shared = newest[p.configuration_id]
        if p is shared:
            yield p
        else:
            yield replace(p, configuration=shared.configuration, machine=shared.machine)
