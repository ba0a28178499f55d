"""What types cannot tell: values of the right type that cannot be meant.

``check_spec`` is pure and complete: it returns everything wrong, each with its path, so that a spec
made by a program is held to what a file is held to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import SplitResult, urlsplit

from harness.faults import Restarts, fault_problems, restart_problems
from harness.pools import CPU
from harness.spec import Hardware, RunSpec
from harness.spec_env import ENV_NAME, SECRET, SECRET_NAME, check_env
from harness.spec_errors import Path, Problem, found, listed, refuse, unknown
from results.slo import ATTAINMENT, SLO_KEYS, slo_faults
from workloads import model_shape, torch_shape
from workloads.own_checks import faults_of
from workloads.params import (
    CollectivesWorkload,
    CommandWorkload,
    EndpointWorkload,
    JaxWorkload,
    MadeModel,
    TorchWorkload,
    VllmWorkload,
)
from workloads.registry import Role, role_of
from workloads.traffic.checks import traffic_faults
from workloads.traffic.expect import longest_request
from workloads.traffic.spec import Traffic
from workloads.training_checks import knob_faults, training_faults

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
NAME_WORDS = "1 to 63 lower-case letters, digits and . _ - between, such as llama-8b"
TOPOLOGY = re.compile(r"[1-9]\d*(x[1-9]\d*){1,2}")

# Engine arguments that the deployment decides, and what to say instead.
OWNED_ENGINE_ARGS = {
    "model": "workload.model",
    "tensor-parallel-size": "workload.tensor_parallel_size",
    "tp": "workload.tensor_parallel_size",
    "host": "nothing: the server listens where the deployment says",
    "port": "nothing: the node gives out a free port",
    "served-model-name": "nothing: requests use the model's own name",
}

Wrong = Iterator[Problem]


def check_spec(spec: RunSpec) -> tuple[Problem, ...]:
    """Every problem of a spec; empty where there is none."""
    return tuple(
        problem
        for rule in (
            _check_top,
            _check_hardware,
            _check_workload,
            _check_load,
            _check_slo,
            _check_faults,
        )
        for problem in rule(spec)
    )


def require_valid(spec: RunSpec) -> None:
    """Raise SpecError with every problem of a spec that no file holds."""
    problems = check_spec(spec)
    if problems:
        refuse(listed(problems, lambda _: f"spec {spec.name or '(no name)'}"))


def topology_chips(topology: str) -> int:
    """``4x4`` → 16."""
    return math.prod(int(side) for side in topology.split("x"))


def _check_top(spec: RunSpec) -> Wrong:
    if not NAME.fullmatch(spec.name):
        yield _wrong(("name",), spec.name, NAME_WORDS)
    yield from _numbers(spec, (), num_repeats=_at_least(1))
    yield from _numbers(
        spec.deadlines, ("deadlines",), startup_s=_above_0, load_s=_above_0, teardown_s=_above_0
    )


def _check_faults(spec: RunSpec) -> Wrong:
    if role_of(spec.workload) is not Role.TRAINING:
        for key in ("faults", "restarts"):
            if getattr(spec, key) not in ((), Restarts()):
                yield Problem(
                    path=(key,),
                    message=f"a workload of kind {spec.workload.kind} is no training; leave it out",
                )
        return
    num_workers: int = getattr(spec.workload, "num_workers", 1)
    for index, fault in enumerate(spec.faults):
        for key, message in fault_problems(fault, num_workers):
            yield Problem(path=("faults", index, key), message=message)
    for key, message in restart_problems(spec.restarts, num_workers):
        yield Problem(path=("restarts", key), message=message)


def _check_hardware(spec: RunSpec) -> Wrong:
    if not spec.hardware:
        yield _wrong(("hardware",), [], "at least one ask; leave the key out for one CPU")
    if role_of(spec.workload) is Role.REMOTE:
        if spec.hardware != (Hardware(),):
            yield Problem(
                path=("hardware",),
                message=f"a workload of kind {spec.workload.kind} places nothing; leave it out",
            )
        return
    for index, ask in enumerate(spec.hardware):
        yield from _check_ask(ask, ("hardware", index))
        yield from _check_ask_against(spec, ask, ("hardware", index))


def _check_ask(ask: Hardware, path: Path) -> Wrong:
    yield from _numbers(
        ask,
        path,
        num_chips=_at_least(0),
        cpus=_above_0,
        memory_gib=_at_least(0),
        max_wait_s=_at_least(0),
    )
    is_cpu = ask.accelerator.lower() == CPU
    if not ask.accelerator.strip():
        yield _wrong((*path, "accelerator"), ask.accelerator, "cpu, or a name such as L4, TPU-V6E")
    if is_cpu and ask.num_chips:
        yield _wrong((*path, "num_chips"), ask.num_chips, "0 with accelerator cpu; name one")
    if ask.topology:
        yield from _check_topology(ask, path)
    for key in ("pools", "capacity"):
        values = [str(value) for value in getattr(ask, key)]
        for i, value in enumerate(values):
            if value in values[:i]:
                yield Problem(path=(*path, key, i), message=f"{value} is listed twice")
            elif not value:
                yield _wrong((*path, key, i), value, "the name of a pool")


def _check_topology(ask: Hardware, path: Path) -> Wrong:
    here = (*path, "topology")
    if not TOPOLOGY.fullmatch(ask.topology):
        yield _wrong(here, ask.topology, "the sides of a TPU slice, such as 4x4 or 2x2x4")
    elif not ask.accelerator.upper().startswith("TPU"):
        yield Problem(
            path=here, message=f"only TPUs have one; the accelerator is {ask.accelerator}"
        )
    elif ask.num_chips % topology_chips(ask.topology):
        yield _wrong(
            (*path, "num_chips"),
            ask.num_chips,
            f"{topology_chips(ask.topology)}, which {ask.topology} has, or that times the number "
            "of slices; or leave it out for one slice",
        )


def _check_ask_against(spec: RunSpec, ask: Hardware, path: Path) -> Wrong:
    """The ask against what the workload makes of it."""
    workload: Any = spec.workload
    if role_of(workload) is Role.SERVER:
        parallel = getattr(workload, "tensor_parallel_size", 1)
        if ask.num_chips and parallel > ask.num_chips:
            yield Problem(
                path=(*path, "num_chips"),
                message=f"found {ask.num_chips}; workload.tensor_parallel_size needs {parallel}",
            )
        return
    workers, cpus = workload.num_workers, workload.cpus_per_worker
    if workers >= 1 and ask.num_chips % workers:
        yield Problem(
            path=(*path, "num_chips"),
            message=f"found {ask.num_chips}; workload.num_workers is {workers}, "
            "and each worker has the same number of chips",
        )
    if ask.cpus not in (Hardware().cpus, cpus):
        yield Problem(
            path=(*path, "cpus"),
            message=f"found {ask.cpus:g}; each worker has workload.cpus_per_worker = {cpus:g}; "
            "leave cpus out",
        )


def _check_workload(spec: RunSpec) -> Wrong:
    workload: Any = spec.workload
    if isinstance(workload, VllmWorkload):
        yield from _check_vllm(workload)
    elif isinstance(workload, EndpointWorkload):
        yield from _check_endpoint(workload)
    elif isinstance(workload, TorchWorkload | JaxWorkload):
        yield from _check_training(workload)
    elif isinstance(workload, CollectivesWorkload | CommandWorkload):
        for field, problem in faults_of(workload):
            yield Problem(path=("workload", *field), message=problem)
        yield from check_env(getattr(workload, "env", {}))


def _check_vllm(workload: VllmWorkload) -> Wrong:
    path: Path = ("workload",)
    yield from _numbers(workload, path, tensor_parallel_size=_at_least(1))
    model = workload.model
    if isinstance(model, str):
        if not model.strip():
            yield _wrong((*path, "model"), model, "a folder, a hub id or {preset: …}")
    else:
        yield from _check_preset(model.preset, model_shape.PRESETS, (*path, "model", "preset"))
        yield from _numbers(model, (*path, "model"), seed=_at_least(0))
    for key in workload.engine_args:
        here = (*path, "engine_args", key)
        plain = key.lstrip("-").replace("_", "-")
        if key.startswith("-") or not plain:
            yield Problem(path=here, message=f"write it without dashes in front: {plain or '…'}")
        elif plain in OWNED_ENGINE_ARGS:
            yield Problem(path=here, message=f"is decided by {OWNED_ENGINE_ARGS[plain]}")
        elif SECRET_NAME.search(key):
            yield Problem(path=here, message=SECRET)
    yield from check_env(workload.env)


def _http_url(text: str) -> SplitResult | None:
    """None for what is no address of a server."""
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port that is no number, or half an IPv6 address
        return None
    return url if usable and not re.search(r"\s", text) else None


def _check_endpoint(workload: EndpointWorkload) -> Wrong:
    here: Path = ("workload", "url")
    expected = "http://HOST[:PORT] or https://HOST[:PORT], ending before /v1"
    url = _http_url(workload.url)
    if url is None:
        yield _wrong(here, workload.url, expected)
    elif url.username or url.password:
        yield Problem(path=here, message="holds a user or password; use workload.api_key_env")
    elif url.query or url.fragment or url.path.rstrip("/").endswith("/v1"):
        yield _wrong(here, workload.url, expected)
    for number, page in enumerate(workload.metrics_url):
        at: Path = ("workload", "metrics_url", number)
        found_url = _http_url(page)
        if found_url is None or found_url.query or found_url.fragment:
            yield _wrong(at, page, "http://HOST:PORT/metrics")
        elif found_url.username or found_url.password:
            yield Problem(path=at, message="holds a user or password, and a record keeps it")
    if not workload.model.strip():
        yield _wrong(("workload", "model"), workload.model, "the name of the model in requests")
    if workload.api_key_env and not ENV_NAME.fullmatch(workload.api_key_env):
        yield _wrong(
            ("workload", "api_key_env"),
            "(not shown)",  # somebody may have pasted the key itself
            "the name of an environment variable, never the key itself",
        )


def _check_training(workload: TorchWorkload | JaxWorkload) -> Wrong:
    if isinstance(workload, TorchWorkload):
        faults = training_faults(workload)
    else:
        faults = knob_faults(workload)
    for fault in faults:
        yield Problem(path=("workload", *fault.path), message=fault.says)
    yield from _check_preset(workload.preset, torch_shape.PRESETS, ("workload", "preset"))


def _check_preset(preset: str, known: Iterable[str], path: Path) -> Wrong:
    if preset not in known:
        yield Problem(path=path, message=unknown(preset, list(known), f"found {found(preset)}"))


def _check_load(spec: RunSpec) -> Wrong:
    if role_of(spec.workload) is Role.TRAINING:
        if spec.traffic is not None:
            yield Problem(
                path=("traffic",),
                message=f"a workload of kind {spec.workload.kind} has none; leave it out",
            )
        return
    if spec.traffic is None:
        yield Problem(
            path=("traffic",),
            message=f"is missing; a workload of kind {spec.workload.kind} is measured under one",
        )
        return
    wrong = list(_check_traffic(spec.traffic))
    yield from wrong
    if not wrong:
        yield from _check_context(spec.workload, spec.traffic)
    duration_s = spec.traffic.duration_s
    if duration_s is not None and duration_s >= spec.deadlines.load_s > 0:
        yield Problem(
            path=("traffic", "duration_s"),
            message=f"found {duration_s:g}; deadlines.load_s = {spec.deadlines.load_s:g} would "
            "end the load first; raise it",
        )


def _check_traffic(traffic: Traffic) -> Wrong:
    for fault in traffic_faults(traffic):
        path = ("traffic", *fault.path)
        yield (
            Problem(path=path, message=fault.says)
            if fault.says
            else _wrong(path, fault.found, fault.accepted)
        )


def _check_context(workload: Any, traffic: Traffic) -> Wrong:
    """A request longer than the model's context is refused by the server, every time."""
    limit, whose = context_length(workload)
    most = longest_request(traffic)
    if limit is None or most is None or most.total <= limit:
        return
    turns = f"{most.turns} turns, in all " if most.turns > 1 else ""
    yield Problem(
        path=("traffic",),
        message=f"asks for up to {turns}{most.prompt} prompt and {most.output} output tokens, "
        f"{most.total} in all; {whose} is {limit}",
    )


def context_length(workload: Any) -> tuple[int | None, str]:
    """Tokens a request may have, as far as the spec itself tells, and what says so."""
    arguments = getattr(workload, "engine_args", {})
    asked = arguments.get("max-model-len", arguments.get("max_model_len"))
    if isinstance(asked, int) and not isinstance(asked, bool):
        return asked, "engine_args.max-model-len"
    model = getattr(workload, "model", None)
    if isinstance(model, MadeModel) and model.preset in model_shape.PRESETS:
        made = model_shape.PRESETS[model.preset]
        return made.max_position_embeddings, f"the context of {model.preset}"
    return None, ""


def _check_slo(spec: RunSpec) -> Wrong:
    if spec.slo and role_of(spec.workload) is Role.TRAINING:
        yield Problem(path=("slo",), message="limits requests, and training has none; leave it out")
        return
    for name, accepted in slo_faults(spec.slo).items():
        if accepted:
            yield _wrong(("slo", name), spec.slo[name], accepted)
        else:
            message = unknown(name, SLO_KEYS, "no latency metric")
            yield Problem(path=("slo", name), message=message)
    if set(spec.slo) == {ATTAINMENT}:
        yield Problem(path=("slo",), message="limits nothing; accepted: at least one latency")


# ---- helpers ----

Rule = Callable[[float], str]  # what is accepted instead, or "" where the value is


def _above_0(value: float) -> str:
    return "" if math.isfinite(value) and value > 0 else "more than 0"


def _at_least(low: int) -> Rule:
    return lambda value: "" if math.isfinite(value) and value >= low else f"at least {low}"


def _numbers(value: Any, path: Path, **rules: Rule) -> Wrong:
    """Each named field against its rule; a field that is None is not checked."""
    for name, rule in rules.items():
        number = getattr(value, name)
        expected = "" if number is None else rule(number)
        if expected:
            yield _wrong((*path, name), number, expected)


def _wrong(path: Path, value: Any, expected: str) -> Problem:
    return Problem(path=path, message=f"found {found(value)}; accepted: {expected}")
