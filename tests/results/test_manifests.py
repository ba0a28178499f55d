"""What is written is what Kubernetes and vLLM take."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest
import yaml

from results.errors import NotDeployable
from results.manifests import manifests
from results.recommendation.manifest import ManifestOptions, Platform
from results.recommendation.profile import EvidenceKind
from results.recommendation.testing import a_profile

ARGS = {"max-num-seqs": 64, "enable_prefix_caching": False, "enforce-eager": True, "dtype": None}


def a_vllm(**changes: Any) -> Any:
    profile = a_profile(model="Qwen/Qwen3-32B", num_chips=2, engine_args=ARGS, **changes)
    configuration = replace(
        profile.configuration,
        parallelism={"tensor": 2},
        env={"HF_TOKEN": "(left out)", "VLLM_LOGGING_LEVEL": "INFO"},
    )
    return replace(profile, configuration=configuration)


def test_the_command_line_is_that_of_the_run() -> None:
    made = manifests(a_vllm(), ManifestOptions(), Platform.COMMAND)
    words = shlex.split(made.documents[0].content)
    assert words == [
        "VLLM_LOGGING_LEVEL=INFO", "vllm", "serve", "Qwen/Qwen3-32B",
        "--tensor-parallel-size", "2", "--max-num-seqs", "64",
        "--no-enable-prefix-caching", "--enforce-eager",
    ]  # fmt: skip
    assert any("HF_TOKEN" in comment for comment in made.comments)
    assert "left out" not in made.documents[0].content


@pytest.mark.parametrize(
    ("accelerator", "resource", "label"),
    [
        ("H100", "nvidia.com/gpu", ("cloud.google.com/gke-accelerator", "nvidia-h100-80gb")),
        ("TPU-V6E", "google.com/tpu", ("cloud.google.com/gke-tpu-accelerator", "tpu-v6e-slice")),
    ],
)
def test_kubernetes_takes_what_is_written(
    accelerator: str, resource: str, label: tuple[str, str]
) -> None:
    options = ManifestOptions(replicas=3, namespace="serving")
    made = manifests(a_vllm(accelerator=accelerator), options, Platform.KUBERNETES)
    assert [d.kind for d in made.documents] == ["Deployment", "Service"]
    deployment, service = (yaml.safe_load(d.content) for d in made.documents)
    for document in (deployment, service):
        kubernetes_validate.validate(document, "1.37", strict=True)
    assert deployment["spec"]["replicas"] == 3
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {resource: "2"}
    assert pod["nodeSelector"][label[0]] == label[1]
    assert pod["containers"][0]["image"].startswith("vllm/vllm-")
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert "&id" not in made.documents[0].content


def test_a_cpu_deployment_asks_for_no_chips() -> None:
    profile = replace(a_vllm(accelerator="cpu"), machine=a_profile().machine)
    profile = replace(profile, machine=replace(profile.machine, accelerator="cpu", num_chips=0))
    (deployment, _) = manifests(profile, ManifestOptions(), Platform.KUBERNETES).documents
    document = yaml.safe_load(deployment.content)
    kubernetes_validate.validate(document, "1.37", strict=True)
    assert "nodeSelector" not in document["spec"]["template"]["spec"]


def test_ray_serve_and_its_service_hold_the_same_config() -> None:
    serve = manifests(a_vllm(), ManifestOptions(replicas=2), Platform.SERVE).documents[0]
    config = yaml.safe_load(serve.content)
    llm = config["applications"][0]["args"]["llm_configs"][0]
    assert llm["engine_kwargs"] == {
        "tensor_parallel_size": 2, "max_num_seqs": 64, "enable_prefix_caching": False,
        "enforce_eager": True,
    }  # fmt: skip
    assert llm["deployment_config"] == {"num_replicas": 2}
    service = manifests(a_vllm(), ManifestOptions(replicas=2), Platform.RAYSERVICE).documents[0]
    document = yaml.safe_load(service.content)
    assert document["apiVersion"] == "ray.io/v1" and document["kind"] == "RayService"
    assert yaml.safe_load(document["spec"]["serveConfigV2"]) == config
    worker = document["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    assert worker["replicas"] == 2
    assert "serveConfigV2: |" in service.content  # a block that can be read


def test_names_are_kubernetes_names() -> None:
    made = manifests(a_vllm(), ManifestOptions(), Platform.KUBERNETES)
    assert made.documents[0].name == "vllm-qwen3-32b"
    with pytest.raises(NotDeployable, match="lower-case"):
        manifests(a_vllm(), ManifestOptions(name="Not_One"), Platform.KUBERNETES)


def test_what_cannot_be_deployed_says_why() -> None:
    simulated = a_vllm(kind=EvidenceKind.SIMULATED)
    with pytest.raises(NotDeployable, match="simulated"):
        manifests(simulated, ManifestOptions(), Platform.COMMAND)
    other = replace(a_vllm(), configuration=replace(a_vllm().configuration, model_server="trtllm"))
    with pytest.raises(NotDeployable, match="trtllm"):
        manifests(other, ManifestOptions(), Platform.COMMAND)
    large = replace(a_vllm(), machine=replace(a_vllm().machine, num_chips=16))
    with pytest.raises(NotDeployable, match="rayservice"):
        manifests(large, ManifestOptions(), Platform.KUBERNETES)
    assert manifests(large, ManifestOptions(), Platform.RAYSERVICE).documents
