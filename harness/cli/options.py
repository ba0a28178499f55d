"""Options that several commands share, declared once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.settings import read_settings
from results.environment import stable_hash

if TYPE_CHECKING:
    from results.store_files import FileStore
    from results.store_index import RunIndex

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
SpecPath = Annotated[
    Path, typer.Argument(metavar="SPEC", help="A YAML file of one or more run specs.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=c", help="Override a field of the spec; may be repeated."),
]
Ray = Annotated[
    str,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="local: start our own Ray. auto: join the cluster of this machine. ray://…: a remote.",
    ),
]
Pools = Annotated[
    Path | None,
    typer.Option("--pools", metavar="FILE", help="Virtual pools for --ray local; see docs."),
]
Prices = Annotated[
    Path | None,
    typer.Option("--prices", metavar="FILE", help="YAML: accelerator → capacity → USD/chip-hour."),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Folder or bucket of records. Default: $WINDTUNNEL_STORE or var/store.",
    ),
]


def store_of(url: str | None) -> FileStore:
    """The store that the option, the environment or the default names."""
    from results.store_files import FileStore  # brings pydantic and Parquet

    return FileStore(url or read_settings().store_url)


def index_of(store: FileStore) -> RunIndex:
    """The store's index: beside a local store that can be written, under our own home for any
    other. Whoever asks is told when it had to be made anew, or cannot be kept."""
    from results.store_index import RunIndex
    from results.store_objects import LocalObjects

    if isinstance(store.objects, LocalObjects):
        root = store.objects.root
        if not root.is_dir() or os.access(root, os.W_OK):
            return RunIndex(store, say=_say)
    name = f"{stable_hash(store.url)}.sqlite"
    return RunIndex(store, read_settings().home / "indexes" / name, say=_say)


def fresh_index(store: FileStore) -> RunIndex:
    """``index_of``, brought up to date with the store."""
    index = index_of(store)
    index.refresh()
    return index


def tell_torn(num_torn: int) -> None:
    """Nothing, where all can be read."""
    if num_torn:
        _say(f"{num_torn} objects of the store are unreadable; see `windtunnel store check`")


def _say(text: str) -> None:
    from harness.cli.output import stderr

    stderr().print(text, markup=False)
