"""What the service does, for Prometheus."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

from results.api.guard import App, Message, Receive, Scope, Send
from results.api.snapshots import Serving

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_OTHER: Final = "other"  # every path that is no route: their number is the client's to choose
_MOST_LABELS: Final = 256
_BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)


class Meter:
    """An ASGI layer around everything. ``routes``: the paths there are; those with a parameter as
    ``/v1/runs/{run_id}``, one parameter, at the end."""

    def __init__(self, app: App, routes: frozenset[str], serving: Serving) -> None:
        self._app = app
        self._exact = {route: route for route in routes if "{" not in route}
        self._open = {route.partition("{")[0]: route for route in routes if "{" in route}
        self._clock = serving.clock
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "windtunnel_lookup_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "windtunnel_lookup_request_seconds",
            "From the request's headers to the end of its answer.",
            ("route",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        # Finding a metric by its labels costs more than counting.
        self._of = lru_cache(_MOST_LABELS)(self._labelled)
        self._describe(serving)
        ProcessCollector(registry=self.registry)

    def _describe(self, serving: Serving) -> None:
        def gauge(name: str, words: str, value: Any) -> None:
            made = Gauge(f"windtunnel_lookup_{name}", words, registry=self.registry)
            made.set_function(value)

        gauge(
            "profiles",
            "Profiles in the snapshot that answers.",
            lambda: serving.current.lookup.num_profiles,
        )
        gauge(
            "snapshot_loaded_timestamp_seconds",
            "When the snapshot that answers was loaded.",
            lambda: serving.current.loaded_at.timestamp(),
        )
        gauge("reloads", "Looks for a newer snapshot that ended.", lambda: serving.reloads.done)
        gauge(
            "reload_failures",
            "Looks for a newer snapshot that failed since one ended.",
            lambda: serving.reloads.failed,
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = self._clock.monotonic_s()
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            requests, seconds = self._of(self._route(scope["path"]), scope["method"], status)
            requests.inc()
            seconds.observe(self._clock.monotonic_s() - began_s)

    def _labelled(self, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
        return self._requests.labels(route, method, status), self._seconds.labels(route)

    def _route(self, path: str) -> str:
        found = self._exact.get(path)
        if found is None:
            found = self._open.get(path[: path.rfind("/") + 1], _OTHER)
        return found
