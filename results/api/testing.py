"""For tests: the application on a real port, in a thread of the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from results.api.guard import App
from results.api.server import listening, server_of, url_of
from results.lookup.table import TableLookup

_END_S = 20.0


@contextmanager
def served(app: App) -> Iterator[str]:
    """The URL of ``app`` on a port of the system's choice; it has ended when the block has."""
    sock = listening("127.0.0.1", 0)
    server = server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="lookup")
    thread.start()
    try:
        yield url_of(sock)
    finally:
        server.should_exit = True
        thread.join(_END_S)
        if thread.is_alive():
            raise RuntimeError(f"the server did not end within {_END_S:g} s")


class Swappable:
    """A source whose newest snapshot is whatever ``lookup`` is; an exception is raised instead."""

    def __init__(self, lookup: TableLookup) -> None:
        self.lookup: TableLookup | Exception = lookup

    def load(self) -> TableLookup:
        if isinstance(self.lookup, Exception):
            raise self.lookup
        return self.lookup

    def close(self) -> None:
        pass
