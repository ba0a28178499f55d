"""RayJob and RayService as KubeRay takes them: no field that Kubernetes would drop, none missing.

``tests/data/kuberay/fields.yaml`` has the fields; pods are held against Kubernetes' own schema, and
the config inside a RayService against Ray Serve's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from results.manifests import manifests
from results.recommendation.manifest import ManifestOptions, Platform
from results.recommendation.profile import Profile
from results.recommendation.testing import a_profile

ROOT = Path(__file__).parents[2]
KNOWN: Any = yaml.safe_load((ROOT / "tests" / "data" / "kuberay" / "fields.yaml").read_text())
TYPES: dict[str, Any] = {"integer": int, "number": (int, float), "string": str, "boolean": bool}


def faults(document: Any) -> list[str]:
    """What is wrong with a RayJob or a RayService, each with its place."""
    kind, name = document.get("kind"), document["metadata"]["name"]
    found = [] if document.get("apiVersion") == "ray.io/v1" else ["apiVersion"]
    if len(name) > KNOWN["name_length"][kind]:
        found.append(f"metadata.name: {len(name)} characters")
    return [*found, *_of("spec", document["spec"], kind)]


def _of(place: str, value: Any, shape: str) -> Iterator[str]:
    if shape == "template":
        yield from _of_template(place, value)
    elif shape == "strings":
        wrong = [k for k, v in value.items() if not isinstance(v, str)]
        yield from (f"{place}.{key}: is no string" for key in wrong)
    elif shape == "WorkerGroups":
        for i, group in enumerate(value):
            yield from _of(f"{place}[{i}]", group, "WorkerGroup")
    elif shape in TYPES:
        if not isinstance(value, TYPES[shape]) or isinstance(value, bool) != (shape == "boolean"):
            yield f"{place}: is no {shape}"
    else:
        known = KNOWN[shape]
        yield from (f"{place}.{key}: is missing" for key in known["needs"] if key not in value)
        for key, inner in value.items():
            if key not in known["fields"]:
                yield f"{place}.{key}: is no field"
            else:
                yield from _of(f"{place}.{key}", inner, known["fields"][key])


def _of_template(place: str, template: Any) -> Iterator[str]:
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod.setdefault("metadata", {})
    try:
        kubernetes_validate.validate(pod, "1.37", strict=True)
    except Exception as error:  # its own, jsonschema's and strictness's
        yield f"{place}: {error}"


def rayjob() -> Any:
    return yaml.safe_load((ROOT / "examples" / "nightly" / "rayjob.yaml").read_text())


def service_of(profile: Profile, replicas: int = 2) -> Any:
    options = ManifestOptions(replicas=replicas)
    (made,) = manifests(profile, options, Platform.RAYSERVICE).documents
    return yaml.safe_load(made.content)


def on(accelerator: str, num_chips: int, model: str = "Qwen/Qwen3-32B", **changes: Any) -> Profile:
    profile = a_profile(model=model, num_chips=max(num_chips, 1), accelerator=accelerator)
    machine = replace(profile.machine, num_chips=num_chips, **changes)
    return replace(profile, machine=machine)


PROFILES = {
    "cpu": on("cpu", 0),
    "two gpus": on("H100", 2),
    "two nodes of gpus": on("H100", 16, machine_type="a3-highgpu-8g", capacity="spot"),
    "one tpu host": on("TPU-V6E", 8, topology="2x4"),
    "a tpu slice": on("TPU-V6E", 16, topology="4x4"),
    "a long name": on("H100", 1, model=f"org/{'very-long-' * 8}model"),
}


def test_the_rayjob_of_a_night_is_one() -> None:
    assert faults(rayjob()) == []


@pytest.mark.parametrize("name", PROFILES)
def test_a_rayservice_that_is_written_is_one(name: str) -> None:
    assert faults(service_of(PROFILES[name])) == []


def test_what_is_wrong_is_found() -> None:
    job = rayjob()
    job["metadata"]["name"] = "n" * 48
    job["spec"]["entryPoint"] = job["spec"].pop("entrypoint")
    job["spec"]["activeDeadlineSeconds"] = "6h"
    cluster = job["spec"]["rayClusterSpec"]
    cluster["headGroupSpec"]["rayStartParams"] = {"num-cpus": 2}
    del cluster["workerGroupSpecs"][0]["minReplicas"]
    cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["imagePull"] = "Always"
    found = faults(job)
    places = [one.partition(":")[0] for one in found]
    inside = "spec.rayClusterSpec."
    assert places[:2] == ["metadata.name", "spec.activeDeadlineSeconds"]
    assert set(places) == {
        "metadata.name", "spec.activeDeadlineSeconds", "spec.entryPoint",
        f"{inside}headGroupSpec.rayStartParams.num-cpus",
        f"{inside}workerGroupSpecs[0].minReplicas",
        f"{inside}workerGroupSpecs[0].template",
    }  # fmt: skip


def test_hosts_of_a_tpu_slice_are_one_worker() -> None:
    def group(name: str) -> Any:
        (found,) = service_of(PROFILES[name])["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        limits = found["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
        return found["replicas"], found["numOfHosts"], limits

    # Two replicas each: 4x4 is four hosts of four chips (GKE's ct6e-standard-4t), 2x4 one of eight.
    assert group("a tpu slice") == (2, 4, {"google.com/tpu": "4"})
    assert group("one tpu host") == (2, 1, {"google.com/tpu": "8"})
    assert group("two nodes of gpus") == (4, 1, {"nvidia.com/gpu": "8"})
    assert group("cpu") == (2, 1, {})


@pytest.mark.parametrize("name", PROFILES)
def test_ray_serve_takes_the_config_inside(name: str) -> None:
    schema = pytest.importorskip("ray.serve.schema")
    config = yaml.safe_load(service_of(PROFILES[name])["spec"]["serveConfigV2"])
    taken = schema.ServeDeploySchema.model_validate(config)
    (application,) = taken.applications
    assert application.import_path == "ray.serve.llm:build_openai_app"
    (llm,) = application.args["llm_configs"]
    assert llm["deployment_config"] == {"num_replicas": 2}
    del config["applications"][0]["import_path"]
    with pytest.raises(ValueError, match="import_path"):
        schema.ServeDeploySchema.model_validate(config)
