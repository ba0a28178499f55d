"""What a vllm workload starts: the command line, the environment, and what it refuses."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workloads.base import Device, Running, ServerLaunch, ServerTarget
from workloads.errors import LaunchRefused, ModelMissing
from workloads.params import EngineValue, MadeModel, VllmWorkload
from workloads.registry import workload_for
from workloads.traffic.spec import ClosedLoop, Traffic
from workloads.vllm import VllmServing, engine_flags, find_model

CPU = Device(kind="cpu", accelerator="cpu", num_chips=0)
GPUS = Device(kind="gpu", accelerator="H100", num_chips=2)
HUB = VllmWorkload(model="org/some-model")


def launch(params: VllmWorkload, device: Device = CPU, models_dir: str = "") -> ServerLaunch:
    return VllmServing(params).launch(device, models_dir)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my-model"
    path.mkdir()
    (path / "config.json").write_text('{"vocab_size": 777}')
    (path / "model.safetensors").write_bytes(b"12345678")
    return path


def test_the_default_spec_makes_a_model_and_serves_it(tmp_path: Path) -> None:
    started = launch(VllmWorkload(), models_dir=str(tmp_path / "models"))
    model = started.argv[4]
    assert Path(model).parent == tmp_path / "models"
    assert started.argv == (
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        model,
        "--served-model-name",
        "tiny-llama",
        "--host",
        "{host}",
        "--port",
        "{port}",
        "--tensor-parallel-size",
        "1",
    )
    assert started.env == {
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "{otlp}",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
    }
    assert started.model == "tiny-llama"
    assert started.wants_otlp
    assert started.vocab_size == 4096
    assert started.page_cache_paths == (f"{model}/model.safetensors",)
    assert pickle.loads(pickle.dumps(started)) == started


def test_the_readers_it_names_are_there() -> None:
    import importlib

    started = launch(HUB)
    for path in (started.log_phases, started.resolve):
        module, _, name = path.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_the_registry_finds_it() -> None:
    assert isinstance(workload_for(HUB), VllmServing)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (512, ("--max-model-len", "512")),
        (0.5, ("--max-model-len", "0.5")),
        ("auto", ("--max-model-len", "auto")),
        (True, ("--max-model-len",)),
        (False, ("--no-max-model-len",)),
        (None, ()),
        (-1, ("--max-model-len=-1",)),
        ('{"mode": 0}', ("--max-model-len", '{"mode": 0}')),
    ],
)
def test_each_kind_of_value_has_its_words(value: EngineValue, words: tuple[str, ...]) -> None:
    for key in ("max-model-len", "max_model_len"):
        assert engine_flags({key: value}) == {"max-model-len": words}


def test_arguments_keep_their_order_and_come_last() -> None:
    params = replace(HUB, engine_args={"enforce-eager": True, "dtype": "float32", "seed": None})
    assert launch(params).argv[-3:] == ("--enforce-eager", "--dtype", "float32")


@pytest.mark.parametrize(
    "key", ["model", "host", "port", "uds", "served_model_name", "tensor-parallel-size"]
)
def test_arguments_that_other_fields_decide_are_refused(key: str) -> None:
    with pytest.raises(LaunchRefused, match=f"engine_args.{key} is decided by"):
        launch(replace(HUB, engine_args={key: "x"}))


def test_an_argument_given_twice_is_refused() -> None:
    with pytest.raises(LaunchRefused, match="max_model_len is given twice"):
        engine_flags({"max-model-len": 1, "max_model_len": 2})


def test_gpu_and_tpu_get_no_cpu_settings() -> None:
    for kind in ("gpu", "tpu"):
        env = launch(HUB, replace(GPUS, kind=kind)).env
        assert not any("CPU" in name for name in env)


def test_tensor_parallel_size_is_passed_and_must_fit() -> None:
    argv = launch(replace(HUB, tensor_parallel_size=2), GPUS).argv
    assert argv[argv.index("--tensor-parallel-size") + 1] == "2"
    with pytest.raises(LaunchRefused, match="asks 4 chips; the device has 2 x H100"):
        launch(replace(HUB, tensor_parallel_size=4), GPUS)


@pytest.mark.parametrize(
    "engine_args",
    [
        {"kv-cache-memory-bytes": 1 << 30},
        {"gpu_memory_utilization": 0.3},
        {"num_gpu_blocks_override": 100},
    ],
)
def test_kv_cache_space_is_left_to_the_spec_if_it_says(engine_args: dict[str, Any]) -> None:
    """VLLM_CPU_KVCACHE_SPACE would win over the flag."""
    assert "VLLM_CPU_KVCACHE_SPACE" not in launch(replace(HUB, engine_args=engine_args)).env


def test_env_of_the_spec_wins() -> None:
    params = replace(HUB, env={"VLLM_CPU_KVCACHE_SPACE": "4", "MINE": "yes"})
    env = launch(params).env
    assert env["VLLM_CPU_KVCACHE_SPACE"] == "4"
    assert env["MINE"] == "yes"


@pytest.mark.parametrize(
    "change",
    [
        {"engine_args": {"otlp_traces_endpoint": "http://collector:4317"}},
        {"env": {"OTEL_SDK_DISABLED": "true"}},
    ],
)
def test_spans_go_elsewhere_if_the_spec_says(change: dict[str, Any]) -> None:
    started = launch(replace(HUB, **change))
    assert not started.wants_otlp
    assert "OTEL_BSP_SCHEDULE_DELAY" not in started.env


def test_a_hub_id_is_left_to_the_server() -> None:
    found = find_model("org/some-model", "")
    assert (found.argument, found.name, found.is_local) == ("org/some-model",) * 2 + (False,)
    started = launch(HUB)
    assert "HF_HUB_OFFLINE" not in started.env
    assert started.page_cache_paths == ()
    assert started.vocab_size is None


def test_a_folder_is_served_under_its_own_name(folder: Path) -> None:
    started = launch(replace(HUB, model=str(folder)))
    assert started.argv[4] == str(folder)
    assert started.model == "my-model"
    assert started.vocab_size == 777
    assert started.page_cache_paths == (str(folder / "model.safetensors"),)
    assert started.env["HF_HUB_OFFLINE"] == "1"


def test_a_path_is_told_from_a_hub_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent.parent)
    assert find_model(f"{folder.parent.name}/my-model", "").argument == str(folder)  # it exists
    monkeypatch.chdir(folder)
    assert find_model("../my-model", "").is_local
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_model("~/my-model", "").argument == str(folder)


@pytest.mark.parametrize("model", ["/nowhere/at/all", "./nowhere", "../nowhere", "~/nowhere"])
def test_a_path_that_is_not_there_is_named(model: str) -> None:
    with pytest.raises(ModelMissing, match=f"asks {model}; there is no /.*nowhere"):
        launch(replace(HUB, model=model))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"holds no config\.json"):
        launch(replace(HUB, model=str(tmp_path)))


def test_nested_vocabulary_and_broken_configuration(folder: Path) -> None:
    (folder / "config.json").write_text('{"text_config": {"vocab_size": 99}}')
    assert find_model(str(folder), "").vocab_size == 99
    (folder / "config.json").write_text("{")
    assert find_model(str(folder), "").vocab_size is None


def test_another_interpreter_may_have_the_engine() -> None:
    assert launch(replace(HUB, python="/opt/vllm/bin/python")).argv[0] == "/opt/vllm/bin/python"


def test_drive_hands_the_traffic_to_the_load_driver() -> None:
    seen = []

    class Load:
        def drive(self, *args: Any) -> str:
            seen.append(args)
            return "columns"

    target = ServerTarget(base_url="http://h:1", model="m")
    traffic = Traffic(arrivals=ClosedLoop(num_users=1), num_requests=1)

    def progress(done: int, total: int, elapsed_s: float) -> None: ...

    running = Running(target=target, load=Load())  # type: ignore[arg-type]
    assert VllmServing(HUB).drive(running, traffic, progress) == "columns"
    assert seen == [(target, traffic, progress)]


def test_drive_without_traffic_or_server_is_refused() -> None:
    with pytest.raises(LaunchRefused, match="needs traffic"):
        VllmServing(HUB).drive(Running(), None, lambda *_: None)
    traffic = Traffic(arrivals=ClosedLoop(num_users=1), num_requests=1)
    with pytest.raises(LaunchRefused, match="has no server"):
        VllmServing(HUB).drive(Running(), traffic, lambda *_: None)


def test_made_models_are_named_by_their_preset(tmp_path: Path) -> None:
    found = find_model(MadeModel(seed=2), str(tmp_path / "models"))
    assert found.name == "tiny-llama"
    assert "seed2" in found.argument
