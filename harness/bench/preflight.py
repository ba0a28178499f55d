"""Is anybody there, is it the API we speak, does it know the model? Asked before any load.

Two requests: the list of models, and one token. Whatever goes wrong is told as what was tried, what
came back and what to do.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from harness.errors import EndpointUnreachable, SpecError
from harness.load.bodies import api_path
from harness.load.client import MODELS_PATH
from harness.load.wire import root_url
from harness.progress import Progress

TIMEOUT_S = 10.0
MAX_SHOWN_MODELS = 12
_MAX_WORDS = 160
_WANTS_KEY = (401, 403)
_REFUSED_FIELDS = (400, 422)
_NO_SUCH_PATH = (404, 405)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The endpoint as it will be used. ``models``: what it says it serves, () where it does not."""

    base_url: str
    model: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    what: str  # "GET http://…/v1/models"
    status: int
    body: bytes

    @property
    def document(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def words(self, secret: str | None) -> str:
        document = self.document
        error = document.get("error") if isinstance(document, dict) else None
        message = error.get("message") if isinstance(error, dict) else error
        text = str(message) if message else self.body.decode(errors="replace")
        text = " ".join(text.split())
        if secret:
            text = text.replace(secret, "***")
        text = text if len(text) <= _MAX_WORDS else text[: _MAX_WORDS - 1] + "…"
        return f"{self.what} → HTTP {self.status}" + (f": {text}" if text else "")


def look(
    url: str,
    model: str | None,
    api: str,
    *,
    api_key: str | None = None,
    api_key_env: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Found:
    """``timeout_s`` is that of a request of the load: the one token may take as long as any of
    them, the list of models ``TIMEOUT_S`` at most.

    Raises EndpointUnreachable when nobody answers as a server should, SpecError when the address,
    the key or the model is wrong."""
    base = base_of(url)
    listed = _ask(base, "GET", MODELS_PATH, None, api_key, min(timeout_s, TIMEOUT_S))
    if listed.status in _WANTS_KEY:
        raise SpecError(_wrong_key(listed, api_key, api_key_env))
    models = model_ids(listed.document) if listed.status == 200 else ()
    if model is None:
        model = _only(models, base, listed, api_key)
    _try(base, model, api, models, listed, api_key, api_key_env, timeout_s)
    return Found(base_url=base, model=model, models=models)


def tell_unlisted(found: Found, progress: Progress) -> None:
    """Say so where the server answers for a model that it does not list."""
    if found.models and found.model not in found.models:
        progress.phase(
            "endpoint",
            f"{found.base_url} answers for {found.model!r}, and lists only {_shown(found.models)}",
        )


def base_of(url: str) -> str:
    """The URL that ends before ``/v1``. Raises SpecError for what is no URL of a server, without
    repeating a secret that may be in it."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise SpecError(
            "--endpoint holds a user, a password, a query or a fragment; give http://HOST:PORT "
            "alone and name the variable that holds the key with --api-key-env"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        hint = f"; did you mean http://{url}?" if "://" not in url and url else ""
        raise SpecError(f"--endpoint {url!r} is no http(s) URL{hint}")
    try:
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise SpecError(f"--endpoint {url!r}: {error}") from None
    return root_url(url)


def model_ids(document: Any) -> tuple[str, ...]:
    """The ids of an answer to ``/v1/models``; () where it is none."""
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        return ()
    return tuple(str(m["id"]) for m in data if isinstance(m, dict) and "id" in m)


def _only(models: tuple[str, ...], base: str, listed: _Answer, key: str | None) -> str:
    if len(models) == 1:
        return models[0]
    if models:
        raise SpecError(f"{base} serves several models: {_shown(models)}; say which with --model")
    raise SpecError(f"{base} does not list its models ({listed.words(key)}); name one with --model")


def _try(
    base: str,
    model: str,
    api: str,
    models: tuple[str, ...],
    listed: _Answer,
    key: str | None,
    key_env: str,
    timeout_s: float,
) -> None:
    """Ask for one token: the API itself has the last word, whatever the list says."""
    prompt = {"messages": [{"role": "user", "content": "hi"}]} if api == "chat" else {"prompt": "h"}
    body = json.dumps({"model": model, "max_tokens": 1, **prompt}).encode()
    answer = _ask(base, "POST", api_path(api), body, key, timeout_s)
    if 200 <= answer.status < 300:
        return
    tried = f"tried {listed.words(key)}; {answer.words(key)}"
    if answer.status in _WANTS_KEY:
        raise SpecError(_wrong_key(answer, key, key_env))
    if models and model not in models:
        raise SpecError(
            f"{base} does not serve {model!r} ({answer.words(key)}); it offers {_shown(models)}"
        )
    if models and answer.status in _REFUSED_FIELDS:
        return  # the load asks in several ways, and keeps to the first that is taken
    if models and answer.status in _NO_SUCH_PATH:
        other = "completions" if api == "chat" else "chat"
        raise SpecError(f"{base} has no {api} API ({answer.words(key)}); try --api {other}")
    if answer.status in _NO_SUCH_PATH:
        raise SpecError(
            f"there is no OpenAI-compatible API at {base}: {tried}. The URL ends where /v1 would "
            "follow, for example http://127.0.0.1:8000"
        )
    raise EndpointUnreachable(f"{base} is there but does not answer a request: {tried}")


def _shown(models: tuple[str, ...]) -> str:
    more = len(models) - MAX_SHOWN_MODELS
    return ", ".join(models[:MAX_SHOWN_MODELS]) + (f" and {more} more" if more > 0 else "")


def _wrong_key(answer: _Answer, key: str | None, key_env: str) -> str:
    sent = f"the key in ${key_env} was refused" if key else "no key was sent"
    todo = (
        f"check the value of {key_env}"
        if key
        else "export it and name the variable with --api-key-env NAME"
    )
    return f"the endpoint wants another API key ({sent}): {answer.words(key)}; {todo}"


def _ask(
    base: str, method: str, path: str, body: bytes | None, key: str | None, timeout_s: float
) -> _Answer:
    parts = urlsplit(base + path)
    what = f"{method} {base}{path}"
    headers = {"Accept": "application/json"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    if key:
        headers["Authorization"] = f"Bearer {key}"
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request(method, parts.path, body=body, headers=headers)
        response = connection.getresponse()
        return _Answer(what=what, status=response.status, body=response.read(2**20))
    except (OSError, http.client.HTTPException) as error:
        raise EndpointUnreachable(_unreachable(what, parts.scheme, error, timeout_s)) from None
    finally:
        connection.close()


def _unreachable(what: str, scheme: str, error: Exception, timeout_s: float) -> str:
    host = urlsplit(what.split()[1]).netloc
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"tried {what}: the server's certificate is not trusted ({error.verify_message}); use "
            "the name it was issued for, or add its authority to the system's (SSL_CERT_FILE)"
        )
    if isinstance(error, ssl.SSLError):
        return f"tried {what}: no TLS there ({error.reason or error}); is it http://{host}?"
    if isinstance(error, ConnectionRefusedError):
        return f"tried {what}: nobody listens at {host} (connection refused); is the server up?"
    if isinstance(error, socket.gaierror):
        return f"tried {what}: the name of {host} cannot be resolved ({error.strerror})"
    if isinstance(error, TimeoutError):
        return f"tried {what}: no answer within {timeout_s:g} s"
    if isinstance(error, http.client.HTTPException | ConnectionError):
        other = "https" if scheme == "http" else "http"
        words = str(error) or type(error).__name__
        return f"tried {what}: that is no HTTP answer ({words}); is it {other}://{host}?"
    return f"tried {what}: {error}"
