"""Pages in a bucket, over S3 as moto's server speaks it. Skipped without ``s3fs`` and
``moto[server]``; conftest.py says why CI has neither."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping

import pytest

from results.errors import StoreUnwritable
from results.pages import Pages

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
NIGHTS = 90


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """As a user names it: by the environment, which the command line has no options for."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"nights-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name)
    return name


def listed(files: Mapping[str, bytes]) -> str:
    return json.dumps(sorted(files))


def test_pages_are_whole_typed_and_found_again(bucket: str) -> None:
    pages = Pages(f"s3://{bucket}/some/nights")
    pages.check()
    assert pages.names("*") == ()
    pages.put("n.html", "<p>ä")
    pages.put("n.json", "{}")
    assert pages.read("n.html").decode() == "<p>ä" and pages.names("*.html") == ("n.html",)
    told = s3fs.S3FileSystem().call_s3(
        "head_object", Bucket=bucket, Key="some/nights/n.html"
    )  # a browser saves what it is not told to show
    assert told["ContentType"] == "text/html; charset=utf-8"


def test_an_index_of_many_nights(bucket: str) -> None:
    pages = Pages(f"s3://{bucket}/nights")
    for number in range(NIGHTS):
        pages.put(f"n{number:03}.entry.json", json.dumps({"number": number}))
    pages.put_index("index.html", "*.entry.json", listed)
    assert len(json.loads(pages.read("index.html"))) == NIGHTS


def test_of_two_publishers_at_once_none_is_lost(bucket: str) -> None:
    """Another one's night comes in after ours was listed, and its index before ours."""
    url, raced = f"s3://{bucket}/nights", []

    def made(files: Mapping[str, bytes]) -> str:
        if not raced:
            raced.append(True)
            s3fs.S3FileSystem(use_listings_cache=False).pipe_file(
                f"{bucket}/nights/theirs.entry.json", b"{}"
            )
        return listed(files)

    Pages(url).put("ours.entry.json", "{}")
    Pages(url).put_index("index.html", "*.entry.json", made)
    assert json.loads(Pages(url).read("index.html")) == ["ours.entry.json", "theirs.entry.json"]


def test_a_bucket_that_refuses_is_named_and_none_is_made(bucket: str) -> None:
    with pytest.raises(StoreUnwritable, match=r"cannot write s3://nobody-made-this/x/n\.html: "):
        Pages("s3://nobody-made-this/x").put("n.html", "x")
    assert [str(b) for b in s3fs.S3FileSystem().ls("")].count("nobody-made-this") == 0
