"""What is said of a storage never has the password that its URL holds."""

from __future__ import annotations

import pytest

from tuners.storage_url import shown_storage, without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("var/studies/a@b.journal", "var/studies/a@b.journal"),
        ("sqlite:///var/a.db", "sqlite:///var/a.db"),
        ("postgresql://me:hush@db.example:5432/studies", "postgresql://db.example:5432/studies"),
        ("postgresql://db/studies?user=me&password=hush", "postgresql://db/studies"),
        ("mysql+pymysql://me:hu%40sh@db/studies?ssl=1", "mysql+pymysql://db/studies"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert shown_storage(url) == shown


@pytest.mark.parametrize(
    "said", ["login of me with hu@sh failed", "login of me with hu%40sh failed"]
)
def test_what_a_driver_says_has_no_password(said: str) -> None:
    assert without_password(said, "postgresql://me:hu%40sh@db/s") == "login of me with … failed"


def test_what_is_no_url_is_no_crash() -> None:
    url = "postgresql://me:hush@[db/studies"
    assert "hush" not in without_password(f"cannot parse {url}", url)
