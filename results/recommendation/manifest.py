"""A document to deploy with, as a value. ``results.manifests`` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Platform(StrEnum):
    COMMAND = "command"  # the engine's own command line
    SERVE = "serve"  # Ray Serve's config file
    RAYSERVICE = "rayservice"  # KubeRay's RayService
    KUBERNETES = "kubernetes"  # Deployment and Service


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestOptions:
    """``name`` empty: one made of the model. ``image`` empty: that of the evidence, else the
    engine's public image of the measured version. ``model_uri`` empty: the model as measured."""

    name: str = ""
    namespace: str = "default"
    replicas: int = 1
    image: str = ""
    model_uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """``kind`` and ``api_version`` are Kubernetes' own, and empty for what is none of its objects.
    ``content`` is the text of one document."""

    kind: str
    api_version: str
    name: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """``comments``: what was assumed, and what to look at before it is applied."""

    documents: tuple[Manifest, ...]
    comments: tuple[str, ...] = ()
