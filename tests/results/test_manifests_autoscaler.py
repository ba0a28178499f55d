"""The autoscaler goes by what was measured, and is what Kubernetes takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest
import yaml

from results.errors import NotDeployable
from results.manifests import manifests
from results.recommendation.manifest import Autoscale, ManifestOptions, Platform
from results.recommendation.profile import Profile
from results.recommendation.testing import a_profile

GMP = ManifestOptions(replicas=6, autoscale=Autoscale.GMP)


def a_serving(in_flight: float | None = 20.9, startup_s: float = 240.0) -> Profile:
    profile = a_profile(model="a/b", values={"startup_s value": (startup_s,)})
    return replace(profile, load=replace(profile.load, concurrency=in_flight))


def written(profile: Profile, options: ManifestOptions) -> dict[str, Any]:
    documents = manifests(profile, options, Platform.KUBERNETES).documents
    return {d.kind: yaml.safe_load(d.content) for d in documents}


def test_its_target_is_the_measured_load_and_its_top_the_replicas_that_answer_it() -> None:
    found = written(a_serving(), GMP)
    assert list(found) == ["Deployment", "Service", "HorizontalPodAutoscaler", "PodMonitoring"]
    scaler = found["HorizontalPodAutoscaler"]
    kubernetes_validate.validate(scaler, "1.37", strict=True)
    kubernetes_validate.validate(found["Deployment"], "1.37", strict=True)
    spec = scaler["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 6)
    assert spec["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    targets = {
        m["pods"]["metric"]["name"]: m["pods"]["target"]["averageValue"] for m in spec["metrics"]
    }
    assert targets == {
        "prometheus.googleapis.com|vllm:num_requests_running|gauge": "20",
        "prometheus.googleapis.com|vllm:num_requests_waiting|gauge": "1",
    }
    # Twice the measured startup, which is longer than Kubernetes' own five minutes.
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 480
    # The next apply must not set back what the autoscaler chose.
    assert "replicas" not in found["Deployment"]["spec"]
    monitored = found["PodMonitoring"]["spec"]["selector"]["matchLabels"]
    assert monitored == found["Deployment"]["spec"]["template"]["metadata"]["labels"]


def test_another_adapter_has_other_names_and_an_unknown_load_no_target() -> None:
    options = replace(GMP, autoscale=Autoscale.PROMETHEUS, min_replicas=2, max_replicas=9)
    found = written(a_serving(in_flight=None, startup_s=1e5), options)
    assert "PodMonitoring" not in found
    spec = found["HorizontalPodAutoscaler"]["spec"]
    kubernetes_validate.validate(found["HorizontalPodAutoscaler"], "1.37", strict=True)
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 9)
    assert [m["pods"]["metric"]["name"] for m in spec["metrics"]] == ["vllm:num_requests_waiting"]
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 3600
    said = manifests(a_serving(in_flight=None), options, Platform.KUBERNETES).comments
    assert any("not known" in c and "not measured" in c for c in said)


def test_ray_serve_scales_by_the_same_number() -> None:
    serve = manifests(a_serving(), GMP, Platform.SERVE).documents[0]
    (llm,) = yaml.safe_load(serve.content)["applications"][0]["args"]["llm_configs"]
    scaling = llm["deployment_config"]["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 6)
    assert scaling["target_ongoing_requests"] == 20
    service = manifests(a_serving(), GMP, Platform.RAYSERVICE).documents[0]
    cluster = yaml.safe_load(service.content)["spec"]["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"] is True
    (group,) = cluster["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == (1, 6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replicas": 1}, "nothing to scale"),
        ({"min_replicas": 7}, "from 7 to 6"),
        ({"min_replicas": 0}, "from 0 to 6"),
        ({"autoscale": Autoscale.NONE, "max_replicas": 3}, "--autoscale"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(NotDeployable, match=words):
        manifests(a_serving(), replace(GMP, **changes), Platform.KUBERNETES)
