"""A report as one HTML file that opens anywhere and asks nobody for anything.

Everything a reader's machine did not bring is inside: Vega, Vega-Lite and Vega-Embed once, by
vl-convert. A content security policy allows exactly those scripts, by their hashes, and no request
at all, so a record that carries markup in a name or a log line cannot make the page do anything.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
from functools import cache
from importlib import metadata, resources
from pathlib import Path

import altair as alt
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports.model import Plots, Report, Section

# Colours are the page's CSS custom properties; see templates/page.css.
CHART_CONFIG: dict[str, object] = {
    "background": "transparent",
    # A chart is one picture to a screen reader, named and summarised by the page around it.
    "aria": False,
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif",
    "autosize": {"type": "fit", "contains": "padding", "resize": True},
    "padding": {"left": 2, "right": 6, "top": 4, "bottom": 2},
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "titlePadding": 6,
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "gridColor": "var(--grid)",
        "labelOverlap": True,
    },
    "axisX": {"tickCount": {"signal": "ceil(width / 70)"}},
    "text": {"fontSize": 11, "fill": "var(--soft)"},
}


def render_html(report: Report) -> str:
    """The page; the same report gives the same bytes. Raises ValueError where a plot holds a
    number that JSON cannot."""
    css, glue = _asset("page.css"), _asset("page.js")
    has_plots = any(_has_plots(section) for section in report.sections)
    library = chart_library() if has_plots else ""
    scripts = (library, glue) if has_plots else ()
    hashes = Markup(" ".join(_csp_hash(script) for script in scripts) or "'none'")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            css=css,
            glue=glue,
            library=library,
            config=CHART_CONFIG,
            has_plots=has_plots,
            script_hashes=hashes,
        )
    )


@cache
def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one minified script that can stand in an HTML page.

    Bundling takes two seconds, and the same versions give the same script: it is kept where Python
    keeps what it compiles, and made again where that folder cannot be written.
    """
    version = re.match(r"v?(\d+\.\d+)", alt.SCHEMA_VERSION)
    assert version is not None, alt.SCHEMA_VERSION
    name = f"charts-{metadata.version('vl-convert-python')}-{version[1]}.js"
    kept = Path(__file__).parent / "__pycache__" / name
    with contextlib.suppress(OSError):
        return kept.read_text(encoding="utf-8")
    script = _bundled(version[1])
    with contextlib.suppress(OSError):
        kept.parent.mkdir(exist_ok=True)
        draft = kept.with_suffix(f".{os.getpid()}")
        draft.write_text(script, encoding="utf-8")
        draft.replace(kept)
    return script


def _bundled(version: str) -> str:
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    # Inside a string literal both mean the same; inside HTML the first would end the script.
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _has_plots(section: Section) -> bool:
    return any(isinstance(block, Plots) for block in section.blocks) or any(
        _has_plots(child) for child in section.sections
    )


@cache
def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        lstrip_blocks=False,
    )
    env.policies["json.dumps_kwargs"] = {
        "sort_keys": True,
        "separators": (",", ":"),
        "ensure_ascii": False,
        "allow_nan": False,
    }
    return env


@cache
def _asset(name: str) -> str:
    return (resources.files("reports") / "templates" / name).read_text(encoding="utf-8")


def _csp_hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
