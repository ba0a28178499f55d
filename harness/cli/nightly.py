"""``windtunnel nightly``: run a suite beside its canaries, confirm what moved, tell it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from harness.cli.exits import Exit, told
from harness.cli.live import progress
from harness.cli.load_options import with_groups
from harness.cli.nightly_options import Calibration, Sitting, SuitePath, Telling, Versions
from harness.cli.nightly_work import (
    ENDED,
    NightAsk,
    at_work,
    begin,
    confirm_suspicions,
    past_runs,
    run_suite,
)
from harness.cli.options import (
    Json,
    Overrides,
    Pools,
    Prices,
    Quiet,
    Ray,
    Store,
    store_of,
)
from harness.cli.output import print_json, stderr, stdout
from harness.cli.session import inventory_of, price_table
from harness.errors import SpecError
from harness.nightly.journal import alone
from harness.nightly.night import pools_of
from harness.nightly.order import lanes_of, slots_of, without_canary
from harness.nightly.outlook import Outlook, outlook_of
from harness.nightly.suite import Suite, read_suite
from harness.settings import read_settings
from results.clock import SystemClock
from results.store_files import FileStore
from results.units import counted, format_change, format_value

if TYPE_CHECKING:
    from harness.cli.nightly_send import Published
    from reports.night_told import NightTold


@with_groups
def nightly(
    *,
    suite: SuitePath = None,
    sitting: Sitting,
    versions: Versions,
    calibration: Calibration,
    telling: Telling,
    override: Overrides = None,
    ray: Ray = "local",
    pools: Pools = None,
    prices: Prices = None,
    store: Store = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run the suite beside its canaries, confirm in pairs what the history suspects, and tell it.

    Only what was measured again, good against new, is called a regression; what moved with the
    canary is called the environment's. A killed night goes on with --resume last.

    Exit codes: 1 a regression is confirmed, 4 something is open, 3 not everything ran.

    Examples: `windtunnel nightly examples/nightly/suite.yaml --dry-run`,
    `windtunnel nightly examples/nightly/suite.yaml`,
    `windtunnel nightly examples/nightly/suite.yaml --resume last`
    """
    with told(as_json):
        if calibration.calibrate:
            code = _calibrated(calibration, as_json, quiet)
            raise typer.Exit(code)
        if suite is None:
            raise SpecError("nightly takes a SUITE: a YAML file with its runs; or --calibrate")
        ask = NightAsk(
            suite=suite,
            overrides=tuple(override or ()),
            on=_date(sitting.on),
            resume=sitting.resume,
            or_start=sitting.resume_or_start,
            ray=ray,
            pools=pools,
            prices=prices,
        )
        code = _asked(ask, sitting, versions, telling, store_of(store), quiet, as_json)
    raise typer.Exit(code)


def _asked(
    ask: NightAsk,
    sitting: Sitting,
    versions: Versions,
    telling: Telling,
    store: FileStore,
    quiet: bool,
    as_json: bool,
) -> Exit:
    if versions.across is not None:
        from harness.cli.versions import across

        good, new = versions.across
        return across(
            ask,
            good,
            new,
            versions.only,
            store,
            dry_run=sitting.dry_run,
            quiet=quiet,
            as_json=as_json,
        )
    if sitting.dry_run:
        _tell_outlook(ask, store, quiet, as_json)
        return Exit.OK
    telling.checked()
    store.prepare()
    from harness.cli.nightly_send import say_unsent

    told_night, done = _night(ask, store, telling, confirm=sitting.confirm, quiet=quiet)
    say_unsent(done, told_night, telling)
    return _tell(told_night, done, as_json)


def _calibrated(asked: Calibration, as_json: bool, quiet: bool) -> Exit:
    from harness.cli.nightly_calibrate import calibrate

    kept = calibrate(asked.num_series, asked.seed, as_json=as_json, quiet=quiet)
    return Exit.OK if kept else Exit.INVALID


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise SpecError(f"--date {text}: accepted: a day as 2026-11-24") from None


def _night(
    ask: NightAsk, store: FileStore, telling: Telling, *, confirm: bool, quiet: bool
) -> tuple[NightTold, Published]:
    from harness.cli.nightly_flags import flag_evidence
    from harness.cli.nightly_send import publish
    from harness.cli.nightly_tell import read_nights, told_of

    clock, home = SystemClock(), read_settings().home
    with ExitStack() as stack:
        shown = stack.enter_context(progress(stderr(), clock, quiet))
        stack.enter_context(alone(home, f"a night of {ask.suite}"))
        begun = begin(ask, home, store, clock)
        stack.callback(begun.subjects.clean)
        shown.phase("night", f"night {begun.night_id} of {begun.suite.name}")
        with at_work(ask, begun, store, clock, shown) as night:
            run_suite(ask, night, store, shown)
            if confirm:
                confirm_suspicions(night, store)
        shown.phase("page", "writing the page")
        kept = read_nights(store, begun.suite.name)
        told_night = told_of(kept, begun.night_id, begun.journal, begun.suite.name, begun.date)
        num = flag_evidence(told_night, store, begun.journal, clock)
        if num:
            shown.phase("flags", f"{num} earlier runs are flagged as evidence that has drifted")
        done = publish(told_night, telling, begun.command)
        # What was measured is kept, whatever arrived: the next night is another one.
        unsent = [asdict(one) for one in done.unsent]
        begun.journal.append(clock.now_utc(), ENDED, page=done.page, unsent=unsent)
    return told_night, done


def _tell(night: NightTold, done: Published, as_json: bool) -> Exit:
    from harness.cli.nightly_tell import exit_of
    from reports.night_outputs import SCHEMA, night_document
    from reports.night_report import night_sentence

    if as_json:
        unsent = [asdict(one) for one in done.unsent]
        print_json(SCHEMA, {**night_document(night), "page": done.page, "unsent": unsent})
        return exit_of(night, len(unsent))
    console = stdout()
    sentence = night_sentence(night)
    console.print(f"{sentence[0].upper()}{sentence[1:]}", style="bold")
    for decision in night.decisions:
        s = decision.suspicion
        console.print(
            f"{decision.finding.value}: {s.series} {format_change(s.change)} since {s.likely}; "
            f"{decision.why}",
            markup=False,
        )
    for one in night.left_out:
        console.print(f"did not run: {one.what}: {one.why}", markup=False)
    if done.page:
        console.print(f"page  {done.page}", markup=False)
    return exit_of(night, len(done.unsent))


# ---- what it would take ----


def _tell_outlook(ask: NightAsk, store: FileStore, quiet: bool, as_json: bool) -> None:
    suite = read_suite(ask.suite, ask.overrides)
    inventory = inventory_of(ask.ray, ask.pools, stderr(), quiet)
    prices = price_table(ask.prices)
    pools = pools_of(suite, inventory, prices)
    lanes = lanes_of(slots_of(suite), pools)
    outlook = outlook_of(lanes, past_runs(store, suite), inventory, prices)
    unwatched = without_canary(suite, pools)
    if as_json:
        body = {"suite": suite.name, **asdict(outlook), "without_canary": unwatched}
        print_json("windtunnel.nightly-plan/1", body)
        return
    _print_outlook(suite, outlook, unwatched)


def _print_outlook(suite: Suite, outlook: Outlook, unwatched: tuple[str, ...]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("series", "role", "runs", "pool", "chips", "each", "chip-hours", "USD"):
        table.add_column(name, justify="left" if name in ("series", "role", "pool") else "right")
    for one in outlook.series:
        each = "?" if one.run_s is None else format_value(one.run_s, "s")
        table.add_row(
            one.series,
            one.role,
            str(one.num_runs),
            one.pool or "none",
            str(one.num_chips),
            each if one.from_runs or one.run_s is None else f"{each} + startup",
            _number(one.chip_hours),
            _number(one.usd),
        )
    console = stdout()
    console.print(f"\n{suite.name}", style="bold", end="")
    console.print(f"  {counted(outlook.num_runs, 'run')}", end="")
    console.print(f" in {counted(outlook.num_lanes, 'lane')}")
    console.print(table)
    cost = "no price known" if outlook.usd is None else f"{outlook.usd:.2f} USD"
    console.print(
        f"at least {format_value(outlook.wall_s, 's')}, {outlook.chip_hours:.3g} chip-hours, {cost}"
        ", confirming not counted"
    )
    for one in outlook.series:
        if one.refused:
            console.print(f"  {one.series} cannot be placed: {one.refused}", markup=False)
    if outlook.unknown:
        console.print(f"  never run before: {', '.join(outlook.unknown)}")
    if unwatched:
        console.print(
            f"  no canary runs on the pools of {', '.join(unwatched)}: what moves there cannot be "
            "told from the machine"
        )


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g}"
