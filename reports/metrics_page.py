"""The page of metrics, made from the registry, so that what is documented is what is computed."""

from __future__ import annotations

from results.intervals import min_samples
from results.metrics import REGISTRY, Area

_HEAD = """# Metrics

Made from the registry by `make docs`; a test keeps it equal to the code.

Latency counts from the *intended* send time: what a slow client or a full queue adds is in the
number. A percentile is the linear interpolation between order statistics (numpy's default) and is
printed only when at least ten samples lie beyond it:
{counts}.
Its interval is made of two order statistics and speaks of that run alone; intervals over runs come
from repeats.
"""


def metrics_page() -> str:
    """Markdown: one table per area."""
    needs = ", ".join(
        f"p{q * 100:g} needs {min_samples(q):,}" for q in (0.5, 0.9, 0.95, 0.99, 0.999)
    )
    parts = [_HEAD.format(counts=needs)]
    for area in Area:
        rows = [m for m in REGISTRY.values() if m.area is area]
        parts.append(f"## {area.value.capitalize()}\n")
        parts.append("| metric | unit | better | meaning |\n|---|---|---|---|")
        parts += [f"| `{m.name}` | {m.unit} | {m.direction} | {m.meaning} |" for m in rows]
        parts.append("")
    return "\n".join(parts)


def main() -> None:
    print(metrics_page(), end="")  # noqa: T201


if __name__ == "__main__":
    main()
