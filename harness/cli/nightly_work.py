"""A night from its suite to its records: which night it is, its lanes, its runs, and the pairs that
confirm what the history suspects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from harness.cli.again import command_again
from harness.cli.live import Shown
from harness.cli.nightly_lanes import LaneAsk, run_lanes
from harness.cli.options import fresh_index
from harness.cli.session import deployer, run_context
from harness.errors import HarnessError, SpecError
from harness.nightly.confirm import duel_of, fight
from harness.nightly.journal import Journal, Told, nights_kept
from harness.nightly.night import Night, pools_of
from harness.nightly.order import Slot, lanes_of, slots_of, without_canary
from harness.nightly.subject import Subjects, Version
from harness.nightly.suite import Suite, read_suite
from harness.pricefile import read_prices
from harness.specfile import spec_to_mapping
from results.clock import Clock
from results.environment import stable_hash
from results.lost import seal_lost
from results.nights import DATE, NIGHT, NightRun, nights_in
from results.record import RunRecord, new_run_id
from results.store_files import FileStore
from results.store_index import RunIndex

BEGUN, ENDED = "begun", "ended"
_ACROSS = ":across"


@dataclass(frozen=True, slots=True, kw_only=True)
class NightAsk:
    """What the command line says. ``resume``: a night's id, or "last"; ``or_start``: begin one
    where there is none to resume."""

    suite: Path
    overrides: tuple[str, ...] = ()
    on: date | None = None
    resume: str = ""
    or_start: bool = False
    ray: str = "local"
    pools: Path | None = None
    prices: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Which night it is. ``earlier``: its runs of a sitting before; empty for a new one."""

    night_id: str
    date: date
    suite: Suite
    suite_hash: str
    subjects: Subjects
    version: Version | None
    journal: Journal
    begun_at: datetime
    suite_path: str  # as it was named when the night began
    command: str  # that makes it again
    earlier: tuple[NightRun, ...] = ()


def begin(ask: NightAsk, home: Path, store: FileStore, clock: Clock) -> Begun:
    """A new night, or the one to go on with; under the home's lock. Raises SpecError when neither
    can be."""
    suite = read_suite(ask.suite, ask.overrides)
    subjects = Subjects(suite, home / "checkouts")
    subjects.clean()  # what a night that was killed left
    hash_ = suite_hash(suite)
    index = fresh_index(store)
    if ask.resume or ask.or_start:
        night_id = _to_resume(ask, home, suite)
        if night_id:
            earlier = runs_of_night(index, suite.name, night_id)
            return _resumed(ask, suite, hash_, subjects, night_id, home, earlier)
    today = ask.on or clock.now_utc().astimezone(UTC).date()
    taken = [*nights_in(index, suite.name, DATE, today.isoformat())]
    if taken:
        raise SpecError(
            f"{suite.name} has a night of {today} already ({taken[-1]}), and a series has one "
            f"value a night: --resume {taken[-1]} goes on with it, --date gives this another date"
        )
    night_id = new_run_id(clock.now_utc())
    version = subjects.tonight()
    journal = Journal(home, suite.name, night_id)
    journal.append(
        clock.now_utc(),
        BEGUN,
        date=today.isoformat(),
        suite=hash_,
        suite_path=str(ask.suite),
        command=_command(),
        subject=version.name if version else "",
        slots=[slot.name for slot in slots_of(suite)],
    )
    return Begun(
        night_id=night_id,
        date=today,
        suite=suite,
        suite_hash=hash_,
        subjects=subjects,
        version=version,
        journal=journal,
        begun_at=clock.now_utc(),
        suite_path=str(ask.suite),
        command=_command(),
    )


def _command() -> str:
    """The one that makes the night: going on with it makes no other."""
    return command_again(flags=("--resume-or-start",), options=("--resume",))


def across_label(suite: str) -> str:
    """What runs of versions in pairs are filed under: they are no night of the suite's history."""
    return f"{suite}{_ACROSS}"


def is_across(label: str) -> bool:
    return label.endswith(_ACROSS)


def past_runs(store: FileStore, suite: Suite) -> dict[str, list[RunRecord]]:
    """Earlier records of the suite's series, by name, as the index has them: of its nights and of
    versions in pairs."""
    index = fresh_index(store)
    found: dict[str, list[RunRecord]] = {}
    for label in (suite.name, across_label(suite.name)):
        for runs in nights_in(index, label).values():
            for run in runs:
                found.setdefault(run.series, []).append(run.record)
    return found


def runs_of_night(index: RunIndex, suite: str, night_id: str) -> tuple[NightRun, ...]:
    """As the index has them."""
    return nights_in(index, suite, NIGHT, night_id).get(night_id, ())


def suite_hash(suite: Suite) -> str:
    """Of everything that decides which runs a night has."""
    return stable_hash(
        [
            [one.name, one.repeats, one.metrics, spec_to_mapping(one.spec)]
            for one in (*suite.series, *suite.canaries)
        ]
    )


def _to_resume(ask: NightAsk, home: Path, suite: Suite) -> str:
    """The night's id; "" where there is none and another may be begun."""
    kept = nights_kept(home, suite.name)
    if ask.resume and ask.resume != "last":
        found = [night for night in kept if night.startswith(ask.resume)]
        if len(found) == 1:
            return found[0]
        raise SpecError(
            f"--resume {ask.resume}: {len(found)} nights of {suite.name} begin so; the latest are "
            f"{', '.join(kept[-3:]) or 'none'}"
        )
    said = {n: Journal(home, suite.name, n).read() for n in kept}
    open_ = [n for n in kept if not said[n].all(ENDED)]
    if ask.or_start:
        # A timer that meets the rest of a suite that has changed since begins another night.
        same = suite_hash(suite)
        begun = {n: said[n].last(BEGUN) for n in open_}
        open_ = [n for n in open_ if (b := begun[n]) is not None and b["suite"] == same]
        return open_[-1] if open_ else ""
    if open_:
        return open_[-1]
    raise SpecError(
        f"no night of {suite.name} was left unfinished under {home}; leave --resume out"
    )


def _resumed(
    ask: NightAsk,
    suite: Suite,
    hash_: str,
    subjects: Subjects,
    night_id: str,
    home: Path,
    earlier: Sequence[NightRun],
) -> Begun:
    journal = Journal(home, suite.name, night_id)
    told: Told = journal.read()
    begun = told.last(BEGUN)
    if begun is None:
        raise SpecError(
            f"the journal of night {night_id} does not say how it began: {journal.path}"
        )
    if begun["suite"] != hash_:
        raise SpecError(
            f"the suite {suite.name} has changed since night {night_id} began; its rest would not "
            "be the same night. Put the suite back, or begin another night with --date"
        )
    return Begun(
        night_id=night_id,
        date=date.fromisoformat(begun["date"]),
        suite=suite,
        suite_hash=hash_,
        subjects=subjects,
        version=subjects.version(begun["subject"]) if begun["subject"] else None,
        journal=journal,
        begun_at=next(e.at for e in told.entries if e.event == BEGUN),
        suite_path=begun.get("suite_path", str(ask.suite)),
        command=begun.get("command") or _command(),
        earlier=tuple(earlier),
    )


@contextmanager
def at_work(
    ask: NightAsk, begun: Begun, store: FileStore, clock: Clock, shown: Shown
) -> Iterator[Night]:
    """The night with everything that its runs stand on, and what was made of it before."""
    with night_at_work(
        ask,
        store,
        clock,
        shown,
        suite=begun.suite,
        subjects=begun.subjects,
        version=begun.version,
        night_id=begun.night_id,
        on=begun.date,
        journal=begun.journal,
        begun_at=begun.begun_at,
    ) as night:
        night.resume(runs_of_night(fresh_index(store), begun.suite.name, begun.night_id))
        yield night


@contextmanager
def night_at_work(
    ask: NightAsk,
    store: FileStore,
    clock: Clock,
    shown: Shown,
    *,
    suite: Suite,
    subjects: Subjects,
    version: Version | None,
    night_id: str,
    on: date,
    journal: Journal,
    begun_at: datetime,
    filed_under: str = "",
) -> Iterator[Night]:
    """On the Ray cluster that ``ask`` names; runs whose driver died are sealed first."""
    for record in seal_lost(store, clock):
        shown.phase("lost", f"sealed {record.run_id} ({record.name}): its driver died")
    with deployer(ask.ray, ask.pools, clock, shown) as ours:
        night = Night(
            night_id=night_id,
            date=on,
            suite=suite,
            subjects=subjects,
            version=version,
            context=run_context(ours, store, clock, shown, ask.prices),
            journal=journal,
            filed_under=filed_under,
        )
        # A night that was killed has spent the time until now, whatever it did with it.
        night.spent.begun_s = clock.monotonic_s() - (clock.now_utc() - begun_at).total_seconds()
        yield night


def run_suite(ask: NightAsk, night: Night, store: FileStore, shown: Shown) -> None:
    """Every slot of the night, lanes at once where there are several."""
    context, suite = night.context, night.suite
    prices = read_prices(ask.prices) if ask.prices else None
    pools = pools_of(suite, context.deployer.inventory(), prices)
    for name in without_canary(suite, pools):
        shown.phase("canary", f"{name}: no canary runs on its pools")
    lanes = lanes_of(slots_of(suite), pools)
    if len(lanes) == 1:
        for _ in night.run(lanes[0]):
            pass
        return
    run_lanes([_lane(ask, night, lane, pools, store) for lane in lanes], shown)
    night.made.clear()
    night.resume(runs_of_night(fresh_index(store), suite.name, night.night_id))


def _lane(
    ask: NightAsk,
    night: Night,
    lane: Sequence[Slot],
    pools: dict[str, frozenset[str]],
    store: FileStore,
) -> LaneAsk:
    from harness.on_ray.gcs import gcs_address

    series = tuple(dict.fromkeys(slot.series.name for slot in lane))
    where = sorted({pool for name in series for pool in pools.get(name, ())})
    return LaneAsk(
        name=", ".join(where) or "elsewhere",
        suite=str(ask.suite),
        overrides=ask.overrides,
        night_id=night.night_id,
        date=night.date.isoformat(),
        begun_s=night.spent.begun_s,
        series=series,
        subject=night.version.name if night.version else "",
        ray=gcs_address() if ask.ray == "local" else ask.ray,
        store=store.url,
        prices=str(ask.prices or ""),
    )


def confirm_suspicions(night: Night, store: FileStore) -> None:
    """Good against new for what tonight's history suspects, as far as the budget goes."""
    from harness.cli.nightly_tell import read_nights, told_of
    from reports.night_told import comparison_of, good_run, pair_name, to_confirm, undecided

    kept = read_nights(store, night.suite.name)
    told = told_of(kept, night.night_id, night.journal, night.suite.name, night.date)
    every = [run for runs in kept.nights.values() for run in runs]
    for group in to_confirm(told, night.suite.spec.confirm.max_suspects):
        name = pair_name(group[0])
        good = good_run(group, every)
        if good is None:
            night.leave_out(f"{name} (confirming)", "no run of a good night is left to put back")
            continue
        try:
            duel = duel_of(night, name, night.suite.named(group[0].name), good)
        except HarnessError as error:  # the good night's version is gone, or no room for it
            night.leave_out(f"{name} (confirming)", str(error))
            continue
        if duel.is_same:
            why = "nothing that the suite names differs from the good night: nothing to put back"
            night.leave_out(f"{name} (confirming)", why)
            continue
        for _ in fight(night, duel, lambda runs, g=group: not undecided(comparison_of(runs), g)):  # type: ignore[misc]
            pass
