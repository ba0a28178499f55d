"""A training as it is started again: read back by what would read it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from harness.specfile import read_specs, spec_to_mapping
from results.errors import NotDeployable
from results.manifests import manifests
from results.recommendation.manifest import Autoscale, ManifestOptions, Platform
from results.recommendation.profile import Configuration, Profile, TrainingStep
from results.recommendation.testing import a_profile

KNOBS = {
    "num_workers": 8, "micro_batch_size": 2, "precision": "bfloat16", "learning_rate": 3e-4,
    "cpus_per_worker": 4.0, "threads_per_worker": 2, "strategy": "fsdp2",
    "tensor_parallel_size": 2, "gradient_accumulation_steps": 4,
    "activation_checkpointing": "selective", "compile": True,
}  # fmt: skip
IMAGE = ManifestOptions(image="registry.example/train:1")


def a_training(num_nodes: int = 1, **machine: Any) -> Profile:
    profile = a_profile(
        num_chips=8, values={"step_time_s mean": (2.0,), "startup_s value": (300.0,)}
    )
    return replace(
        profile,
        configuration=Configuration(
            model="8b", model_server="torch", model_server_version="2.13.0", engine_args=KNOBS
        ),
        machine=replace(profile.machine, num_nodes=num_nodes, **machine),
        training=TrainingStep(
            sequence_length=2048, sequences_per_step=32, num_steps=1200, num_warmup_steps=20
        ),
    )


def test_the_spec_is_the_run_that_was_measured(tmp_path: Path) -> None:
    (one,) = manifests(a_training(), ManifestOptions(), Platform.RUN).documents
    path = tmp_path / "train.yaml"
    path.write_text(one.content)
    (spec,) = read_specs(str(path))
    workload = spec_to_mapping(spec)["workload"]
    assert {name: workload[name] for name in KNOBS} == KNOBS
    assert (workload["preset"], workload["sequence_length"]) == ("8b", 2048)
    assert (workload["num_steps"], workload["num_warmup_steps"]) == (1200, 20)
    assert (spec.hardware[0].accelerator, spec.hardware[0].num_chips) == ("H100", 8)
    # 1200 steps of 2 s, thrice; and no shorter than a spec's own.
    assert spec.deadlines.load_s == 7200.0
    assert spec.deadlines.startup_s == 900.0


def test_torchrun_starts_as_many_processes_as_were_measured() -> None:
    made = manifests(a_training(), ManifestOptions(script="my.py --x 1"), Platform.COMMAND)
    assert shlex.split(made.documents[0].content) == [
        "OMP_NUM_THREADS=2", "torchrun", "--nnodes=1", "--nproc-per-node=8", "--standalone",
        "my.py", "--x", "1",
    ]  # fmt: skip
    assert any("micro_batch_size=2" in c and "my.py" in c for c in made.comments)
    wide = manifests(a_training(num_nodes=2), ManifestOptions(), Platform.COMMAND)
    words = wide.documents[0].content.split()
    assert "--nnodes=2" in words and "--nproc-per-node=4" in words
    assert '--rdzv-endpoint="$HEAD:29500"' in words
    assert any("HEAD" in c for c in wide.comments) and words[-1] == "train.py"


def test_a_job_is_what_kubernetes_takes() -> None:
    config, job = (
        yaml.safe_load(d.content)
        for d in manifests(a_training(), IMAGE, Platform.KUBERNETES).documents
    )
    for document in (config, job):
        kubernetes_validate.validate(document, "1.37", strict=True)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["windtunnel", "run", "/etc/windtunnel/run.yaml"]
    assert container["resources"]["limits"] == {"cpu": "32", "nvidia.com/gpu": "8"}
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
    assert yaml.safe_load(config["data"]["run.yaml"])["workload"]["preset"] == "8b"
    own = replace(IMAGE, script="my.py")
    (job_of_script,) = manifests(a_training(), own, Platform.KUBERNETES).documents
    document = yaml.safe_load(job_of_script.content)
    kubernetes_validate.validate(document, "1.37", strict=True)
    command = document["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[0] == "torchrun" and command[-1] == "my.py"


def test_a_rayjob_has_a_worker_for_each_node_and_a_slice_stays_whole() -> None:
    _, job = manifests(a_training(num_nodes=2), IMAGE, Platform.RAYJOB).documents
    document = yaml.safe_load(job.content)
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayJob")
    assert document["spec"]["entrypoint"].startswith("windtunnel run /etc/windtunnel/run.yaml")
    (group,) = document["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert group["replicas"] == 2
    assert container["resources"]["limits"] == {"cpu": "16", "nvidia.com/gpu": "4"}
    head = document["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert head["volumes"][0]["configMap"]["name"] == document["metadata"]["name"] == "train-8b"
    tpu = a_training(num_nodes=2, accelerator="TPU-V6E", topology="2x4")
    _, job = manifests(tpu, IMAGE, Platform.RAYJOB).documents
    (group,) = yaml.safe_load(job.content)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (group["replicas"], group["numOfHosts"]) == (1, 2)


@pytest.mark.parametrize(
    ("platform", "changes", "words"),
    [
        (Platform.SERVE, {}, "serves requests"),
        (Platform.RAYSERVICE, {}, "serves requests"),
        (Platform.KUBERNETES, {"image": ""}, "--image"),
        (Platform.RAYJOB, {"script": "my.py"}, "kind command"),
        (Platform.RUN, {"replicas": 2}, "no replicas"),
        (Platform.KUBERNETES, {"autoscale": Autoscale.GMP}, "no autoscaler"),
        (Platform.RUN, {"model_uri": "gs://x"}, "random weights"),
    ],
)
def test_what_cannot_be_written_says_what_to_take(
    platform: Platform, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(NotDeployable, match=words):
        manifests(a_training(), replace(IMAGE, **changes), platform)


def test_jax_and_many_nodes_have_their_own_ways() -> None:
    with pytest.raises(NotDeployable, match="rayjob"):
        manifests(a_training(num_nodes=2), IMAGE, Platform.KUBERNETES)
    jax = a_training()
    jax = replace(jax, configuration=replace(jax.configuration, model_server="jax"))
    with pytest.raises(NotDeployable, match="torchrun starts PyTorch"):
        manifests(jax, IMAGE, Platform.COMMAND)
    with pytest.raises(NotDeployable, match="no run or rayjob"):
        manifests(a_profile(), IMAGE, Platform.RUN)
