"""A rank's batches: the same whether made ahead or not, from the seed or from files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from workloads.batches import Batch, Feed, batches_of
from workloads.errors import TrainingDataUnusable
from workloads.packing import pack
from workloads.params import TokenFiles, TorchWorkload
from workloads.token_files import documents, paths_of
from workloads.torch_data import TokenStream

PARAMS = TorchWorkload(micro_batch_size=2, gradient_accumulation_steps=3, sequence_length=8)
FEED = Feed(index=1, num=2)
NUM_STEPS = 5


def taken(params: TorchWorkload, first_step: int = 0, num: int | None = None) -> list[Batch]:
    with closing(batches_of(params, 1024, FEED, first_step, NUM_STEPS)) as made:
        return [made.next() for _ in range(NUM_STEPS - first_step if num is None else num)]


def threads_of_loaders() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("loader")]


def test_micro_batches_are_the_streams_own() -> None:
    """Micro batch g of step s is the stream's batch of step 3 s + g."""
    stream = TokenStream.make(1024, PARAMS.seed)
    for step, batch in enumerate(taken(PARAMS)):
        assert batch.shape == (3, 2, 9)
        for g in range(3):
            assert np.array_equal(batch[g], stream.batch(3 * step + g, 1, 2, 8))


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (1, 4), (3, 2), (2, 9)])
def test_loaders_change_nothing(workers: int, ahead: int) -> None:
    made = taken(replace(PARAMS, loader_workers=workers, prefetch_batches=ahead))
    assert np.array_equal(made, taken(PARAMS))
    assert threads_of_loaders() == []


def test_the_middle_is_the_same_for_a_run_that_begins_there() -> None:
    assert np.array_equal(taken(PARAMS, first_step=3), taken(PARAMS)[3:])


# ---- files ----


def in_this_process(
    files: TokenFiles, vocab_size: int, feed: Feed, num_read_tasks: int
) -> Iterator[Any]:
    yield from ([feed.index * 100 + i] * (i % 4 + 1) for i in range(20))


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.token_files.documents", in_this_process)


FILES = replace(PARAMS, data=TokenFiles(path="somewhere"), gradient_accumulation_steps=1)


def test_files_are_read_again_and_again_in_other_orders(no_ray: None) -> None:
    """50 tokens are 5 sequences of 9; 5 steps of 2 need 10 of them."""
    rows = np.concatenate([batch.reshape(-1, 9) for batch in taken(FILES)])
    epochs = [
        list(pack(in_this_process(FILES.data, 0, FEED, 1), 9, FILES.seed + e)) for e in (0, 1)
    ]
    assert np.array_equal(rows, epochs[0] + epochs[1])
    assert not np.array_equal(epochs[0], epochs[1])


def test_files_ahead_and_from_the_middle_are_the_same_files(no_ray: None) -> None:
    ahead = replace(FILES, loader_workers=1, prefetch_batches=2)
    assert np.array_equal(taken(ahead), taken(FILES))
    assert np.array_equal(taken(ahead, first_step=3), taken(FILES)[3:])
    taken(ahead, num=1)  # closed with batches left over
    for thread in threading.enumerate():
        if thread.name == "loader":
            thread.join(10)
    assert threads_of_loaders() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_too_few_tokens_are_said_to_be_too_few(workers: int, no_ray: None) -> None:
    long = replace(FILES, sequence_length=60, loader_workers=workers)
    with pytest.raises(TrainingDataUnusable, match=r"rank 1 of 2 do not fill one sequence of 60"):
        taken(long)


def test_files_are_looked_at_before_they_are_read(tmp_path: Path) -> None:
    def message(files: TokenFiles) -> str:
        with pytest.raises(TrainingDataUnusable) as caught:
            next(documents(files, 1024, FEED, 1))
        return str(caught.value)

    assert "no such file or folder" in message(TokenFiles(path=str(tmp_path / "nowhere")))
    assert "no .parquet file in it" in message(TokenFiles(path=str(tmp_path)))
    file = tmp_path / "b.parquet"
    pyarrow.parquet.write_table(pa.table({"text": ["a"], "tokens": [1]}), file)
    assert "has no column 'ids'; it has text, tokens" in message(
        TokenFiles(path=str(file), column="ids")
    )
    assert "holds int64; lists of whole numbers" in message(TokenFiles(path=str(file)))
    assert "is no arrow file" in message(TokenFiles(path=str(file), kind="arrow"))
    (tmp_path / "a.parquet").write_bytes(file.read_bytes())
    assert paths_of(TokenFiles(path=str(tmp_path))) == [str(tmp_path / "a.parquet"), str(file)]
