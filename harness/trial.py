"""One trial of a study: one deployment, driven once or at several loads, each a record of its own.

It knows nothing of samplers. What it is asked is a value, so that a trial runs in this process or
in another one, and what it leaves are records in the store, whichever it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.capacity.ascent import Ascent, Seen, Window, next_window
from harness.capacity.judge import Condition
from harness.capacity.measure import PointMeasured
from harness.capacity.paired import Probe
from harness.capacity.points import at_rate, point_of, salted, with_users
from harness.capacity.race import Race, raced
from harness.errors import SpecError
from harness.model_identity import model_identity
from harness.runner import RunContext, run_points, run_spec
from harness.spec import RunSpec
from harness.specfile import spec_from_mapping, spec_to_mapping
from results.capacity import Point
from results.environment import stable_hash
from results.measurement import of_group
from results.record import Failed, RunRecord, Succeeded, new_run_id
from results.samples import RequestSamples
from results.store import RecordStore
from workloads.params import CollectivesWorkload, JaxWorkload, TorchWorkload
from workloads.traffic.spec import ClosedLoop, Traffic

FINGERPRINT, LOAD, REPEAT = "study.fingerprint", "study.load", "study.repeat"

# Without traffic, what a run of them draws comes from a seed of their own.
SEEDED = (TorchWorkload, JaxWorkload, CollectivesWorkload)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialAsk:
    """``spec`` with the study's tags. ``ascent`` None: it is run once, as it is. ``known``:
    fingerprint → id of the record that answers it; it is taken instead of a run."""

    spec: RunSpec
    ascent: Ascent | None = None
    known: Mapping[str, str] = field(default_factory=dict)


def fingerprint(spec: RunSpec) -> str:
    """Of everything that was asked; not of who asked, nor of how long it may take. Where no seed
    tells a run from its repeats, such as a command's, the repeat does: it is measured again."""
    asked = spec_to_mapping(spec)
    for name in ("name", "tags", "num_repeats", "redeploy", "deadlines"):
        asked.pop(name, None)
    whole = {"asked": asked, "model": model_identity(spec)}
    repeat = spec.tags.get(REPEAT, "0")
    if repeat != "0" and spec.traffic is None and not isinstance(spec.workload, SEEDED):
        whole["repeat"] = repeat
    return stable_hash(whole)


def run_trial(ask: TrialAsk, context: RunContext) -> tuple[RunRecord, ...]:
    """The records that answer it, in the order of the loads measured; those that were known are
    among them. Raises what ``run_spec`` raises."""
    if ask.ascent is not None:
        return tuple(_climbed(ask, ask.ascent, context))
    spec = marked(ask.spec)
    known = ask.known.get(spec.tags[FINGERPRINT])
    if known is not None:
        return (context.store.get(known),)
    return tuple(run_spec(spec, context))


def marked(spec: RunSpec) -> RunSpec:
    """With its own fingerprint as a tag."""
    return replace(spec, tags={**spec.tags, FINGERPRINT: fingerprint(spec)})


def _climbed(ask: TrialAsk, ascent: Ascent, context: RunContext) -> Iterator[RunRecord]:
    seen: list[Seen] = []
    records: list[RunRecord] = []

    def take(window: Window, record: RunRecord) -> None:
        records.append(record)
        if not isinstance(record.outcome, Failed):
            seen.append(seen_from(window, record, context.store, ascent))

    asked: list[Window] = []

    def points() -> Iterator[RunSpec]:
        while not (records and isinstance(records[-1].outcome, Failed)):
            window = next_window(ascent, seen)
            if isinstance(window, str):
                context.progress.phase("enough", window)
                return
            spec = spec_at(ask.spec, ascent, window)
            known = ask.known.get(spec.tags[FINGERPRINT])
            if known is not None:
                take(window, context.store.get(known))
                continue
            asked.append(window)
            yield spec

    experiment_id = new_run_id(context.clock.now_utc())
    for record in run_points(points(), context, experiment_id=experiment_id):
        take(asked[-1], record)
    yield from records


def spec_at(spec: RunSpec, ascent: Ascent, window: Window) -> RunSpec:
    """The run of one window: other prompts than every other window of the server has, and the same
    as that window of another configuration has. Raises SpecError."""
    traffic = spec.traffic
    if traffic is None:
        raise SpecError(f"{spec.name} has no traffic, so there is no load to vary")
    load = ascent.loads[window.number]
    duration_s = ascent.probe_s if window.is_probe else ascent.duration_s
    tags = {**spec.tags, LOAD: load_tag(ascent, window)}
    if load.is_own and not (window.is_probe or window.again):
        return marked(replace(spec, tags=tags))  # the very run that it is without a probe
    if load.is_own:
        made = replace(traffic, duration_s=duration_s) if window.is_probe else traffic
    elif load.num_users is not None:
        made = with_users(traffic, load.num_users, duration_s, ascent.think_s)
    elif isinstance(traffic.arrivals, ClosedLoop) or not hasattr(traffic.arrivals, "rate_rps"):
        raise SpecError(
            f"load.rates sets traffic.arrivals.rate_rps, and the arrivals of {spec.name} are "
            f"{traffic.arrivals.kind}: give constant, poisson or gamma ones, or load.concurrency"
        )
    else:
        made = at_rate(traffic, load.rate_rps or 0.0, duration_s)
    number = 3 * window.number + (0 if window.is_probe else 2 if window.again else 1)
    if window.is_probe or not load.is_own:
        made = replace(made, num_requests=None)
    return marked(replace(spec, traffic=salted(made, traffic.seed, number), tags=tags))


def windows_of(ascent: Ascent) -> Iterator[Window]:
    """Every window that an ascent may have."""
    for number in range(len(ascent.loads)):
        if ascent.probe_s > 0:
            yield Window(number=number, is_probe=True)
        yield Window(number=number)
        yield Window(number=number, again=True)


def load_tag(ascent: Ascent, window: Window) -> str:
    """What the window is, and what it had to beat: enough to decide again what came next."""
    load = ascent.loads[window.number]
    body = {
        "at": load.words,
        "number": window.number,
        "window": "probe" if window.is_probe else "again" if window.again else "full",
        "target": ascent.target.value if ascent.target else None,
        "race": _race_tag(ascent.race),
    }
    return json.dumps(body, sort_keys=True)


def _race_tag(race: Race | None) -> dict[str, object] | None:
    if race is None:
        return None
    return {"rival": race.rival, "number": race.number, "value": race.value}


def point_from(record: RunRecord, store: RecordStore, conditions: Sequence[Condition]) -> Point:
    """What a record's load has shown, judged by ``conditions``."""
    table = store.table(record, "requests")
    traffic = spec_from_mapping(dict(record.spec)).traffic
    assert isinstance(traffic, Traffic)
    measured = PointMeasured(
        samples=RequestSamples.from_table(table) if table is not None else None,
        doubts=record.doubts,
        took_s=record.duration_s,
        measurements=of_group(record.measurements),
        run_id=record.run_id,
    )
    return point_of(measured, traffic, conditions)


def seen_from(window: Window, record: RunRecord, store: RecordStore, ascent: Ascent) -> Seen:
    """What a window has shown, and of a probe in a race what it is worth."""
    point = point_from(record, store, ascent.conditions)
    race = ascent.race
    mine = _probe(record, store) if race and window.is_probe and point.is_usable else None
    if race is None or mine is None:
        return Seen(window=window, point=point)
    theirs = None
    if race.rival and race.number == window.number:
        theirs = _probe(store.get(race.rival), store)
    return Seen(window=window, point=point, raced=raced(race, mine, theirs))


def _probe(record: RunRecord, store: RecordStore) -> Probe | None:
    """None where its own gate calls it invalid, it left no samples, or has no length."""
    table = store.table(record, "requests")
    traffic = spec_from_mapping(dict(record.spec)).traffic
    is_good = isinstance(record.outcome, Succeeded)
    if table is None or traffic is None or not traffic.duration_s or not is_good:
        return None
    return Probe(
        samples=RequestSamples.from_table(table),
        duration_s=traffic.duration_s,
        num_chips=record.placement.num_chips if record.placement else 0,
    )


def is_complete(ascent: Ascent, seen: Sequence[Seen]) -> bool:
    """Whether nothing is left to measure of a trial of which these windows are known."""
    return isinstance(next_window(ascent, seen), str)
