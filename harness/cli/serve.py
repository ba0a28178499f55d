"""``windtunnel serve``: the recommendations over HTTP, with a page for people."""

from __future__ import annotations

import gc
import logging
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from harness import __version__
from harness.cli.exits import told
from harness.cli.lookups import price_book
from harness.cli.options import Json, Store, index_of, store_of
from harness.cli.output import print_json, stderr, stdout
from harness.cli.question_options import PriceFiles
from harness.cli.table_source import TableSource
from harness.errors import SpecError
from harness.settings import secret
from results.clock import SystemClock
from results.recommendation.lookup import Lookup
from results.store_files import FileStore

TOKEN_VARIABLE = "WINDTUNNEL_TOKEN"
DEFAULT_PORT = 8423
_RARELY = (50_000, 20, 20)  # new objects for a young collection; those for an older; for all
_SWITCH_S = 0.0005
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")
    ] = DEFAULT_PORT,
    store: Store = None,
    prices: PriceFiles = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"A bearer token that every request must carry; else ${TOKEN_VARIABLE}, if set.",
        ),
    ] = None,
    reload_every: Annotated[
        float,
        typer.Option(min=0.0, metavar="SECONDS", help="Look for new records so often; 0: never."),
    ] = 30.0,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Listen beyond this machine without a token.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve recommendations over HTTP, read-only, and a page at / to ask them on.

    Answers come from one snapshot of the store, and a newer one takes over between two requests.
    The routes of the GKE Inference Quickstart are there, too. Ctrl-C ends it.

    Examples: `windtunnel serve --prices prices.yaml` ·
    `windtunnel serve --host 0.0.0.0 --port 80 --token-file /run/secrets/token`
    """
    with told(as_json):
        token = _token(token_file)
        if not token and not no_token and not _is_loopback(host):
            raise SpecError(
                f"--host {host} can be reached from other machines, and no token is asked for; "
                f"give --token-file FILE or ${TOKEN_VARIABLE}, or say --no-token"
            )
        kept = store_of(store)
        _run(kept, TableSource(kept, price_book(prices)), host, port, token, reload_every, as_json)


def _run(
    store: FileStore,
    source: TableSource,
    host: str,
    port: int,
    token: str,
    reload_every_s: float,
    as_json: bool,
) -> None:
    # Half a second of imports that no other command needs.
    from results.api.app import ApiOptions, make_app
    from results.api.guard import Rules
    from results.api.runs import StoreRuns
    from results.api.server import listening, server_of, url_of
    from results.api.snapshots import Serving

    logging.basicConfig(format="windtunnel: %(message)s", stream=sys.stderr)
    sock = listening(host, port)
    serving = Serving(source, SystemClock(), _say_reload_failed)
    # Without a token a page of another site could ask us in its visitor's name, by a name of its
    # own that points here; with one it would not know it.
    hosts = _LOOPBACK_NAMES | {host} if _is_loopback(host) and not token else frozenset()
    options = ApiOptions(
        rules=Rules(token=token, hosts=hosts), reload_every_s=reload_every_s, version=__version__
    )
    url = url_of(sock)

    def ready() -> None:
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        # What an answer is made of has no cycles: looking for them between answers finds nothing.
        gc.set_threshold(*_RARELY)
        # A thread with work of its own keeps the loop waiting so long at every turn; 5 ms unless
        # said otherwise.
        sys.setswitchinterval(_SWITCH_S)
        _say_ready(url, serving.current.lookup, store, bool(token), as_json)

    app = make_app(serving, StoreRuns(store, index_of(store)), options, ready)
    try:
        server_of(app).run(sockets=[sock])
    except KeyboardInterrupt:  # how the server is meant to be ended
        stderr().print("stopped")


def _say_ready(url: str, lookup: Lookup, store: FileStore, has_token: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            "windtunnel.serve/1",
            {
                "url": url,
                "store": store.url,
                "snapshot_id": lookup.snapshot_id,
                "num_profiles": lookup.num_profiles,
                "token": has_token,
            },
        )
        return
    stdout().print(f"{url}   {lookup.num_profiles:,} profiles of {store.url}", markup=False)
    stderr().print("Ctrl-C ends it")


def _say_reload_failed(error: Exception) -> None:
    stderr().print(
        f"newer records could not be taken up, the older go on answering: {error}", markup=False
    )


def _token(path: Path | None) -> str:
    """What the file holds, else the variable's value; empty where neither is. Raises SpecError,
    without the token."""
    if path is None:
        return _one_word(secret(TOKEN_VARIABLE) or "", f"${TOKEN_VARIABLE}")
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "is no text"
        raise SpecError(f"--token-file {path}: {said}") from None
    if not token:
        raise SpecError(f"--token-file {path} is empty; put the token in its first line")
    return _one_word(token, f"--token-file {path}")


def _one_word(token: str, where: str) -> str:
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise SpecError(
            f"{where}: a token is one word of ASCII characters; look for a blank or a second line"
        )
    return token


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
