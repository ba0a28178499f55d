"""The door in: a path, and out come records ready to be sealed. Reads; writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from results.clock import SystemClock
from results.errors import ForeignFormatError, InvalidMeasurement
from results.interop import aiconfigurator, aiperf, guidellm, inference_perf, vllm_bench
from results.interop.assemble import Imported, Origin, assemble
from results.interop.foreign import ForeignRun, Nonsense, part
from results.interop.sanity import Refused, refuse_nonsense
from results.interop.source import (
    AIPERF_REQUESTS,
    PERF_CONFIG,
    PERF_REQUESTS,
    PERF_SUFFIX,
    Format,
    Source,
    read_source,
)

# What reading a document of the right shape and the wrong content runs into.
_MISREAD = (
    KeyError,
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
    OverflowError,
    OSError,  # a date that the platform cannot hold
    InvalidMeasurement,  # an answer before its question
)


def _raise_refused(refused: Refused) -> None:
    raise ForeignFormatError(str(refused))


def import_path(
    path: Path,
    wanted: Format | None = None,
    name: str = "",
    *,
    now: datetime | None = None,
    on_refused: Callable[[Refused], object] = _raise_refused,
) -> tuple[Imported, ...]:
    """Every benchmark that ``path`` holds, each as a record and its tables.

    ``wanted``: refuse what is not of this format; None takes whatever is recognised. ``name``: of
    the records; "" makes one of tool and model. ``on_refused`` is told of each row that holds what
    cannot be, and the others are read; by default the first one raises. Raises ForeignFormatError
    for a file that is not what it looks like. No date is later than ``now`` (default: now).
    """
    source = read_source(path, wanted)
    now = now or SystemClock().now_utc()
    found = []
    try:
        readers = tuple(readers_of(source))
        for index, read in enumerate(readers):
            refused = partial(Refused, file=str(path), row=index + 1)
            try:
                run = read()
                refuse_nonsense(run, now)
                found.append(assemble(run, _origin(source, index), name))
            except Nonsense as error:
                on_refused(refused(field=error.field, found=error.found, wanted=error.wanted))
            except _MISREAD as error:
                if len(readers) == 1:
                    raise
                said = f"not to be read ({type(error).__name__}: {error})"
                on_refused(refused(field="it", found=said, wanted=f"a result of {source.format}"))
    except _MISREAD as error:
        what = f"{type(error).__name__}: {error}"
        raise ForeignFormatError(
            f"{path}: looks like {source.format}'s result and cannot be read as one ({what})"
        ) from error
    return tuple(found)


def _origin(source: Source, index: int) -> Origin:
    return Origin(
        files=tuple(source.documents),
        sha256=source.sha256,
        modified_at=source.modified_at,
        index=index,
    )


def readers_of(source: Source) -> Iterable[Callable[[], ForeignRun]]:
    """One for each benchmark, so that one that cannot be read does not take the others along."""
    match source.format:
        case Format.VLLM:
            return [partial(vllm_bench.read, document) for document in source.many]
        case Format.AICONFIGURATOR:
            return aiconfigurator.readers(source.many)
        case Format.GUIDELLM:
            runs = guidellm.read(source.main)
        case Format.AIPERF:
            runs = (aiperf.read(source.main, source.documents.get(AIPERF_REQUESTS)),)
        case Format.INFERENCE_PERF:
            runs = _inference_perf(source)
    return [partial(_as_read, run) for run in runs]


def _as_read(run: ForeignRun) -> ForeignRun:
    return run


def _inference_perf(source: Source) -> tuple[ForeignRun, ...]:
    documents = source.documents
    main = next(iter(documents))
    # A file given alone may have any name; its content said what it is.
    reports = {
        _stage(name): document
        for name, document in documents.items()
        if name == main or (name.endswith(PERF_SUFFIX) and name != PERF_REQUESTS)
    }
    return inference_perf.read_folder(
        reports,
        config=documents.get(PERF_CONFIG),
        requests=documents.get(PERF_REQUESTS),
        started_at=_starts(documents),
    )


def _stage(name: str) -> str:
    """``stage_0``; "" for a report that is of no stage, or does not say."""
    return name.removesuffix(PERF_SUFFIX) if name.startswith("stage_") else ""


def _starts(documents: Mapping[str, Any]) -> dict[str, datetime]:
    """Stage → when it began; only its partial reports say."""
    found = {}
    for name, document in documents.items():
        if name.startswith("inference-perf.partial."):
            start = part(document, "run", "time", "start")
            if isinstance(start, str):
                stage = name.removeprefix("inference-perf.partial.").removesuffix(".yaml")
                found[stage] = datetime.fromisoformat(start)
    return found
