"""Pages are replaced whole, in a folder or at a URL; nothing of a failed write is left."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import pytest

from results.errors import StoreUnwritable
from results.pages import Pages, without_password


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


def test_an_index_has_what_came_in_while_it_was_made(pages: Pages) -> None:
    made_of: list[list[str]] = []

    def made(files: Mapping[str, bytes]) -> str:
        made_of.append(sorted(files))
        if len(made_of) == 1:
            Pages(pages.url).put("b.entry.json", "{}")  # another publisher's
        return " ".join(sorted(files))

    pages.put("a.entry.json", "{}")
    pages.put_index("index.html", "*.entry.json", made)
    assert made_of == [["a.entry.json"], ["a.entry.json", "b.entry.json"]]
    assert pages.read("index.html") == b"a.entry.json b.entry.json"


def test_a_place_is_looked_at_before_anything_is_written(tmp_path: Path) -> None:
    Pages(str(tmp_path / "new" / "folder")).check()
    (tmp_path / "file").write_text("")
    for url in (str(tmp_path / "file"), "nowhere://x"):
        with pytest.raises(StoreUnwritable, match="cannot write"):
            Pages(url).check()


def test_a_password_is_not_printed() -> None:
    assert without_password("ftp://me:pass@host/x") == "ftp://me:***@host/x"
    for plain in ("s3://bucket/x", "/a/folder", "http://host:9091", "sftp://me@host/x"):
        assert without_password(plain) == plain
    with pytest.raises(StoreUnwritable) as error:
        Pages("nowhere://me:pass@host").put("n.html", "x")
    assert "pass" not in str(error.value)
