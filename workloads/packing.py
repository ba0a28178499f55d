"""Documents in, sequences of one length out. Pure: the same documents and seed, the same sequences.

Documents are laid end to end and cut every T + 1 tokens, so that no token is padding; what does not
fill a sequence stays for the next. A sequence may hold the end of one document and the beginning of
another, as is usual in pre-training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]
SHUFFLED_TOGETHER = 256  # documents; larger mixes better and waits longer for its first sequence


def pack(documents: Iterable[Sequence[int] | Tokens], length: int, seed: int) -> Iterator[Tokens]:
    """(length,) arrays. Documents are mixed in groups of ``SHUFFLED_TOGETHER``, in an order drawn
    from ``seed`` and the group's number."""
    kept: list[Tokens] = []
    num_kept = 0
    for document in _mixed(documents, seed):
        kept.append(np.asarray(document, dtype=np.int64))
        num_kept += len(kept[-1])
        if num_kept < length:
            continue
        laid = np.concatenate(kept)
        whole = num_kept // length * length
        yield from laid[:whole].reshape(-1, length)
        kept = [laid[whole:]]
        num_kept -= whole


def _mixed(
    documents: Iterable[Sequence[int] | Tokens], seed: int
) -> Iterator[Sequence[int] | Tokens]:
    group: list[Sequence[int] | Tokens] = []
    index = 0
    for document in documents:
        group.append(document)
        if len(group) == SHUFFLED_TOGETHER:
            yield from _order(group, seed, index)
            group, index = [], index + 1
    yield from _order(group, seed, index)


def _order(
    group: list[Sequence[int] | Tokens], seed: int, index: int
) -> Iterator[Sequence[int] | Tokens]:
    order = np.random.default_rng([seed, index]).permutation(len(group))
    return (group[i] for i in order)
