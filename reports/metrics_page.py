"""The page of metrics, made from the registry, so that what is documented is what is computed."""

from __future__ import annotations

from collections.abc import Iterator

from reports.peer_definitions import DIFFERENCES, PEERS, PERCENTILES
from results.intervals import min_samples, min_samples_for_bound
from results.metrics import REGISTRY, Area
from results.slo import PRESETS
from results.units import metric_label

_QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)

_HEAD = """# Metrics

Made from the registry by `make docs`; a test keeps it equal to the code.

Latency counts from the *intended* send time: what a slow client or a full queue adds is in the
number. Warm-up rows are never measured.

## Percentiles and intervals

A percentile is the linear interpolation between order statistics (numpy's default) and is printed
only when at least ten samples lie beyond it:
{counts}.

Requests of one run follow each other through one queue and are not independent. The 95 % interval
of a percentile or a mean therefore rests on how many *independent* values the run is worth, found
from batches of neighbouring requests and from the autocorrelation, whichever gives fewer; gaps are
taken as clusters, one per request. The interval is made of the two order statistics for that many
values. Where a run is worth too few there is a value and no interval. It needs as many independent
values as bound the percentile at 99 % confidence:
{bounds}.
The `method` of a measurement says what its run was worth. An interval within a run speaks of that
run alone; intervals over runs come from repeats.

Gaps between tokens are kept in 32-bit floats (relative error below 6e-8); every one of them counts.
"""


def metrics_page() -> str:
    """Markdown: one table per area, then what others mean by the same words, then the presets."""
    counts = ", ".join(f"p{q * 100:g} needs {min_samples(q):,}" for q in _QUANTILES)
    bounds = ", ".join(f"p{q * 100:g} {min_samples_for_bound(q):,}" for q in _QUANTILES)
    parts = [_HEAD.format(counts=counts, bounds=bounds)]
    for area in Area:
        rows = [m for m in REGISTRY.values() if m.area is area]
        parts.append(f"## {area.value.capitalize()}\n")
        parts.append("| metric | unit | better | meaning |\n|---|---|---|---|")
        parts += [f"| `{m.name}` | {m.unit} | {m.direction} | {m.meaning} |" for m in rows]
        parts.append("")
    return "\n".join([*parts, *_peers(), *_presets()])


def _peers() -> Iterator[str]:
    yield "## Where others differ\n"
    read = "; ".join(f"{name}: {version}" for name, version in PEERS.items())
    yield f"The same words mean other things elsewhere. Read in: {read}.\n"
    yield "| metric | tool | theirs |\n|---|---|---|"
    for name in dict.fromkeys(d.metric for d in DIFFERENCES):
        for d in (d for d in DIFFERENCES if d.metric == name):
            yield f"| {metric_label(name)} | {', '.join(d.peers)} | {d.theirs} |"
    for tools, how in PERCENTILES:
        yield f"| percentiles | {tools} | {how} |"
    yield ""


def _presets() -> Iterator[str]:
    yield "## SLO presets\n"
    yield "| name | limits | attainment | source |\n|---|---|---|---|"
    for name, slo in PRESETS.items():
        limits = ", ".join(
            f"{metric_label(limit.metric)} {str(limit).split(' ', 1)[1]}" for limit in slo.limits
        )
        yield f"| `{name}` | {limits} | {slo.attainment:.0%} | {slo.source} |"
    yield ""


def main() -> None:
    print(metrics_page(), end="")  # noqa: T201


if __name__ == "__main__":
    main()
