"""A training as it is started again: a spec of ours, a Job, KubeRay's RayJob, or torchrun.

What was measured is the trainer that comes with windtunnel, so a spec repeats it to the letter, and
the Job and the RayJob run that spec. For a script of the user's own the launch is written, and the
knobs are told: how a script takes them nobody can know. Pure.

torchrun's options: https://docs.pytorch.org/docs/stable/elastic/run.html. KubeRay's API is
``ray.io/v1``.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final

from results.errors import NotDeployable
from results.manifests.kubernetes import MOST_CHIPS_PER_NODE, label_is_known, placed, resources
from results.manifests.metadata import metadata
from results.manifests.text import yaml_text
from results.recommendation.manifest import Autoscale, ManifestOptions, Platform
from results.recommendation.profile import EvidenceKind, Profile

_CONFIG, _SPEC = "/etc/windtunnel", "run.yaml"
_PORT: Final = 29500  # torchrun's usual one
_OWN_SCRIPT: Final = "train.py"
# Deadlines of a spec that names none, in seconds (``harness.spec``).
_STARTUP_S, _LOAD_S = 600.0, 1800.0
_SLACK: Final = 3.0
_KEEP_S: Final = 3600  # a finished RayJob's cluster and log

Object = dict[str, Any]


def require_trainable(profile: Profile, options: ManifestOptions, platform: Platform) -> None:
    """Raises NotDeployable, which says what to take instead."""
    who = f"profile {profile.profile_id} is a training"
    if profile.evidence.kind is EvidenceKind.SIMULATED:
        raise NotDeployable(f"{who} that was simulated: there is nothing to start")
    if platform in (Platform.SERVE, Platform.RAYSERVICE):
        raise NotDeployable(
            f"{who}, and {platform} serves requests; take --platform run, rayjob, kubernetes or "
            "command"
        )
    if options.replicas != 1 or options.autoscale is not Autoscale.NONE:
        raise NotDeployable(f"{who}: it has no replicas, and no autoscaler")
    if options.model_uri:
        raise NotDeployable(f"{who} from random weights: it reads no model")
    if options.script and platform in (Platform.RUN, Platform.RAYJOB):
        raise NotDeployable(
            f"--platform {platform} runs the trainer that was measured; your own script is "
            "measured by a spec of kind command, and launched with --platform command or kubernetes"
        )
    torchrun = platform is Platform.COMMAND or bool(options.script)
    if torchrun and profile.configuration.model_server != "torch":
        raise NotDeployable(
            f"{who} with {profile.configuration.model_server}, and torchrun starts PyTorch's "
            "processes; take --platform run, rayjob or kubernetes without a script"
        )
    if platform is Platform.KUBERNETES and _num_nodes(profile) > 1:
        raise NotDeployable(
            f"{who} over {_num_nodes(profile)} nodes; a Job is one Pod here. Take --platform "
            "rayjob (JobSet and LeaderWorkerSet are not written)"
        )
    if platform in (Platform.RAYJOB, Platform.KUBERNETES) and not options.image:
        version = profile.configuration.model_server_version or "of the version measured"
        trainer = f"{profile.configuration.model_server} {version}"
        with_ours = "" if options.script else "windtunnel and "
        raise NotDeployable(
            f"{who}: there is no public image of its trainer; name one of yours that has "
            f"{with_ours}{trainer} with --image"
        )


def training_documents(
    profile: Profile, options: ManifestOptions, platform: Platform, name: str
) -> Iterator[Object | str]:
    """Objects, or the text of what is none. ``require_trainable`` has let it pass."""
    match platform:
        case Platform.COMMAND:
            yield torchrun_line(profile, options) + "\n"
        case Platform.RUN:
            yield yaml_text(run_spec(profile, name))
        case Platform.RAYJOB:
            yield _config_map(profile, options, name)
            yield _ray_job(profile, options, name)
        case _:
            if not options.script:
                yield _config_map(profile, options, name)
            yield _job(profile, options, name)


def run_spec(profile: Profile, name: str) -> Object:
    """As ``windtunnel run`` reads it."""
    step, c, m = profile.training, profile.configuration, profile.machine
    assert step is not None
    spec: Object = {
        "name": name,
        "workload": {
            "kind": c.model_server,
            "preset": c.model,
            "sequence_length": step.sequence_length,
            **dict(c.engine_args),
            "num_steps": step.num_steps,
            "num_warmup_steps": step.num_warmup_steps,
        },
    }
    if m.num_chips:
        spec["hardware"] = {
            "accelerator": m.accelerator,
            "num_chips": m.num_chips,
            **({"topology": m.topology} if m.topology else {}),
        }
    return {**spec, "deadlines": _deadlines(profile)}


def _deadlines(profile: Profile) -> dict[str, float]:
    """Thrice what it took, and never less than a spec's own."""
    startup = profile.statistic("startup_s")
    step_s = profile.statistic("step_time_s", "mean") or profile.statistic("step_time_s", "p50")
    steps = profile.training.num_steps if profile.training else 0
    took = (
        startup.value if startup and startup.value else 0.0,
        step_s.value * steps if step_s and step_s.value else 0.0,
    )
    whole = (max(least, _SLACK * t) for least, t in zip((_STARTUP_S, _LOAD_S), took, strict=True))
    return dict(zip(("startup_s", "load_s"), (float(math.ceil(v)) for v in whole), strict=True))


def torchrun_line(profile: Profile, options: ManifestOptions) -> str:
    """For each node's shell; with several of them ``$HEAD`` is the first one's address."""
    env = [f"{name}={value}" for name, value in _thread_env(profile).items()]
    # A shell fills in the address, so that one word stays as it is.
    words = (w if "$HEAD" in w else shlex.quote(w) for w in _torchrun(profile, options))
    return " ".join([*env, *words])


def _torchrun(profile: Profile, options: ManifestOptions) -> list[str]:
    nodes = _num_nodes(profile)
    workers = int(profile.configuration.engine_args.get("num_workers", 1))
    each = -(-workers // nodes)
    where = (
        ["--standalone"]
        if nodes == 1
        else ["--rdzv-backend=c10d", f'--rdzv-endpoint="$HEAD:{_PORT}"']
    )
    script = shlex.split(options.script or _OWN_SCRIPT)
    return ["torchrun", f"--nnodes={nodes}", f"--nproc-per-node={each}", *where, *script]


def _thread_env(profile: Profile) -> dict[str, str]:
    threads = profile.configuration.engine_args.get("threads_per_worker")
    return {} if threads is None else {"OMP_NUM_THREADS": str(threads)}


def _num_nodes(profile: Profile) -> int:
    """As measured, and as many as the chips take at least."""
    machine = profile.machine
    return max(machine.num_nodes, -(-machine.num_chips // MOST_CHIPS_PER_NODE))


def _config_map(profile: Profile, options: ManifestOptions, name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(profile, options, name),
        "data": {_SPEC: yaml_text(run_spec(profile, name))},
    }


def _job(profile: Profile, options: ManifestOptions, name: str) -> Object:
    """One Pod, started once: a training that failed is looked at, not repeated blindly."""
    if options.script:
        command = _torchrun(profile, options)
        env = [{"name": n, "value": v} for n, v in _thread_env(profile).items()]
    else:
        command, env = ["windtunnel", "run", f"{_CONFIG}/{_SPEC}"], []
    container = _container(profile, options, "train", nodes=1)
    container |= {"command": command, **({"env": env} if env else {})}
    pod = _pod(profile, container, None if options.script else name)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(profile, options, name),
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"restartPolicy": "Never", **pod},
            },
        },
    }


def _ray_job(profile: Profile, options: ManifestOptions, name: str) -> Object:
    """The entry point runs on the head, which computes nothing; the trainers have the chips."""
    nodes = _num_nodes(profile)
    head = {"name": "ray-head", "image": options.image}
    head["resources"] = {"requests": {"cpu": "2", "memory": "8Gi"}}  # type: ignore[assignment]
    worker = _container(profile, options, "ray-worker", nodes=nodes)
    is_slice = bool(profile.machine.topology)
    group: Object = {
        "groupName": "trainers",
        # Hosts of one slice come and go together.
        "replicas": 1 if is_slice else nodes,
        "minReplicas": 1 if is_slice else nodes,
        "maxReplicas": 1 if is_slice else nodes,
        **({"numOfHosts": nodes} if is_slice else {}),
        "rayStartParams": {},
        "template": {"spec": _pod(profile, worker, None)},
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata(profile, options, name),
        "spec": {
            "entrypoint": f"windtunnel run {_CONFIG}/{_SPEC} --ray auto",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": _KEEP_S,
            "backoffLimit": 0,
            "rayClusterSpec": {
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},
                    "template": {"spec": _with_config(head, name)},
                },
                "workerGroupSpecs": [group],
            },
        },
    }


def _container(profile: Profile, options: ManifestOptions, name: str, nodes: int) -> Object:
    """What one node's share of the training takes."""
    args: Mapping[str, Any] = profile.configuration.engine_args
    cpus = float(args.get("cpus_per_worker", 1)) * int(args.get("num_workers", 1)) / nodes
    wanted = {"cpu": f"{math.ceil(cpus)}"}
    chips = resources(profile.machine, profile.machine.num_chips // nodes)
    sides = {side: {**wanted, **chips.get(side, {})} for side in ("limits", "requests")}
    return {
        "name": name,
        "image": options.image,
        "resources": sides,
        # Ranks of one node talk through shared memory; a container has 64 MiB of it.
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }


def _pod(profile: Profile, container: Object, config: str | None) -> Object:
    shm = {"name": "shm", "emptyDir": {"medium": "Memory"}}
    pod: Object = {"containers": [container], "volumes": [shm]}
    if config is not None:
        pod = _with_config(container, config, pod["volumes"])
    return {**pod, **placed(profile.machine)}


def _with_config(container: Object, config: str, volumes: list[Object] | None = None) -> Object:
    mounts = [*container.get("volumeMounts", ()), {"name": "spec", "mountPath": _CONFIG}]
    spec = {"name": "spec", "configMap": {"name": config}}
    return {
        "containers": [{**container, "volumeMounts": mounts}],
        "volumes": [*(volumes or ()), spec],
    }


def training_comments(
    profile: Profile, options: ManifestOptions, platform: Platform
) -> Iterator[str]:
    """What was assumed, and what to look at before it is started."""
    c, step = profile.configuration, profile.training
    assert step is not None
    if platform is Platform.COMMAND or options.script:
        knobs = ", ".join(f"{n}={v}" for n, v in c.engine_args.items() if n not in _LAUNCH)
        script = options.script or f"{_OWN_SCRIPT} (which stands for your own script)"
        yield (
            f"measured was windtunnel's own trainer ({c.model_server} {c.model_server_version}); "
            f"{script} has to take these itself: {knobs}, sequences of {step.sequence_length} "
            f"tokens, {step.sequences_per_step} of them a step"
        )
        if _num_nodes(profile) > 1:
            yield "start it on every node, with HEAD set to the address of the first"
    else:
        yield (
            f"it makes the {step.num_steps} steps that were measured; workload.num_steps says how "
            "many yours has"
        )
        if c.model_server_version:
            yield f"measured with {c.model_server} {c.model_server_version}"
    if step.data != "synthetic":
        yield f"it reads {step.data} files of tokens: see that workload.data.path is reached"
    if platform in (Platform.RAYJOB, Platform.KUBERNETES):
        if not options.script:
            yield (
                "records stay in the Pod and go with it; set WINDTUNNEL_STORE to a bucket, or "
                "mount a volume at its working directory's var/"
            )
        if not label_is_known(profile.machine):
            yield (
                f"no node label is known for {profile.machine.accelerator}: add a nodeSelector "
                "that leads to it"
            )
    if profile.superseded_by:
        yield f"superseded by profile {profile.superseded_by}"
    if profile.evidence.stale:
        yield f"stale: {profile.evidence.why_stale}"


# Knobs that the launch itself carries.
_LAUNCH: Final = ("num_workers", "threads_per_worker", "cpus_per_worker")
