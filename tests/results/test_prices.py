"""What the table does not say has no price."""

from __future__ import annotations

import pickle
from datetime import date

from results.prices import PriceTable

TABLE = PriceTable(
    as_of=date(2026, 10, 1),
    source="our contract",
    usd_per_chip_hour={
        "L4": {"on-demand": 0.7, "spot": 0.28},
        "TPU-V6E": {"reservation": 1.0, "flex-start": 0.0},
    },
)


def test_a_table_is_asked_in_any_spelling() -> None:
    assert TABLE.price("L4", "spot") == 0.28
    assert TABLE.price("l4", "on-demand") == 0.7
    assert TABLE.price("tpu_v6e", "reservation") == 1.0


def test_unknown_is_none_and_free_is_zero() -> None:
    assert TABLE.price("H100", "spot") is None
    assert TABLE.price("L4", "reservation") is None
    assert TABLE.price("TPU-V6E", "flex-start") == 0.0
    assert PriceTable(as_of=date(2026, 10, 1), source="x").price("L4", "spot") is None


def test_a_table_pickles() -> None:
    assert pickle.loads(pickle.dumps(TABLE)) == TABLE
