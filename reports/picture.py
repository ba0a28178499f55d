"""A plot of a page as a picture of its own: SVG or PNG, with its title and legend inside.

On a page the colours are the page's and the legend is HTML; alone, a picture has to bring both.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from reports.html import CHART_CONFIG
from reports.model import Plot

WIDTH = 760
SUFFIXES = (".svg", ".png")
_PNG_SCALE = 2.0


def write_picture(plot: Plot, path: Path, about: str = "") -> None:
    """Write ``plot`` as its suffix says; ``about`` stands below its title. Raises ValueError for
    another suffix, and OSError."""
    spec = standalone(plot, about)
    version = re.match(r"v?(\d+\.\d+)", alt.SCHEMA_VERSION)
    assert version is not None, alt.SCHEMA_VERSION
    if path.suffix == ".svg":
        path.write_text(vl_convert.vegalite_to_svg(spec, vl_version=version[1]), encoding="utf-8")
    elif path.suffix == ".png":
        path.write_bytes(vl_convert.vegalite_to_png(spec, vl_version=version[1], scale=_PNG_SCALE))
    else:
        raise ValueError(f"{path}: a picture is {' or '.join(SUFFIXES)}")


def standalone(plot: Plot, about: str = "") -> dict[str, Any]:
    """A whole Vega-Lite specification: light colours for the page's names, title and legend in."""
    spec: dict[str, Any] = json.loads(_colours_in(json.dumps(dict(plot.spec))))
    spec |= {"width": WIDTH, "background": "white"}
    spec["title"] = {"text": plot.title, "anchor": "start", "fontSize": 14, "offset": 10}
    if about:
        spec["title"] |= {"subtitle": about, "subtitleColor": "#55606e", "subtitlePadding": 4}
    if len(plot.marks) > 1:
        _show_legend(spec)
    config = json.loads(_colours_in(json.dumps(CHART_CONFIG)))
    config["padding"] = 12
    config.pop("autosize")
    return {**spec, "config": config}


def _show_legend(node: Any) -> None:
    """One legend: that of the first colour; shapes follow the colours or stand in the note."""
    for layer in node.get("layer", [node]):
        colour = layer.get("encoding", {}).get("color")
        if isinstance(colour, dict) and "field" in colour:
            colour["legend"] = {"title": None, "orient": "bottom", "direction": "horizontal"}


@cache
def _light() -> dict[str, str]:
    """The page's colours for light surroundings: the first block of its style sheet."""
    css = (resources.files("reports") / "templates" / "page.css").read_text(encoding="utf-8")
    first = css[css.index(":root {") : css.index("}")]
    return dict(re.findall(r"--([\w-]+): ([^;]+);", first))


def _colours_in(text: str) -> str:
    return re.sub(r"var\(--([\w-]+)\)", lambda m: _light()[m[1]], text)
