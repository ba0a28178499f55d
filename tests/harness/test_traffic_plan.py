"""Traffic through the door of a spec: read, refused with its line, planned and told."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import PlanRefused, SpecError
from harness.plan import make_plan, workload_hash
from harness.plan_view import describe_plan
from harness.pools import Inventory
from harness.spec import RunSpec
from harness.spec_shape import kind_of, members
from harness.specfile import read_specs, spec_from_mapping, spec_to_mapping
from harness.traffic_doubts import traffic_doubts
from workloads.model_maker import make_model
from workloads.params import EndpointWorkload
from workloads.traffic.brought import digests_of
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import (
    Arrivals,
    FilePrompts,
    GammaArrivals,
    Length,
    LognormalLength,
    PoissonArrivals,
    Prompts,
    RandomPrompts,
    Sessions,
    SharedPrefixPrompts,
    ThinkTime,
    TraceReplay,
    Traffic,
)

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/traffic.md").read_text(), re.DOTALL)
HEAD = "name: t\nworkload: {kind: endpoint, url: 'http://h', model: m}\ntraffic:\n"


def read(tmp_path: Path, text: str) -> RunSpec:
    file = tmp_path / "t.yaml"
    file.write_text(HEAD + "".join(f"  {line}\n" for line in text.splitlines()), encoding="utf-8")
    (spec,) = read_specs(str(file))
    return spec


def refusal(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SpecError) as error:
        read(tmp_path, text)
    return [line.replace(f"{tmp_path}/", "") for line in str(error.value).splitlines()]


def told(spec: RunSpec) -> Any:
    return describe_plan(make_plan(spec, Inventory(pools=())))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("model") / "m"
    make_model(folder, "tiny-llama", 0)
    return folder


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_of_the_page_is_read_and_planned(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    """In a folder that has the files which the page speaks of."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "my-prompts.jsonl").write_text('{"prompt": "Hello"}\n')
    said = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]
    (tmp_path / "sharegpt.json").write_text(json.dumps([{"conversations": said}]))
    spec = read(tmp_path, text.replace("/models/llama-3.1-8b", str(model)))
    assert spec.traffic is not None
    assert spec_from_mapping(spec_to_mapping(spec)) == spec
    plan = told(spec)
    assert "None" not in plan.duration
    is_closed = spec.traffic.arrivals.kind == "closed"
    assert plan.expected_requests is not None
    brings_files = bool(spec.traffic.tokenizer) or isinstance(spec.traffic.prompts, FilePrompts)
    if not brings_files and not is_closed and spec.traffic.sessions is None:
        made = build_schedule(replace(spec.traffic, num_warmup_requests=0)).num_requests
        assert made == pytest.approx(plan.expected_requests, abs=12 * made**0.5)


def test_the_page_shows_every_kind() -> None:
    shown = set(re.findall(r"kind: (\w+)", "".join(EXAMPLES)))
    for union in (Arrivals, Length, Prompts, ThinkTime):
        assert {kind_of(m) for m in members(union)} <= shown
    keys = {key for text in EXAMPLES for key in yaml.safe_load(text)}
    assert set(Traffic.__dataclass_fields__) - keys == {"request_timeout_s", "prompt_form"}


def test_faults_have_their_line(tmp_path: Path) -> None:
    text = """\
arrivals:
  kind: piecewise
  segments:
    - {duration_s: 0, rate_rps: 1}
    - {duration_s: 1, rate_rps: "2"}
duration_s: 5
"""
    assert refusal(tmp_path, text) == [
        't.yaml:8: traffic.arrivals.segments.1.rate_rps: found text "2"; accepted: number'
    ]
    assert refusal(tmp_path, text.replace('"2"', "2")) == [
        "t.yaml:7: traffic.arrivals.segments.0.duration_s: found number 0.0; accepted: more than 0"
    ]
    assert refusal(tmp_path, "arrivals: {kind: gama, rate_rps: 1}\nduration_s: 5") == [
        't.yaml:4: traffic.arrivals.kind: found text "gama"; did you mean gamma? accepted: '
        "constant, poisson, gamma, piecewise, spikes, closed, trace"
    ]
    sessions = "arrivals: {kind: closed, num_users: 1}\nduration_s: 5\nsessions: {turns: 2}"
    assert refusal(tmp_path, sessions) == [
        "t.yaml:3: traffic.num_requests: is missing: sessions of a closed loop are made before "
        "the load; accepted: as many turns as duration_s could see at most"
    ]
    empty = "arrivals: {kind: trace, path: '', format: azure}"
    assert refusal(tmp_path, empty) == [
        't.yaml:4: traffic.arrivals.path: found text ""; accepted: the path of a trace'
    ]
    turns = "arrivals: {kind: poisson, rate_rps: 1}\nduration_s: 5\nsessions: {turns: two}"
    (line,) = refusal(tmp_path, turns)
    assert 't.yaml:6: traffic.sessions.turns: found text "two"; accepted: ' in line
    assert "integer" in line and "fixed, uniform, normal, lognormal, empirical" in line


def test_a_conversation_must_fit_the_context(tmp_path: Path) -> None:
    text = """\
name: t
workload: {kind: vllm, model: m, engine_args: {max-model-len: 300}}
traffic:
  arrivals: {kind: poisson, rate_rps: 1}
  sessions: {turns: 4}
  duration_s: 5
  api: chat
"""
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(SpecError) as error:
        read_specs(str(tmp_path / "t.yaml"))
    assert (
        "traffic: asks for up to 4 turns, in all 256 prompt and 128 output tokens, 384 in all; "
        "engine_args.max-model-len is 300"
    ) in str(error.value)
    (tmp_path / "t.yaml").write_text(text.replace("turns: 4", "turns: 3"))
    assert read_specs(str(tmp_path / "t.yaml"))


@pytest.mark.parametrize(
    ("text", "what", "requests", "duration"),
    [
        (
            "arrivals: {kind: gamma, rate_rps: 4, burstiness: 0.5}\nduration_s: 60",
            "gamma arrivals, 4/s, burstiness 0.5",
            240.0,
            "one run of 60 s",
        ),
        (
            "arrivals: {kind: piecewise, segments: [{duration_s: 60, rate_rps: 2}, "
            "{duration_s: 120, rate_rps: 2, end_rate_rps: 20}]}",
            "piecewise arrivals, 2/s for 60 s, 2 to 20/s for 120 s, poisson spacing; about 1440 "
            "requests",
            120 + 1320.0,
            "one run of 180 s",
        ),
        (
            "arrivals: {kind: spikes, rate_rps: 2, spike_rate_rps: 40, period_s: 60, spike_s: 5, "
            "spacing: constant}\nduration_s: 90",
            "spikes arrivals, 2/s and 40/s in the last 5 s of every 60 s, constant spacing; "
            "about 370 requests",
            2 * 85 + 40 * 5.0,
            "one run of 90 s",
        ),
        (
            f"arrivals: {{kind: trace, path: {ROOT}/examples/trace-mooncake.jsonl, "
            "format: mooncake, speed: 2, limit: 8}",
            "trace arrivals, trace-mooncake.jsonl (mooncake), 2 times as fast; about 8 requests",
            8.0,
            "one run of the whole trace",
        ),
        (
            f"arrivals: {{kind: trace, path: {ROOT}/examples/trace-mooncake.jsonl, "
            "format: mooncake}\nduration_s: 3.5",
            "trace arrivals, trace-mooncake.jsonl (mooncake); about 6 requests",
            6.0,
            "one run of 3.5 s",
        ),
        (
            "arrivals: {kind: constant, rate_rps: 1}\nsessions: {turns: {kind: uniform, low: 1, "
            "high: 4}}\napi: chat\nduration_s: 60\nmodels: {a: 1, b: 1}",
            "constant arrivals, 1/s; sessions of up to 4 turns; 2 models; about 150 requests",
            150.0,
            "one run of 60 s",
        ),
        (
            "arrivals: {kind: closed, num_users: 3}\nnum_requests: 10\nprompts: {kind: "
            "shared_prefix, num_groups: 2, prompts_per_group: 9, prefix_tokens: {kind: fixed, "
            "tokens: 9}, question_tokens: {kind: fixed, tokens: 9}}",
            "closed arrivals, 3 users; 2 × 9 prompts, a prefix per group",
            10.0,
            "one run of 10 requests",
        ),
    ],
)
def test_a_plan_tells_its_traffic(
    text: str, what: str, requests: float, duration: str, tmp_path: Path
) -> None:
    plan = told(read(tmp_path, text))
    assert plan.what == what
    assert plan.expected_requests == pytest.approx(requests)
    assert plan.duration.startswith(duration + ";")


# ---- doubts ----

GOOD = Traffic(arrivals=PoissonArrivals(rate_rps=5.0), duration_s=10.0)
POOL = SharedPrefixPrompts(
    num_groups=2,
    prompts_per_group=20,
    prefix_tokens=LognormalLength(mean=9.0, std=2.0, high=90),
    question_tokens=LognormalLength(mean=300.0, std=600.0, high=512),
)


def test_traffic_without_doubt() -> None:
    assert list(traffic_doubts(GOOD, 2048)) == []


def test_doubts_about_prompts_and_lengths(tmp_path: Path) -> None:
    doubts = list(traffic_doubts(replace(GOOD, prompts=POOL), None))
    assert len(doubts) == 2
    assert doubts[0].startswith(
        "prompts.question_tokens: only 1 to 512 of the distribution is used, which makes its mean "
    )
    assert doubts[0].endswith(" instead of 300")
    assert doubts[1] == (
        "about 50 requests are made of 40 prompts: from its second time on a prompt is in the "
        "server's prefix cache whole"
    )
    assert len(list(traffic_doubts(replace(GOOD, prompts=POOL, num_requests=40), None))) == 1
    (doubt,) = traffic_doubts(replace(GOOD, api="chat"), None)
    assert doubt.startswith("prompts are words and no tokenizer is given")


def test_doubts_about_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "Timestamp,Model,Request tokens,Response tokens\n1,m,100,20\n2,m,50,0\n3,m,40,20\n"
    )
    arrivals = TraceReplay(path=str(path), format="burstgpt")
    assert list(traffic_doubts(Traffic(arrivals=arrivals), 110)) == [
        "1 of the trace's 3 rows have no prompt or no answer; each asks for one token of it",
        "1 of the trace's 3 rows are longer than the context of 110 tokens: the server will "
        "refuse them",
    ]
    gone = RunSpec(
        name="t",
        workload=EndpointWorkload(url="http://h", model="m"),
        traffic=Traffic(arrivals=replace(arrivals, path=str(tmp_path / "gone.csv"))),
    )
    with pytest.raises(PlanRefused, match=r"spec t names a file .*gone\.csv: cannot be read"):
        told(gone)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"prompts": FilePrompts(path="no.jsonl", format="jsonl"), "api": "chat"},
            r"no\.jsonl: cannot be read: No such file",
        ),
        (
            {"prompts": FilePrompts(path="bad.jsonl", format="jsonl"), "api": "chat"},
            r"bad\.jsonl:2: is not JSON",
        ),
        (
            {"prompts": FilePrompts(path=".", format="sharegpt"), "api": "chat"},
            r"\.: cannot be read: Is a directory",
        ),
        ({"tokenizer": "nowhere"}, r"nowhere/tokenizer\.json: cannot be read"),
        (
            {
                "arrivals": TraceReplay(path="bad.jsonl", format="mooncake"),
                "sessions": Sessions(turns=2),
            },
            r"bad\.jsonl:1: timestamp: is missing",
        ),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_before_anything_is_deployed(
    change: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.jsonl").write_text('{"prompt": "fine"}\nnonsense\n')
    spec = RunSpec(
        name="t",
        workload=EndpointWorkload(url="http://h", model="m"),
        traffic=replace(GOOD, **change),
    )
    with pytest.raises(PlanRefused, match=says):
        told(spec)


# ---- the hash of what is asked ----


def test_what_is_not_asked_for_is_not_in_the_hash() -> None:
    spec = RunSpec(name="t", workload=EndpointWorkload(url="http://h", model="m"), traffic=GOOD)
    same = {"prompts": None, "salt": "", "tokenizer": "", "models": {}, "sessions": None}
    assert workload_hash(replace(spec, traffic=replace(GOOD, **same))) == workload_hash(spec)
    others = [
        replace(GOOD, prompts=POOL),
        replace(GOOD, prompts=RandomPrompts(), salt="x"),
        replace(GOOD, models={"a": 1.0}),
        replace(GOOD, arrivals=GammaArrivals(rate_rps=5.0, burstiness=2.0)),
    ]
    hashes = {workload_hash(replace(spec, traffic=traffic)) for traffic in (GOOD, *others)}
    assert len(hashes) == 5


def test_files_are_hashed_by_what_is_in_them(tmp_path: Path, model: Path) -> None:
    def hash_of(prompts: str, **changes: Any) -> str:
        path = tmp_path / prompts
        traffic = replace(GOOD, prompts=FilePrompts(path=str(path), format="jsonl"), **changes)
        workload = EndpointWorkload(url="http://h", model="m")
        spec = RunSpec(name="t", workload=workload, traffic=replace(traffic, api="chat"))
        return make_plan(spec, Inventory(pools=())).workload_hash

    for name, text in (("a", "Hello"), ("b", "Hello"), ("c", "Hullo")):
        (tmp_path / name).write_text(json.dumps({"prompt": text}))
    first = hash_of("a")
    assert first == hash_of("b"), "the same under another name"
    assert first != hash_of("c")
    with_tokenizer = hash_of("a", tokenizer=str(model))
    assert with_tokenizer != first
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "tokenizer.json").write_bytes((model / "tokenizer.json").read_bytes())
    assert hash_of("a", tokenizer=str(moved)) == with_tokenizer
    # The file is looked at again where it changed; the other fields still count.
    assert hash_of("a", seed=1) != first
    (tmp_path / "a").write_text(json.dumps({"prompt": "Hello, and good day"}))
    assert hash_of("a") != first
    trace = tmp_path / "t.csv"
    trace.write_text("Timestamp,Request tokens,Response tokens\n1,100,20\n")
    digest = "sha256:" + hashlib.sha256(trace.read_bytes()).hexdigest()
    arrivals = TraceReplay(path=str(trace), format="burstgpt")
    assert digests_of(Traffic(arrivals=arrivals)) == {("arrivals", "path"): digest}
    assert digests_of(GOOD) == {}
