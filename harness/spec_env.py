"""Environment variables of a spec, and what must not stand in one: secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from harness.spec_errors import Problem

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Whatever is in a spec is in the record, for good.
SECRET_NAME = re.compile(
    r"(^|[_-])(token|secret|password|passwd|api[_-]?key|access[_-]?key)$", re.I
)

SECRET = (
    "looks like a secret, and all of a spec is kept in the record; "
    "export it in the shell that starts windtunnel instead"
)


def check_env(env: Mapping[str, str]) -> Iterator[Problem]:
    for name in env:
        here = ("workload", "env", name)
        if not ENV_NAME.fullmatch(name):
            yield Problem(path=here, message="is no name of an environment variable")
        elif SECRET_NAME.search(name):
            yield Problem(path=here, message=SECRET)
