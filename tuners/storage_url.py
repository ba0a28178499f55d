"""What may be said of a study's storage: its URL may hold a password, and plans are sent on."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

_HIDDEN = "…"


def shown_storage(url: str) -> str:
    """The URL without user, password and options; a path as it is."""
    scheme, there, rest = url.partition("://")
    if not there:
        return url
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def without_password(text: str, url: str) -> str:
    """What a driver said, less the password of ``url``, however it was written."""
    try:
        password = urlsplit(url).password or ""
    except ValueError:  # no URL after all: brackets that do not close
        return text.replace(url, shown_storage(url))
    for secret in {password, unquote(password)} - {""}:
        text = text.replace(secret, _HIDDEN)
    return text
