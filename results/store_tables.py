"""Tables as the store keeps them: Parquet bytes, and the artifact that names them."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from results.record import Artifact, RunRecord


def encode_table(table: pa.Table) -> bytes:
    """The table as one Parquet file, the same bytes for the same table."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def decode_table(data: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(data))


def artifact_of(record: RunRecord, name: str) -> Artifact | None:
    """The artifact that holds the table ``name``: ``name.parquet``, or ``name.<hash>.parquet``
    where a seal that never ended had taken the plain name."""
    return next((a for a in record.artifacts if a.name.split(".")[0] == name), None)
