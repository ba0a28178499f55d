"""The web page at ``/``: files of our own, and a policy that lets the browser load no other."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Any, Final

from fastapi import FastAPI, Request, Response

from results.api.replies import reply, unchanged

_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/page.css": ("page.css", "text/css; charset=utf-8"),
    **{
        f"/page/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("page", "asking", "details", "plot", "training", "words")
    },
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_to(api: FastAPI) -> None:
    for path, (name, media_type) in _FILES.items():
        api.add_api_route(path, _sender(name, media_type), include_in_schema=False)


def _sender(name: str, media_type: str) -> Any:
    async def send(request: Request) -> Response:
        body, etag = _asset(name)
        same = unchanged(request, etag)
        if same is not None:
            return same
        response = reply(body, media_type, etag=etag, cache="no-cache")
        response.headers["content-security-policy"] = _POLICY
        response.headers["referrer-policy"] = "no-referrer"
        return response

    send.__annotations__ = {"request": Request, "return": Response}
    return send


@cache
def _asset(name: str) -> tuple[bytes, str]:
    body = (resources.files("results.api") / "web" / name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:16]}"'
