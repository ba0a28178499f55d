"""An autoscaler whose targets are what was measured, not a rule of thumb. Pure.

A replica was measured with so many requests in flight, and kept its latencies there: that number is
the target, as the mean over replicas of vLLM's gauge ``vllm:num_requests_running``. What cannot run
waits (``vllm:num_requests_waiting``), and where more than one request a replica waits, more is
asked than was measured. Kubernetes takes the larger of what the two ask for
(https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/).

Names of metrics: prometheus-adapter serves a gauge under its own name; the adapter of Google
Managed Service for Prometheus as ``prometheus.googleapis.com|NAME|gauge``
(https://docs.cloud.google.com/stackdriver/docs/managed-prometheus/hpa).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from results.manifests.metadata import metadata
from results.recommendation.manifest import Autoscale, ManifestOptions, Platform
from results.recommendation.profile import Profile

RUNNING: Final = "vllm:num_requests_running"
WAITING: Final = "vllm:num_requests_waiting"
MOST_WAITING: Final = 1  # for each replica, on average
# Kubernetes' default, and the longest that it takes.
SETTLE_S: Final = 300
MOST_SETTLE_S: Final = 3600

Object = dict[str, Any]


def autoscaling(profile: Profile, options: ManifestOptions, name: str) -> Iterator[Object]:
    """Nothing where none is asked for."""
    if options.autoscale is Autoscale.NONE:
        return
    yield {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(profile, options, name),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": options.min_replicas,
            "maxReplicas": options.most_replicas,
            "metrics": [_pods(options, metric, most) for metric, most in _targets(profile)],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": settle_s(profile)}},
        },
    }
    if options.autoscale is Autoscale.GMP:
        yield {
            "apiVersion": "monitoring.googleapis.com/v1",
            "kind": "PodMonitoring",
            "metadata": metadata(profile, options, name),
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "endpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}],
            },
        }


def serve_scaling(profile: Profile, options: ManifestOptions) -> Object:
    """Ray Serve's own, by the requests in flight of a replica."""
    if options.autoscale is Autoscale.NONE:
        return {"num_replicas": options.replicas}
    scaling: Object = {
        "min_replicas": options.min_replicas,
        "max_replicas": options.most_replicas,
        "downscale_delay_s": settle_s(profile),
    }
    in_flight = measured_in_flight(profile)
    if in_flight is not None:
        scaling["target_ongoing_requests"] = in_flight
    return {"autoscaling_config": scaling}


def measured_in_flight(profile: Profile) -> int | None:
    """Whole requests of one replica; None where it is not known."""
    found = profile.load.concurrency
    return None if found is None else max(1, math.floor(found))


def settle_s(profile: Profile) -> int:
    """How long less load must last before a replica is given up: no shorter than twice what it
    takes to have it back."""
    startup = profile.statistic("startup_s")
    if startup is None or startup.value is None:
        return SETTLE_S
    return min(MOST_SETTLE_S, max(SETTLE_S, math.ceil(2 * startup.value)))


def _targets(profile: Profile) -> Iterator[tuple[str, int]]:
    in_flight = measured_in_flight(profile)
    if in_flight is not None:
        yield RUNNING, in_flight
    yield WAITING, MOST_WAITING


def _pods(options: ManifestOptions, metric: str, most: int) -> Object:
    gmp = options.autoscale is Autoscale.GMP
    return {
        "type": "Pods",
        "pods": {
            "metric": {"name": f"prometheus.googleapis.com|{metric}|gauge" if gmp else metric},
            "target": {"type": "AverageValue", "averageValue": str(most)},
        },
    }


def autoscaling_comments(
    profile: Profile, options: ManifestOptions, platform: Platform
) -> Iterator[str]:
    in_flight = measured_in_flight(profile)
    if in_flight is None:
        yield (
            "how many requests were in flight is not known of this profile, so the autoscaler goes "
            "by those that wait; its target of 1 was not measured"
        )
    else:
        derived = " (by Little's law)" if profile.load.derived.startswith("concurrency") else ""
        yield (
            f"the autoscaler adds a replica above {in_flight} requests in flight each, what one "
            f"was measured with{derived}; beyond it nothing is known of its latencies"
        )
    if platform is Platform.KUBERNETES:
        yield (
            "the autoscaler needs the adapter of Google Managed Service for Prometheus in the "
            "cluster"
            if options.autoscale is Autoscale.GMP
            else f"the autoscaler needs prometheus-adapter to serve {RUNNING} and {WAITING} of "
            "pods, scraped from port http at /metrics"
        )
    yield (
        f"scaling itself was not measured; a replica is given up after {settle_s(profile)} s of "
        "less load"
    )
