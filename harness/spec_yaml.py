"""YAML text in, plain data and line numbers out, with none of YAML's surprises.

A spec is read the same by every reader or not at all. Scalars follow YAML 1.2's core schema; the
plain words that YAML 1.1 and 1.2 read differently (``no``, ``010``, ``1_000``) are refused, because
half of all readers would take them for something else. Duplicate keys, cycles, foreign tags and
values that JSON cannot hold are refused too. Anchors, aliases and ``<<`` work.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from harness.errors import SpecError
from harness.spec_errors import Path, Problem, dotted, listed, refuse

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000  # aliases of aliases can make a small file a huge value
MAX_DEPTH = 64
MAX_DIGITS = 250  # of a whole number, in any base: beyond 1e308 it could not be compared

_TAG = "tag:yaml.org,2002:"
_PLAIN = "plain"  # the tag of a scalar with neither quotes nor a tag of its own
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_TRUTH = {w: w.lower() == "true" for w in ("true", "True", "TRUE", "false", "False", "FALSE")}
_YAML_1_1_TRUTH = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_YAML_1_1_NUMBER = re.compile(r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?|0b[01_]+")


class _Nodes(yaml.SafeLoader):
    """Composes nodes and resolves nothing: every plain scalar is ours to read."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One YAML document. ``origins`` says where a path comes from: a line number, or the text of
    the override that put it there."""

    file: str
    line: int
    data: Any
    origins: Mapping[Path, int | str] = field(default_factory=dict)

    def where(self, path: Path) -> str:
        """``file:line`` of ``path``; where nothing is written, of what is inside or around."""
        for length in range(len(path), 0, -1):
            origin = self._origin(path[:length])
            if origin is not None:
                return f"--set {origin}" if isinstance(origin, str) else f"{self.file}:{origin}"
        return f"{self.file}:{self.line}"

    def _origin(self, path: Path) -> int | str | None:
        if path in self.origins:
            return self.origins[path]
        # A list of one may be written without its dash: hardware.0.cpus stands at hardware.cpus.
        written = tuple(part for part in path if part != 0)
        inside = (o for p, o in self.origins.items() if written and p[: len(written)] == written)
        return next(inside, None)


def read_documents(path: str) -> tuple[Document, ...]:
    """Every non-empty document of a YAML file. Raises SpecError: not there, a folder, not text, not
    YAML, nothing in it."""
    text = read_text(path)
    documents = []
    wrong: list[str] = []
    try:
        loader = _Nodes(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node said so
            reader = _Reader(path)
            data = reader.value(node, ())
            line = node.start_mark.line + 1
            document = Document(file=path, line=line, data=data, origins=reader.lines)
            wrong += listed(reader.problems, document.where)
            if data is not None:
                documents.append(document)
    except yaml.MarkedYAMLError as error:
        raise SpecError(_syntax(path, error)) from None
    except yaml.reader.ReaderError as error:
        character = error.character
        name = f"U+{character if isinstance(character, int) else ord(character):04X}"
        raise SpecError(f"{path}: holds the character {name}, which YAML does not allow") from None
    except RecursionError:
        raise SpecError(f"{path}: nested too deeply to be read") from None
    if wrong:
        refuse(wrong)
    if not documents:
        raise SpecError(f"{path}: is empty; a file holds at least one document")
    return tuple(documents)


def read_text(path: str) -> str:
    """The text of a file, or a SpecError that says why there is none."""
    file = FilePath(path)
    try:
        if file.is_dir():
            raise SpecError(f"{path}: is a folder; name a YAML file in it")
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file{_neighbours(file)}") from None
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from None
    if len(raw) > MAX_BYTES:
        raise SpecError(f"{path}: is larger than {MAX_BYTES} bytes; this is not a file of specs")
    try:
        if b"\0" in raw:
            raise SpecError(f"{path}: is not text (it holds zero bytes); name a YAML file")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(
            f"{path}: is not UTF-8 text (byte {error.start} is 0x{raw[error.start]:02x}); "
            "name a YAML file"
        ) from None


def parse_scalar(text: str, path: Path) -> Any:
    """The YAML value of an override's right-hand side: ``8``, ``true``, ``[spot, on-demand]``.

    Raises SpecError."""
    where = f"--set {dotted(path)}={text}"
    reader = _Reader(where)
    try:
        loader = _Nodes(text)
        node = loader.get_single_node()
        value = None if node is None else reader.value(node, path)
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or str(error)
        raise SpecError(f"{where}: the value is not YAML: {reason}") from None
    except RecursionError:
        raise SpecError(f"{where}: the value is nested too deeply") from None
    if reader.problems:
        refuse(listed(reader.problems, lambda _: where))
    return value


class _Reader:
    """Keeps, while one document is turned into data, the line of each path and what was wrong."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.lines: dict[Path, int | str] = {}
        self.problems: list[Problem] = []
        self._num_values = 0
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        self._num_values += 1
        if self._num_values > MAX_VALUES:
            raise SpecError(f"{self.where}: holds more than {MAX_VALUES} values")
        if id(node) in self._open:
            return self._wrong(path, "an alias inside its own anchor")
        if len(self._open) > MAX_DEPTH:
            return self._wrong(path, f"nested more than {MAX_DEPTH} deep")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, path)
            if not node.tag.startswith(_TAG + ("map" if _is_map(node) else "seq")):
                return self._wrong(path, f"the tag {_short(node.tag)} is not accepted")
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _wrong(self, path: Path, message: str) -> None:
        self.problems.append(Problem(path=path, message=message))

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            if key == "<<" and key_node.style is None:
                for other in reversed(_merged_nodes(value_node)):
                    if isinstance(other, yaml.MappingNode):
                        merged |= self.value(other, path) or {}
                    else:
                        self._wrong((*path, key), "only mappings can be merged with <<")
                continue
            here = (*path, key)
            if key in own:
                self.lines[here] = key_node.start_mark.line + 1
                self._wrong(here, "written twice in the same mapping; keep one of the two")
                continue
            self.lines[here] = key_node.start_mark.line + 1
            own[key] = self.value(value_node, here)
        return merged | own

    def _key(self, node: yaml.Node, path: Path) -> str | None:
        if not isinstance(node, yaml.ScalarNode) or (node.style is None and node.value == ""):
            line = node.start_mark.line + 1
            self._wrong(path, f"a key must be text (line {line})")
            return None
        return str(node.value)

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = str(node.value)
        if node.tag == _PLAIN:
            return self._plain(text, path)
        if node.tag == _TAG + "str":
            return text
        return self._wrong(path, f"the tag {_short(node.tag)} is not accepted")

    def _plain(self, text: str, path: Path) -> Any:
        if text in _WORDS:
            return _WORDS[text]
        if text in _TRUTH:
            return _TRUTH[text]
        if _INTEGER.fullmatch(text):
            if len(text) > MAX_DIGITS:
                return self._wrong(path, f"found a number of {len(text)} digits; it is too large")
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _YAML_1_1_TRUTH.fullmatch(text):
            truth = "true" if text.lower() in ("yes", "on") else "false"
            return self._wrong(
                path,
                f"found the bare word {text}, which some YAML readers take for {truth} and "
                f'others for text; write {truth}, or "{text}" in quotes',
            )
        if _YAML_1_1_NUMBER.fullmatch(text):
            return self._wrong(
                path,
                f"found {text}, which YAML readers do not agree on; write a plain decimal "
                f'number, or "{text}" in quotes',
            )
        if _NOT_FINITE.fullmatch(text):
            return self._wrong(path, f"found {text}; only finite numbers are accepted")
        if _NUMBER.fullmatch(text):
            number = float(text)
            return number if math.isfinite(number) else self._wrong(path, f"{text} is too large")
        return text


def _is_map(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode)


def _merged_nodes(node: yaml.Node) -> list[yaml.Node]:
    return list(node.value) if isinstance(node, yaml.SequenceNode) else [node]


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!")


def _syntax(path: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = f":{mark.line + 1}" if mark else ""
    if error.problem and "'\\t'" in error.problem:
        return f"{path}{line}: a tab; YAML is indented with spaces only"
    context = f"{error.context}: " if error.context else ""
    return f"{path}{line}: not YAML: {context}{error.problem}"


def _neighbours(file: FilePath) -> str:
    """Nearest files of the same folder, for a mistyped name."""
    import difflib

    folder = file.parent
    try:
        names = [p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml")]
    except OSError:
        return f"; there is no folder {folder}"
    near = difflib.get_close_matches(file.name, names, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(str(folder / n) for n in near)}?" if near else ""
