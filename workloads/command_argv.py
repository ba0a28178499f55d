"""The command of a script's rank: its words, its launcher, its environment. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from workloads.errors import TrainingFailed
from workloads.params import CommandWorkload


def command_line(params: CommandWorkload, values: Mapping[str, str]) -> list[str]:
    """The command with its launcher; placeholders still in it. A script's own name (``*.py``) gets
    the interpreter before it."""
    script = list(params.argv)
    if params.launcher == "torchrun":
        nodes = int(values["num_nodes"])
        if nodes * int(values["local_num_workers"]) != int(values["num_workers"]):
            raise TrainingFailed(
                f"torchrun wants as many ranks on each node; {values['num_workers']} ranks stand "
                f"on {nodes} nodes, {values['local_num_workers']} of them on this one"
            )
        elsewhere = (
            "--node-rank {node_rank} --master-addr {master_address} --master-port {master_port}"
        )
        meet = "--standalone" if nodes == 1 else elsewhere
        return [
            "{python}",
            "-m",
            "torch.distributed.run",
            *("--nnodes", str(nodes), "--nproc-per-node", "{local_num_workers}"),
            *("--max-restarts", "0", *meet.split()),
            *script,
        ]
    return ["{python}", *script] if script[0].endswith(".py") else script


def rank_environment(values: Mapping[str, str]) -> dict[str, str]:
    """The variables that torchrun sets for each rank and ``env://`` reads."""
    return {
        "RANK": values["rank"],
        "WORLD_SIZE": values["num_workers"],
        "LOCAL_RANK": values["local_rank"],
        "LOCAL_WORLD_SIZE": values["local_num_workers"],
        "GROUP_RANK": values["node_rank"],
        "MASTER_ADDR": values["master_address"],
        "MASTER_PORT": values["master_port"],
    }


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """Replace ``{rank}``-like names; other braces (JSON in an argument) stay as they are."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def steps_from(params: CommandWorkload) -> str:
    if params.log_pattern:
        return f"the log of rank 0, pattern {params.log_pattern}"
    return f"lines of {params.jsonl}" if params.jsonl else "the callback windtunnel_step"
