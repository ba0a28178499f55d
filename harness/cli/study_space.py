"""``windtunnel study space``: what there is to choose, as the installed engine takes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table
from rich.text import Text

from harness.cli.exits import told
from harness.cli.options import Json
from harness.cli.output import print_json, stderr, stdout
from harness.cli.study_file import spaces_home
from harness.errors import SpecError
from harness.spec_shape import to_mapping
from tuners.engine_options import Held, Option, Snapshot, held_against, option_of
from tuners.engine_probe import probed, snapshot_at_hand
from tuners.errors import SpaceError
from tuners.space import Space, Value
from tuners.space_files import KnobSpec, SpaceFile, read_space, shipped_spaces
from tuners.study_spec import knob_of

ENGINES = ("vllm", "torch", "jax")
_DEVICES = {"vllm-cpu": "cpu", "vllm-gpu": "cuda", "vllm-tpu": "tpu"}


def space(
    engine: Annotated[
        str, typer.Option("--engine", metavar="NAME", help=f"{', '.join(ENGINES)}.")
    ] = "",
    name: Annotated[
        str,
        typer.Option(
            "--space",
            metavar="NAME",
            help="One space by name or file; default: the engine's, for the device it was built "
            "for.",
        ),
    ] = "",
    python: Annotated[
        str, typer.Option("--python", metavar="PATH", help="The interpreter that has the engine.")
    ] = "",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask the engine again, whatever is kept of it.")
    ] = False,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="As a file that a study's `space` may name.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The knobs of a search space, as the installed engine takes them.

    vLLM's are held against the version at hand: what it does not have is left out and said, what it
    has beyond the reviewed is listed. The first time, it is asked in a process of its own (a
    minute). Without --engine and --space: the spaces that are shipped.

    Examples: `windtunnel study space --engine vllm`,
    `windtunnel study space --space torch --yaml > mine.yaml`
    """
    with told(as_json):
        try:
            if not engine and not name:
                _print_names(as_json)
                return
            made, snapshot, held = _held(engine, name, python, fresh)
        except SpaceError as error:
            raise SpecError(str(error)) from None
        if as_json:
            print_json("windtunnel.space/1", _document(made, snapshot, held))
        elif as_yaml:
            stdout().file.write(_yaml(made, snapshot, held))
        else:
            _print(made, snapshot, held)


def _held(
    engine: str, name: str, python: str, fresh: bool
) -> tuple[SpaceFile, Snapshot | None, Held]:
    """Raises SpaceError."""
    if engine and engine not in ENGINES:
        raise SpaceError(f"no engine is called {engine}; there are {', '.join(ENGINES)}")
    made = read_space(name or engine) if name or engine != "vllm" else None
    if made is not None and engine and engine not in (made.engine, *made.workloads):
        raise SpaceError(f"the space {made.name} is not of {engine}; leave one of the two out")
    snapshot = None
    if made is None or made.engine == "vllm":
        snapshot = _snapshot(python, fresh)
    if made is None:
        assert snapshot is not None
        made = read_space({"cpu": "vllm-cpu", "tpu": "vllm-tpu"}.get(snapshot.device, "vllm-gpu"))
    Space(knobs=tuple(knob_of(knob) for knob in made.knobs))  # refuses what is no space
    if snapshot is None:
        return made, None, Held(knobs=made.knobs, dropped=(), unreviewed=())
    return made, snapshot, held_against(made.knobs, snapshot, _DEVICES.get(made.name, ""))


def _snapshot(python: str, fresh: bool) -> Snapshot:
    kept, version = (None, "") if fresh else snapshot_at_hand(python, spaces_home())
    if kept is not None:
        return kept
    which = f"vllm {version}" if version else "vllm"
    stderr().print(f"asking {which} for its options; it imports for a minute", markup=False)
    return probed(python, spaces_home())


def _print_names(as_json: bool) -> None:
    spaces = [read_space(name) for name in shipped_spaces()]
    if as_json:
        body = {"spaces": [{"name": s.name, "about": s.about} for s in spaces]}
        print_json("windtunnel.spaces/1", body)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("space", "knobs", "what it is for"):
        table.add_column(column)
    for one in spaces:
        table.add_row(one.name, str(len(one.knobs)), one.about)
    stdout().print(table)


def _print(made: SpaceFile, snapshot: Snapshot | None, held: Held) -> None:
    console = stdout()
    of = f" for {snapshot.engine} {snapshot.version} ({snapshot.device})" if snapshot else ""
    console.print(Text.assemble("\n", (made.name, "bold"), f": {made.about}{of}"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("knob", "values", "default", "what it does"):
        table.add_column(column)
    for knob in held.knobs:
        table.add_row(knob.word, _values(knob), _default(knob, snapshot), knob.about)
    console.print(table)
    for line in held.dropped:
        console.print(f"left out: {line}", markup=False, soft_wrap=True)
    if held.unreviewed:
        console.print(f"\nnot reviewed, {len(held.unreviewed)} options:")
        for line in _by_group(held.unreviewed):
            console.print(f"  {line}", markup=False, soft_wrap=True)


def _by_group(options: Sequence[Option]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for option in options:
        groups.setdefault(option.group or "other", []).append(option.name)
    for group, names in groups.items():
        yield f"{group}: {', '.join(names)}"


def _values(knob: KnobSpec) -> str:
    when = "".join(
        f" when {path.rpartition('.')[2]} is {' or '.join(map(_text, values))}"
        for path, values in knob.when.items()
    )
    given = (*knob.values, *knob.choices)
    if given:
        return ", ".join(map(_text, given)) + when
    return f"{knob.low} … {knob.high}{when}"


def _default(knob: KnobSpec, snapshot: Snapshot | None) -> str:
    """Of the command line; where that has none, the engine finds one when it starts."""
    option = option_of(knob, snapshot) if snapshot is not None else None
    if option is None:
        return "–"
    return "where it runs" if option.default is None else _text(option.default)


def _text(value: Value) -> str:
    if value is None:
        return "default"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _document(made: SpaceFile, snapshot: Snapshot | None, held: Held) -> dict[str, Any]:
    return {
        "name": made.name,
        "about": made.about,
        "engine": snapshot.engine if snapshot else made.engine,
        "version": snapshot.version if snapshot else None,
        "device": snapshot.device if snapshot else None,
        "knobs": [_knob(knob) for knob in held.knobs],
        "dropped": list(held.dropped),
        "unreviewed": [to_mapping(option) for option in held.unreviewed],
    }


def _knob(knob: KnobSpec) -> dict[str, Any]:
    """Without what is left at its default."""
    told = to_mapping(knob)
    return {k: v for k, v in told.items() if v not in (None, [], {}, "", False)}


def _yaml(made: SpaceFile, snapshot: Snapshot | None, held: Held) -> str:
    head = [f"# The space {made.name} as windtunnel ships it"]
    if snapshot is not None:
        head[0] += f", for {snapshot.engine} {snapshot.version} ({snapshot.device})"
    head[0] += "."
    head += [f"# left out: {line}" for line in held.dropped]
    head += [f"# not reviewed: {line}" for line in _by_group(held.unreviewed)]
    body = {
        "name": f"{made.name}-own",
        "about": made.about,
        **({"engine": made.engine} if made.engine else {}),
        "workloads": list(made.workloads),
        "knobs": [_knob(knob) for knob in held.knobs],
    }
    dumped = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=96)
    return "\n".join(head) + "\n" + dumped
