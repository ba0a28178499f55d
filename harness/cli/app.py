"""``windtunnel``: the one door. Each command's module says what it does and how it fails.

A command's module is imported only when it is asked for: ``bench`` is to have sent its first
request before all of them together would have been imported.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from harness import __version__
from harness.cli.again import typed
from harness.cli.defects import tell_defect
from harness.cli.exits import (
    Exit,
    Interrupted,
    interrupt_on_sigterm,
    lose_no_interrupt,
    print_error,
)

# name → where it is, as module:attribute under harness.cli, in the order of --help
COMMANDS = {
    "doctor": "doctor:doctor",
    "plan": "plan:plan",
    "run": "run:run",
    "bench": "bench:bench",
    "capacity": "capacity:capacity",
    "sweep": "sweep:sweep",
    "tune": "tune:tune",
    "scale": "scale_door:scale",
    "collectives": "collectives:collectives",
    "recommend": "recommend:recommend",
    "manifest": "manifest:manifest",
    "compare-pools": "compare_pools:compare_pools",
    "forecast": "forecast:forecast",
    "nightly": "nightly:nightly",
    "bisect": "halving:bisect_",
    "report": "report:report",
    "compare": "compare:compare",
    "selftest": "selftest:selftest",
    "serve": "serve:serve",
    "import": "interop:import_",
    "export": "interop:export",
}
GROUPS = {
    "runs": "runs:app",
    "nights": "nights:app",
    "study": "study:app",
    "store": "store:app",
    "model": "model:app",
    "spec": "spec:app",
}


def _version(wanted: bool) -> None:
    if wanted:
        print(f"windtunnel {__version__}")  # noqa: T201
        raise typer.Exit()


def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Measure, compare and tune AI training and inference deployments."""


class _Told(TyperGroup):
    """Commands whose wrong options are a document, too, where one was asked for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["windtunnel.json"] = "--json" in args
        typed(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            as_json = ctx.meta["windtunnel.json"]
            message = getattr(error, "format_message", None)  # Click's own, and nobody else's
            if message is None:
                raise typer.Exit(tell_defect(error, as_json)) from error
            if as_json and ctx.parent is None:
                print_error(error, Exit.USAGE, message())
            raise


def app_with(only: str = "") -> typer.Typer:
    """The command line: all of it, or with the one command that is asked for."""
    made = typer.Typer(
        name="windtunnel",
        cls=_Told,
        help="Measure, compare and tune AI training and inference deployments.",
        epilog="Exit codes: 0 ok · 1 regression · 2 usage · 3 infrastructure, or a defect · "
        "4 inconclusive or invalid · 130 stopped by the user.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    made.callback()(root)
    for name, place in COMMANDS.items():
        if only in ("", name):
            made.command(name)(_found(place))
    for name, place in GROUPS.items():
        if only in ("", name):
            made.add_typer(_found(place), name=name)
    return made


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"harness.cli.{module}"), name)


def __getattr__(name: str) -> typer.Typer:
    """``app``, the whole command line, for those who look at it (tests, ``make docs``)."""
    if name != "app":
        raise AttributeError(name)
    made = globals()["app"] = app_with()
    return made


def __dir__() -> list[str]:
    return [*globals(), "app"]


def main() -> None:
    interrupt_on_sigterm()
    lose_no_interrupt()
    word = next((w for w in sys.argv[1:] if not w.startswith("-")), "")
    try:
        app_with(word if word in COMMANDS or word in GROUPS else "")()
    except KeyboardInterrupt:  # before a command could take it: the imports of one take a second
        if "--json" in sys.argv:
            print_error(Interrupted(), Exit.INTERRUPTED)
        sys.exit(Exit.INTERRUPTED)
    except Exception as error:  # while the command's module was imported
        sys.exit(tell_defect(error, "--json" in sys.argv))
    except SystemExit as leaving:
        if leaving.code == Exit.INTERRUPTED:  # another Ctrl-C now would end us in the middle of it
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise
