"""A document to deploy with, as a value. ``results.manifests`` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Platform(StrEnum):
    COMMAND = "command"  # the engine's own command line
    SERVE = "serve"  # Ray Serve's config file
    RAYSERVICE = "rayservice"  # KubeRay's RayService
    KUBERNETES = "kubernetes"  # Deployment and Service; of a training a Job
    RUN = "run"  # of a training: the spec of `windtunnel run`
    RAYJOB = "rayjob"  # of a training: KubeRay's RayJob


class Autoscale(StrEnum):
    """Where an autoscaler reads the engine's metrics."""

    NONE = "none"
    PROMETHEUS = "prometheus"  # prometheus-adapter, which names a metric as the engine does
    GMP = "gmp"  # Google Managed Service for Prometheus, with a PodMonitoring of our own


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestOptions:
    """``name`` empty: one made of the model. ``image`` empty: that of the evidence, else the
    engine's public image of the measured version. ``model_uri`` empty: the model as measured.

    ``autoscale``: between ``min_replicas`` and ``max_replicas`` (0: ``replicas``, which answer the
    load that was asked). ``script``: of a training, whose launch is to be written; empty: that of
    the training that was measured.
    """

    name: str = ""
    namespace: str = "default"
    replicas: int = 1
    image: str = ""
    model_uri: str = ""
    autoscale: Autoscale = Autoscale.NONE
    min_replicas: int = 1
    max_replicas: int = 0
    script: str = ""

    @property
    def most_replicas(self) -> int:
        return self.max_replicas or self.replicas


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
