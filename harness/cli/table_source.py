"""The store's recommendations for a service that goes on: brought up to date by a child process.

To take up new records every observation is held in memory at once, and every profile is made again.
In a process of its own that costs those who ask neither time nor memory.

    python -m harness.cli.table_source STORE-URL
"""

from __future__ import annotations

import os
import subprocess
import sys

from harness.cli.exits import told
from harness.cli.lookups import lookup_folder, refreshed
from harness.errors import HarnessError
from results.lookup.snapshot import current_id, readable_id
from results.lookup.table import TableLookup, open_lookup
from results.prices import PriceBook
from results.store_files import FileStore

_NICE = 10
_END_S = 5.0


class TableSource:
    """A ``results.api.snapshots.Source``. What a store has already is opened at once; the first
    look for newer records comes after it."""

    def __init__(self, store: FileStore, prices: PriceBook) -> None:
        self._url = store.url
        self._folder = lookup_folder(store)
        self._prices = prices
        self._opened = ""
        self._lookup: TableLookup | None = None
        self._child: subprocess.Popen[str] | None = None
        self._closed = False

    def load(self) -> TableLookup:
        """Raises HarnessError with the child's last words, and LookupUnreadable."""
        if self._lookup is not None or not readable_id(self._folder):
            self._refresh()
        newest = current_id(self._folder)
        if self._lookup is None or newest != self._opened:
            self._lookup, self._opened = open_lookup(self._folder, self._prices), newest
            self._lookup.snapshot.expect_all()
        return self._lookup

    def close(self) -> None:
        """A table half made is thrown away; the one that counts stays."""
        self._closed = True
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
            try:
                child.wait(_END_S)
            except subprocess.TimeoutExpired:
                child.kill()

    def _refresh(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "harness.cli.table_source", self._url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        _, said = self._child.communicate()
        if self._child.returncode and not self._closed:
            last = said.strip().splitlines()[-1:] or [f"exit code {self._child.returncode}"]
            raise HarnessError(
                f"the records of {self._url} could not be taken up: "
                + last[0].removeprefix("windtunnel: ")
            )


def main() -> None:
    os.nice(_NICE)
    with told():
        refreshed(FileStore(sys.argv[1]))


if __name__ == "__main__":
    main()
