"""Kubernetes objects of a configuration: Deployment and Service, or a RayService. Pure.

Names of node labels and accelerators are GKE's
(https://docs.cloud.google.com/kubernetes-engine/docs/how-to/gpus, …/how-to/tpus); KubeRay's API is
``ray.io/v1``. Objects are plain data.
"""

from __future__ import annotations

from typing import Any, Final

from results.errors import NotDeployable
from results.gke_names import GPUS, TPUS
from results.manifests.autoscaler import serve_scaling
from results.manifests.engine import (
    PORT,
    engine_args,
    image_of,
    model_of,
    serve_arguments,
    visible_env,
)
from results.manifests.metadata import metadata
from results.manifests.text import yaml_text
from results.recommendation.manifest import Autoscale, ManifestOptions
from results.recommendation.profile import Machine, Profile

_GPU, _TPU = "nvidia.com/gpu", "google.com/tpu"
# One Pod's chips: no machine that GKE has holds more, and of these TPUs only four.
MOST_CHIPS_PER_NODE: Final = 8
_TPU_HOST: Final = 4  # also of every larger slice, whatever the TPU
_FOUR_A_HOST: Final = frozenset({"TPU-V4", "TPU-V5P", "TPU-V7X"})
_STARTUP_PROBES = 360  # × 10 s: an hour, for a large model that is downloaded first

Object = dict[str, Any]


def deployment(profile: Profile, options: ManifestOptions, name: str) -> Object:
    """Raises NotDeployable for a replica that no single node can hold."""
    machine = profile.machine
    if machine.num_chips > (held := _chips_per_node(machine)):
        raise NotDeployable(
            f"a replica takes {machine.num_chips} x {machine.accelerator}, more than one node has "
            f"({held}); a Deployment cannot span nodes. Use --platform rayservice"
        )
    container: Object = {
        "name": "vllm",
        "image": image_of(profile, options),
        "command": ["vllm", "serve"],
        "args": [*serve_arguments(profile, options), "--port", str(PORT)],
        "env": _env(profile),
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": resources(machine, machine.num_chips),
        "startupProbe": _probe(failureThreshold=_STARTUP_PROBES),
        "readinessProbe": _probe(failureThreshold=3),
        # Workers of one engine talk through shared memory; a container has 64 MiB of it.
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    pod: Object = {
        "containers": [container],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(profile, options, name),
        "spec": {
            # An autoscaler's number of replicas is not to be undone by the next apply.
            **({} if options.autoscale is not Autoscale.NONE else {"replicas": options.replicas}),
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {**pod, **placed(machine)},
            },
        },
    }


def service(profile: Profile, options: ManifestOptions, name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(profile, options, name),
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    }


def serve_config(profile: Profile, options: ManifestOptions) -> Object:
    """Ray Serve's config, with its builder of OpenAI-compatible applications."""
    machine = profile.machine
    kwargs = {k.replace("-", "_"): v for k, v in engine_args(profile).items()}
    config: Object = {
        "model_loading_config": {
            "model_id": profile.configuration.model,
            "model_source": model_of(profile, options),
        },
        "engine_kwargs": kwargs,
        "deployment_config": serve_scaling(profile, options),
    }
    if machine.num_chips:
        config["accelerator_type"] = machine.accelerator
    if env := visible_env(profile):
        config["runtime_env"] = {"env_vars": env}
    return {
        "applications": [
            {
                "name": "llm",
                "route_prefix": "/",
                "import_path": "ray.serve.llm:build_openai_app",
                "args": {"llm_configs": [config]},
            }
        ]
    }


def ray_service(profile: Profile, options: ManifestOptions, name: str) -> Object:
    machine = profile.machine
    per_node = _chips_per_node(machine)
    nodes_each = -(-machine.num_chips // per_node) if machine.num_chips else 1
    # Hosts of a TPU slice come and go together; GPU nodes are each a worker of its own.
    together = nodes_each if _is_tpu(machine) else 1
    workers_each = nodes_each // together
    fixed = options.autoscale is Autoscale.NONE
    least = options.replicas if fixed else options.min_replicas
    most = options.replicas if fixed else options.most_replicas
    head = _ray_pod("ray-head", profile, options, None)
    worker = _ray_pod("ray-worker", profile, options, per_node)
    worker["spec"] |= placed(machine)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": metadata(profile, options, name),
        "spec": {
            "serveConfigV2": yaml_text(serve_config(profile, options)),
            "rayClusterConfig": {
                **(
                    {} if options.autoscale is Autoscale.NONE else {"enableInTreeAutoscaling": True}
                ),
                "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": head},
                "workerGroupSpecs": [
                    {
                        "groupName": "engines",
                        "replicas": least * workers_each,
                        "minReplicas": least * workers_each,
                        "maxReplicas": most * workers_each,
                        "numOfHosts": together,
                        "rayStartParams": {},
                        "template": worker,
                    }
                ],
            },
        },
    }


def _ray_pod(
    name: str, profile: Profile, options: ManifestOptions, num_chips: int | None
) -> Object:
    """``num_chips`` None: the head, which serves no model."""
    container: Object = {"name": name, "image": ray_image_of(options)}
    if num_chips is None:
        container["resources"] = {"requests": {"cpu": "2", "memory": "8Gi"}}
    else:
        container["resources"] = resources(profile.machine, num_chips)
    return {"spec": {"containers": [container]}}


def ray_image_of(options: ManifestOptions) -> str:
    """Ray's own image with its LLM libraries, which holds a vLLM of its own choice."""
    return options.image or "rayproject/ray-llm:latest"


def _env(profile: Profile) -> list[Object]:
    return [{"name": name, "value": value} for name, value in visible_env(profile).items()]


def resources(machine: Machine, num_chips: int) -> Object:
    if not num_chips:
        return {}
    resource = _TPU if _is_tpu(machine) else _GPU
    return {"limits": {resource: str(num_chips)}, "requests": {resource: str(num_chips)}}


def _is_tpu(machine: Machine) -> bool:
    return machine.accelerator.upper().startswith("TPU")


def _chips_per_node(machine: Machine) -> int:
    """Of the nodes that hold one replica together, or alone."""
    slice_ = _is_tpu(machine) and machine.num_chips > MOST_CHIPS_PER_NODE
    small = slice_ or machine.accelerator.upper() in _FOUR_A_HOST
    return min(machine.num_chips, _TPU_HOST if small else MOST_CHIPS_PER_NODE)


def _probe(**more: int) -> Object:
    return {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10, **more}


def placed(machine: Machine) -> Object:
    """The nodes that have the hardware, by GKE's labels; nothing where no label is known."""
    name = machine.accelerator.upper()
    selector: dict[str, str] = {}
    if name in GPUS:
        selector["cloud.google.com/gke-accelerator"] = GPUS[name]
    if name in TPUS:
        selector["cloud.google.com/gke-tpu-accelerator"] = TPUS[name]
        if machine.topology:
            selector["cloud.google.com/gke-tpu-topology"] = machine.topology
    if machine.machine_type:
        selector["node.kubernetes.io/instance-type"] = machine.machine_type
    if machine.capacity == "spot" and selector:
        selector["cloud.google.com/gke-spot"] = "true"
    return {"nodeSelector": selector} if selector else {}


def label_is_known(machine: Machine) -> bool:
    return machine.accelerator.upper() in (*GPUS, *TPUS) or not machine.num_chips
