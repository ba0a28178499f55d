from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from results.ahead import ahead


@pytest.mark.parametrize("at_once", [1, 4])
def test_all_come_in_order_and_an_error_in_its_place(at_once: int) -> None:
    assert list(ahead(lambda n: n * n, range(50), at_once)) == [n * n for n in range(50)]
    found = ahead(lambda n: 1 // (n - 2), range(5), at_once)
    assert [next(found), next(found)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_so_many_are_under_way_together() -> None:
    together = threading.Barrier(4, timeout=10.0)  # breaks unless four wait at once
    assert len(list(ahead(lambda _: together.wait(), range(8), 4))) == 8


@pytest.mark.parametrize("at_once", [1, 4])
def test_no_more_is_begun_than_is_asked_for(at_once: int) -> None:
    begun = []

    def items() -> Iterator[int]:
        for n in range(1000):
            begun.append(n)
            yield n

    found = ahead(lambda n: n, items(), at_once)
    assert next(found) == 0
    assert len(begun) <= 2 * at_once
