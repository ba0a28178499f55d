"""Every store keeps one contract: a folder, a bucket (fsspec's memory), and the fake."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from results.store_files import FileStore
from results.testing import FakeRecordStore, RecordStoreContract


class TestLocalFolder(RecordStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        return FileStore(tmp_path / "not" / "yet" / "there")


class TestFileUrl(RecordStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        return FileStore(f"file://{tmp_path}")


class TestMemoryBucket(RecordStoreContract):
    # This file system looks before it writes, so threads that race on it prove nothing about a
    # bucket; test_store_bucket races processes on a real one.
    test_of_many_that_seal_one_run_exactly_one_wins = None  # type: ignore[assignment]

    @pytest.fixture
    def store(self) -> Iterator[FileStore]:
        bucket = f"memory://store-{uuid.uuid4().hex}"
        yield FileStore(bucket)
        fs = fsspec.filesystem("memory")
        if fs.exists(bucket):
            fs.rm(bucket, recursive=True)


class TestFake(RecordStoreContract):
    @pytest.fixture
    def store(self) -> FakeRecordStore:
        return FakeRecordStore()
