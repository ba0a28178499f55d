"""One command with two ways of answering: it measures, or, with one flag, it simulates.

Each way is a function with options of its own. Joined they are one command whose help shows both,
and which refuses an option of the way that was not taken instead of ignoring it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Optional

from harness.cli.exits import told
from harness.errors import SpecError


def joined(
    measured: Callable[..., None], simulated: Callable[..., None], *, flag: str
) -> Callable[..., None]:
    """Typer functions in, one out. ``flag`` is a boolean option of ``simulated``, off by default
    here. What ``measured`` requires is required only without the flag."""
    ours = dict(inspect.signature(measured, eval_str=True).parameters)
    theirs = dict(inspect.signature(simulated, eval_str=True).parameters)
    required = tuple(name for name, p in ours.items() if p.default is p.empty)
    parameters = {
        name: _optional(p) if name in required else p for name, p in {**theirs, **ours}.items()
    }
    parameters[flag] = parameters[flag].replace(default=False)
    order = [*required, flag, *(n for n in {**ours, **theirs} if n not in (*required, flag))]

    def command(**given: Any) -> None:
        taken, left = (theirs, ours) if given[flag] else (ours, theirs)
        with told(bool(given.get("as_json"))):
            word = f"--{flag}"
            foreign = {
                name: name.upper() if name in required else f"--{name.replace('_', '-')}"
                for name in sorted(left.keys() - taken.keys() - {flag})
            }
            _refuse(given, parameters, foreign, word, given[flag])
            missing = [n for n in required if n in taken and given[n] is None]
            if missing:
                raise SpecError(f"{missing[0].upper()} is missing: name it, or say {word}")
        (simulated if given[flag] else measured)(**{name: given[name] for name in taken})

    command.__doc__ = f"{inspect.getdoc(measured)}\n\nWith --{flag}: {inspect.getdoc(simulated)}"
    command.__name__ = measured.__name__
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameters[n].replace(kind=inspect.Parameter.KEYWORD_ONLY) for n in order]
    )
    command.__annotations__ = {name: parameters[name].annotation for name in order}
    return command


def _optional(parameter: inspect.Parameter) -> inspect.Parameter:
    annotation = parameter.annotation
    metadata = getattr(annotation, "__metadata__", ())
    bare = annotation.__origin__ if metadata else annotation
    # typing.Annotated[x, *metadata] as a call: the metadata is known only now.
    wide: Any = Optional[bare]  # noqa: UP045
    if metadata:
        wide = Annotated[(wide, *metadata)]
    return parameter.replace(annotation=wide, default=None)


def _refuse(
    given: Mapping[str, Any],
    parameters: Mapping[str, inspect.Parameter],
    foreign: Mapping[str, str],
    word: str,
    simulating: bool,
) -> None:
    """``foreign``: the options of the way not taken, with what a person calls each."""
    for name, called in foreign.items():
        if given[name] != parameters[name].default:
            goes = f"does not go with {word}" if simulating else f"goes with {word} alone"
            raise SpecError(f"{called} {goes}; leave one of the two out")
