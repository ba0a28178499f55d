"""Pages are replaced whole, in a folder or at a URL; nothing of a failed write is left."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import pytest

from results.errors import StoreUnwritable
from results.pages import Pages


@pytest.fixture(params=["folder", "url"])
def pages(request: pytest.FixtureRequest, tmp_path: Path) -> Pages:
    if request.param == "folder":
        return Pages(str(tmp_path / "a" / "b"))
    return Pages(f"memory://{secrets.token_hex(4)}/pages")


def test_a_page_is_replaced_and_found_again(pages: Pages) -> None:
    assert pages.names("*") == ()
    pages.put("n1.html", "old")
    pages.put("n1.html", "neu ä")
    pages.put("n1.entry.json", "{}")
    assert pages.names("*.entry.json") == ("n1.entry.json",)
    assert pages.read("n1.html").decode() == "neu ä"
    assert pages.at("n1.html") == f"{pages.url}/n1.html"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StoreUnwritable, match=re.escape(f"cannot write {tmp_path}/file/pages/n.html")
    ):
        Pages(str(tmp_path / "file" / "pages")).put("n.html", "x")
    with pytest.raises(StoreUnwritable, match=re.escape("cannot write nowhere://x/n.html")):
        Pages("nowhere://x").put("n.html", "x")
