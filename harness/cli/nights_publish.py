"""``windtunnel nights publish``: the outputs of a night again, from its records; nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.exits import Exit, told
from harness.cli.load_options import with_groups
from harness.cli.nightly_options import Telling
from harness.cli.options import Json, Store, store_of
from harness.cli.output import print_json, stderr, stdout
from harness.errors import SpecError
from harness.settings import read_settings

if TYPE_CHECKING:
    from harness.cli.nightly_send import Published
    from harness.nightly.journal import Journal, Told
    from reports.night_told import NightTold
    from results.nights import NightRun
    from results.store_files import FileStore

_Night = Annotated[
    str, typer.Argument(metavar="NIGHT", help="Its date, its id or the id's beginning, or last.")
]
_Suite = Annotated[
    str,
    typer.Option("--suite", metavar="NAME", help="Whose night; needed where there are several."),
]


@with_groups
def publish(
    *,
    night: _Night = "last",
    suite: _Suite = "",
    telling: Telling,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Write and send a night's outputs again: what did not arrive, or what is asked for now.

    Nothing is measured; the same records give the same page. Exit code 3: something did not arrive.

    Examples: `windtunnel nights publish last --webhook-env SLACK_URL`,
    `windtunnel nights publish 2026-11-24 --publish gs://my-bucket/nights`
    """
    with told(as_json):
        telling.checked()
        night_told, done = _published(store_of(store), suite, night, telling)
        unsent = [asdict(one) for one in done.unsent]
        if as_json:
            body = {
                "suite": night_told.suite,
                "night": night_told.night_id,
                "date": night_told.date.isoformat(),
                "page": done.page,
                "unsent": unsent,
            }
            print_json("windtunnel.nights-publish/1", body)
        elif done.page:
            stdout().print(f"page  {done.page}", markup=False, soft_wrap=True)
    raise typer.Exit(Exit.INFRASTRUCTURE if unsent else Exit.OK)


def _published(
    store: FileStore, suite: str, night: str, telling: Telling
) -> tuple[NightTold, Published]:
    from harness.cli.nightly_send import publish as send
    from harness.cli.nightly_send import say_unsent
    from harness.cli.nightly_tell import read_nights, told_of
    from harness.cli.nightly_work import BEGUN, ENDED
    from harness.nightly.journal import Journal

    name = suite or _only_suite(store)
    kept, home = read_nights(store, name), read_settings().home
    found = _named(night, name, kept.nights)
    journal = Journal(home, name, found)
    said = journal.read()
    _say_of(journal, said)
    told_night = told_of(kept, found, journal, name, kept.nights[found][0].date)
    begun = said.last(BEGUN) or {}
    # A journal of an older version knows the suite's file alone.
    command = begun.get("command") or f"windtunnel nightly {begun.get('suite_path', 'SUITE')}"
    done = send(told_night, telling, command)
    say_unsent(done, told_night, telling)
    if said.entries and not said.all(ENDED):
        stderr().print(f"night {found} has not ended: windtunnel nightly … --resume {found}")
    return told_night, done


def _only_suite(store: FileStore) -> str:
    from harness.cli.nightly_work import is_across
    from harness.cli.options import fresh_index
    from results.nights import SUITE

    every = fresh_index(store).tag_values(SUITE)
    suites = sorted(name for name in every if not is_across(name))
    if len(suites) == 1:
        return suites[0]
    if not suites:
        raise SpecError(f"{store.url} holds no night")
    raise SpecError(f"--suite: {store.url} holds nights of {', '.join(suites)}; say which")


def _named(text: str, suite: str, nights: Mapping[str, Sequence[NightRun]]) -> str:
    """The night of that date, id, beginning of an id; or the last one."""
    if not nights:
        raise SpecError(f"the store holds no night of {suite}")
    if text == "last":
        return max(nights, key=lambda night: (nights[night][0].date, night))
    try:
        day = date.fromisoformat(text) if "-" in text and len(text) == 10 else None
    except ValueError:
        day = None
    found = [n for n, runs in nights.items() if runs[0].date == day or n.startswith(text)]
    if len(found) == 1:
        return found[0]
    latest = ", ".join(f"{runs[0].date} ({night})" for night, runs in list(nights.items())[-3:])
    how_many = f"{len(found)} nights" if found else "no night"
    raise SpecError(f"{how_many} of {suite} fits {text!r}; the latest are {latest}")


def _say_of(journal: Journal, said: Told) -> None:
    if not said.entries:
        stderr().print(
            f"the journal of the night is not here ({journal.path}): what did not run is not told",
            markup=False,
            soft_wrap=True,
        )
