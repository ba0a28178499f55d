"""What is recognised, what is refused and in which words; and that nothing else can happen."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results.codec import dumps_record
from results.errors import ForeignFormatError
from results.interop import source as source_module
from results.interop.importing import import_path
from results.interop.source import Format, read_source

DATA = Path(__file__).parents[1] / "data" / "interop"
FILES = {
    "vllm-bench-0.32-detailed.json": Format.VLLM,
    "guidellm-0.8.1.json": Format.GUIDELLM,
    "aiperf-0.13.0/profile_export_aiperf.json": Format.AIPERF,
    "inference-perf-0.7.0/summary_lifecycle_metrics.json": Format.INFERENCE_PERF,
}


def refusal(path: Path, wanted: Format | None = None) -> str:
    with pytest.raises(ForeignFormatError) as caught:
        import_path(path, wanted)
    message = str(caught.value)
    assert message.startswith(str(path)), "names the file first"
    return message


def put(tmp_path: Path, text: str | bytes, name: str = "file.json") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(("name", "expected"), FILES.items())
def test_a_result_is_told_by_its_content_under_any_name(
    tmp_path: Path, name: str, expected: Format
) -> None:
    path = put(tmp_path, (DATA / name).read_bytes(), "anything.txt")
    assert read_source(path).format is expected
    assert read_source(path, expected).format is expected


def test_a_folder_gives_what_belongs_together() -> None:
    aiperf = read_source(DATA / "aiperf-0.13.0")
    assert list(aiperf.documents) == ["profile_export_aiperf.json", "profile_export.jsonl"]
    perf = read_source(DATA / "inference-perf-0.7.0-stages")
    assert list(perf.documents) == [
        "summary_lifecycle_metrics.json",
        "stage_0_lifecycle_metrics.json",
        "stage_1_lifecycle_metrics.json",
        "per_request_lifecycle_metrics.json",
        "config.yaml",
        "inference-perf.partial.stage_0.yaml",
        "inference-perf.partial.stage_1.yaml",
    ]
    # The same bytes are the same source, wherever they lie; other bytes are another one.
    assert aiperf.sha256 == read_source(DATA / "aiperf-0.13.0").sha256
    assert aiperf.sha256 != read_source(DATA / "aiperf-0.13.0-faults").sha256


def test_what_was_asked_for_and_what_was_found() -> None:
    message = refusal(DATA / "guidellm-0.8.1.json", Format.VLLM)
    assert "--format vllm was asked" in message and "guidellm's result" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("  \n", "the file is empty"),
        ("hello", "not JSON"),
        (b"\x93NUMPY\x01\x00", "not text (byte 0)"),
        ("[]", "JSON without an object in it, so no result"),
        ("17", "JSON without an object in it, so no result"),
        ('"text"', "JSON without an object in it, so no result"),
        ("{}", "its keys: none"),
        ('{"a": 1, "b": 2}', "its keys: a, b"),
        ('{"benchmarks": []}', "a GuideLLM file without a benchmark in it"),
        ('{"version": "0.2", "run": {}, "results": {}}', "llm-d benchmark report"),
        ('{"schema": "windtunnel.runs/1"}', "windtunnel's own output (windtunnel.runs/1)"),
        ('{"metadata": {}, "metrics": {}}', "give its folder instead"),
        ('[{"start_time": 1.0, "info": {}}]', "give its folder instead"),
        ('{"input_config": {}}', "GenAI-Perf"),
    ],
)
def test_anything_else_is_refused_with_what_it_looks_like(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    message = refusal(put(tmp_path, text))
    assert said in message
    assert "accepted are" in message or "empty" in message


def test_a_result_that_was_cut_off_is_called_so(tmp_path: Path) -> None:
    whole = (DATA / "vllm-bench-0.32-detailed.json").read_bytes()
    for length in (100, 1000, len(whole) - 2):
        assert "was it cut off?" in refusal(put(tmp_path, whole[:length])), length
    lines = (DATA / "aiperf-0.13.0" / "profile_export.jsonl").read_bytes()
    put(tmp_path, (DATA / "aiperf-0.13.0/profile_export_aiperf.json").read_bytes(), "a.json")
    (tmp_path / "a.json").rename(tmp_path / "profile_export_aiperf.json")
    (tmp_path / "profile_export.jsonl").write_bytes(lines[:-40])
    with pytest.raises(ForeignFormatError, match=r"profile_export\.jsonl: line 22 is not JSON"):
        import_path(tmp_path)


def test_what_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MAX_FILE_BYTES", 1000)
    message = refusal(put(tmp_path, (DATA / "guidellm-0.8.1.json").read_bytes()))
    assert "at most" in message and "fewer requests" in message


def test_what_is_not_there_and_what_is_in_a_folder(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.json")
    assert "it is empty" in refusal(tmp_path)
    put(tmp_path, "{}", "notes.json")
    assert "(notes.json)" in refusal(tmp_path)


def test_deep_nesting_is_no_crash(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert "nested too deeply" in refusal(put(tmp_path, deep))
    folder = tmp_path / "run"
    shutil.copytree(DATA / "inference-perf-0.7.0", folder)
    (folder / "config.yaml").write_text(deep)
    assert "config.yaml: nested too deeply" in refusal(folder)


_WRONG = st.sampled_from(
    [None, "", "text", -1, 0, 1e308, float("inf"), True, [], {}, [None], {"a": None}, "NaN"]
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), name=st.sampled_from(sorted(FILES)), wrong=_WRONG)
def test_a_damaged_result_is_imported_or_refused_and_nothing_else(
    tmp_path: Path, data: Any, name: str, wrong: Any
) -> None:
    document = copy.deepcopy(json.loads((DATA / name).read_text()))
    inner, depth = document, data.draw(st.integers(1, 7))
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = data.draw(st.sampled_from(keys))
        depth -= 1
        if depth and isinstance(inner[key], dict | list) and inner[key]:
            inner = inner[key]
            continue
        break
    inner[key] = float("nan") if wrong == "NaN" else wrong
    path = put(tmp_path, json.dumps(document))
    try:
        found = import_path(path)
    except ForeignFormatError as error:
        assert str(path) in str(error)
    else:
        for imported in found:
            assert dumps_record(imported.record)
