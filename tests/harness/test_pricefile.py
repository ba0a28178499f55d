"""A price file is read as strictly as a spec."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.pricefile import read_prices
from results.prices import PriceTable

GOOD = """\
as_of: 2026-10-01
source: our contract
usd_per_chip_hour:
  L4: {on-demand: 0.7, spot: 0.28}
  TPU-V6E:
    reservation: 1
    flex-start: 0
"""


def test_a_table_is_read(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(GOOD)
    assert read_prices(str(file)) == PriceTable(
        as_of=date(2026, 10, 1),
        source="our contract",
        usd_per_chip_hour={
            "L4": {"on-demand": 0.7, "spot": 0.28},
            "TPU-V6E": {"reservation": 1.0, "flex-start": 0.0},
        },
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "p.yaml:1: found a list; accepted: a mapping with the keys as_of, source, usd_"),
        (GOOD + "eur: 1\n", "p.yaml:8: eur: unknown key; accepted: as_of, source"),
        (GOOD.replace("2026-10-01", "2026-13-01"), 'p.yaml:1: as_of: found text "2026-13-01"; '),
        (GOOD.replace("as_of: 2026-10-01\n", ""), "p.yaml:1: as_of: is missing; accepted: date"),
        (GOOD.replace("our contract", "''"), "p.yaml:2: source: is empty; say where the prices"),
        (GOOD.replace("0.7", "-0.7"), "p.yaml:4: usd_per_chip_hour.L4.on-demand: found number -0"),
        (GOOD.replace("0.7", ".nan"), "p.yaml:4: usd_per_chip_hour.L4.on-demand: found .nan; on"),
        (GOOD.replace("0.7", "'0.7'"), 'on-demand: found text "0.7"; accepted: number'),
        (GOOD.replace("0.7", "true"), "on-demand: found true; accepted: number"),
        (GOOD.replace("on-demand", "on_demand"), "on_demand: no capacity type; did you mean on-d"),
        (GOOD + "  l4: {spot: 1}\n", "p.yaml:8: usd_per_chip_hour.l4: is there already, as L4"),
        (GOOD + "  L4: {spot: 1}\n", "p.yaml:8: usd_per_chip_hour.L4: written twice"),
        (GOOD + "  H100: 3\n", "p.yaml:8: usd_per_chip_hour.H100: found integer 3; accepted: a "),
    ],
)
def test_what_is_no_price_table(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_prices(str(file))
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        read_prices(str(tmp_path / "nowhere.yaml"))
