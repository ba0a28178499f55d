"""The batches of one data-parallel rank, made when they are asked for or ahead. No engine here.

A batch is (G, B, T + 1) tokens: G micro batches of B sequences. Whatever makes them, the batch of a
step is the same in every run, and so is it for a run that begins in the middle.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from workloads.packing import pack
from workloads.params import JaxWorkload, TokenFiles, TorchWorkload
from workloads.torch_data import TokenStream

Batch = npt.NDArray[np.int64]
Params = TorchWorkload | JaxWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Which data-parallel rank a worker computes, of how many."""

    index: int
    num: int


class Batches(Protocol):
    """The batches of the steps from ``first_step`` on, in order."""

    def next(self) -> Batch: ...

    def close(self) -> None: ...


def batches_of(
    params: Params, vocab_size: int, feed: Feed, first_step: int, num_steps: int
) -> Batches:
    """From the seed or from files, ahead of the steps where there are loader workers.

    Raises TrainingDataUnusable: no such files, or not what they should be.
    """
    size = (params.gradient_accumulation_steps, params.micro_batch_size, params.sequence_length)
    if isinstance(params.data, TokenFiles):
        made = batches_of_files(params, params.data, vocab_size, feed)
        for _ in range(first_step):
            next(made)
        if params.loader_workers:
            return _QueuedBatches(made, params.prefetch_batches)
        return _IteratedBatches(made)
    stream = TokenStream.make(vocab_size, params.seed)

    def make(step: int) -> Batch:
        return stream.micro_batches(step, feed.index, *size)

    if params.loader_workers:
        return _PooledBatches(
            make, range(first_step, num_steps), params.loader_workers, params.prefetch_batches
        )
    return _IteratedBatches(map(make, range(first_step, num_steps)))


def batches_of_files(
    params: Params, files: TokenFiles, vocab_size: int, feed: Feed
) -> Iterator[Batch]:
    """Documents are read again from the first when the last was read, in another order."""
    from workloads.token_files import documents  # Ray Data takes a second to import

    num = params.gradient_accumulation_steps * params.micro_batch_size
    size = (params.gradient_accumulation_steps, params.micro_batch_size, -1)
    epoch = 0
    rows: list[npt.NDArray[np.int64]] = []
    while True:
        read = documents(files, vocab_size, feed, max(params.loader_workers, 1))
        num_sequences = 0
        for sequence in pack(read, params.sequence_length + 1, params.seed + epoch):
            num_sequences += 1
            rows.append(sequence)
            if len(rows) == num:
                yield np.stack(rows).reshape(size)
                rows = []
        if not num_sequences:
            raise files_too_small(files, params.sequence_length, feed)
        epoch += 1


def files_too_small(files: TokenFiles, sequence_length: int, feed: Feed) -> Exception:
    from workloads.errors import TrainingDataUnusable

    return TrainingDataUnusable(
        f"{files.path}: the documents of data-parallel rank {feed.index} of {feed.num} do not fill "
        f"one sequence of {sequence_length} + 1 tokens; give more files or shorter sequences"
    )


class _IteratedBatches:
    """Each batch is made while the step waits for it."""

    def __init__(self, made: Iterator[Batch]) -> None:
        self._made = made

    def next(self) -> Batch:
        return next(self._made)

    def close(self) -> None: ...


class _PooledBatches:
    """Batches that do not need each other, made by several threads: NumPy frees the interpreter
    while it draws and looks up."""

    def __init__(
        self, make: Callable[[int], Batch], steps: range, num_threads: int, num_ahead: int
    ) -> None:
        self._make, self._steps = make, iter(steps)
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="loader")
        self._ahead: queue.SimpleQueue[Future[Batch]] = queue.SimpleQueue()
        for _ in range(num_ahead):
            self._order()

    def _order(self) -> None:
        step = next(self._steps, None)
        if step is not None:
            self._ahead.put(self._pool.submit(self._make, step))

    def next(self) -> Batch:
        batch = self._ahead.get_nowait().result()
        self._order()
        return batch

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class _QueuedBatches:
    """Batches that come one after the other, made by one thread ahead of the steps."""

    def __init__(self, made: Iterator[Batch], num_ahead: int) -> None:
        self._made = made
        self._ready: queue.Queue[Batch | BaseException] = queue.Queue(num_ahead)
        self._closed = threading.Event()
        threading.Thread(target=self._fill, daemon=True, name="loader").start()

    def _fill(self) -> None:
        try:
            for batch in self._made:
                self._offer(batch)
                if self._closed.is_set():
                    return
        except BaseException as error:  # raised again where the batch is asked for
            self._offer(error)

    def _offer(self, ready: Batch | BaseException) -> None:
        is_waiting = True
        while is_waiting and not self._closed.is_set():
            with suppress(queue.Full):
                self._ready.put(ready, timeout=0.2)
                is_waiting = False

    def next(self) -> Batch:
        ready = self._ready.get()
        if isinstance(ready, BaseException):
            raise ready
        return ready

    def close(self) -> None:
        self._closed.set()
