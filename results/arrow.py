"""Columns between numpy and Arrow, by their buffers.

Arrow's own conversions import pandas as soon as they meet a numpy array: a quarter of a second and
40 MB that a load client has no other use for. No column here has a null but where it is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Column = npt.NDArray[Any]

_NUMBERS: dict[np.dtype[Any], Any] = {
    np.dtype(np.float64): pa.float64(),
    np.dtype(np.int64): pa.int64(),
    np.dtype(np.int32): pa.int32(),
}
_DTYPES: dict[Any, np.dtype[Any]] = {
    **{_NUMBERS[dtype]: dtype for dtype in _NUMBERS},
    pa.bool_(): np.dtype(np.bool_),
    pa.string(): np.dtype(np.object_),
}


def array_of(values: Column, known: Column | None = None) -> pa.Array:
    """An Arrow array of ``values`` (n,): numbers without a copy, booleans as bits, texts as UTF-8.

    Where ``known`` (n,) is False there is a null. Raises KeyError for any other type of values.
    """
    valid = None if known is None else _bits(known)
    if values.dtype == np.bool_:
        return pa.Array.from_buffers(pa.bool_(), len(values), [valid, _bits(values)])
    if values.dtype == np.object_:
        return _texts(values.tolist())
    numbers = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(_NUMBERS[values.dtype], len(values), [valid, numbers])


def list_array_of(offsets: Column, values: Column) -> pa.Array:
    """(n,) lists: the k-th is ``values[offsets[k]:offsets[k + 1]]``. ``offsets`` (n + 1,) begin at
    0; Arrow's list arrays reach to 2³¹, and OverflowError is raised beyond."""
    if offsets[-1] >= 1 << 31:
        raise OverflowError(f"{offsets[-1]} list values in one chunk; Arrow counts to {1 << 31}")
    return pa.ListArray.from_arrays(array_of(offsets.astype(np.int32)), array_of(values))


def column_of(table: pa.Table, name: str) -> Column:
    """(n,) the column ``name`` without nulls; without a copy where it is one chunk of numbers."""
    column = table.column(name)
    return _joined([_values(chunk) for chunk in column.chunks], column.type)


def list_column_of(table: pa.Table, name: str) -> tuple[Column, Column]:
    """((n + 1,) offsets, 64-bit; their values): the inverse of ``list_array_of``, over all chunks
    of a column."""
    column = table.column(name)
    parts, lengths = [], []
    for chunk in column.chunks:
        offsets = _values(chunk.offsets).astype(np.int64)
        parts.append(_values(chunk.values)[offsets[0] : offsets[-1]])
        lengths.append(np.diff(offsets))
    values = _joined(parts, column.type.value_type)
    return np.concatenate([[0], np.cumsum(np.concatenate([[], *lengths]))]).astype(np.int64), values


def _joined(parts: list[Column], kind: Any) -> Column:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([np.empty(0, dtype=_DTYPES[kind]), *parts])


def _values(array: pa.Array) -> Column:
    dtype, n, at = _DTYPES[array.type], len(array), array.offset
    if not n:
        return np.empty(0, dtype=dtype)
    if dtype == np.object_:
        return np.array(array.to_pylist(), dtype=object)
    data = array.buffers()[1]
    if dtype == np.bool_:
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=at + n, bitorder="little")
        return bits[at:].view(np.bool_)
    numbers: Column = np.frombuffer(data, dtype=dtype, count=n, offset=at * dtype.itemsize)
    return numbers


def _bits(values: Column) -> Any:
    return pa.py_buffer(np.packbits(values, bitorder="little"))


def _texts(texts: Sequence[str]) -> pa.Array:
    encoded = [text.encode() for text in texts]
    ends = np.fromiter(accumulate(map(len, encoded), initial=0), np.int32, len(encoded) + 1)
    joined = pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), joined)
