"""A file or folder that another tool left, read once and told apart by its content.

Nothing is guessed from a file's name but which files of a folder belong together.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from results.errors import ForeignFormatError
from results.interop import aiconfigurator
from results.interop.foreign import part

# A JSON text becomes some eight times as many bytes of Python objects.
MAX_FILE_BYTES = 1 << 30


class Format(StrEnum):
    """The tools whose results are understood, by the names that the command line takes."""

    VLLM = "vllm"
    GUIDELLM = "guidellm"
    AIPERF = "aiperf"
    INFERENCE_PERF = "inference-perf"
    AICONFIGURATOR = "aiconfigurator"


ACCEPTED = """accepted are
  vllm            what `vllm bench serve --save-result [--save-detailed]` writes
  guidellm        GuideLLM's JSON output (benchmarks.json)
  aiperf          profile_export_aiperf.json, or the folder with profile_export.jsonl beside it
  inference-perf  a summary_ or stage_N_lifecycle_metrics.json, or the folder of all
  aiconfigurator  its table of measured points, silicon_sample.csv"""

AIPERF_SUMMARY = "profile_export_aiperf.json"
AIPERF_REQUESTS = "profile_export.jsonl"
PERF_SUMMARY = "summary_lifecycle_metrics.json"
PERF_REQUESTS = "per_request_lifecycle_metrics.json"
PERF_SUFFIX = "_lifecycle_metrics.json"
PERF_CONFIG = "config.yaml"
GUIDELLM_FILE = "benchmarks.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """``documents``: file name → what it holds, the main one first. A main file of several JSON
    documents (``--append-result``) gives ``many``."""

    path: str
    format: Format
    documents: Mapping[str, Any]
    many: Sequence[Mapping[str, Any]]
    sha256: str
    modified_at: datetime

    @property
    def main(self) -> Mapping[str, Any]:
        return self.many[0]


def read_source(path: Path, wanted: Format | None = None) -> Source:
    """Read and recognise ``path``. Raises ForeignFormatError, which says what was found instead."""
    if not path.exists():
        raise ForeignFormatError(f"{path}: no such file or folder")
    names = _names_in(path) if path.is_dir() else [path.name]
    folder = path if path.is_dir() else path.parent
    digest, documents = hashlib.sha256(), {}
    for name in names:
        data = _read(folder / name)
        digest.update(data)
        documents[name] = _parse(folder / name, data)
    main = documents[names[0]]
    many = main if isinstance(main, list) else [main]
    found = _recognise(path, many)
    if wanted is not None and found is not wanted:
        raise ForeignFormatError(
            f"{path}: --format {wanted} was asked, but this is {found}'s result"
        )
    return Source(
        path=str(path),
        format=found,
        documents=documents,
        many=many,
        sha256=digest.hexdigest(),
        modified_at=datetime.fromtimestamp((folder / names[0]).stat().st_mtime, UTC),
    )


def _names_in(folder: Path) -> list[str]:
    """The files of a tool's folder that say something, the main one first."""
    present = sorted(p.name for p in folder.iterdir() if p.is_file())
    if AIPERF_SUMMARY in present:
        return [AIPERF_SUMMARY, *(n for n in (AIPERF_REQUESTS,) if n in present)]
    stages = [n for n in present if n.startswith("stage_") and n.endswith(PERF_SUFFIX)]
    if PERF_SUMMARY in present or stages:
        dates = [n for n in present if n.startswith("inference-perf.partial.stage_")]
        rest = (n for n in (PERF_REQUESTS, PERF_CONFIG) if n in present)
        # Without a summary the first stage stands for it: it has the same shape.
        main = PERF_SUMMARY if PERF_SUMMARY in present else stages[0]
        return [main, *(n for n in stages if n != main), *rest, *dates]
    if GUIDELLM_FILE in present:
        return [GUIDELLM_FILE]
    shown = ", ".join(present[:8]) + (", …" if len(present) > 8 else "")
    raise ForeignFormatError(
        f"{folder}: no result that is known in this folder ({shown or 'it is empty'}); {ACCEPTED}"
    )


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ForeignFormatError(
                f"{path}: {size / 1e9:.1f} GB; at most {MAX_FILE_BYTES / 1e9:.1f} GB are read. "
                "Give the summary alone, or save fewer requests"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ForeignFormatError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not data.strip():
        raise ForeignFormatError(f"{path}: the file is empty")
    return data


def _parse(path: Path, data: bytes) -> Any:
    try:
        words = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ForeignFormatError(
            f"{path}: not text (byte {error.start}), so no JSON; {ACCEPTED}"
        ) from None
    if path.suffix == ".jsonl":
        return _lines(path, words)
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(words)))
    try:
        return _yaml(path, words) if path.suffix in (".yaml", ".yml") else _json(words)
    except RecursionError:
        raise ForeignFormatError(f"{path}: nested too deeply to be a result") from None
    except ValueError as error:
        # vllm's --append-result puts one document under the other.
        first, _, rest = words.strip().partition("\n")
        if rest and first.startswith("{") and first.endswith("}"):
            return _lines(path, words)
        cut = "; was it cut off?" if _at_end(error, words) else ""
        raise ForeignFormatError(f"{path}: not JSON: {error}{cut}; {ACCEPTED}") from None


def _json(words: str) -> Any:
    """NaN and infinity, which JSON does not have and Python writes, are numbers that are not."""
    return json.loads(words, parse_constant=lambda _: None)


def _at_end(error: ValueError, words: str) -> bool:
    position = error.pos if isinstance(error, json.JSONDecodeError) else 0
    # A string that never ends is reported where it begins.
    return position >= len(words.rstrip()) - 1 or "Unterminated" in str(error)


def _lines(path: Path, words: str) -> list[Any]:
    found = []
    for n, line in enumerate(words.splitlines(), 1):
        if line.strip():
            try:
                found.append(_json(line))
            except (ValueError, RecursionError) as error:
                raise ForeignFormatError(f"{path}: line {n} is not JSON: {error}") from None
    return found


def _yaml(path: Path, words: str) -> Any:
    try:
        return yaml.safe_load(words)
    except yaml.YAMLError as error:
        raise ForeignFormatError(f"{path}: not YAML: {error}") from None


def _recognise(path: Path, many: Sequence[Any]) -> Format:
    kinds = {_format_of(document) for document in many}
    if len(kinds) == 1 and (found := kinds.pop()) is not None:
        return found
    raise ForeignFormatError(f"{path}: {_what_else(many)}; {ACCEPTED}")


def _format_of(document: Any) -> Format | None:
    if not isinstance(document, Mapping):
        return None
    if set(document) >= aiconfigurator.COLUMNS:
        return Format.AICONFIGURATOR
    if {"model_id", "tokenizer_id", "request_throughput", "total_output_tokens"} <= set(document):
        return Format.VLLM
    benchmarks = document.get("benchmarks")
    if isinstance(benchmarks, list) and all(part(b, "metrics") is not None for b in benchmarks):
        return Format.GUIDELLM if benchmarks else None
    if "aiperf_version" in document:
        return Format.AIPERF
    if {"load_summary", "successes", "failures"} <= set(document):
        return Format.INFERENCE_PERF
    return None


def _what_else(many: Sequence[Any]) -> str:
    """What the document looks like instead, for the person who chose the wrong file."""
    first = many[0] if many else None
    if not isinstance(first, Mapping):
        return "JSON without an object in it, so no result"
    keys = set(first)
    looks = (
        ({"metadata", "metrics"}, f"AIPerf's {AIPERF_REQUESTS}: give its folder instead"),
        ({"start_time", "info"}, f"inference-perf's {PERF_REQUESTS}: give its folder instead"),
        ({"version", "run", "results"}, "an llm-d benchmark report, which is only written"),
        ({"schema"}, f"windtunnel's own output ({first.get('schema')})"),
        ({"total_input_sequences"}, "a result of an embedding benchmark: nothing was generated"),
        ({"benchmarks"}, "a GuideLLM file without a benchmark in it"),
        ({"input_config"}, "a GenAI-Perf result, AIPerf's forerunner"),
        ({"sharegpt_output_len"}, "a result of SGLang's bench_serving"),
    )
    for needed, name in looks:
        if needed <= keys:
            return f"this looks like {name}"
    shown = ", ".join(sorted(keys)[:8]) + (", …" if len(keys) > 8 else "")
    return f"a JSON document of no tool that is known (its keys: {shown or 'none'})"
