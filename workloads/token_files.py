"""Documents of tokens out of Parquet or Arrow files, read through Ray Data. Imports Ray.

Ray Data reads blocks in tasks of its own, beside the rank, and keeps some ahead. Its tasks reserve
no CPUs: the training holds all of its nodes', and a reservation would wait for ever. What they
use they take from the ranks' share, and that is part of what is measured.

Which documents a rank reads is a function of the files and of the number of ranks alone: whole
files in turn where there are enough of them, else every so-manieth document of all files.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from workloads.batches import Feed
from workloads.errors import TrainingDataUnusable
from workloads.params import TokenFiles

ROWS_AT_ONCE = 256
_ENDINGS = {"parquet": (".parquet",), "arrow": (".arrow", ".feather", ".ipc")}


def documents(
    files: TokenFiles, vocab_size: int, feed: Feed, num_read_tasks: int
) -> Iterator[npt.NDArray[np.int64]]:
    """This rank's documents, in the files' order. Raises TrainingDataUnusable."""
    paths = paths_of(files)
    for path in paths:
        _check_column(files, path)
    whole_files = len(paths) >= feed.num
    own = paths[feed.index :: feed.num] if whole_files else paths
    row = 0
    for column in _columns(files, own, num_read_tasks):
        for document in _lists(column, files, vocab_size):
            if whole_files or row % feed.num == feed.index:
                yield document
            row += 1


def paths_of(files: TokenFiles) -> list[str]:
    """The files, sorted: a folder's own listing has no order."""
    path = Path(files.path).expanduser()
    if path.is_file():
        return [str(path)]
    found = sorted(str(p) for p in path.rglob("*") if p.suffix in _ENDINGS[files.kind])
    if not found:
        endings = " or ".join(_ENDINGS[files.kind])
        what = f"no {endings} file in it" if path.is_dir() else "no such file or folder"
        raise TrainingDataUnusable(f"workload.data.path: {files.path}: {what}")
    return found


def _check_column(files: TokenFiles, path: str) -> None:
    """By the file's own schema, before anything is read of it."""
    try:
        if files.kind == "parquet":
            schema = pyarrow.parquet.read_schema(path)
        else:
            with pa.memory_map(path) as source:
                schema = pa.ipc.open_file(source).schema
    except (pa.ArrowInvalid, OSError) as error:
        raise TrainingDataUnusable(f"{path} is no {files.kind} file: {error}") from error
    if files.column not in schema.names:
        raise TrainingDataUnusable(
            f"{path} has no column {files.column!r}; it has {', '.join(schema.names)}"
        )
    kind = schema.field(files.column).type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_integer(
        kind.value_type
    ):
        raise TrainingDataUnusable(
            f"{path}: column {files.column!r} holds {kind}; lists of whole numbers are expected"
        )


def _columns(files: TokenFiles, paths: list[str], num_read_tasks: int) -> Iterator[Any]:
    import ray.data  # over a second: only a job that reads files pays for it

    with warnings.catch_warnings():
        # Ray Data 2.60 sets fields of its own configuration that it calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # Not Ray Data's own readers: beside the reading they have tasks that would wait for a CPU.
    listed: Any = ray.data.from_items(
        [{"path": path} for path in paths], override_num_blocks=len(paths)
    )
    read = listed.map_batches(
        _tables,
        fn_args=(files.kind, files.column),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(size=min(num_read_tasks, len(paths))),
    )
    for table in read.iter_batches(
        batch_size=ROWS_AT_ONCE, batch_format="pyarrow", prefetch_batches=1
    ):
        yield table.column(files.column).combine_chunks()


def _tables(path: Any, kind: str, column: str) -> Iterator[Any]:
    """A file's one column, a few rows at a time, so that a large file is never in memory whole."""
    name = path.column("path")[0].as_py()
    if kind == "parquet":
        with pyarrow.parquet.ParquetFile(name) as file:
            for batch in file.iter_batches(columns=[column]):
                yield pa.Table.from_batches([batch])
        return
    with pa.memory_map(name) as source, pa.ipc.open_file(source) as file:
        for index in range(file.num_record_batches):
            yield pa.Table.from_batches([file.get_batch(index)]).select([column])


def _lists(column: Any, files: TokenFiles, vocab_size: int) -> Iterator[npt.NDArray[np.int64]]:
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    for chunk in chunks:
        if chunk.null_count or chunk.flatten().null_count:
            raise TrainingDataUnusable(f"{files.path}: column {files.column!r} has missing values")
        tokens = chunk.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocab_size:
            raise TrainingDataUnusable(
                f"{files.path}: column {files.column!r} has tokens from {tokens.min()} to "
                f"{tokens.max()}; the preset's vocabulary ends at {vocab_size - 1}"
            )
        ends = np.cumsum(chunk.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64))
        yield from np.split(tokens, ends[:-1])
