"""What the OpenAPI document says of each native route: words, examples, schemas."""

from __future__ import annotations

from typing import Any, Final

from results.api.door import PERCENTILE, QUESTION, TARGETS
from results.api.runs import RunPage
from results.api.schema import Schemas, json_content, with_document
from results.recommendation.answer import Answer
from results.recommendation.lookup import AcceleratorSummary, ModelSummary, TrainingSummary
from results.recommendation.manifest import Autoscale, Manifests, Platform
from results.recommendation.profile import Profile

SCHEMAS: Final = Schemas()

_TEXT: Final = {"type": "string"}
SCHEMAS.components["Problem"] = {
    "title": "Problem",
    "type": "object",
    "description": "RFC 9457. Routes of the GKE Inference Quickstart add Google's `error` object.",
    "properties": {
        "type": {**_TEXT, "description": "urn:windtunnel:problem:KIND, for programs"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": {**_TEXT, "description": "asked, found and what_to_do in one sentence"},
        "asked": _TEXT,
        "found": _TEXT,
        "what_to_do": _TEXT,
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": _TEXT, "message": _TEXT},
                "required": ["field", "message"],
            },
        },
        "error": {"type": "object"},
    },
    "required": ["type", "title", "status", "detail", "asked", "found", "what_to_do"],
}
_PROBLEM: Final = {
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
}
PROBLEMS: Final[dict[str, Any]] = {
    "4XX": {"description": "Not answered, and why.", **_PROBLEM},
    "5XX": {"description": "Not answered in time, or a defect of ours.", **_PROBLEM},
}
_ETAG: Final = {
    "ETag": {
        "description": "The snapshot that answered, and the day. Send it back as If-None-Match.",
        "schema": _TEXT,
    }
}


def described(
    summary: str,
    description: str,
    schema: dict[str, Any],
    *,
    parameters: tuple[dict[str, Any], ...] = (),
    body: dict[str, Any] | None = None,
    tagged: bool = True,
) -> dict[str, Any]:
    """Keyword arguments for ``add_api_route``. ``tagged``: the answer has an ETag."""
    found: dict[str, Any] = {"description": "The answer.", "content": json_content(schema)}
    if tagged:
        found["headers"] = _ETAG
    responses: dict[Any, Any] = {200: found, **PROBLEMS}
    if tagged and body is None:
        responses[304] = {"description": "The same as what If-None-Match names."}
    extra: dict[str, Any] = {}
    if parameters:
        extra["parameters"] = list(parameters)
    if body is not None:
        extra["requestBody"] = {"required": True, "content": body}
    return {
        "summary": summary,
        "description": description,
        "responses": responses,
        "openapi_extra": extra,
    }


def query(
    name: str, schema: dict[str, Any], description: str = "", *, required: bool = False
) -> dict[str, Any]:
    made = {"name": name, "in": "query", "required": required, "schema": schema}
    return {**made, "description": description} if description else made


def in_path(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": _TEXT,
        "description": description,
    }


_CHAT: Final = {
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "use_case": "chat",
    "rate_rps": 4.0,
    "targets": [{"metric": "ttft_s", "limit_s": 0.5, "percentile": 99}],
    "objective": "cheapest",
}
_LENGTHS: Final = {
    "input_tokens": 2048,
    "output_tokens": 512,
    "concurrency": 64,
    "accelerators": ["H100", "TPU-V6E"],
    "capacity": "spot",
    "objective": "pareto",
}
_TRAINING: Final = {
    "model": "8b",
    "use_case": "training",
    "sequence_length": 4096,
    "training_tokens": 2e9,
    "max_cost_usd": 5000.0,
    "objective": "fastest",
}
_WHAT: Final = (
    "The deployments that would do, best first by the objective, each with its cost, its latencies "
    "with intervals, and the evidence behind them; or, with status 200 all the same, `no_answer`: "
    "what stands in the way, what comes nearest and what to measure next."
)


def _question_parameters() -> tuple[dict[str, Any], ...]:
    asked = SCHEMAS.components["AskedQuestion"]["properties"]
    plain = [query(name, schema) for name, schema in asked.items() if name != "targets"]
    limits = [
        query(name, {"type": "number", "exclusiveMinimum": 0}, f"Target on {metric}.")
        for name, metric in TARGETS.items()
    ]
    percentile = query(
        PERCENTILE,
        {"type": "number", "minimum": 50, "exclusiveMaximum": 100},
        "Of every target; without it the typical value is compared.",
    )
    return (*plain, *limits, percentile)


_QUESTION: Final = SCHEMAS.of(QUESTION, mode="validation")
_ANSWER: Final = with_document(
    SCHEMAS,
    "AnswerDocument",
    "windtunnel.recommendations/1",
    Answer,
    flags={"type": "object", "additionalProperties": _TEXT},
)
_SNAPSHOT: Final = {**_TEXT, "description": "The state of the database that answered."}


def _listing(name: str, what: str, shape: Any, **more: Any) -> dict[str, Any]:
    """``more``: further lists beside it, by name."""
    lists = {key: SCHEMAS.of(one) for key, one in {what: shape, **more}.items()}
    properties = {
        "schema": {"const": f"windtunnel.{what}/1"},
        "snapshot_id": _SNAPSHOT,
        **{key: {"type": "array", "items": items} for key, items in lists.items()},
    }
    return {
        "title": name,
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


POST_QUESTION: Final = described(
    "What to deploy",
    _WHAT,
    _ANSWER,
    body=json_content(
        _QUESTION,
        a_chat_for_four_users_a_second=_CHAT,
        gpu_or_tpu=_LENGTHS,
        a_training=_TRAINING,
    ),
)
GET_QUESTION: Final = described(
    "What to deploy, as a link",
    f"{_WHAT} The same question as a query string; targets in milliseconds.",
    _ANSWER,
    parameters=_question_parameters(),
)
MODELS: Final = described(
    "Models that there are profiles of",
    "Each with its servers, their versions (newest first) and accelerators; and `trainings`: the "
    "models that were trained, with the steps that were measured.",
    _listing("Models", "models", ModelSummary, trainings=TrainingSummary),
)
ACCELERATORS: Final = described(
    "Accelerators that there are profiles of",
    "Each with its machine types, topologies, chips per replica and models.",
    _listing("Accelerators", "accelerators", AcceleratorSummary),
)
PROFILE: Final = described(
    "One profile whole",
    "What one configuration did on one hardware at one load point, with all its statistics.",
    with_document(
        SCHEMAS, "ProfileDocument", "windtunnel.profile/1", Profile, snapshot_id=_SNAPSHOT
    ),
    parameters=(in_path("profile_id", "From an answer."),),
)
RUNS: Final = described(
    "Runs in the store",
    "The newest first, a page at a time: ask again with `next_before` as `before`.",
    with_document(SCHEMAS, "RunsDocument", "windtunnel.runs/1", RunPage),
    parameters=(
        query("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}),
        query("before", _TEXT, "A run id: where the page before ended."),
        query("name", _TEXT, "Only runs of this spec; may hold `*`."),
        query("workload", _TEXT),
        query("outcome", _TEXT, "succeeded, invalid or failed"),
        query("evidence", _TEXT, "measured, imported or simulated"),
    ),
    tagged=False,
)
RUN: Final = described(
    "One run's record",
    "As the store keeps it: spec, plan, environment, measurements with intervals, doubts.",
    {"type": "object"},
    parameters=(in_path("run_id", "From `/v1/runs` or the evidence of an answer."),),
    tagged=False,
)
HEALTH: Final = described(
    "Whether the server answers",
    "Asked without a token. `reload_failures`: looks for newer records that failed in a row; the "
    "last snapshot that could be loaded goes on answering.",
    {
        "type": "object",
        "properties": {
            "status": {"const": "ok"},
            "snapshot_id": _TEXT,
            "num_profiles": {"type": "integer"},
            "loaded_at": {"type": "string", "format": "date-time"},
            "reload_failures": {"type": "integer"},
        },
        "required": ["status", "snapshot_id", "num_profiles", "loaded_at", "reload_failures"],
    },
    tagged=False,
)
_CASE: Final = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "input_tokens": {"type": "integer"},
        "output_tokens": {"type": "integer"},
        "source": _TEXT,
    },
    "required": ["name", "input_tokens", "output_tokens", "source"],
}
USE_CASES: Final = described(
    "Use cases that stand for lengths",
    "What `use_case` of a question may be, the mean lengths it stands for, and their source.",
    {
        "type": "object",
        "properties": {
            "schema": {"const": "windtunnel.use-cases/1"},
            "use_cases": {"type": "array", "items": _CASE},
        },
        "required": ["schema", "use_cases"],
    },
    tagged=False,
)
MANIFESTS: Final = described(
    "What a profile is deployed with",
    "The engine's command line, Ray Serve's config, a KubeRay RayService, or a Kubernetes "
    "Deployment and its Service; of a training a spec of `windtunnel run`, a RayJob, a Job, or "
    "torchrun's command line.",
    with_document(
        SCHEMAS, "ManifestDocument", "windtunnel.manifest/1", Manifests, profile_id=_TEXT
    ),
    parameters=(
        query("profile_id", _TEXT, "From an answer.", required=True),
        query("platform", SCHEMAS.of(Platform), "kubernetes unless said otherwise"),
        query("replicas", {"type": "integer", "minimum": 1, "default": 1}, "As an answer says."),
        query("name", _TEXT, "Of the objects; made of the model's where not given."),
        query("namespace", {**_TEXT, "default": "default"}),
        query("image", _TEXT, "The evidence's, or the public one, where not given."),
        query("model_uri", _TEXT, "Where the model is, if not at the name it was measured by."),
        query(
            "autoscale",
            SCHEMAS.of(Autoscale),
            "Of a serving: an autoscaler whose target is the load that was measured.",
        ),
        query(
            "min_replicas", {"type": "integer", "minimum": 1, "default": 1}, "Of the autoscaler."
        ),
        query("max_replicas", {"type": "integer", "minimum": 0, "default": 0}, "0: as `replicas`."),
        query("script", _TEXT, "Of a training: your own script, to be launched by torchrun."),
    ),
)
