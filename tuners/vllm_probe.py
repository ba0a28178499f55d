"""What an installed vLLM can be told: every option of its server, as JSON on the last line.

This file is run as a script by the interpreter that has vLLM, which need not have anything else of
ours: it imports the standard library and, by name, vLLM. Choices, types and defaults come from the
server's own argument parser; bounds from the fields of the configuration class that an argument
group is named for. What a version does not have is left out, never guessed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import enum
import importlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from typing import Any

_PARSERS = (  # where releases have had it, newest first
    ("vllm.entrypoints.launchers.cli_args", "make_arg_parser"),
    ("vllm.entrypoints.openai.cli_args", "make_arg_parser"),
)
_PARSER_CLASSES = ("vllm.utils.argparse_utils", "vllm.utils")
_BOUNDS = {"ge": "low", "gt": "above", "le": "high", "lt": "below"}


def described() -> dict[str, Any]:
    parser = _parser()
    return {
        "engine": "vllm",
        "version": _version(),
        "device": _device(),
        "options": list(_options(parser)),
        "env": sorted(_env_names()),
    }


def _options(parser: argparse.ArgumentParser) -> Iterator[dict[str, Any]]:
    for group in parser._action_groups:
        fields = _fields(group.title or "")
        for action in group._group_actions:
            if found := _option(action, group.title or "", fields):
                yield found


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _first(
        (module, "FlexibleArgumentParser") for module in _PARSER_CLASSES
    )(add_help=False)
    with contextlib.suppress(LookupError):
        made: argparse.ArgumentParser = _first(_PARSERS)(parser)
        return made
    arguments = importlib.import_module("vllm.engine.arg_utils").AsyncEngineArgs
    arguments.add_cli_args(parser)
    return parser


def _first(places: Any) -> Any:
    for module, name in places:
        with contextlib.suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(module), name)
    raise LookupError("none of the known places has it")


def _option(action: argparse.Action, group: str, fields: dict[str, Any]) -> dict[str, Any] | None:
    names = [n for n in action.option_strings if n.startswith("--") and not n.startswith("--no-")]
    if not names:
        return None
    choices = action.choices if action.choices is not None else action.metavar
    found: dict[str, Any] = {
        "name": names[0].removeprefix("--"),
        "group": group,
        "kind": _kind(action),
        "default": _plain(action.default),
    }
    if isinstance(choices, list | tuple | set):
        found["choices"] = [_plain(choice) for choice in choices]
    found.update(_bounds(fields.get(action.dest)))
    return found


def _kind(action: argparse.Action) -> str:
    if isinstance(action, argparse.BooleanOptionalAction) or action.nargs == 0:
        return "flag"
    if action.choices is not None or isinstance(action.metavar, list):
        return "choice"
    types = set(_types(action.type))
    if not types and isinstance(action.default, int | float):
        types = {float if isinstance(action.default, float) else int}
    return "number" if float in types else "integer" if int in types else "text"


def _types(convert: Any) -> Iterator[type]:
    """``int`` or ``float``, found in a converter that may be wrapped in others."""
    if convert in (int, float):
        yield convert
    elif getattr(convert, "__name__", "").startswith("human_readable_int"):
        yield int
    else:
        for cell in getattr(convert, "__closure__", None) or ():
            yield from _types(cell.cell_contents)


def _fields(group: str) -> dict[str, Any]:
    """Of the configuration class that ``group`` is named for, by field name."""
    with contextlib.suppress(ImportError):
        shape = getattr(importlib.import_module("vllm.config"), group, None)
        if shape is not None and dataclasses.is_dataclass(shape):
            return {field.name: field.default for field in dataclasses.fields(shape)}
    return {}


def _bounds(default: Any) -> dict[str, float]:
    """pydantic keeps them as objects with one of ge, gt, le, lt."""
    found = {}
    for rule in getattr(default, "metadata", None) or ():
        for name, ours in _BOUNDS.items():
            value = getattr(rule, name, None)
            if isinstance(value, int | float):
                found[ours] = value
    return found


def _plain(value: Any) -> Any:
    """As JSON can hold it; a configuration object, whose text may differ each time, is null."""
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None


def _version() -> str:
    return str(importlib.import_module("vllm.version").__version__)


def _device() -> str:
    with contextlib.suppress(Exception):  # a platform that cannot be told is no reason to fail
        return str(importlib.import_module("vllm.platforms").current_platform.device_type)
    return ""


def _env_names() -> Iterator[str]:
    for module in ("vllm.envs", "tpu_inference.envs"):
        with contextlib.suppress(ImportError):
            yield from getattr(importlib.import_module(module), "environment_variables", {})


if __name__ == "__main__":
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # engines talk while they are imported
        text = json.dumps(described(), sort_keys=True)
    out.write("\n" + text + "\n")
