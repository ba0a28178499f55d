"""Specs in, and everything that may be wrong with them."""

from __future__ import annotations

import importlib
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import SpecError
from harness.plan import make_plan, workload_hash
from harness.pools import Capacity, Inventory, NodePool, VirtualCluster
from harness.spec import Deadlines, Hardware, RunSpec
from harness.spec_errors import Problem
from harness.specfile import (
    read_specs,
    read_yaml_as,
    spec_from_mapping,
    spec_schema,
    spec_to_mapping,
)
from workloads.params import EndpointWorkload, MadeModel, TorchWorkload, VllmWorkload
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    PoissonArrivals,
    Traffic,
    UniformLength,
)

DATA = Path(__file__).resolve().parent.parent / "data" / "specs"

SERVE = """\
name: serve
workload: {kind: vllm}
traffic:
  arrivals: {kind: poisson, rate_rps: 4}
  duration_s: 15
"""
TRAIN = "name: train\nworkload: {kind: torch}\n"

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(content: str | bytes, name: str = "q.yaml") -> str:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(file)

    return _write


def refusal(path: str, *overrides: str) -> list[str]:
    """The lines of the error, each less the file's folder."""
    with pytest.raises(SpecError) as caught:
        read_specs(path, overrides)
    return str(caught.value).replace(f"{Path(path).parent}/", "").splitlines()


# ---- what is read ----


def test_every_field_of_a_full_spec_arrives() -> None:
    (spec,) = read_specs(str(DATA / "full.yaml"))
    assert spec == RunSpec(
        name="full",
        workload=VllmWorkload(
            model=MadeModel(preset="mini-llama", seed=7),
            tensor_parallel_size=2,
            engine_args={
                "max-model-len": 1024,
                "enforce-eager": True,
                "quantization": None,
                "dtype": "float32",
                "gpu-memory-utilization": 0.5,
            },
            env={"OMP_NUM_THREADS": "2"},
            python="/opt/vllm/bin/python",
        ),
        traffic=Traffic(
            arrivals=ClosedLoop(num_users=3, think_time_s=1.0),
            prompt_tokens=UniformLength(low=8, high=16),
            output_tokens=FixedLength(tokens=4),
            duration_s=10.0,
            num_requests=50,
            num_warmup_requests=0,
            seed=5,
            api="chat",
            request_timeout_s=9.5,
        ),
        hardware=(
            Hardware(
                accelerator="H100",
                num_chips=2,
                cpus=8.0,
                memory_gib=1.5,
                pools=("a", "b"),
                capacity=(Capacity.SPOT, Capacity.ON_DEMAND),
                max_wait_s=5.0,
            ),
            Hardware(
                accelerator="TPU-V6E",
                topology="4x4",
                pools=("c",),
                capacity=(Capacity.FLEX_START,),
            ),
        ),
        slo={"ttft_s": 0.5, "e2e_s": 2.0},
        num_repeats=2,
        redeploy=False,
        deadlines=Deadlines(startup_s=60.0, load_s=120.0, teardown_s=10.0),
        tags={"team": "perf", "build": "42"},
    )


def test_values_have_the_types_that_are_declared(write: Write) -> None:
    (spec,) = read_specs(write(SERVE + "hardware: {capacity: spot, cpus: 2}\n"))
    assert isinstance(spec, RunSpec)
    assert spec.hardware == (Hardware(cpus=2.0, capacity=(Capacity.SPOT,)),)
    assert type(spec.hardware[0].cpus) is float
    assert type(spec.hardware[0].capacity[0]) is Capacity
    assert spec.traffic is not None and type(spec.traffic.duration_s) is float


def test_several_documents_are_several_specs(write: Write) -> None:
    path = write(f"---\n# a comment\n{SERVE}---\n{TRAIN}---\n")
    assert [spec.name for spec in read_specs(path)] == ["serve", "train"]


def test_anchors_aliases_and_merges(write: Write) -> None:
    text = SERVE.replace("{kind: poisson", "&a {kind: poisson") + "tags: &t {a: x, b: y}\n---\n"
    text += "name: b\nworkload: {kind: vllm}\ntraffic: {arrivals: &c {kind: closed, num_users: 2}, "
    text += "num_requests: 3}\ntags: {<<: {a: x, b: y}, b: z}\n"
    specs = read_specs(write(text))
    assert specs[1].tags == {"a": "x", "b": "z"}


def test_specs_pickle() -> None:
    specs = read_specs(str(DATA / "full.yaml"))
    assert pickle.loads(pickle.dumps(specs)) == specs


# ---- what is refused ----


def test_all_errors_of_all_documents_are_listed_in_order() -> None:
    assert refusal(str(DATA / "many-errors.yaml")) == [
        "many-errors.yaml:4: workload.modell: unknown key; did you mean model? accepted: kind, "
        "model, tensor_parallel_size, engine_args, env, python, fork_engine",
        "many-errors.yaml:5: workload.engine_args.dtype: found a list; accepted: text or integer "
        "or number or true or false or null",
        "many-errors.yaml:7: traffic.arrivals.rate_rsp: unknown key; did you mean rate_rps? "
        "accepted: rate_rps, kind",
        'many-errors.yaml:8: traffic.duration_s: found text "15"; accepted: number or null',
        'many-errors.yaml:11: hardware.0.capacity.1: found text "on_demand"; did you mean '
        "on-demand? accepted: reservation, on-demand, spot, flex-start",
        "many-errors.yaml:12: num_repeats: found number 2.5; accepted: integer",
        'many-errors.yaml:15: workload.num_steps: found text "many"; accepted: integer',
        'many-errors.yaml:16: redeploy: found text "no way"; accepted: true or false',
    ]


STRUCTURE = [
    ("name: a\n", "q.yaml:1: workload: is missing; accepted: a mapping whose kind is vllm, "),
    ("workload: {kind: torch}\n", "q.yaml:1: name: is missing; accepted: text"),
    ("name: a\nworkload: {}\n", "q.yaml:2: workload.kind: is missing; accepted: vllm, endpoint"),
    ("name: a\nworkload: vllm\n", 'q.yaml:2: workload: found text "vllm"; accepted: a mapping'),
    (
        "name: a\nworkload:\n  kind: vlm\n",
        'q.yaml:3: workload.kind: found text "vlm"; did you mean vllm? accepted: vllm, endpoint',
    ),
    (TRAIN + "Deadlines: {}\n", "q.yaml:3: Deadlines: unknown key; did you mean deadlines? acc"),
    (TRAIN + "num_repeats: '2'\n", 'q.yaml:3: num_repeats: found text "2"; accepted: integer'),
    (TRAIN + "num_repeats: true\n", "q.yaml:3: num_repeats: found true; accepted: integer"),
    (TRAIN + "redeploy: 1\n", "q.yaml:3: redeploy: found integer 1; accepted: true or false"),
    (TRAIN + "tags: {a: 1}\n", "q.yaml:3: tags.a: found integer 1; accepted: text"),
    (TRAIN + "tags: [a]\n", "q.yaml:3: tags: found a list; accepted: a mapping of names to text"),
    (TRAIN + "name: b\n", "q.yaml:3: name: written twice in the same mapping"),
    (TRAIN + "hardware: []\n", "q.yaml:3: hardware: found an empty list; accepted: at least one"),
    (TRAIN + "hardware: {cpu: 1}\n", "q.yaml:3: hardware.0.cpu: unknown key; did you mean cpus?"),
    (
        "name: a\nworkload:\n  kind: vllm\n  model: {presett: x}\n",
        "q.yaml:4: workload.model.presett: unknown key; did you mean preset? accepted: preset",
    ),
    (
        "name: a\nworkload: {kind: vllm, model: 3}\n",
        "q.yaml:2: workload.model: found integer 3; accepted: text or a mapping with the keys",
    ),
    (
        "name: a\nworkload: {kind: torch, precision: float16}\n",
        'q.yaml:2: workload.precision: found text "float16"; did you mean bfloat16? acc',
    ),
    ("- name: a\n", "q.yaml:1: found a list; accepted: a mapping with the keys name, workload"),
    ("just words\n", 'q.yaml:1: found text "just words"; accepted: a mapping with the keys'),
]


@pytest.mark.parametrize(("text", "expected"), STRUCTURE)
def test_structure_errors(write: Write, text: str, expected: str) -> None:
    lines = refusal(write(text))
    assert len(lines) == 1
    assert lines[0].startswith(expected)


def test_unknown_keys_are_refused_at_every_depth() -> None:
    """The library's own setting does not reach nested standard dataclasses; ours has to."""
    mapping = spec_to_mapping(read_specs(str(DATA / "full.yaml"))[0])
    places: list[tuple[str, dict[str, object]]] = []

    def walk(value: object, path: str) -> None:
        if isinstance(value, dict):
            if path.rpartition(".")[2] not in ("engine_args", "env", "slo", "tags", "models"):
                places.append((path, value))
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                walk(inner, f"{path}.{i}")

    walk(mapping, "")
    # The spec, workload and model, traffic and its three parts, two asks, deadlines, restarts.
    assert len(places) == 11
    for path, inside in places:
        inside["zzz"] = 1
        with pytest.raises(SpecError) as caught:
            spec_from_mapping(mapping)
        assert f"{path}.zzz: unknown key".lstrip(".") in str(caught.value)
        del inside["zzz"]


YAML_TRAPS = [
    ("redeploy: no", "found the bare word no, which some YAML readers take for false"),
    ("redeploy: on", "write true, or"),
    ("tags: {country: NO}", 'write false, or "NO" in quotes'),
    ("num_repeats: 010", "found 010, which YAML readers do not agree on"),
    ("num_repeats: 1_000", "found 1_000, which YAML readers do not agree on"),
    ("num_repeats: 1:30", 'found text "1:30"; accepted: integer'),
    ("num_repeats: 1e3", "found number 1000.0; accepted: integer"),
    ("deadlines: {load_s: .inf}", "only finite numbers are accepted"),
    ("deadlines: {load_s: .nan}", "only finite numbers are accepted"),
    ("deadlines: {load_s: 1e999}", "1e999 is too large"),
    (f"num_repeats: {'9' * 5000}", "a number of 5000 digits; it is too large"),
    ("tags: {a: 2026-01-01, b: !!python/name:os.system x}", "!!python/name:os.system is not"),
    ("tags: {a: !secret x}", "the tag !secret is not accepted"),
    ("tags: &t {a: *t}", "an alias inside its own anchor"),
    ("tags: {[a]: b}", "a key must be text"),
    ("tags: {<<: [1]}", "only mappings can be merged"),
]


@pytest.mark.parametrize(("line", "expected"), YAML_TRAPS)
def test_yaml_traps(write: Write, line: str, expected: str) -> None:
    lines = refusal(write(f"{TRAIN}{line}\n"))
    assert lines[0].startswith("q.yaml:3: ")
    assert expected in lines[0]


def test_yaml_1_2_numbers_are_read(write: Write) -> None:
    text = f"{TRAIN}num_repeats: 0x10\ndeadlines: {{load_s: 1e3, startup_s: 5e-1, teardown_s: 7}}\n"
    (spec,) = read_specs(write(text + "tags: {day: 2026-01-01, time: 12:30, no: 'no', e: ''}\n"))
    assert spec.num_repeats == 16
    assert spec.deadlines == Deadlines(load_s=1000.0, startup_s=0.5, teardown_s=7.0)
    assert spec.tags == {"day": "2026-01-01", "time": "12:30", "no": "no", "e": ""}


FILES: list[tuple[bytes, str]] = [
    (b"", "q.yaml: is empty"),
    (b"# only a comment\n---\n", "q.yaml: is empty"),
    (b"\x00\x01\x02", "q.yaml: is not text"),
    (b"name: caf\xe9\n", "q.yaml: is not UTF-8 text (byte 9 is 0xe9)"),
    (b"name: a\nworkload:\n\tkind: torch\n", "q.yaml:3: a tab; YAML is indented with spaces only"),
    (b"name: [a\nworkload: b\n", "q.yaml:2: not YAML: "),
    (b"name: a\x07b\n", "q.yaml: holds the character U+0007"),
    (b"name: *nowhere\n", "q.yaml:1: not YAML: found undefined alias"),
    (b"a: " + b"[" * 1200, "q.yaml: nested too deeply"),
    (b"#" * (1 << 20) + b"\n", "q.yaml: is larger than 1048576 bytes"),
]


@pytest.mark.parametrize(("content", "expected"), FILES)
def test_files_that_are_no_specs(write: Write, content: bytes, expected: str) -> None:
    lines = refusal(write(content))
    assert lines[0].startswith(expected)


def test_aliases_cannot_grow_without_bound(write: Write) -> None:
    rows = ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert refusal(write("\n".join(rows)))[0] == "q.yaml: holds more than 100000 values"


def test_missing_files_and_folders(write: Write, tmp_path: Path) -> None:
    write(TRAIN, "quickstart.yaml")
    assert refusal(str(tmp_path / "quikstart.yaml"))[0] == (
        "quikstart.yaml: no such file; did you mean quickstart.yaml?"
    )
    assert "there is no folder" in refusal(str(tmp_path / "nowhere" / "q.yaml"))[0]
    with pytest.raises(SpecError, match="is a folder; name a YAML file in it"):
        read_specs(str(tmp_path))


def test_two_specs_of_one_name(write: Write) -> None:
    assert refusal(write(f"{TRAIN}---\n{TRAIN}")) == [
        "q.yaml:4: name: train is taken by the spec at q.yaml:1"
    ]


# ---- values of the right type that cannot be meant ----

MEANT_FOR_SERVE = [
    ("name=-a", 'name: found text "-a"; accepted: 1 to 63 lower-case letters'),
    ("name=" + "a" * 64, "accepted: 1 to 63 lower-case letters"),
    ("num_repeats=0", "num_repeats: found integer 0; accepted: at least 1"),
    ("deadlines.startup_s=0", "deadlines.startup_s: found number 0.0; accepted: more than 0"),
    ("deadlines.load_s=15", "traffic.duration_s: found 15; deadlines.load_s = 15 would end the"),
    ("traffic.arrivals.rate_rps=-1", "traffic.arrivals.rate_rps: found number -1.0; accepted: mo"),
    ("traffic.duration_s=0", "traffic.duration_s: found number 0.0; accepted: more than 0"),
    ("traffic.duration_s=null", "traffic: never ends; accepted: duration_s, num_requests, or both"),
    ("traffic.num_requests=0", "traffic.num_requests: found integer 0; accepted: at least 1"),
    ("traffic.num_warmup_requests=-1", "num_warmup_requests: found integer -1; accepted: at least"),
    ("traffic.request_timeout_s=0", "request_timeout_s: found number 0.0; accepted: more than 0"),
    ("traffic.seed=-1", "traffic.seed: found integer -1; accepted: at least 0"),
    ("traffic.prompt_tokens.tokens=0", "prompt_tokens.tokens: found integer 0; accepted: at least"),
    (
        "traffic.prompt_tokens={kind: uniform, low: 9, high: 8}",
        "traffic.prompt_tokens.high: found integer 8; accepted: at least low, which is 9",
    ),
    (
        "traffic.arrivals={kind: closed, num_users: 0}",
        "traffic.arrivals.num_users: found integer 0; accepted: at least 1",
    ),
    (
        "traffic.arrivals={kind: closed, num_users: 1, think_time_s: -1}",
        "traffic.arrivals.think_time_s: found number -1.0; accepted: at least 0",
    ),
    ("traffic=null", "traffic: is missing; a workload of kind vllm is measured under one"),
    (
        "slo.ttft=1",
        "slo.ttft: no latency metric; did you mean ttft_s? accepted: ttft_s, ttfa_s, tpot_s",
    ),
    ("slo.goodput_rate=1", "slo.goodput_rate: no latency metric; accepted: ttft_s"),
    ("slo.itl_s=1", "slo.itl_s: no latency metric"),  # no request has one gap
    ("slo.attainment=2", "slo.attainment: found number 2.0; accepted: a share above 0"),
    ("slo={attainment: 0.9}", "slo: limits nothing; accepted: at least one latency"),
    ("slo.ttft_s=0", "slo.ttft_s: found number 0.0; accepted: seconds, more than 0"),
    ("workload.tensor_parallel_size=0", "tensor_parallel_size: found integer 0; accepted: at lea"),
    ("workload.model=''", 'workload.model: found text ""; accepted: a folder, a hub id or'),
    (
        "workload.model.preset=tiny-lama",
        'workload.model.preset: found text "tiny-lama"; did you mean tiny-llama? accepted',
    ),
    ("workload.model.seed=-1", "workload.model.seed: found integer -1; accepted: at least 0"),
    ("workload.engine_args.--port=1", "engine_args.--port: write it without dashes in front: port"),
    ("workload.engine_args.port=1", "workload.engine_args.port: is decided by nothing: the node"),
    (
        "workload.engine_args.tensor_parallel_size=1",
        "engine_args.tensor_parallel_size: is decided by workload.tensor_parallel_size",
    ),
    ("workload.engine_args.api-key=x", "engine_args.api-key: looks like a secret"),
    ("workload.env.HF_TOKEN=x", "workload.env.HF_TOKEN: looks like a secret, and all of a spec"),
    ("workload.env.A-B=x", "workload.env.A-B: is no name of an environment variable"),
    (
        "workload.engine_args.max-model-len=95",
        "traffic: asks for up to 64 prompt and 32 output tokens, 96 in all; "
        "engine_args.max-model-len is 95",
    ),
    (
        "traffic.prompt_tokens.tokens=2047",
        "2079 in all; the context of tiny-llama is 2048",
    ),
    ("hardware.cpus=0", "hardware.0.cpus: found number 0.0; accepted: more than 0"),
    ("hardware.num_chips=-1", "hardware.0.num_chips: found integer -1; accepted: at least 0"),
    ("hardware.num_chips=1", "hardware.0.num_chips: found integer 1; accepted: 0 with accelerator"),
    ("hardware.memory_gib=-1", "hardware.0.memory_gib: found number -1.0; accepted: at least 0"),
    ("hardware.max_wait_s=-1", "hardware.0.max_wait_s: found number -1.0; accepted: at least 0"),
    ("hardware.accelerator=' '", "hardware.0.accelerator: found"),
    ("hardware.pools=[a, a]", "hardware.0.pools.1: a is listed twice"),
    ("hardware.pools=['']", 'hardware.0.pools.0: found text ""; accepted: the name of a pool'),
    ("hardware.capacity=[spot, spot]", "hardware.0.capacity.1: spot is listed twice"),
    ("hardware.topology=4x4", "hardware.0.topology: only TPUs have one; the accelerator is cpu"),
    (
        "hardware={accelerator: TPU-V6E, topology: 4by4}",
        'hardware.0.topology: found text "4by4"; accepted: the sides of a TPU slice',
    ),
    (
        "hardware={accelerator: TPU-V6E, topology: 4x4, num_chips: 8}",
        "hardware.0.num_chips: found integer 8; accepted: 16, which 4x4 has",
    ),
]


@pytest.mark.parametrize(("override", "expected"), MEANT_FOR_SERVE)
def test_serving_values(write: Write, override: str, expected: str) -> None:
    lines = refusal(write(SERVE), override)
    assert any(expected in line for line in lines), lines


MEANT_FOR_TRAIN = [
    ("workload.num_workers=0", "workload.num_workers: found 0; accepted: at least 1"),
    ("workload.num_steps=0", "workload.num_steps: found 0; accepted: at least 1"),
    (
        "workload.num_warmup_steps=20",
        "num_warmup_steps: found 20; accepted: less than num_steps = 20",
    ),
    ("workload.learning_rate=0", "workload.learning_rate: found 0.0; accepted: more than"),
    ("workload.sequence_length=1", "sequence_length: found 1; accepted: at least 2"),
    ("workload.cpus_per_worker=0", "cpus_per_worker: found 0.0; accepted: more than 0"),
    ("workload.preset=tny", 'workload.preset: found text "tny"; did you mean tiny? accepted: tiny'),
    ("hardware.cpus=4", "hardware.0.cpus: found 4; each worker has workload.cpus_per_worker = 1"),
    (
        "hardware={accelerator: L4, num_chips: 3}",
        "hardware.0.num_chips: found 3; workload.num_workers is 2",
    ),
]


@pytest.mark.parametrize(("override", "expected"), MEANT_FOR_TRAIN)
def test_training_values(write: Write, override: str, expected: str) -> None:
    lines = refusal(write(TRAIN), override)
    assert any(expected in line for line in lines), lines


def test_training_has_no_traffic_and_no_slo(write: Write) -> None:
    text = TRAIN + "traffic: {arrivals: {kind: closed, num_users: 1}, num_requests: 1}\n"
    assert refusal(write(text + "slo: {ttft_s: 1}\n")) == [
        "q.yaml:3: traffic: a workload of kind torch has none; leave it out",
        "q.yaml:4: slo: limits requests, and training has none; leave it out",
    ]


ENDPOINT = """\
name: e
workload: {kind: endpoint, url: "https://h:8000/llm", model: m, api_key_env: KEY}
traffic: {arrivals: {kind: constant, rate_rps: 1}, num_requests: 3}
"""


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("https://h:8000/llm", True),
        ("http://[::1]:80", True),
        ("http://h/", True),
        ("ftp://h", False),
        ("h:8000", False),
        ("http://", False),
        ("http://h:port", False),
        ("http://h:99999", False),
        ("http://[::1", False),
        ("http://h/v1", False),
        ("http://h/v1/", False),
        ("http://h?x=1", False),
        ("http://user:pw@h", False),
        ("http://h x", False),
    ],
)
def test_urls(write: Write, url: str, accepted: bool) -> None:
    path = write(ENDPOINT)
    if accepted:
        (spec,) = read_specs(path, [f'workload.url="{url}"'])
        assert isinstance(spec.workload, EndpointWorkload) and spec.workload.url == url
    else:
        assert "workload.url: " in refusal(path, f'workload.url="{url}"')[0]


def test_pages_of_metrics(write: Write) -> None:
    path, page = write(ENDPOINT), "http://10.0.0.1:8080/metrics"
    for asked in (page, [page]):
        (spec,) = read_specs(path, [f"workload.metrics_url={json.dumps(asked)}"])
        assert isinstance(spec.workload, EndpointWorkload)
        assert spec.workload.metrics_url == (page,)
    for wrong in ("10.0.0.1:8080", "http://u:p@h/metrics", "http://h/metrics?x=1"):
        lines = refusal(path, f"workload.metrics_url={json.dumps([page, wrong])}")
        assert "workload.metrics_url.1: " in lines[0]


def test_an_endpoint_has_no_hardware_and_its_key_is_never_shown(write: Write) -> None:
    assert refusal(write(ENDPOINT), "hardware.cpus=2") == [
        "--set hardware.cpus=2: hardware: a workload of kind endpoint places nothing; leave it out"
    ]
    text = ENDPOINT.replace("KEY", "sk-123-abc")
    (line,) = refusal(write(text))
    assert "workload.api_key_env: " in line
    assert "sk-123" not in line


# ---- overrides ----


def test_overrides_have_yaml_types_and_reach_everywhere(write: Write) -> None:
    path = write(SERVE + "hardware:\n  - {accelerator: L4}\n  - {accelerator: H100}\n")
    (spec,) = read_specs(
        path,
        [
            "hardware.1.num_chips=8",
            "hardware.0.capacity=[spot, on-demand]",
            "traffic.arrivals.rate_rps=8",
            "traffic.output_tokens.tokens=4",  # not written in the file
            "workload.engine_args.dtype=float32",
            "workload.engine_args.max-num-seqs=4",
            "workload.model.seed=9",
            "redeploy=false",
            "tags.a.b=x=y",
            "slo={ttft_s: 1}",
            "deadlines.startup_s=7",
        ],
    )
    assert spec.hardware[1].num_chips == 8
    assert spec.hardware[0].capacity == (Capacity.SPOT, Capacity.ON_DEMAND)
    assert spec.traffic is not None
    assert spec.traffic.arrivals == PoissonArrivals(rate_rps=8.0)
    assert spec.traffic.output_tokens == FixedLength(tokens=4)
    assert isinstance(spec.workload, VllmWorkload)
    assert spec.workload.engine_args == {"dtype": "float32", "max-num-seqs": 4}
    assert spec.workload.model == MadeModel(seed=9)
    assert spec.redeploy is False
    assert spec.tags == {"a.b": "x=y"}
    assert spec.slo == {"ttft_s": 1.0}
    assert spec.deadlines == Deadlines(startup_s=7.0)


def test_an_override_goes_into_every_document_that_has_a_place_for_it(write: Write) -> None:
    path = write(f"{SERVE}---\n{TRAIN}")
    serve, train = read_specs(
        path, ["num_repeats=3", "traffic.seed=5", "slo.ttft_s=1", "workload.num_workers=1"]
    )
    assert (serve.num_repeats, train.num_repeats) == (3, 3)
    assert serve.traffic is not None and serve.traffic.seed == 5
    assert train.traffic is None and train.slo == {}
    assert isinstance(train.workload, TorchWorkload) and train.workload.num_workers == 1


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "traffic.arrivals.rate_rsp=4",
            "traffic.arrivals.rate_rsp: unknown key; did you mean rate_rps? accepted: rate_rps",
        ),
        ("num_repeat=4", "num_repeat: unknown key; did you mean num_repeats? accepted: name, wor"),
        ("hardware.3.cpus=1", "hardware.3: is a list of 1; the index 3 is not in it"),
        ("workload.model.seed.x=1", "workload.model.seed.x: is integer, which has no keys"),
        ("num_repeats", "accepted: a.b=value"),
        ("=3", "accepted: a.b=value"),
        ("a..b=3", "accepted: a.b=value"),
        ("num_repeats=[1", "the value is not YAML"),
        ("num_repeats=no", "found the bare word no"),
        ("num_repeats=two", 'num_repeats: found text "two"; accepted: integer'),
    ],
)
def test_overrides_refused(write: Write, override: str, expected: str) -> None:
    (line,) = refusal(write(f"{SERVE}---\n{TRAIN}"), override) or [""]
    assert line.startswith(f"--set {override}")
    assert expected in line


def test_training_alone_takes_no_traffic_override(write: Write) -> None:
    (line,) = refusal(write(TRAIN), "traffic.seed=4")
    assert "no document of this file has traffic" in line


def test_a_list_is_named_by_index(write: Write) -> None:
    path = write(SERVE + "hardware: [{accelerator: L4}, {accelerator: H100}]\n")
    (line,) = refusal(path, "hardware.num_chips=4")
    assert "is a list of 2; name one by its index, counted from 0" in line
    assert read_specs(path, ["hardware.2.accelerator=cpu"])[0].hardware[2] == Hardware()


# ---- a stranger's kind of workload ----

STRANGER = '''\
from __future__ import annotations
from dataclasses import dataclass
from typing import Literal
from workloads.registry import Role, WorkloadKind


@dataclass(frozen=True, slots=True, kw_only=True)
class DozeParams:
    """A server that dozes."""

    doze_s: float
    kind: Literal["doze"] = "doze"


DOZE = WorkloadKind(params=DozeParams, workload="dozer_of_test:Doze", role=Role.SERVER)
'''


@pytest.fixture
def dozer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dozer_of_test.py").write_text(STRANGER)
    info = tmp_path / "dozer_of_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dozer-of-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[windtunnel.workloads]\ndoze = dozer_of_test:DOZE\nlost = dozer_of_test:LOST\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()


def test_a_stranger_s_workload_is_read_planned_and_kept(dozer: None, write: Write) -> None:
    text = SERVE.replace("{kind: vllm}", "{kind: doze, doze_s: 2}")
    path = write(f"{text}---\n{TRAIN}")
    spec, train = read_specs(path, ["workload.doze_s=3"])
    assert type(spec) is RunSpec and type(train.workload) is TorchWorkload
    assert (spec.workload.kind, spec_to_mapping(spec)["workload"]["doze_s"]) == ("doze", 3.0)
    assert spec_from_mapping(spec_to_mapping(spec)) == spec
    pool = NodePool(
        name="a",
        accelerator="cpu",
        num_nodes=1,
        chips_per_node=0,
        cpus_per_node=2.0,
        memory_bytes_per_node=1,
    )
    assert len(make_plan(spec, Inventory(pools=(pool,))).rungs) == 1
    assert workload_hash(spec) != workload_hash(read_specs(path)[0])


def test_a_stranger_s_workload_is_read_as_strictly(dozer: None, write: Write) -> None:
    text = SERVE.replace("{kind: vllm}", "{kind: doze, doze: 2}")
    assert refusal(write(text)) == [
        "q.yaml:2: workload.doze: unknown key; did you mean doze_s? accepted: doze_s, kind"
    ]
    (line,) = refusal(write(SERVE.replace("vllm", "lost")))
    assert line.startswith("q.yaml:2: workload.kind: workload kind 'lost' (dozer_of_test:LOST) can")
    (line,) = refusal(write(SERVE.replace("vllm", "dose")))
    assert line.startswith('q.yaml:2: workload.kind: found text "dose"; did you mean doze? accept')
    properties = spec_schema()["$defs"]["DozeParams"]["properties"]
    assert properties["doze_s"]["type"] == "number"


# ---- mappings and the general door ----

_seeds = st.integers(0, 2**40)
_seconds = st.floats(1e-6, 1e6, allow_nan=False)
_names = st.text(st.characters(codec="utf-8"), max_size=8)
_lengths = st.one_of(
    st.builds(FixedLength, tokens=st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(0, 40)).map(
        lambda t: UniformLength(low=t[0], high=t[0] + t[1])
    ),
)
_arrivals = st.one_of(
    st.builds(ConstantArrivals, rate_rps=_seconds),
    st.builds(PoissonArrivals, rate_rps=_seconds),
    st.builds(ClosedLoop, num_users=st.integers(1, 99), think_time_s=_seconds),
)
_traffic = st.builds(
    Traffic,
    arrivals=_arrivals,
    prompt_tokens=_lengths,
    output_tokens=_lengths,
    duration_s=st.none() | _seconds,
    num_requests=st.integers(1, 10**6),
    num_warmup_requests=st.integers(0, 9),
    seed=_seeds,
    api=st.sampled_from(["completions", "chat"]),
    request_timeout_s=_seconds,
)
_engine_values = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), _seconds, _names)
_vllm = st.builds(
    VllmWorkload,
    model=st.one_of(st.builds(MadeModel, seed=_seeds), st.just("org/model")),
    tensor_parallel_size=st.integers(1, 8),
    engine_args=st.dictionaries(st.sampled_from(["dtype", "max-num-seqs", "x"]), _engine_values),
    env=st.dictionaries(st.sampled_from(["A", "B_1"]), _names),
)
_hardware = st.builds(
    Hardware,
    cpus=_seconds,
    memory_gib=_seconds,
    pools=st.lists(st.sampled_from("abcd"), unique=True).map(tuple),
    capacity=st.lists(st.sampled_from(list(Capacity)), unique=True).map(tuple),
    max_wait_s=_seconds,
)
_spec = st.builds(
    RunSpec,
    name=st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True),
    workload=_vllm,
    traffic=_traffic,
    hardware=st.lists(_hardware, min_size=1, max_size=3).map(tuple),
    slo=st.dictionaries(st.sampled_from(["ttft_s", "e2e_s"]), _seconds),
    num_repeats=st.integers(1, 9),
    redeploy=st.booleans(),
    deadlines=st.builds(Deadlines, load_s=st.just(2e6), startup_s=_seconds),
    tags=st.dictionaries(_names, _names, max_size=3),
)


@settings(max_examples=50, deadline=None)
@given(spec=_spec)
def test_a_spec_survives_its_mapping_and_json(spec: RunSpec) -> None:
    mapping = json.loads(json.dumps(spec_to_mapping(spec)))
    back = spec_from_mapping(mapping)
    assert back == spec
    assert [type(h) for h in back.hardware] == [Hardware] * len(spec.hardware)


@settings(max_examples=50, deadline=None)
@given(spec=_spec)
def test_a_spec_survives_a_yaml_file(
    spec: RunSpec, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("spec") / "s.yaml"
    # Quoted throughout, as a program would write it.
    file.write_text(json.dumps(spec_to_mapping(spec)), encoding="utf-8")
    assert read_specs(str(file)) == (spec,)


def test_a_mapping_has_only_json_and_every_field() -> None:
    mapping = spec_to_mapping(read_specs(str(DATA / "full.yaml"))[0])
    written = yaml.safe_load((DATA / "full.yaml").read_text())
    assert json.loads(json.dumps(mapping)) == mapping
    assert mapping["hardware"][1]["capacity"] == ["flex-start"]
    assert set(written) <= set(mapping)
    assert mapping["deadlines"] == written["deadlines"]


def test_a_mapping_is_read_as_strictly_as_a_file() -> None:
    mapping = spec_to_mapping(read_specs(str(DATA / "full.yaml"))[0])
    with pytest.raises(SpecError, match="num_repeats: found integer 0; accepted: at least 1"):
        spec_from_mapping({**mapping, "num_repeats": 0})
    with pytest.raises(SpecError, match="is missing"):
        spec_from_mapping({})


def test_any_dataclass_can_be_read(write: Write) -> None:
    text = "pools:\n  - {name: a, accelerator: L4, num_nodes: 2, chips_per_node: 4}\n  - name: b\n"
    cluster = read_yaml_as(write(text), VirtualCluster)
    assert isinstance(cluster, VirtualCluster)
    assert [(pool.name, pool.chips_per_node) for pool in cluster.pools] == [("a", 4), ("b", 0)]

    def no_b(value: VirtualCluster) -> list[Problem]:
        return [
            Problem(path=("pools", i, "name"), message="b is not wanted")
            for i, pool in enumerate(value.pools)
            if pool.name == "b"
        ]

    with pytest.raises(SpecError, match=r"q\.yaml:3: pools\.1\.name: b is not wanted"):
        read_yaml_as(write(text), VirtualCluster, no_b)
    with pytest.raises(SpecError, match=r"q\.yaml:3: a second document; this file holds one"):
        read_yaml_as(write("pools: []\n---\npools: []\n"), VirtualCluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """Refuses by itself what it cannot be."""

    low: int
    unit: Literal["s", "ms"] = "s"

    def __post_init__(self) -> None:
        if self.low < 0:
            raise ValueError(f"low is {self.low}; accepted: at least 0")


def test_what_a_dataclass_refuses_itself_is_shown_with_its_line(write: Write) -> None:
    assert read_yaml_as(write("low: 1\n"), Guarded) == Guarded(low=1)
    with pytest.raises(SpecError, match=r"q\.yaml:1: low is -1; accepted: at least 0"):
        read_yaml_as(write("low: -1\n"), Guarded)


def test_a_spec_is_not_changed_by_reading_another() -> None:
    (first,) = read_specs(str(DATA / "full.yaml"))
    (second,) = read_specs(str(DATA / "full.yaml"), ["slo.ttft_s=9", "num_repeats=5"])
    assert first.slo["ttft_s"] == 0.5
    assert replace(second, num_repeats=2, slo=first.slo) == first
