"""The door in: a path, and out come records ready to be sealed. Reads; writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from results.errors import ForeignFormatError, InvalidMeasurement
from results.interop import aiconfigurator, aiperf, guidellm, inference_perf, vllm_bench
from results.interop.assemble import Imported, Origin, assemble
from results.interop.foreign import ForeignRun, part
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


def import_path(path: Path, wanted: Format | None = None, name: str = "") -> tuple[Imported, ...]:
    """Every benchmark that ``path`` holds, each as a record and its tables.

    ``wanted``: refuse what is not of this format; None takes whatever is recognised. ``name``: of
    the records; "" makes one of tool and model. Raises ForeignFormatError.
    """
    source = read_source(path, wanted)
    files = tuple(source.documents)
    try:
        return tuple(
            assemble(
                run,
                Origin(
                    files=files, sha256=source.sha256, modified_at=source.modified_at, index=index
                ),
                name,
            )
            for index, run in enumerate(foreign_runs(source))
        )
    except _MISREAD as error:
        what = f"{type(error).__name__}: {error}"
        raise ForeignFormatError(
            f"{path}: looks like {source.format}'s result and cannot be read as one ({what})"
        ) from error


def foreign_runs(source: Source) -> tuple[ForeignRun, ...]:
    """What each tool's reader makes of the documents. Pure."""
    match source.format:
        case Format.VLLM:
            return tuple(vllm_bench.read(document) for document in source.many)
        case Format.GUIDELLM:
            return guidellm.read(source.main)
        case Format.AIPERF:
            return (aiperf.read(source.main, source.documents.get(AIPERF_REQUESTS)),)
        case Format.INFERENCE_PERF:
            return _inference_perf(source)
        case Format.AICONFIGURATOR:
            return aiconfigurator.read(source.many)


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
