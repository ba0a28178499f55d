"""Tells windtunnel about the steps of a training script. Outside of windtunnel it does nothing.

    from windtunnel_step import step

    for iteration, batch in enumerate(batches, start=resumed_at):
        loss = train(batch)
        step(loss=float(loss), num_tokens=batch.numel(), number=iteration)

Call it once at the end of each optimizer step, on every rank, when the device has finished the step
(``loss.item()`` waits for it). This one file needs nothing but Python 3.8, in the script's own
interpreter; windtunnel puts its folder on PYTHONPATH. To run the script elsewhere too, copy it.

It writes one line of JSON per step to the file that the environment variable ``WINDTUNNEL_STEPS``
names, ``{rank}`` in it filled in from ``RANK``; times are this host's monotonic clock.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

_file = None
_count = 0


def _open() -> Any:
    template = os.environ.get("WINDTUNNEL_STEPS", "")
    if not template:
        return None
    path = template.replace("{rank}", os.environ.get("RANK", "0"))
    # Unbuffered and appending: a line is whole or not there, whatever becomes of this process.
    return open(path, "ab", buffering=0)  # noqa: PTH123 - open until the process ends


def _say(**values: Any) -> None:
    if _file is not None:
        _file.write((json.dumps(values) + "\n").encode())


def step(
    loss: Any = None,
    num_tokens: int | None = None,
    data_wait_s: float | None = None,
    memory_bytes: int | None = None,
    number: int | None = None,
) -> None:
    """One optimizer step has ended. ``num_tokens`` are this rank's; what is None is not known.

    ``number`` says which step of the training it was, so that a script that goes on from its own
    checkpoint is seen to; without it the calls are counted, from 0 in each process.

    ``data_wait_s`` is the part of the step spent waiting for input. The peak memory is found out
    here where it is not given.
    """
    global _count
    if _file is None:
        return
    now_s = time.monotonic()
    if number is not None:
        _count = int(number)
    _say(
        step=_count,
        numbered=number is not None,
        at_s=now_s,
        loss=None if loss is None else repr(float(loss)),  # "nan" is no JSON
        tokens=num_tokens,
        data_wait_s=data_wait_s,
        memory_bytes=_peak_memory_bytes() if memory_bytes is None else memory_bytes,
    )
    _count += 1


def _peak_memory_bytes() -> int | None:
    """Of device memory where torch uses a GPU, else of this process; None: not known."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        return int(cuda.max_memory_allocated())
    try:
        with open("/proc/self/status") as file:  # noqa: PTH123 - as above
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


_file = _open()
_say(imported=True, at_s=time.monotonic())
