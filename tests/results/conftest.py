"""Shared by the tests of results: a bucket, over S3 as moto's server speaks it.

``s3fs`` and ``moto[server]`` are no part of the test requirements: both stand on botocore, which
wants ``python-dateutil<3`` (aiobotocore 3.10 as well), and constraints.txt has 4.0.0, by which the
other parts are tested; and they bring 300 MB, sympy and cfn-lint among them. These tests run where
somebody has put the two on the path::

    pip install --target /tmp/s3 s3fs 'moto[server]'
    PYTHONPATH=/tmp/s3 python -m pytest tests/results/test_store_bucket.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from results.clock import SystemClock

START_DEADLINE_S = 90.0


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """moto's server on a port that the kernel chose, killed by its pid."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    # A file, not a pipe: the server logs every request and would wait for a reader.
    log, clock = tmp_path_factory.mktemp("moto") / "log", SystemClock()
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=subprocess.DEVNULL,
            stderr=file,
        )
    try:
        ends_at = clock.monotonic_s() + START_DEADLINE_S
        while not (match := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text())):
            assert server.poll() is None and clock.monotonic_s() < ends_at, log.read_text()
            clock.sleep(0.1)
        yield match[1]
    finally:
        server.kill()
        server.wait()
