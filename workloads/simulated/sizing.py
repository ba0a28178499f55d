"""From a model, an accelerator and vLLM's own flags to an engine: how much KV cache fits. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from workloads.errors import LaunchRefused
from workloads.model_shape import ITEM_BYTES
from workloads.simulated.accelerators import accelerator_named, model_named
from workloads.simulated.engine_request import EngineConfig
from workloads.simulated.roofline import kv_bytes_per_token, roofline


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What is simulated. Names and defaults of the second group are vLLM's."""

    model: str = "llama-3.1-8b"
    accelerator: str = "H100"
    tensor_parallel_size: int = 1
    compute_efficiency: float = 1.0
    memory_efficiency: float = 1.0
    step_overhead_s: float = 0.0

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    block_size: int = 16
    gpu_memory_utilization: float = 0.92
    num_gpu_blocks_override: int | None = None
    enable_prefix_caching: bool = True
    max_model_len: int | None = None


def engine_config(deployed: Deployed) -> EngineConfig:
    """Raises LaunchRefused for names that are not known, for a model that leaves no room for a KV
    cache, and for a batch that cannot be."""
    model = model_named(deployed.model)
    chip = accelerator_named(deployed.accelerator)
    if deployed.tensor_parallel_size < 1 or model.num_heads % deployed.tensor_parallel_size:
        raise LaunchRefused(
            f"tensor_parallel_size = {deployed.tensor_parallel_size} does not divide the "
            f"{model.num_heads} heads of {deployed.model}"
        )
    if not (0 < deployed.compute_efficiency <= 1 and 0 < deployed.memory_efficiency <= 1):
        raise LaunchRefused("efficiencies are shares of the accelerator's peak: above 0, at most 1")
    try:
        return EngineConfig(
            roofline=roofline(
                model,
                chip,
                deployed.tensor_parallel_size,
                compute_efficiency=deployed.compute_efficiency,
                memory_efficiency=deployed.memory_efficiency,
                overhead_s=deployed.step_overhead_s,
            ),
            num_blocks=num_blocks(deployed),
            block_size=deployed.block_size,
            max_num_batched_tokens=deployed.max_num_batched_tokens,
            max_num_seqs=deployed.max_num_seqs,
            enable_prefix_caching=deployed.enable_prefix_caching,
        )
    except ValueError as error:
        raise LaunchRefused(f"no such engine can be: {error}") from error


def num_blocks(deployed: Deployed) -> int:
    """Blocks that fit beside the weights into the share of memory that may be used. Activations are
    left out: a real engine has somewhat fewer."""
    if deployed.num_gpu_blocks_override is not None:
        return deployed.num_gpu_blocks_override
    model, chip = model_named(deployed.model), accelerator_named(deployed.accelerator)
    n = deployed.tensor_parallel_size
    weights = model.num_parameters * ITEM_BYTES[model.dtype] / n
    room = chip.memory_bytes * deployed.gpu_memory_utilization - weights
    fitting = int(room // (kv_bytes_per_token(model, n) * deployed.block_size))
    if fitting < 1:
        raise LaunchRefused(
            f"{deployed.model} on {n} x {deployed.accelerator} has {weights / 1e9:.1f} GB of "
            f"weights a chip; {deployed.gpu_memory_utilization:g} of "
            f"{chip.memory_bytes / 1e9:g} GB leaves no room for a KV cache; take more chips"
        )
    return fitting


def max_model_len(deployed: Deployed) -> int:
    """Tokens of a prompt and its answer, at most."""
    most = model_named(deployed.model).max_position_embeddings
    return most if deployed.max_model_len is None else deployed.max_model_len
