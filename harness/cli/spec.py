"""``windtunnel spec``: the language of specs, for editors."""

from __future__ import annotations

import json

import typer

from harness.specfile import spec_schema

app = typer.Typer(help="The language of specs.", no_args_is_help=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a run spec, so that an editor completes and checks it.

    Example: `windtunnel spec schema > run-spec.schema.json`
    """
    print(json.dumps(spec_schema(), indent=2))  # noqa: T201


@app.callback()
def group() -> None:
    """The language of specs."""
