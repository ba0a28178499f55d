"""The vLLM workload: an OpenAI-compatible vLLM server, on CPU, GPU or TPU by the pool.

Whatever we add to what the spec asks stands in the launch, and the spec's own value always wins.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from results.samples import Samples
from workloads.base import Device, Running, ServerLaunch
from workloads.errors import LaunchRefused, ModelMissing
from workloads.model_maker import ensure_model
from workloads.params import EngineValue, MadeModel, VllmWorkload
from workloads.traffic.spec import Traffic

_MODULE = "vllm.entrypoints.openai.api_server"  # in every release; the `vllm` command is not
_STARTUP = "workloads.vllm_startup"
_FORKED = str(Path(__file__).with_name("vllm_forked.py"))
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")

# Flags that are made of the spec's own fields or of the place the server is put in.
_OURS = {
    "model": "workload.model",
    "served-model-name": "workload.model",
    "tensor-parallel-size": "workload.tensor_parallel_size",
    "host": "the node the server is put on",
    "port": "the node's kernel",
    "uds": "the node the server is put on",
}
# Any of these says how much memory the CPU backend may take for its KV cache.
_KV_CACHE_FLAGS = ("kv-cache-memory-bytes", "gpu-memory-utilization", "num-gpu-blocks-override")


@dataclass(frozen=True, slots=True)
class VllmServing:
    """A ``Workload``. ``launch`` makes the model folder that a spec asked for, if it did."""

    params: VllmWorkload

    def launch(self, device: Device, models_dir: str) -> ServerLaunch:
        """Raises LaunchRefused, ModelMissing, and what ``make_model`` raises."""
        params = self.params
        if device.num_chips and params.tensor_parallel_size > device.num_chips:
            raise LaunchRefused(
                f"workload.tensor_parallel_size asks {params.tensor_parallel_size} chips; "
                f"the device has {device.num_chips} x {device.accelerator}"
            )
        flags = engine_flags(params.engine_args)
        model = find_model(params.model, models_dir)
        env = {
            **_default_env(device, model, flags),
            **_span_env(flags, params.env),
            **params.env,
        }
        if params.fork_engine and device.kind != "cpu":
            raise LaunchRefused(
                f"workload.fork_engine is for CPUs, and the device is a {device.accelerator}: vLLM "
                "forks there by itself; leave it out"
            )
        started = (_FORKED,) if params.fork_engine else ("-m", _MODULE)
        return ServerLaunch(
            argv=(
                params.python or sys.executable,
                *started,
                "--model",
                model.argument,
                "--served-model-name",
                model.name,
                "--host",
                "{host}",
                "--port",
                "{port}",
                "--tensor-parallel-size",
                str(params.tensor_parallel_size),
                *(word for flag in flags.values() for word in flag),
            ),
            env=env,
            model=model.name,
            health_path="/health",
            log_phases=f"{_STARTUP}:read_phases",
            resolve=f"{_STARTUP}:read_resolved",
            wants_otlp=any("{otlp}" in value for value in env.values()),
            page_cache_paths=model.weights,
            vocab_size=model.vocab_size,
        )

    def drive(
        self,
        running: Running,
        traffic: Traffic | None,
        on_progress: Callable[[int, int, float], None],
    ) -> Samples:
        """Raises LaunchRefused when the spec has no traffic or the deployment no server."""
        if traffic is None:
            raise LaunchRefused("a vllm workload needs traffic; name one in the spec: traffic: {…}")
        if running.target is None or running.load is None:
            raise LaunchRefused("a vllm workload is driven over HTTP; the deployment has no server")
        return running.load.drive(running.target, traffic, on_progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model as the server is told of it. ``weights`` is empty and ``vocab_size`` None for one
    that the server will fetch from a hub."""

    argument: str
    name: str  # what requests call it
    is_local: bool
    weights: tuple[str, ...] = ()
    vocab_size: int | None = None


def find_model(model: str | MadeModel, models_dir: str) -> FoundModel:
    """Tell a folder from a hub id, and make the model that is to be made.

    A name is a path if it starts with ``/``, ``./``, ``../`` or ``~``, or if it exists here.
    Raises ModelMissing for a path that holds no model.
    """
    if isinstance(model, MadeModel):
        path = Path(ensure_model(models_dir, model))
        return _local(path, name=model.preset)
    path = Path(model).expanduser()
    if not model.startswith(("/", "./", "../", "~")) and not path.exists():
        return FoundModel(argument=model, name=model, is_local=False)
    path = path.absolute()
    if not path.exists():
        raise ModelMissing(
            f"workload.model asks {model}; there is no {path}; name a folder, a hub id such as "
            "org/name, or {preset: tiny-llama}"
        )
    if path.is_dir() and not any(
        (path / name).is_file() for name in ("config.json", "params.json")
    ):
        raise ModelMissing(
            f"workload.model asks {model}; {path} holds no config.json, so it is no model folder"
        )
    return _local(path, name=path.name)


def _local(path: Path, name: str) -> FoundModel:
    files = [path] if path.is_file() else [found for kind in _WEIGHTS for found in path.glob(kind)]
    return FoundModel(
        argument=str(path),
        name=name,
        is_local=True,
        weights=tuple(sorted(str(file) for file in files)),
        vocab_size=_vocab_size(path / "config.json"),
    )


def _vocab_size(config: Path) -> int | None:
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # vLLM will say better than we could what is wrong with it
    if not isinstance(content, dict):
        return None
    size = content.get("vocab_size") or (content.get("text_config") or {}).get("vocab_size")
    return size if isinstance(size, int) else None


def engine_flags(engine_args: Mapping[str, EngineValue]) -> dict[str, tuple[str, ...]]:
    """Words of the command line by flag name, in the spec's order.

    ``max_model_len: 512`` → ``--max-model-len 512``; true → the bare flag; false → ``--no-…``;
    null → left out. Raises LaunchRefused for a flag that another field of the spec decides, and
    for one that is given twice.
    """
    flags: dict[str, tuple[str, ...]] = {}
    for key, value in engine_args.items():
        name = key.lstrip("-").replace("_", "-")
        if name in _OURS:
            raise LaunchRefused(
                f"workload.engine_args.{key} is decided by {_OURS[name]}; leave it out here"
            )
        if name in flags:
            raise LaunchRefused(f"workload.engine_args.{key} is given twice (_ and - are the same)")
        flags[name] = tuple(_words(name, value))
    return flags


def _words(name: str, value: EngineValue) -> Iterable[str]:
    if value is None:
        return ()
    if isinstance(value, bool):
        return (f"--{name}" if value else f"--no-{name}",)
    # One word, so that a value that begins with a dash is not taken for a flag.
    return (f"--{name}={value}",) if str(value).startswith("-") else (f"--{name}", str(value))


def _default_env(
    device: Device, model: FoundModel, flags: Mapping[str, tuple[str, ...]]
) -> dict[str, str]:
    env = {"VLLM_NO_USAGE_STATS": "1"}  # a benchmark tells nobody that it runs
    if model.is_local:
        env["HF_HUB_OFFLINE"] = "1"
    if device.kind == "cpu" and not any(flags.get(name) for name in _KV_CACHE_FLAGS):
        # In GiB. Left to itself the CPU backend asks for nine tenths of the machine's memory, and
        # does not start where other processes have some of it.
        env["VLLM_CPU_KVCACHE_SPACE"] = "1"
    return env


def _span_env(flags: Mapping[str, tuple[str, ...]], env: Mapping[str, str]) -> dict[str, str]:
    """Has the engine's processes send us the spans of their startup.

    By environment, not by ``--otlp-traces-endpoint``: the flag also traces every request, which
    would be measured with them, and stops a vLLM that has no OpenTelemetry; the environment is
    read by the engine's and the workers' processes alone, and only where OpenTelemetry is there.
    Left alone when the spec sends its traces elsewhere.
    """
    if flags.get("otlp-traces-endpoint") or any(name.startswith("OTEL_") for name in env):
        return {}
    return {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "{otlp}",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "500",  # in ms; its default, 5 s, ends after the first token
    }
