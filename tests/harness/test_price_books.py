"""Prices by region, machine and way to pay; from YAML and CSV; the user's own come first."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.pricefile import read_price_book
from results.prices import machines_needed, region_of
from results.recommendation.profile import Machine, Price

LIST = """\
as_of: 2026-10-01
source: list prices
usd_per_chip_hour: {H100: {on-demand: 4.0, spot: 2.0, 3-year-cud: 1.8}}
usd_per_machine_hour: {a3-highgpu-8g: {on-demand: 30.0}}
regions:
  europe-west4:
    usd_per_chip_hour: {H100: {on-demand: 4.4}}
"""
CSV = """\
as_of,source,region,machine_type,accelerator,capacity,usd_per_hour
2026-11-01,our contract,,,h100,on-demand,3.0
2026-11-02,other,europe-west4,ct6e-standard-4t,,spot,5.5
"""


def machine(**changes: object) -> Machine:
    return Machine(**{"accelerator": "H100", "num_chips": 2, **changes})  # type: ignore[arg-type]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "list.yaml", tmp_path / "ours.csv"]
    for path, text in zip(paths, (LIST, CSV), strict=True):
        path.write_text(text)
    return paths


def found(price: Price | str) -> tuple[float, str, str]:
    assert isinstance(price, Price), price
    return price.usd_per_hour, price.region, price.source


def test_a_region_comes_before_every_region_and_a_machine_before_its_chips(
    files: list[Path],
) -> None:
    book = read_price_book(files[:1])
    assert found(book.find(machine(), "on-demand")) == (8.0, "", "list prices")
    assert found(book.find(machine(), "on-demand", "europe-west4"))[:2] == (8.8, "europe-west4")
    assert found(book.find(machine(), "spot", "europe-west4"))[:2] == (4.0, "")
    assert found(book.find(machine(), "3-year-cud"))[0] == 3.6
    whole = machine(machine_type="a3-highgpu-8g", num_chips=12)
    assert found(book.find(whole, "on-demand"))[0] == 60.0  # two machines
    assert found(book.find(whole, "spot"))[0] == 24.0  # no machine price as spot: by chips


def test_the_users_own_table_comes_first(files: list[Path]) -> None:
    book = read_price_book(files)
    assert found(book.find(machine(), "on-demand")) == (6.0, "", "our contract")
    assert found(book.find(machine(), "spot"))[2] == "list prices"
    tpu = Machine(accelerator="TPU-V6E", num_chips=4, machine_type="ct6e-standard-4t")
    assert found(book.find(tpu, "spot", "europe-west4")) == (5.5, "europe-west4", "other")
    assert "no table has a price of TPU-V6E" in str(book.find(tpu, "spot"))


def test_no_price_says_why(files: list[Path]) -> None:
    book = read_price_book(files)
    assert "virtual" in str(book.find(machine(virtual=True), "spot"))
    assert "machine type is not known" in str(
        book.find(Machine(accelerator="cpu", num_chips=0), "spot")
    )
    assert book.find(machine(), "flex-start") == "no table has a price of H100 as flex-start"
    assert read_price_book([]).find(machine(), "spot") == "no price table was given"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,2\n", "1: no column as_of, source"),
        (CSV.replace("2026-11-01", "soon"), "2: as_of: found text"),
        (CSV.replace("our contract", " "), "2: source: is empty"),
        (CSV.replace(",h100,", ",,"), "2: machine_type, accelerator: one of them"),
        (CSV.replace("on-demand", "ondemand"), "2: capacity: "),
        (CSV.replace("5.5", "-1"), "3: usd_per_hour: found text"),
        (CSV.replace("5.5", "nan"), "3: usd_per_hour: found text"),
        (CSV.replace(",5.5", ""), "3: has not as many columns"),
    ],
)
def test_a_csv_is_read_as_strictly(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_price_book([path])
    assert f"{path}:{expected}" in str(caught.value)


def test_names_of_machines_and_zones() -> None:
    assert machines_needed(machine(machine_type="a3-highgpu-8g", num_chips=8)) == 1
    assert machines_needed(machine(machine_type="n2-standard-8")) is None
    assert machines_needed(Machine(accelerator="cpu", num_chips=0)) == 1
    assert region_of("us-central1-b") == "us-central1"
    assert region_of("rack") == region_of("") == region_of("us-central1") == ""
