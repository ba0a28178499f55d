"""vLLM as it is started: the command line of a configuration. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final

from results.errors import NotDeployable
from results.recommendation.manifest import ManifestOptions
from results.recommendation.profile import EvidenceKind, Profile

PORT: Final = 8000  # vLLM's default
# Parallelism of a profile → vLLM's option. Attention data parallelism is its data parallelism.
_SIZES: Final = {
    "tensor": "tensor-parallel-size",
    "pipeline": "pipeline-parallel-size",
    "data": "data-parallel-size",
    "attention_data": "data-parallel-size",
}
_EXPERT: Final = "moe_expert"


def require_vllm(profile: Profile) -> None:
    """Raises NotDeployable, which says what is missing."""
    c = profile.configuration
    if profile.evidence.kind is EvidenceKind.SIMULATED or c.model_server == "simulated":
        raise NotDeployable(
            f"profile {profile.profile_id} is simulated: there is no engine to deploy"
        )
    if c.model_server != "vllm":
        server = c.model_server or "a server that is not known"
        raise NotDeployable(
            f"profile {profile.profile_id} is of {server}; manifests are written for vllm. "
            "Ask again with --model-server vllm"
        )
    stages = [name for name in c.parallelism if name.startswith(("prefill_", "decode_"))]
    if stages or c.resolved.get("mode") == "disagg":
        raise NotDeployable(
            f"profile {profile.profile_id} serves prefill and decode apart; no manifest is written "
            "for that yet"
        )


def model_of(profile: Profile, options: ManifestOptions) -> str:
    return options.model_uri or profile.configuration.model


def engine_args(profile: Profile) -> dict[str, Any]:
    """Everything that was asked of the engine, parallelism included, by its option's name."""
    c = profile.configuration
    args: dict[str, Any] = {}
    for name, size in c.parallelism.items():
        if name in _SIZES and size > 1:
            args[_SIZES[name]] = size
    if c.parallelism.get(_EXPERT, 1) > 1:
        args["enable-expert-parallel"] = True
    args |= {plain_option(k): v for k, v in c.engine_args.items() if v is not None}
    return args


def plain_option(name: str) -> str:
    """``max_num_seqs`` and ``--max-num-seqs`` → ``max-num-seqs``; a short ``-O3`` stays."""
    return name.removeprefix("--").replace("_", "-") if not re.match(r"-\w", name) else name


def flags(args: Mapping[str, Any]) -> Iterator[str]:
    """As windtunnel itself gives them: true is the bare flag, false the one with ``no-``."""
    for name, value in args.items():
        option = name if name.startswith("-") else f"--{name}"
        if value is True:
            yield option
        elif value is False:
            yield f"--no-{name.removeprefix('-')}"
        else:
            yield option
            yield str(value)


def serve_arguments(profile: Profile, options: ManifestOptions) -> list[str]:
    """After ``vllm serve``: the model, its name for clients, and the flags."""
    named = [] if not options.model_uri else ["--served-model-name", profile.configuration.model]
    return [model_of(profile, options), *named, *flags(engine_args(profile))]


def command_line(profile: Profile, options: ManifestOptions) -> str:
    """For a shell, environment first."""
    env = [f"{k}={shlex.quote(v)}" for k, v in visible_env(profile).items()]
    return " ".join([*env, shlex.join(["vllm", "serve", *serve_arguments(profile, options)])])


def visible_env(profile: Profile) -> dict[str, str]:
    """Without what was left out of the profile because it looks like a secret."""
    return {k: v for k, v in profile.configuration.env.items() if v != LEFT_OUT}


LEFT_OUT: Final = "(left out)"


def image_of(profile: Profile, options: ManifestOptions) -> str:
    """The image asked for, that of the evidence where it can be pulled, else vLLM's own release."""
    kept = profile.configuration.image
    if options.image:
        return options.image
    if "/" in kept:
        return kept
    version = profile.configuration.model_server_version.removeprefix("v")
    if profile.machine.accelerator.upper().startswith("TPU"):
        return "vllm/vllm-tpu:nightly"
    return f"vllm/vllm-openai:v{version}" if version else "vllm/vllm-openai:latest"


def comments(profile: Profile, options: ManifestOptions) -> Iterator[str]:
    """What was assumed, and what to look at before it is applied."""
    c = profile.configuration
    image = image_of(profile, options)
    if not options.image and image != c.image:
        yield f"the evidence names no image; {image} is the engine's public one"
    if profile.evidence.estimated is not None:
        yield f"NOT MEASURED: {profile.evidence.estimated.words}"
    hidden = [name for name, value in c.env.items() if value == LEFT_OUT]
    if hidden:
        yield f"set {', '.join(hidden)} from a secret: the values are not kept"
    if model_of(profile, options).startswith("preset:") or "/" not in model_of(profile, options):
        yield (
            f"{model_of(profile, options)} is no hub id: name where the model is with --model-uri"
        )
    if precision := c.resolved.get("precision"):
        yield f"measured with {precision} weights: use a checkpoint of that precision"
    if profile.evidence.kind is EvidenceKind.IMPORTED:
        yield (
            f"imported evidence ({profile.evidence.source or 'source not known'}): settings that "
            "its source did not record are the engine's defaults here"
        )
    if profile.superseded_by:
        yield f"superseded by profile {profile.superseded_by}"
    if profile.evidence.stale:
        yield f"stale: {profile.evidence.why_stale}"
