"""The JSON Schema of a spec, so that an editor completes it and underlines what is wrong.

The types are those of the dataclasses; a type's description is its docstring, a field's is listed
here. The schema admits what a file may say, shorthands included; what it cannot tell (a rate above
0, a stop rule) is told when the file is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from typing import Any

from pydantic import TypeAdapter

from harness.pools import Capacity
from harness.spec import RunSpec
from harness.spec_door import mirror
from harness.spec_kinds import loadable_strangers, spec_shape
from harness.spec_shape import default_of, to_mapping
from harness.traffic_schema import TRAFFIC_DESCRIPTIONS
from results.metrics import REGISTRY, Area
from results.slo import SLO_KEYS
from workloads import model_shape, torch_shape
from workloads.params import JaxWorkload, MadeModel, TorchWorkload

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Knobs that trainings have in common, whatever computes them.
TRAINING_KNOBS: Mapping[str, str] = {
    "global_batch_size": "Sequences of a step over all workers, as a check; null: none.",
    "gradient_accumulation_steps": "Micro batches whose gradients are summed into one step.",
    "activation_checkpointing": "What the backward pass computes again instead of keeping.",
    "data": "synthetic: a token stream made from the seed; or files of documents.",
    "loader_workers": "Threads (files: read tasks) that make batches ahead; 0: the step makes its.",
    "prefetch_batches": "Batches kept ready where there are loader workers.",
    "communication": "none: each rank trains by itself. The control of windtunnel scale.",
    "checkpoint_every_steps": "Steps from one checkpoint to the next; 0: none.",
    "checkpoint_dir": "Folder of the checkpoints, which every worker's node must reach.",
    "resume": "Whether to go on from the last whole checkpoint of checkpoint_dir.",
    "watchdog_s": "Fail the run when no rank makes a step for so long, in seconds; 0: never.",
}

DESCRIPTIONS: Mapping[str, Mapping[str, str]] = {
    "RunSpec": {
        "name": "What the run is called in every table: lower-case letters, digits, . _ -",
        "workload": "What is deployed and driven; kind says which of the workloads it is.",
        "traffic": "The load. Needed for every workload that answers requests; none for training.",
        "hardware": "One ask, or several in order of preference: the first that fits is used.",
        "slo": "Limits in seconds: of each request by latency metric ({ttft_s: 0.5}), or of a "
        "percentile of the run ({ttft_p99_s: 0.5}); attainment: the share of requests to be good.",
        "num_repeats": "How often the whole run is made; each is a record of its own.",
        "redeploy": "true: each repeat has its own deployment and startup. false: they share one.",
        "deadlines": "How long each part may take before the run is failed.",
        "restarts": "What a training does when it loses a process or a node.",
        "faults": "What is done to a training on purpose, and when; each is struck once.",
        "tags": "Free names and values to find runs by; they change nothing.",
    },
    "Hardware": {
        "accelerator": "Ray's name of the accelerator (L4, H100, TPU-V6E), or cpu.",
        "num_chips": "Chips of the whole deployment; 0: one per tensor-parallel part or worker.",
        "cpus": "CPUs of the server, or of its part on each host of a TPU slice.",
        "memory_gib": "Memory of the server or of each worker, in GiB; 0: not reserved.",
        "topology": "Of a TPU slice, taken whole; training on 2 slices has twice its num_chips.",
        "pools": "Names of the pools to try, in order; empty: every pool of that accelerator.",
        "capacity": "Capacity types to try, in order; empty: any, reservations first.",
        "max_wait_s": "How long each matching pool is waited for, in seconds.",
    },
    "Deadlines": {
        "startup_s": "Placed → first token or first training step, in seconds.",
        "load_s": "The whole load, warm-up included, in seconds.",
        "teardown_s": "Everything of the deployment gone, in seconds.",
    },
    "Restarts": {
        "max_restarts": "How often it starts again from its last checkpoint; 0: it fails.",
        "min_workers": "Go on at once with fewer workers, no fewer than this; 0: wait for all.",
        "resize_check_s": "How often a smaller job looks for room to grow again, in seconds.",
    },
    "Fault": {
        "kind": "SIGKILL to a worker's process, to Ray on its node, or to Ray on all its nodes.",
        "at_step": "After this step has ended on any rank.",
        "at_s": "So many seconds after the first step.",
        "rank": "Whose process or node it is.",
    },
    "MadeModel": {
        "preset": "The size of the model that is made: random weights, nothing downloaded.",
        "seed": "Of the random weights.",
    },
    "VllmWorkload": {
        "kind": "A vLLM server that is started for this run.",
        "model": "A local folder, a hub id, or {preset: tiny-llama} for a made model.",
        "tensor_parallel_size": "Chips that one copy of the model is spread over.",
        "engine_args": "Go to the server as they are: max-model-len: 512 → --max-model-len 512.",
        "env": "Variables of the server's process alone. They are kept in the record: no secrets.",
        "python": "The interpreter that has vllm; empty: the one that runs windtunnel.",
        "fork_engine": "On CPUs: import vLLM once and fork its other processes; starts sooner.",
    },
    "EndpointWorkload": {
        "kind": "An OpenAI-compatible server that is already there.",
        "url": "Where it is, up to but without /v1: https://llm.example.com",
        "model": "The model's name in requests.",
        "api_key_env": "The environment variable that holds the key; the key itself is never kept.",
        "metrics_url": "Metric pages of the engine, if not at url/metrics: of Ray's nodes, say.",
    },
    "SimulatedWorkload": {
        "kind": "A model of an engine, served in real time; its records say that they are one.",
        "model": "The shape of the model that is simulated, such as llama-3.1-8b.",
        "accelerator": "The accelerator that is simulated, such as H100; empty: the device's own.",
        "tensor_parallel_size": "Chips that one copy of the model is spread over.",
        "engine_args": "As vLLM's: max-num-seqs, max-num-batched-tokens, block-size, …",
        "compute_efficiency": "Share of the peak arithmetic that is reached; 1: the bound.",
        "memory_efficiency": "Share of the peak memory bandwidth that is reached; 1: the bound.",
        "step_overhead_s": "What each step takes beside, in seconds.",
        "startup_s": "How long it pretends to load, in seconds.",
    },
    "TorchWorkload": {
        "kind": "Training of a decoder-only transformer with PyTorch.",
        "preset": "The size of the model that is trained.",
        "num_workers": "Processes: data-parallel ranks x tensor_parallel_size.",
        "num_steps": "Optimizer steps in all, the warm-up steps included.",
        "num_warmup_steps": "The first steps, which are kept and not measured.",
        "micro_batch_size": "Sequences that a data-parallel rank computes at once.",
        "sequence_length": "Tokens per sequence.",
        "precision": "Of the arithmetic.",
        "learning_rate": "Of the optimizer.",
        "seed": "Of the data and of the first weights.",
        "cpus_per_worker": "CPUs that each worker reserves.",
        "threads_per_worker": "Threads that each worker computes with.",
        **TRAINING_KNOBS,
        "compile": "Whether torch.compile makes the model's code.",
        "strategy": "ddp: each rank has the whole model; fsdp2: its weights are shared out.",
        "tensor_parallel_size": "Workers that one copy of each layer is spread over.",
    },
    "TokenFiles": {
        "path": "A file, or a folder that holds the files.",
        "kind": "The files' format: Parquet, or Arrow's IPC file or stream.",
        "column": "The column that holds lists of token ids, one document a row.",
    },
    "CollectivesWorkload": {
        "kind": "Collectives timed between training workers.",
        "collectives": "all_reduce, all_gather, reduce_scatter, all_to_all, broadcast.",
        "sizes_bytes": "Bytes of the whole array, as nccl-tests count them.",
        "num_workers": "Ranks, on GPUs one per GPU; of xla processes, on TPUs one per host.",
        "backend": "usual: gloo on CPUs, nccl on GPUs, xla on TPUs.",
        "dtype": "Of the elements.",
        "num_rounds": "Each round visits every collective and size once.",
        "calls_per_round": "Calls back to back that are timed together.",
        "num_warmup_calls": "Calls of each collective and size before the first round.",
        "seed": "Of the order within each round.",
        "cpus_per_worker": "CPUs that each worker reserves.",
        "threads_per_worker": "Threads that each worker computes with.",
    },
    "CommandWorkload": {
        "kind": "Anyone's own training script.",
        "argv": "The script and its arguments; {rank}, {num_workers}, {master_port}, … filled in.",
        "launcher": "plain: one process per rank. torchrun: one per node starts its ranks.",
        "num_workers": "Ranks; on GPUs one per GPU.",
        "log_pattern": "torchtitan, maxtext, nanogpt, or an expression with (?P<step>…); rank 0.",
        "jsonl": "A file that gets a line of JSON per step; with {rank} one of each rank.",
        "num_steps": "End the script after so many steps; 0: measure all until it ends.",
        "num_warmup_steps": "The first steps, at least one, which are kept and not measured.",
        "tokens_per_step": "Tokens of all ranks in a step, where the script does not say.",
        "env": "Variables of the script's processes. They are kept in the record: no secrets.",
        "cwd": "The folder that the script runs in.",
        "python": "The script's interpreter; empty: the one that runs windtunnel.",
        "cpus_per_worker": "CPUs that each worker reserves.",
    },
    "JaxWorkload": {
        "kind": "Training of the torch workload's transformer with JAX: GPUs, TPU slices, CPUs.",
        "preset": "The size of the model that is trained.",
        "num_workers": "Processes; of a TPU slice one per host.",
        "num_steps": "Optimizer steps in all, the warm-up steps included.",
        "num_warmup_steps": "The first steps, which are kept and not measured.",
        "micro_batch_size": "Sequences that a worker computes at once, on all its devices.",
        "sequence_length": "Tokens per sequence.",
        "precision": "Of the arithmetic.",
        "learning_rate": "Of the optimizer.",
        "seed": "Of the data and of the first weights.",
        "cpus_per_worker": "CPUs that each worker reserves.",
        "threads_per_worker": "Threads that each worker computes with, where it computes on CPUs.",
        "cpu_devices_per_worker": "Devices that JAX makes of a worker's CPUs; not of chips.",
        **TRAINING_KNOBS,
        "strategy": "ddp: each device has the whole model; fsdp2: a slice's devices share it out.",
        "tensor_parallel_size": "Devices that one copy of each layer is spread over.",
    },
    **TRAFFIC_DESCRIPTIONS,
}


def spec_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one document of a spec file, strangers' workloads included."""
    adapter: TypeAdapter[Any] = TypeAdapter(
        mirror(spec_shape(loadable_strangers()), annotate=_annotated, shorthand=True)
    )
    schema = {"$schema": DIALECT, **adapter.json_schema(), "title": "windtunnel run spec"}
    _tidy(schema)
    return schema


def _annotated(shape: type, name: str) -> Mapping[str, Any]:
    extra: dict[str, Any] = {}
    description = DESCRIPTIONS.get(shape.__name__, {}).get(name)
    if description:
        extra["description"] = description
    default = default_of(shape, name)
    if default is not MISSING and default is not None:
        extra["default"] = to_mapping(default)
    if (shape, name) in _CHOICES:
        extra["enum"] = list(_CHOICES[shape, name])
    if (shape, name) == (RunSpec, "slo"):
        of_run = "|".join(
            m.name.removesuffix("_s") for m in REGISTRY.values() if m.area is Area.LATENCY
        )
        pattern = rf"^({of_run})_(p[0-9]{{1,2}}(\.[0-9]+)?|mean)_s$"
        extra["propertyNames"] = {"anyOf": [{"enum": list(SLO_KEYS)}, {"pattern": pattern}]}
    return extra


# Names that a file may say and the types do not know.
_CHOICES: Mapping[tuple[type, str], Iterable[str]] = {
    (MadeModel, "preset"): model_shape.PRESETS,
    (TorchWorkload, "preset"): torch_shape.PRESETS,
    (JaxWorkload, "preset"): torch_shape.PRESETS,
}


def _tidy(schema: dict[str, Any]) -> None:
    """Descriptions that are machinery's, not ours, go; so do titles made from names."""
    definitions = schema.get("$defs", {})
    if Capacity.__name__ in definitions:
        definitions[Capacity.__name__]["description"] = (
            "How the machines are had, in the order an unranked spec prefers them."
        )
    for definition in (schema, *definitions.values()):
        for entry in definition.get("properties", {}).values():
            entry.pop("title", None)
