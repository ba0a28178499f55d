"""Every error of ours survives the trip between processes, with its words."""

from __future__ import annotations

import importlib
import inspect
import pickle
from collections.abc import Iterator

import pytest

MODULES = ("harness.errors", "results.errors", "workloads.errors")


def errors() -> Iterator[type[Exception]]:
    for name in MODULES:
        module = importlib.import_module(name)
        for _, item in inspect.getmembers(module, inspect.isclass):
            if issubclass(item, Exception) and item.__module__ == name:
                yield item


@pytest.mark.parametrize("error", list(errors()), ids=lambda e: e.__name__)
def test_errors_survive_pickling(error: type[Exception]) -> None:
    # An error without an __init__ of its own takes its message alone.
    own = inspect.signature(error).parameters.values() if inspect.isfunction(error.__init__) else ()
    required = [p for p in own if p.default is p.empty]
    before = error(*[f"word {i}" for i in range(max(len(required), 1))])
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is error
    assert str(after) == str(before)
    assert after.__dict__ == before.__dict__


def test_the_tree_is_drawn_at_the_top() -> None:
    for name in MODULES:
        text = importlib.import_module(name).__doc__ or ""
        for error in errors():
            if error.__module__ == name:
                assert error.__name__ in text
