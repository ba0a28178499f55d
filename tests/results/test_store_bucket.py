"""The store on a real object protocol: S3, as moto's server speaks it over HTTP.

Skipped without ``s3fs`` and ``moto[server]``; conftest.py says why CI has neither.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid

import pytest

from results.errors import StoreUnwritable
from results.record import RunRecord
from results.store_check import check
from results.store_compact import compact
from results.store_files import FileStore
from results.testing import (
    EPOCH,
    FakeClock,
    RecordStoreContract,
    make_open_run,
    make_record,
    make_requests,
    make_run_id,
)

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
# Other people's libraries warn of their own future; that is no fault of the store.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def options(endpoint: str) -> dict[str, object]:
    return {"endpoint_url": endpoint, "key": "key", "secret": "secret", "anon": False}


@pytest.fixture
def url(s3_endpoint: str) -> str:
    bucket = f"store-{uuid.uuid4().hex}"
    s3fs.S3FileSystem(**options(s3_endpoint)).mkdir(bucket)
    return f"s3://{bucket}/some/where"


@pytest.fixture
def store(url: str, s3_endpoint: str) -> FileStore:
    return FileStore(url, storage_options=options(s3_endpoint))


class TestS3(RecordStoreContract):
    @pytest.fixture
    def store(self, url: str, s3_endpoint: str) -> FileStore:
        return FileStore(url, storage_options=options(s3_endpoint))


def test_it_is_checked_and_compacted(store: FileStore) -> None:
    for index in range(3):
        store.begin(make_open_run(index=index))
        store.seal(make_record(index=index), {"requests": make_requests(4).to_table()})
    assert compact(store, FakeClock(EPOCH.replace(day=25)), delete=True).num_records == 3
    report = check(store)
    assert report.healthy
    assert (report.num_records, report.num_compacted, report.num_artifacts) == (3, 3, 3)
    assert store.get(make_run_id(1)).name == "llama-on-h100"


def test_two_stores_see_each_others_writes(store: FileStore, url: str, s3_endpoint: str) -> None:
    other = FileStore(url, storage_options=options(s3_endpoint))
    assert other.open_runs() == ()
    store.begin(make_open_run())
    assert len(other.open_runs()) == 1
    store.seal(make_record(), {})
    assert other.open_runs() == () and other.get(make_run_id()) == make_record()


def test_a_bucket_that_is_not_there_is_said(s3_endpoint: str) -> None:
    store = FileStore("s3://nobody-made-this/x", storage_options=options(s3_endpoint))
    with pytest.raises(StoreUnwritable, match="nobody-made-this"):
        store.begin(make_open_run())


SEALER = """
import json, sys
from results.errors import DuplicateRecord
from results.store_files import FileStore
from results.testing import make_record, make_requests
store = FileStore(sys.argv[1], storage_options=json.loads(sys.argv[2]))
writer = int(sys.argv[3])
store.prepare()
print("ready", flush=True)
sys.stdin.readline()
for index in range(10):
    try:
        table = make_requests(writer + 1).to_table()
        store.seal(make_record(index=index, name=f"writer-{writer}"), {"requests": table})
    except DuplicateRecord:
        continue
    print(index, flush=True)
"""


def test_of_processes_that_seal_the_same_runs_one_wins_each(
    store: FileStore, url: str, s3_endpoint: str
) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", SEALER, url, json.dumps(options(s3_endpoint)), str(writer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for writer in range(3)
    ]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    won: dict[int, str] = {}
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for writer, child in enumerate(children):
        out, err = child.communicate(timeout=120)
        assert child.returncode == 0, err
        for index in map(int, out.split()):
            assert index not in won
            won[index] = f"writer-{writer}"
    records: list[RunRecord] = list(store.scan().records)
    assert [record.name for record in records] == [won[index] for index in range(10)]
    for record in records:
        table = store.table(record, "requests")
        assert table is not None and f"writer-{table.num_rows - 1}" == record.name
