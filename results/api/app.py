"""The lookup as one ASGI application: routes, errors, the page, and the layers around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from results.api import page, shown
from results.api.direct import Direct, Handler
from results.api.door import nearest
from results.api.encode import encoded
from results.api.giq import Giq
from results.api.guard import App, Guard, Rules
from results.api.meter import CONTENT_TYPE, Meter
from results.api.native import Native
from results.api.problems import Problem, Refused
from results.api.replies import JSON, reply, told
from results.api.runs import StoreRuns
from results.api.snapshots import Serving

TITLE: Final = "windtunnel lookup"
METRICS: Final = "/metrics"
_DESCRIPTION: Final = """What to deploy for a model, its traffic and its latency targets, from what
was measured: ranked deployments with cost, intervals and the evidence behind each, or why there is
none. Read-only. Latencies are in seconds, counted from when a request was due; money is in US
dollars with the date of the price.

The routes with a colon have the shapes of the GKE Inference Quickstart, so that its public client
works against this server unchanged."""

WhenReady = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions:
    """``reload_every_s`` 0: the first snapshot stays."""

    rules: Rules = field(default_factory=Rules)
    reload_every_s: float = 30.0
    version: str = ""


def make_app(
    serving: Serving, runs: StoreRuns, options: ApiOptions, when_ready: WhenReady = lambda: None
) -> App:
    """``when_ready`` is called in the event loop, once, before the first request is answered."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watcher = asyncio.create_task(_watch(serving, runs, options.reload_every_s))
        when_ready()
        try:
            yield
        finally:
            watcher.cancel()
            serving.close()
            await asyncio.gather(watcher, return_exceptions=True)
            runs.close()

    api = FastAPI(
        title=TITLE,
        description=_DESCRIPTION,
        version=options.version,
        openapi_url=None,
        docs_url=None,  # both load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        # One spelling of a path; a redirect would drop the token.
        redirect_slashes=False,
    )
    handlers = _add_routes(api, serving, runs)
    _add_errors(api)
    routes = frozenset(path for route in api.routes if (path := getattr(route, "path", "")))
    direct = Direct(api, handlers, _DEFECT)
    meter = Meter(Guard(direct, options.rules), routes | {METRICS}, serving)

    async def metrics() -> Response:
        return reply(meter.text(), CONTENT_TYPE)

    add: Any = api.add_api_route
    add(METRICS, metrics, include_in_schema=False, response_model=None)
    return meter


async def _watch(serving: Serving, runs: StoreRuns, every_s: float) -> None:
    """The first look comes at once: the first snapshot may be an old one. A look that takes long
    is not taken all the time."""
    while every_s > 0:
        began_s = serving.clock.monotonic_s()
        await serving.reload()
        await runs.refresh()
        await asyncio.sleep(max(every_s, serving.clock.monotonic_s() - began_s))


def _add_routes(api: FastAPI, serving: Serving, runs: StoreRuns) -> dict[tuple[str, str], Handler]:
    """Those that are to be answered directly, by method and path."""
    native, giq = Native(serving, runs), Giq(serving)
    api.include_router(native.router())
    api.include_router(giq.router())
    page.add_to(api)
    specified: list[bytes] = []

    async def healthz() -> Response:
        return reply(encoded(_health(serving)))

    async def openapi() -> Response:
        if not specified:
            specified.append(encoded(_openapi(api)))
        return reply(specified[0], JSON, cache="public, max-age=300")

    add: Any = api.add_api_route
    add("/healthz", healthz, **shown.HEALTH)
    add("/openapi.json", openapi, include_in_schema=False, response_model=None)
    return {**native.most_asked, **giq.most_asked}


def _health(serving: Serving) -> dict[str, Any]:
    """Whether we answer, and from what. Asked without a token: no word of what is in it."""
    current = serving.current
    return {
        "status": "ok",
        "snapshot_id": current.lookup.snapshot_id,
        "num_profiles": current.lookup.num_profiles,
        "loaded_at": current.loaded_at,
        "reload_failures": serving.reloads.failed,
    }


def _openapi(api: FastAPI) -> dict[str, Any]:
    made = api.openapi()
    made.setdefault("components", {})["schemas"] = dict(sorted(shown.SCHEMAS.components.items()))
    made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    # An empty one beside it: a server without a token asks for none.
    made["security"] = [{"token": []}, {}]
    return made


def _add_errors(api: FastAPI) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return told(error.problem, request.scope["path"])

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.scope["path"]
        paths = [p for route in api.routes if (p := getattr(route, "path", ""))]
        problem = _of_status(error.status_code, request.method, path, paths)
        return told(problem, path, dict(error.headers or {}))

    async def defect(request: Request, _: Exception) -> Response:
        return told(_DEFECT, request.scope["path"])

    api.add_exception_handler(Refused, refused)
    api.add_exception_handler(HTTPException, http)
    api.add_exception_handler(Exception, defect)


def _of_status(status: int, method: str, path: str, paths: list[str]) -> Problem:
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        found, what = f"{path} does not take it", "The Allow header names what it takes"
    elif status == HTTPStatus.NOT_FOUND:
        found = f"there is no such route{nearest(path, paths)}"
        what = "GET /openapi.json shows every route"
    else:
        found, what = HTTPStatus(status).phrase, "GET /openapi.json shows every route"
    return Problem(
        kind="no-route",
        status=status,
        asked=f"{method} {path[:200]}",
        found=found,
        what_to_do=what,
    )


_DEFECT: Final = Problem(
    kind="defect",
    status=HTTPStatus.INTERNAL_SERVER_ERROR,
    asked="an answer",
    found="a defect of this program; its log has the traceback",
    what_to_do="Report the question that led to it",
)
