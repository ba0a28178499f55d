"""Tables as the store keeps them: Parquet bytes, and the artifact that names them."""

from __future__ import annotations

import io
import mmap
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq

from results.record import Artifact, RunRecord
from results.samples import ROWS_PER_CHUNK

# A larger file is written to a temporary one first, and read from there.
_MAX_BYTES_IN_MEMORY = 32 * 2**20


def encode_table(table: pa.Table) -> memoryview:
    """The table as one Parquet file with a row group for each of its chunks, the same bytes for the
    same table. A large one lies in a temporary file and takes no memory for good."""
    leaves = {_leaf(field): _kind(field) for field in table.schema}
    # No two times are alike: a dictionary of them is work for nothing. Their first bytes are, and
    # compress once they stand together.
    floats = [leaf for leaf, kind in leaves.items() if pa.types.is_floating(kind)]
    with tempfile.SpooledTemporaryFile(_MAX_BYTES_IN_MEMORY) as sink:
        with pq.ParquetWriter(
            sink,
            table.schema,
            compression="zstd",
            use_dictionary=[leaf for leaf in leaves if leaf not in floats],
            use_byte_stream_split=floats,
        ) as writer:
            for batch in table.to_batches(max_chunksize=ROWS_PER_CHUNK):
                writer.write_batch(batch)
        num_bytes = sink.tell()
        sink.seek(0)
        if num_bytes <= _MAX_BYTES_IN_MEMORY:
            return memoryview(sink.read())
        return memoryview(mmap.mmap(sink.fileno(), num_bytes, prot=mmap.PROT_READ))


def _kind(field: pa.Field) -> pa.DataType:
    return field.type.value_type if pa.types.is_list(field.type) else field.type


def _leaf(field: pa.Field) -> str:
    """What Parquet calls the column."""
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name


def decode_table(data: bytes | memoryview) -> pa.Table:
    """Row group by row group: a list column of one chunk could not count beyond 2³¹."""
    file = pq.ParquetFile(io.BytesIO(data))
    if file.num_row_groups == 0:
        return file.read()
    return pa.concat_tables([file.read_row_group(i) for i in range(file.num_row_groups)])


def artifact_of(record: RunRecord, name: str) -> Artifact | None:
    """The artifact that holds the table ``name``: ``name.parquet``, or ``name.<hash>.parquet``
    where a seal that never ended had taken the plain name."""
    return next((a for a in record.artifacts if a.name.split(".")[0] == name), None)
