"""The command line of the golden server."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from workloads.simulated.answers import Behaviour
from workloads.simulated.golden_server import GoldenServer
from workloads.simulated.lifecycle import add_lifecycle_options, run_server

# Told in milliseconds, with ``-ms`` in place of ``-s``.
IN_MS = ("ttft_s", "itl_s")


def parser() -> argparse.ArgumentParser:
    """One option per field of ``Behaviour``; seconds become milliseconds, switches are bare."""
    made = argparse.ArgumentParser(
        prog="python -m workloads.simulated.golden_server",
        description="A simulated OpenAI-compatible server with exact timings and faults.",
    )
    add_lifecycle_options(made)
    made.add_argument(
        "--noop",
        action="store_true",
        help="do nothing: every answer at once, in one write, and nothing written down",
    )
    kinds = {"int": int, "int | None": int, "float": float, "str": str}
    for f in dataclasses.fields(Behaviour):
        name = "--" + f.name.replace("_", "-")
        if f.type == "bool" and f.default is False:
            made.add_argument(name, action="store_true")
        elif f.type == "bool":
            made.add_argument(name, action=argparse.BooleanOptionalAction, default=f.default)
        elif f.name in IN_MS:
            default_ms = float(str(f.default)) * 1e3
            made.add_argument(name[:-2] + "-ms", type=float, default=default_ms)
        else:
            made.add_argument(name, type=kinds[str(f.type)], default=f.default)
    return made


def behaviour_of(options: argparse.Namespace) -> Behaviour:
    fields = dataclasses.fields(Behaviour)
    values: dict[str, Any] = {f.name: getattr(options, f.name, None) for f in fields}
    values |= {name: getattr(options, f"{name[:-2]}_ms") / 1e3 for name in IN_MS}
    if options.noop:
        values |= {"ttft_s": 0.0, "itl_s": 0.0, "keeps_log": False}
    return Behaviour(**values)


def main(argv: Sequence[str] | None = None) -> None:
    options = parser().parse_args(argv)
    behaviour = behaviour_of(options)
    run_server(
        "simulated golden server",
        options,
        lambda port, sock: GoldenServer(behaviour=behaviour, port=port, host=options.host).serving(
            sock
        ),
    )
