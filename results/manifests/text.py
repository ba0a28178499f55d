"""Objects as YAML text, several lines as a block that can be read."""

from __future__ import annotations

from typing import Any

import yaml


class _Readable(yaml.SafeDumper):
    """No anchors: a value that stands twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Readable.add_representer(str, _text)


def yaml_text(document: Any) -> str:
    written: str = yaml.dump(document, Dumper=_Readable, sort_keys=False, allow_unicode=True)
    return written
