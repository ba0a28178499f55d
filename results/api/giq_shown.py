"""What the OpenAPI document says of the GKE Inference Quickstart's routes."""

from __future__ import annotations

from typing import Any, Final

from pydantic import TypeAdapter

from results.api.giq_pages import MAX_PAGE
from results.api.giq_wire import FetchBenchmarkingData, FetchProfiles, GenerateOptimizedManifest
from results.api.schema import json_content
from results.api.shown import SCHEMAS, described, query

_TEXT: Final = {"type": "string"}
_INT: Final = {"type": "integer"}
_LIST: Final = "A name each, sorted. "


def _object(title: str, **properties: Any) -> dict[str, Any]:
    SCHEMAS.components[title] = {"title": title, "type": "object", "properties": properties}
    return {"$ref": f"#/components/schemas/{title}"}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _named(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: _array(_TEXT), "nextPageToken": _TEXT},
        "required": [name, "nextPageToken"],
    }


_PAGING: Final = (
    query("pageSize", {**_INT, "minimum": 0, "default": MAX_PAGE}, f"At most {MAX_PAGE}."),
    query("pageToken", _TEXT, "The nextPageToken of the page before, all else unchanged."),
)
_AMOUNT: Final = _object("GiqAmount", units=_TEXT, nanos=_INT)
_COST: Final = _object(
    "GiqCost",
    costPerMillionOutputTokens=_AMOUNT,
    costPerMillionInputTokens=_AMOUNT,
    pricingModel=_TEXT,
    outputInputCostRatio={"type": "number"},
)
_STATS: Final = _object(
    "GiqPerformanceStats",
    queriesPerSecond={"type": "number"},
    outputTokensPerSecond=_INT,
    ntpotMilliseconds=_INT,
    ttftMilliseconds=_INT,
    cost=_array(_COST),
)
_PROFILE: Final = _object(
    "GiqProfile",
    modelServerInfo=_object(
        "GiqModelServerInfo", model=_TEXT, modelServer=_TEXT, modelServerVersion=_TEXT
    ),
    acceleratorType=_TEXT,
    tpuTopology=_TEXT,
    instanceType=_TEXT,
    resourcesUsed=_object("GiqResourcesUsed", acceleratorCount=_INT),
    performanceStats=_array(_STATS),
)
_RANGE: Final = _object("GiqRange", min=_INT, max=_INT)
_PROFILES: Final = _object(
    "GiqFetchProfilesResponse",
    profile=_array(_PROFILE),
    performanceRange=_object(
        "GiqPerformanceRange",
        throughputOutputRange=_RANGE,
        ttftRange=_RANGE,
        ntpotRange=_RANGE,
    ),
    comments=_TEXT,
    nextPageToken=_TEXT,
)
_MANIFESTS: Final = _object(
    "GiqGenerateOptimizedManifestResponse",
    kubernetesManifests=_array(
        _object("GiqKubernetesManifest", kind=_TEXT, apiVersion=_TEXT, content=_TEXT)
    ),
    comments=_array(_TEXT),
    manifestVersion=_TEXT,
)
_INFO: Final = {"model": "google/gemma-2-27b-it", "modelServer": "vllm"}


def _body(shape: Any, **examples: Any) -> dict[str, Any]:
    return json_content(SCHEMAS.of(TypeAdapter(shape), mode="validation"), **examples)


MODELS: Final = described("Models", f"{_LIST}FetchModels.", _named("models"), parameters=_PAGING)
SERVERS: Final = described(
    "Model servers of a model",
    f"{_LIST}FetchModelServers.",
    _named("modelServers"),
    parameters=(query("model", _TEXT, required=True), *_PAGING),
)
VERSIONS: Final = described(
    "Versions of a model server",
    f"{_LIST}FetchModelServerVersions.",
    _named("modelServerVersions"),
    parameters=(
        query("model", _TEXT, required=True),
        query("modelServer", _TEXT, required=True),
        *_PAGING,
    ),
)
PROFILES: Final = described(
    "The best of each hardware",
    "FetchProfiles. Targets are compared with typical values (the median, else the mean); of each "
    "hardware the configuration and load point with the most output tokens per second per chip.",
    _PROFILES,
    body=_body(
        FetchProfiles,
        within_two_targets={
            "model": _INFO["model"],
            "performanceRequirements": {
                "targetNtpotMilliseconds": 100,
                "targetTtftMilliseconds": 500,
                "targetCost": {
                    "pricingModel": "on-demand",
                    "costPerMillionOutputTokens": {"units": "1", "nanos": 500000000},
                },
            },
        },
    ),
    tagged=False,
)
DATA: Final = described(
    "All load points",
    "FetchBenchmarkingData. Every configuration is a profile of its own; its load points ascend.",
    _object("GiqFetchBenchmarkingDataResponse", profile=_array(_PROFILE)),
    body=_body(FetchBenchmarkingData, one_server={"modelServerInfo": _INFO}),
    tagged=False,
)
MANIFEST: Final = described(
    "A manifest of the best",
    "GenerateOptimizedManifest. A Deployment and its Service for the best configuration there is.",
    _MANIFESTS,
    body=_body(
        GenerateOptimizedManifest,
        one_accelerator={"modelServerInfo": _INFO, "acceleratorType": "nvidia-h100-80gb"},
    ),
    tagged=False,
)
