"""The routes of the GKE Inference Quickstart, so that its public client finds what it knows.

Nothing is decided here: each request becomes a question to the same lookup, each profile one of
``google.cloud.gkerecommender.v1``. What that shape has no place for stands in ``comments``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from results.api import giq_shown as shown
from results.api.direct import Handler
from results.api.door import checked, from_json, nearest, not_found, parameters
from results.api.encode import encoded
from results.api.giq_fetch import benchmarking_data, fetched_profiles
from results.api.giq_manifest import optimized_manifest
from results.api.giq_pages import MAX_PAGE, page_of
from results.api.giq_wire import (
    FetchBenchmarkingData,
    FetchProfiles,
    GenerateOptimizedManifest,
    PageSize,
)
from results.api.problems import FieldProblem, Refused, invalid
from results.api.replies import of_snapshot, reply, unchanged
from results.api.snapshots import Serving, Snapshot
from results.api.turns import in_turns
from results.recommendation.lookup import ModelSummary, ServerSummary

_PROFILES: Final[TypeAdapter[FetchProfiles]] = TypeAdapter(FetchProfiles)
_DATA: Final[TypeAdapter[FetchBenchmarkingData]] = TypeAdapter(FetchBenchmarkingData)
_MANIFEST: Final[TypeAdapter[GenerateOptimizedManifest]] = TypeAdapter(GenerateOptimizedManifest)
_PAGE_SIZE: Final[TypeAdapter[int]] = TypeAdapter(PageSize)
# Parameters that every Google API takes, and that change nothing here.
SYSTEM: Final = frozenset(
    {"$alt", "alt", "$prettyPrint", "prettyPrint", "$fields", "fields", "key", "quotaUser"}
)


class Giq:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def router(self) -> APIRouter:
        made = APIRouter(tags=["GKE Inference Quickstart"], default_response_class=Response)
        add: Any = made.add_api_route
        add("/v1/models:fetch", self.models, methods=["GET"], **shown.MODELS)
        add("/v1/modelServers:fetch", self.servers, methods=["GET"], **shown.SERVERS)
        add("/v1/modelServerVersions:fetch", self.versions, methods=["GET"], **shown.VERSIONS)
        add("/v1/profiles:fetch", self.profiles, methods=["POST"], **shown.PROFILES)
        add("/v1/benchmarkingData:fetch", self.data, methods=["POST"], **shown.DATA)
        add("/v1/optimizedManifest:generate", self.manifest, methods=["POST"], **shown.MANIFEST)
        return made

    @property
    def most_asked(self) -> dict[tuple[str, str], Handler]:
        """By method and path: see ``Direct``."""
        return {("POST", "/v1/profiles:fetch"): self.profiles}

    async def models(self, request: Request) -> Response:
        _given(request)
        snapshot = self._serving.current
        return self._listed(
            request, snapshot, "models", [m.model for m in snapshot.lookup.models()]
        )

    async def servers(self, request: Request) -> Response:
        given = _given(request, "model")
        snapshot = self._serving.current
        model = _model(snapshot, given["model"])
        return self._listed(
            request, snapshot, "modelServers", [s.model_server for s in model.servers]
        )

    async def versions(self, request: Request) -> Response:
        given = _given(request, "model", "modelServer")
        snapshot = self._serving.current
        server = _server(_model(snapshot, given["model"]), given["modelServer"])
        # A version that is not known has no name to ask for.
        return self._listed(
            request, snapshot, "modelServerVersions", [v for v in server.versions if v]
        )

    def _listed(
        self, request: Request, snapshot: Snapshot, name: str, items: Iterable[str]
    ) -> Response:
        now = self._serving.clock.now_utc()
        same = unchanged(request, snapshot.etag(now))
        if same is not None:
            return same
        query = dict(request.query_params)
        size = checked(_PAGE_SIZE, query.get("pageSize", MAX_PAGE), name, field="pageSize")
        token = query.get("pageToken", "")
        asked = (name, query.get("model", ""), query.get("modelServer", ""))
        page, following = page_of(sorted(items), size, token, asked)
        return of_snapshot(encoded({name: page, "nextPageToken": following}), snapshot, now)

    async def profiles(self, request: Request) -> Response:
        _system_only(request)
        asked = from_json(_PROFILES, await request.body() or b"{}", "profiles", strict=False)
        snapshot, now = self._serving.current, self._serving.clock.now_utc()
        key = (asked, now.date())
        body = snapshot.kept.get(key)
        if body is None:
            steps = fetched_profiles(snapshot.lookup, asked, now)
            body = encoded(await in_turns(steps, self._serving.clock))
            snapshot.kept.put(key, body)
        return reply(body)

    async def data(self, request: Request) -> Response:
        _system_only(request)
        asked = from_json(_DATA, await request.body(), "benchmarking data", strict=False)
        snapshot = self._serving.current
        info = asked.model_server_info
        _server(_model(snapshot, info.model), info.model_server)
        steps = benchmarking_data(snapshot.lookup, asked)
        return reply(encoded(await in_turns(steps, self._serving.clock)))

    async def manifest(self, request: Request) -> Response:
        _system_only(request)
        asked = from_json(_MANIFEST, await request.body(), "a manifest", strict=False)
        snapshot, now = self._serving.current, self._serving.clock.now_utc()
        info = asked.model_server_info
        _server(_model(snapshot, info.model), info.model_server)
        return reply(encoded(optimized_manifest(snapshot.lookup, asked, now)))


def _given(request: Request, *required: str) -> dict[str, Any]:
    """The query's parameters: those required, page size and token. Raises Refused."""
    known = (*required, "pageSize", "pageToken")
    given = parameters(request.scope["query_string"], known, free=SYSTEM)
    missing = [FieldProblem(field=n, message="is missing") for n in required if not given.get(n)]
    if missing:
        raise Refused(invalid("a list", missing, f"Give {', '.join(required)}"))
    return given


def _system_only(request: Request) -> None:
    parameters(request.scope["query_string"], (), free=SYSTEM)


def _model(snapshot: Snapshot, name: str) -> ModelSummary:
    models = {m.model: m for m in snapshot.lookup.models()}
    if name not in models:
        raise not_found(
            f"model {name[:200]!r}",
            f"none of the {len(models)} models is called so{nearest(name, models)}",
            "GET /v1/models:fetch lists them",
        )
    return models[name]


def _server(model: ModelSummary, name: str) -> ServerSummary:
    servers = {s.model_server: s for s in model.servers}
    if name not in servers:
        raise not_found(
            f"model server {name[:200]!r} for {model.model}",
            f"there are {', '.join(servers)}",
            f"GET /v1/modelServers:fetch?model={model.model} lists them",
        )
    return servers[name]
