"""The knobs of each workload, as light values: specs and tuners import this, never an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

EngineValue = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeModel:
    """A model folder the program makes itself: real format, random weights, nothing downloaded."""

    preset: str = "tiny-llama"
    seed: int = 0


# A knob added after records were kept: at its default it stands in no hash, so that what was
# measured before it still compares with what is measured now.
LATER: Mapping[str, bool] = {"left_out_at_default": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmWorkload:
    """A vLLM server we deploy. ``model`` is a local folder, a hub id, or ``{preset: …}``.

    ``engine_args`` go to the server as they are: ``max-model-len: 512`` → ``--max-model-len 512``;
    true → the bare flag, false → ``--no-…``, null → leave it out. ``env`` is set in the server's
    process only.
    """

    kind: Literal["vllm"] = "vllm"
    model: str | MadeModel = field(default_factory=MadeModel)
    tensor_parallel_size: int = 1
    engine_args: Mapping[str, EngineValue] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    python: str = ""  # the interpreter that has vllm; empty: the one that runs windtunnel
    # On CPUs: vLLM is imported once, and its other processes are forked from that one.
    fork_engine: bool = field(default=False, metadata=LATER)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointWorkload:
    """Someone else's OpenAI-compatible server. ``url`` ends before ``/v1``.

    The key is read from the environment variable named in ``api_key_env`` and is never stored.
    ``metrics_url`` are the engine's metric pages where they are not at ``url``/metrics: those of
    every node's Ray agent, say, for an engine inside Ray.
    """

    url: str
    model: str
    kind: Literal["endpoint"] = "endpoint"
    api_key_env: str = ""
    metrics_url: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFiles:
    """Tokens from files: ``path`` is a file or a folder of them, ``column`` holds lists of token
    ids, one document a row. Documents are packed into sequences with nothing between them."""

    path: str
    kind: Literal["parquet", "arrow"] = "parquet"
    column: str = "tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchWorkload:
    """Training of a decoder-only transformer through Ray Train, its model spread over workers.

    Workers = data-parallel ranks × tensor_parallel_size. Sequences of one step = data-parallel
    ranks × micro_batch_size × gradient_accumulation_steps, of sequence_length tokens each; the
    model starts from the same seed on every rank. ``global_batch_size`` only checks that product.

    ``communication: none`` is a control: every rank trains by itself, on the same cores at the
    same time, waiting for nobody. ``checkpoint_every_steps`` 0: no checkpoints.
    ``watchdog_s`` without a step from any rank fails the run; 0: never.
    """

    kind: Literal["torch"] = "torch"
    preset: str = "tiny"
    num_workers: int = 2
    num_steps: int = 20
    num_warmup_steps: int = 3
    micro_batch_size: int = 4
    sequence_length: int = 128
    precision: Literal["float32", "bfloat16"] = "float32"
    learning_rate: float = 3e-4
    seed: int = 0
    cpus_per_worker: float = 1.0
    threads_per_worker: int = 1
    global_batch_size: int | None = field(default=None, metadata=LATER)
    strategy: Literal["ddp", "fsdp2"] = field(default="ddp", metadata=LATER)
    tensor_parallel_size: int = field(default=1, metadata=LATER)
    gradient_accumulation_steps: int = field(default=1, metadata=LATER)
    activation_checkpointing: Literal["none", "full", "selective"] = field(
        default="none", metadata=LATER
    )
    compile: bool = field(default=False, metadata=LATER)
    data: Literal["synthetic"] | TokenFiles = field(default="synthetic", metadata=LATER)
    loader_workers: int = field(default=0, metadata=LATER)
    prefetch_batches: int = field(default=2, metadata=LATER)
    communication: Literal["all", "none"] = field(default="all", metadata=LATER)
    checkpoint_every_steps: int = field(default=0, metadata=LATER)
    checkpoint_dir: str = field(default="", metadata=LATER)
    resume: bool = field(default=False, metadata=LATER)
    watchdog_s: float = field(default=600.0, metadata=LATER)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectivesWorkload:
    """Collectives timed between training workers: no model, only what they exchange.

    ``sizes_bytes`` are S as nccl-tests count it, rounded down to whole elements for each rank. A
    round visits every collective and size once and calls it ``calls_per_round`` times.
    ``backend: usual`` is gloo on CPUs, nccl on GPUs and xla on TPUs. Of xla a worker has all chips
    of its bundle, and each of them is a rank.
    """

    kind: Literal["collectives"] = "collectives"
    collectives: tuple[str, ...] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
    sizes_bytes: tuple[int, ...] = tuple(1024 * 4**k for k in range(9))  # 1 KiB … 64 MiB
    num_workers: int = 2
    dtype: Literal["float32", "bfloat16"] = "float32"
    num_rounds: int = 20
    calls_per_round: int = 5
    num_warmup_calls: int = 2
    seed: int = 0
    cpus_per_worker: float = 1.0
    threads_per_worker: int = 1
    backend: Literal["usual", "gloo", "nccl", "xla"] = field(default="usual", metadata=LATER)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandWorkload:
    """Anyone's own training script, started once for each rank (or by ``torchrun`` on each node).

    Its steps are read in one of three ways: by the callback ``windtunnel_step`` that the script
    calls (the default), by ``log_pattern`` from the log of rank 0 (``torchtitan``, ``maxtext``,
    ``nanogpt``, or a regular expression with named groups), or from ``jsonl``, a file that gets a
    line of JSON for each step. ``{rank}``, ``{num_workers}``, ``{master_address}``,
    ``{master_port}``, ``{python}`` and others in ``argv``, ``env`` and ``jsonl`` are filled in.
    """

    argv: tuple[str, ...]
    kind: Literal["command"] = "command"
    launcher: Literal["plain", "torchrun"] = "plain"
    num_workers: int = 1
    log_pattern: str = ""
    jsonl: str = ""
    num_steps: int = 0  # 0: until the script ends; else it is ended after so many
    num_warmup_steps: int = 3
    tokens_per_step: int = 0  # of all ranks; 0: the script says, or nobody does
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    python: str = ""  # the script's interpreter; empty: the one that runs windtunnel
    cpus_per_worker: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JaxWorkload:
    """The model of the ``torch`` workload, trained by JAX on a mesh of devices.

    A worker is a process and has all chips that its bundle holds, of a TPU slice those of one host.
    Sequences of one step = num_workers × micro_batch_size × gradient_accumulation_steps, whatever
    devices share them; where tensor-parallel groups span workers, each group has the batch of one.

    Knobs that the torch workload has too mean what they mean there; ``fsdp2`` splits parameters and
    optimizer over the devices of a slice.
    """

    kind: Literal["jax"] = "jax"
    preset: str = "tiny"
    num_workers: int = 2
    num_steps: int = 20
    num_warmup_steps: int = 3
    micro_batch_size: int = 4
    sequence_length: int = 128
    precision: Literal["float32", "bfloat16"] = "float32"
    learning_rate: float = 3e-4
    seed: int = 0
    cpus_per_worker: float = 1.0
    threads_per_worker: int = 1
    cpu_devices_per_worker: int = 1
    global_batch_size: int | None = None
    strategy: Literal["ddp", "fsdp2"] = "ddp"
    tensor_parallel_size: int = 1
    gradient_accumulation_steps: int = 1
    activation_checkpointing: Literal["none", "full", "selective"] = "none"
    data: Literal["synthetic"] | TokenFiles = "synthetic"
    loader_workers: int = 0
    prefetch_batches: int = 2
    communication: Literal["all", "none"] = field(default="all", metadata=LATER)
    checkpoint_every_steps: int = field(default=0, metadata=LATER)
    checkpoint_dir: str = ""
    resume: bool = False
    watchdog_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedWorkload:
    """A model of a vLLM-like engine, served in real time by a process of ours.

    Steps take what the accelerator's roofline says; ``accelerator`` empty: that of the device.
    Efficiencies are shares of the peaks, and 1 a bound that no real engine reaches.
    ``engine_args`` have vLLM's names: max-num-seqs, max-num-batched-tokens, block-size,
    gpu-memory-utilization, num-gpu-blocks-override, enable-prefix-caching, max-model-len.
    """

    kind: Literal["simulated"] = "simulated"
    model: str = "llama-3.1-8b"
    accelerator: str = ""
    tensor_parallel_size: int = 1
    engine_args: Mapping[str, EngineValue] = field(default_factory=dict)
    compute_efficiency: float = 1.0
    memory_efficiency: float = 1.0
    step_overhead_s: float = 0.0
    startup_s: float = 0.0


WorkloadParams = (
    VllmWorkload
    | EndpointWorkload
    | TorchWorkload
    | JaxWorkload
    | CollectivesWorkload
    | CommandWorkload
    | SimulatedWorkload
)
