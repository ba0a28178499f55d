"""The routes that are asked most, answered without the framework's own layers.

FastAPI describes them as it does all others; between a request and its handler it has a router,
two exit stacks and three middlewares, which cost about as much as answering from the table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from results.api.guard import App, Receive, Scope, Send
from results.api.problems import Problem, Refused
from results.api.replies import told

Handler = Callable[[Request], Awaitable[Response]]


class Direct:
    """``handlers`` by (method, path); ``app`` answers everything else. ``defect`` is what is told
    of an exception that is no refusal; it goes on to the server, which logs it."""

    def __init__(
        self, app: App, handlers: Mapping[tuple[str, str], Handler], defect: Problem
    ) -> None:
        self._app = app
        self._handlers = handlers
        self._defect = defect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = None
        if scope["type"] == "http":
            handler = self._handlers.get((scope["method"], scope["path"]))
        if handler is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await handler(Request(scope, receive))
        except Refused as refused:
            response = told(refused.problem, scope["path"])
        except Exception:
            await told(self._defect, scope["path"])(scope, receive, send)
            raise
        await response(scope, receive, send)
