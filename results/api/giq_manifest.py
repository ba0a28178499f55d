"""``GenerateOptimizedManifest``: the best configuration of one accelerator, for Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from results.api.giq_fetch import latest_version, targets_of
from results.api.giq_names import accelerator_name, is_accelerator
from results.api.giq_wire import GenerateOptimizedManifest, PerformanceRequirements
from results.api.problems import Problem, Refused
from results.errors import NotDeployable
from results.manifests import manifests
from results.recommendation.answer import Recommendation
from results.recommendation.lookup import Lookup
from results.recommendation.manifest import Autoscale, ManifestOptions, Platform
from results.recommendation.question import Objective, Question

MANIFEST_VERSION: Final = "windtunnel-2"
# The request names no load; somebody has to say how many replicas there may be.
MAX_REPLICAS: Final = 10


def optimized_manifest(
    lookup: Lookup, asked: GenerateOptimizedManifest, now: datetime
) -> dict[str, Any]:
    """``GenerateOptimizedManifestResponse``. Raises Refused where nothing was measured there, or
    what was cannot be deployed."""
    wanted = asked.performance_requirements or PerformanceRequirements()
    question = _question(lookup, asked, wanted)
    answer = lookup.answer(question, now)
    missed = answer.no_answer is not None and bool(question.targets)
    if missed:  # the targets size an autoscaler there; they do not keep a manifest from being made
        answer = lookup.answer(replace(question, targets=()), now)
    if answer.no_answer is not None:
        raise Refused(_nothing(asked, answer.no_answer.words))
    best = answer.recommendations[0]
    storage = asked.storage_config
    scaled = asked.performance_requirements is not None
    options = ManifestOptions(
        namespace=asked.kubernetes_namespace or "default",
        model_uri=storage.model_bucket_uri if storage else "",
        autoscale=Autoscale.GMP if scaled else Autoscale.NONE,
        max_replicas=MAX_REPLICAS if scaled else 0,
    )
    try:
        made = manifests(best.profile, options, Platform.KUBERNETES)
    except NotDeployable as error:
        raise Refused(_nothing(asked, str(error), HTTPStatus.BAD_REQUEST)) from None
    return {
        "kubernetesManifests": [
            {"kind": one.kind, "apiVersion": one.api_version, "content": one.content}
            for one in made.documents
        ],
        "comments": [*_comments(asked, best, missed), *made.comments],
        "manifestVersion": MANIFEST_VERSION,
    }


def _question(
    lookup: Lookup, asked: GenerateOptimizedManifest, wanted: PerformanceRequirements
) -> Question:
    info = asked.model_server_info
    return Question(
        model=info.model,
        model_server=info.model_server,
        model_server_version=info.model_server_version or latest_version(lookup, info),
        accelerators=_accelerators(lookup, asked),
        targets=targets_of(wanted),
        objective=Objective.THROUGHPUT,
        limit=1,
    )


def _accelerators(lookup: Lookup, asked: GenerateOptimizedManifest) -> tuple[str, ...]:
    """Ours of that name. Raises Refused where there is none."""
    known = [one.accelerator for one in lookup.accelerators()]
    found = tuple(name for name in known if is_accelerator(name, asked.accelerator_type))
    if not found:
        names = ", ".join(sorted({accelerator_name(name) for name in known})) or "none at all"
        raise Refused(_nothing(asked, f"there are profiles of {names}"))
    return found


def _comments(
    asked: GenerateOptimizedManifest, best: Recommendation, missed: bool
) -> Iterator[str]:
    evidence = best.profile.evidence
    runs = "1 run" if evidence.repeats == 1 else f"{evidence.repeats} runs"
    yield (
        f"The most output tokens per second per chip of all configurations {evidence.kind} here: "
        f"profile {best.profile.profile_id}, {runs}, last on {evidence.last_measured:%Y-%m-%d}. "
        "One replica; POST /v1/recommendations with a rate says how many a load takes."
    )
    if missed:
        yield "The targets were not met by any measured load point; they were left out."
    if asked.performance_requirements is not None:
        yield (
            f"The HorizontalPodAutoscaler goes up to {MAX_REPLICAS} replicas, a number that nobody "
            "measured: set maxReplicas to what your load takes and your quota has."
        )
    if asked.storage_config is not None and asked.storage_config.xla_cache_bucket_uri:
        yield "The XLA cache bucket is not mounted; set VLLM_XLA_CACHE_PATH yourself."


def _nothing(
    asked: GenerateOptimizedManifest, found: str, status: HTTPStatus = HTTPStatus.NOT_FOUND
) -> Problem:
    info = asked.model_server_info
    return Problem(
        kind="not-deployable",
        status=status,
        asked=f"a manifest of {info.model} by {info.model_server} on {asked.accelerator_type}",
        found=found,
        what_to_do="POST /v1/profiles:fetch shows what can be asked for",
    )
