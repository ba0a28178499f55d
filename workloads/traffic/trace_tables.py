"""The quick way to read a trace: whole columns at a time, a million rows in a second or two.

It takes only what is plainly right. Where anything is unusual it gives None, and the careful reader
of ``traces`` goes row by row, copes with it or names its line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from results.samples import FloatColumn, IntColumn

# A Mooncake hash stands for this many tokens and everything before them.
BLOCK_TOKENS = 512
_BLOCK_BYTES = 16 * 1024 * 1024
_NS = 1e9

# Names of the columns for time, prompt tokens and output tokens.
COLUMNS = {
    "mooncake": ("timestamp", "input_length", "output_length"),
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "burstgpt": ("Timestamp", "Request tokens", "Response tokens"),
}
_BLOCKS = "hash_ids"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TraceColumns:
    """n rows in the order of the file, with the file's own numbers."""

    times_s: FloatColumn  # (n,) from any origin
    prompt_tokens: IntColumn  # (n,)
    output_tokens: IntColumn  # (n,)
    block_hashes: IntColumn  # (all blocks,)
    block_offset: IntColumn  # (n + 1,)
    session: IntColumn  # (n,) −1: not read, or none named


def quick_columns(
    path: str, form: str, offset: int, limit: int | None, most: int
) -> TraceColumns | None:
    """Rows ``offset`` to ``offset + limit`` of the file, or None where a row must be looked at.

    Reads little beyond ``most`` rows; more rows than that are given as they are.
    """
    wanted = most + 1 if limit is None else min(limit, most + 1)
    try:
        table = _mooncake(path) if form == "mooncake" else _csv(path, form, offset + wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError):
        return None
    if table is None:
        return None
    return _columns(table.slice(offset, wanted).combine_chunks(), form)


def _csv(path: str, form: str, num_rows: int) -> pa.Table | None:
    """The three columns of the first ``num_rows`` rows at least; None: the time is written in
    another way."""
    from pyarrow import csv

    when, *counts = COLUMNS[form]
    clocks = (
        [pa.float64()] if form == "burstgpt" else [pa.timestamp("ns"), pa.timestamp("ns", "UTC")]
    )
    for clock in clocks:
        types = {when: clock, **dict.fromkeys(counts, pa.int64())}
        options = csv.ConvertOptions(
            include_columns=list(types), column_types=types, strings_can_be_null=False
        )
        batches, found = [], 0
        try:
            with csv.open_csv(
                path,
                read_options=csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
                convert_options=options,
            ) as reader:
                for batch in reader:
                    batches.append(batch)
                    found += batch.num_rows
                    if found >= num_rows:
                        break
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            continue
        return pa.Table.from_batches(batches, schema=reader.schema)
    return None


def _mooncake(path: str) -> pa.Table:
    from pyarrow import json

    when, *counts = COLUMNS["mooncake"]
    fields = [(when, pa.float64()), *((name, pa.int64()) for name in counts)]
    return json.read_json(
        path,
        read_options=json.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
        parse_options=json.ParseOptions(
            explicit_schema=pa.schema([*fields, (_BLOCKS, pa.list_(pa.int64()))]),
            unexpected_field_behavior="ignore",
        ),
    )


def _columns(table: pa.Table, form: str) -> TraceColumns | None:
    when, *counts = COLUMNS[form]
    if not len(table) or any(table[name].null_count for name in (when, *counts)):
        return None
    prompts, outputs = (table[name].to_numpy().astype(np.int64) for name in counts)
    raw = table[when].to_numpy()
    if form == "azure":
        ticks = raw.astype("datetime64[ns]").astype(np.int64)
        times = (ticks - ticks[0]) / _NS
    else:
        times = raw / (1e3 if form == "mooncake" else 1.0)
    hashes = np.empty(0, dtype=np.int64)
    at = np.zeros(len(table) + 1, dtype=np.int64)
    if form == "mooncake":
        blocks = table[_BLOCKS].combine_chunks()
        inner = blocks.flatten()  # of rows that are not null
        if inner.null_count:
            return None
        hashes = inner.to_numpy().astype(np.int64)
        sizes = blocks.value_lengths().fill_null(0).to_numpy().astype(np.int64)
        at[1:] = np.cumsum(sizes)
        if np.any(sizes > np.ceil(np.maximum(prompts, 1) / BLOCK_TOKENS)):
            return None
    plain = np.all(np.isfinite(times)) and np.all(prompts >= 0) and np.all(outputs >= 0)
    if not plain or np.any(hashes < 0):
        return None
    return TraceColumns(
        times_s=times,
        prompt_tokens=prompts,
        output_tokens=outputs,
        block_hashes=hashes,
        block_offset=at,
        session=np.full(len(table), -1, dtype=np.int64),
    )
