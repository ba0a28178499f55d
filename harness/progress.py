"""What a run tells the person who waits. Two methods; the command line decides how it looks."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """``phase`` says what has begun, in words; ``advance`` how far the present phase has come."""

    def phase(self, name: str, sentence: str) -> None: ...

    def advance(self, num_done: int, num_total: int, elapsed_s: float) -> None: ...


class Silent:
    """Says nothing: for libraries and tests."""

    def phase(self, name: str, sentence: str) -> None:
        """Nothing is shown."""

    def advance(self, num_done: int, num_total: int, elapsed_s: float) -> None:
        """Nothing is shown."""
