"""``windtunnel model``: model folders made here, for hosts that reach no hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.exits import told
from harness.cli.options import Json
from harness.cli.output import print_json, stdout
from harness.cli.tables import facts
from results.metrics import Unit
from results.units import format_value
from workloads.model_maker import make_model
from workloads.model_shape import PRESETS

app = typer.Typer(help="Model folders made here.", no_args_is_help=True)


@app.command()
def make(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write the folder.")],
    preset: Annotated[str, typer.Option(help=f"Size: {', '.join(PRESETS)}.")] = "tiny-llama",
    seed: Annotated[int, typer.Option(help="Seed of weights and tokenizer text.")] = 0,
    as_json: Json = False,
) -> None:
    """Write a real Hugging Face model folder with random weights: same seed, same bytes.

    Example: `windtunnel model make --preset tiny-llama --seed 0 var/models/tiny`
    """
    with told(as_json):
        info = make_model(folder, preset=preset, seed=seed)
    if as_json:
        print_json(
            "windtunnel.model/1",
            {
                "path": str(info.path),
                "preset": preset,
                "seed": seed,
                "num_parameters": info.num_parameters,
                "size_bytes": info.size_bytes,
            },
        )
        return
    stdout().print(
        facts(
            [
                ("folder", str(info.path)),
                ("parameters", f"{info.num_parameters:,}"),
                ("size", format_value(info.size_bytes, Unit.BYTES)),
                ("serve it", f"model: {info.path} in a spec's workload"),
            ]
        )
    )


@app.callback()
def group() -> None:
    """Model folders made here, for hosts that reach no hub."""
