"""torch.compile in a training: a phase of its own before the first step, and a watch over what it
does later. Imports torch.

On a CPU Inductor writes C++ and calls a compiler ($CXX, else g++); on a GPU it writes Triton. A
step that had to wait for a compilation is not a step of the compiled model, and is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch._dynamo.callback import callback_handler
from torch._dynamo.exc import TorchDynamoException
from torch._dynamo.utils import counters

from workloads.errors import CompileFailed

_ADVICE = (
    "on a CPU torch.compile needs a C++ compiler with its headers (Debian: apt-get install g++; "
    "or name one in CXX), on a GPU Triton and a C compiler; or set workload.compile to false"
)


def prepare(device: torch.device, num_threads: int, rank: int) -> None:
    """Import what compiles, let it use no more threads than the rank has, and see that there is a
    compiler: without one it would fail only later, and in words of its own. Raises CompileFailed.

    Before a model is told to compile itself, which imports all that too.
    """
    from torch._inductor import config

    config.compile_threads = num_threads
    if device.type == "cpu":
        _require_cpp_compiler(rank)
    import_module("torch._inductor.compile_fx")


def _require_cpp_compiler(rank: int) -> None:
    from torch._inductor import config, exc
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except (exc.InvalidCxxCompiler, OSError):
        tried = " or ".join(str(name) for name in config.cpp.cxx if name)
        raise CompileFailed(
            f"workload.compile is true, and rank {rank} finds no working C++ compiler: tried "
            f"{tried}; {_ADVICE}"
        ) from None


@contextmanager
def compiling_told(rank: int) -> Iterator[None]:
    """Turns whatever way torch.compile fails in into CompileFailed."""
    try:
        yield
    except TorchDynamoException as error:
        raise CompileFailed(
            f"rank {rank} could not compile the model (workload.compile is true): {_gist(error)}; "
            f"{_ADVICE}"
        ) from error


def _gist(error: Exception) -> str:
    """Its first line, and the first that a compiler calls an error."""
    first, *rest = str(error).strip().splitlines() or [type(error).__name__]
    said = next((line.strip() for line in rest if "error:" in line.lower()), "")
    return f"{first.strip()} ({said[:200]})" if said else first.strip()


class CompileWatch:
    """Every compilation of this process from now until ``close``. ``now_s``: the rank's clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s, self._begun_s = now_s, 0.0
        self._num = self._num_told = 0
        self._spent_s = 0.0
        self._in_steps: list[dict[str, Any]] = []
        self._before = Counter(counters["inductor"])
        callback_handler.register_start_callback(self._begin)
        callback_handler.register_end_callback(self._end)

    def close(self) -> None:
        callback_handler.remove_start_callback(self._begin)
        callback_handler.remove_end_callback(self._end)

    def warmed_up(self) -> None:
        """What was compiled so far is what the phase is for."""
        self._num_told, self._spent_s = self._num, 0.0

    def stepped(self, step: int) -> None:
        """Keep what was compiled since the last call as this step's."""
        if self._num > self._num_told:
            num = self._num - self._num_told
            self._in_steps.append({"step": step, "num": num, "compile_s": self._spent_s})
            self.warmed_up()

    def facts(self) -> dict[str, Any]:
        """``recompiled``: by step, how many compilations it waited for and for how long.
        ``compile_cache``: whether Inductor's code came from its cache on the disk."""
        return {"recompiled": list(self._in_steps), "compile_cache": self._cache()}

    def _cache(self) -> str:
        """Two startups compare only where both loaded, or both compiled."""
        found = Counter(counters["inductor"]) - self._before
        loaded, made = found["fxgraph_cache_hit"], found["fxgraph_cache_miss"]
        if loaded and made:
            return "partly loaded"
        return "loaded" if loaded else "written" if made else "not used"

    def _begin(self, _: object) -> None:
        self._begun_s = self._now_s()

    def _end(self, _: object) -> None:
        self._num += 1
        self._spent_s += self._now_s() - self._begun_s
