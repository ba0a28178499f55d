"""Which documents a platform takes, and their text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from results.errors import NotDeployable
from results.manifests.autoscaler import autoscaling, autoscaling_comments
from results.manifests.engine import command_line, comments, model_of, require_vllm
from results.manifests.kubernetes import (
    deployment,
    label_is_known,
    ray_image_of,
    ray_service,
    serve_config,
    service,
)
from results.manifests.text import yaml_text
from results.manifests.training import (
    require_trainable,
    training_comments,
    training_documents,
)
from results.recommendation.manifest import (
    Autoscale,
    Manifest,
    ManifestOptions,
    Manifests,
    Platform,
)
from results.recommendation.profile import Profile

_MOST_NAME = 47  # of Kubernetes' 63, which Services and Pods add to; KubeRay takes no longer one


def manifests(profile: Profile, options: ManifestOptions, platform: Platform) -> Manifests:
    """What ``options.replicas`` of ``profile`` are deployed with. Raises NotDeployable."""
    is_training = profile.training is not None
    if is_training:
        require_trainable(profile, options, platform)
    else:
        require_vllm(profile)
        _require_served(options, platform)
    name = options.name or (
        f"train-{plain(profile.configuration.model)}"
        if is_training
        else name_for(model_of(profile, options))
    )
    if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) or len(name) > _MOST_NAME:
        raise NotDeployable(
            f"the name {name!r}: lower-case letters, digits and dashes, a letter first, "
            f"{_MOST_NAME} at most"
        )
    if is_training:
        made = training_documents(profile, options, platform, name)
        documents = tuple(
            Manifest(kind="", api_version="", name=name, content=one)
            if isinstance(one, str)
            else _manifest(one, one.get("metadata", {}).get("name", name))
            for one in made
        )
        said = tuple(training_comments(profile, options, platform))
        return Manifests(documents=documents, comments=said)
    documents = tuple(_documents(profile, options, platform, name))
    return Manifests(documents=documents, comments=tuple(_comments(profile, options, platform)))


def name_for(model: str) -> str:
    """``Qwen/Qwen3-32B`` → ``vllm-qwen3-32b``."""
    return f"vllm-{plain(model.rstrip('/').rpartition('/')[2])}"[:_MOST_NAME].rstrip("-")


def plain(text: str) -> str:
    """Lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")


def _require_served(options: ManifestOptions, platform: Platform) -> None:
    """Raises NotDeployable for options that mean nothing of a serving."""
    if options.replicas < 1:
        raise NotDeployable(f"{options.replicas} replicas; one is the least")
    if platform in (Platform.RUN, Platform.RAYJOB) or options.script:
        raise NotDeployable(
            "a serving has no script, and no run or rayjob: --platform kubernetes, rayservice, "
            "serve or command deploys it"
        )
    if options.autoscale is Autoscale.NONE:
        if options.max_replicas or options.min_replicas != 1:
            raise NotDeployable("bounds of replicas are of an autoscaler; ask for --autoscale, too")
        return
    if platform is Platform.COMMAND:
        raise NotDeployable("a command line has no autoscaler; take --platform kubernetes")
    low, high = options.min_replicas, options.most_replicas
    if not 1 <= low <= high:
        raise NotDeployable(f"from {low} to {high} replicas; at least 1, and no fewer at the top")
    if high == 1:
        raise NotDeployable(
            "one replica is all there may be, so there is nothing to scale; give --replicas as "
            "`recommend` says for your load, or --max-replicas"
        )


def _documents(
    profile: Profile, options: ManifestOptions, platform: Platform, name: str
) -> Iterator[Manifest]:
    match platform:
        case Platform.COMMAND:
            text = command_line(profile, options) + "\n"
            yield Manifest(kind="", api_version="", name=name, content=text)
        case Platform.SERVE:
            yield _manifest(serve_config(profile, options), name)
        case Platform.RAYSERVICE:
            yield _manifest(ray_service(profile, options, name), name)
        case Platform.KUBERNETES:
            yield _manifest(deployment(profile, options, name), name)
            yield _manifest(service(profile, options, name), name)
            for scaling in autoscaling(profile, options, name):
                yield _manifest(scaling, name)
        case Platform.RUN | Platform.RAYJOB:
            raise AssertionError("of a serving; refused before")


def _manifest(document: dict[str, Any], name: str) -> Manifest:
    return Manifest(
        kind=document.get("kind", ""),
        api_version=document.get("apiVersion", ""),
        name=name,
        content=yaml_text(document),
    )


def _comments(profile: Profile, options: ManifestOptions, platform: Platform) -> Iterator[str]:
    on_ray = platform in (Platform.SERVE, Platform.RAYSERVICE)
    if not on_ray:
        yield from comments(profile, options)
    else:
        version = profile.configuration.model_server_version or "a version not known"
        yield f"measured with vllm {version}; {ray_image_of(options)} brings its own"
        yield from (c for c in comments(profile, options) if "names no image" not in c)
    if platform in (Platform.KUBERNETES, Platform.RAYSERVICE) and not label_is_known(
        profile.machine
    ):
        yield (
            f"no node label is known for {profile.machine.accelerator}: add a nodeSelector that "
            "leads to it"
        )
    if options.autoscale is not Autoscale.NONE:
        yield from autoscaling_comments(profile, options, platform)
    if platform is Platform.COMMAND and options.replicas > 1:
        yield f"{options.replicas} replicas: run it that many times, behind a load balancer"
