"""Numbers as people read them: value and unit in, text out.

The one place that formats a number; pages and terminal tables both call it. Three significant
digits, a scale that fits (ms, MB, min), whole numbers above a thousand, and never a rounding that
turns "almost all" into "all".
"""

from __future__ import annotations

import math

from results.measurement import Measurement
from results.metrics import Unit, metric

NOT_AVAILABLE = "n/a"
_SIGNIFICANT = 3

# (from this many base units on, divide by this, print this), largest first.
_SCALES: dict[Unit, tuple[tuple[float, float, str], ...]] = {
    Unit.SECONDS: (
        (7200.0, 3600.0, "h"),
        (600.0, 60.0, "min"),
        (1.0, 1.0, "s"),
        (1e-3, 1e-3, "ms"),
        (1e-6, 1e-6, "µs"),
        (0.0, 1e-9, "ns"),
    ),
    Unit.BYTES: (
        (1e12, 1e12, "TB"),
        (1e9, 1e9, "GB"),
        (1e6, 1e6, "MB"),
        (1e3, 1e3, "kB"),
        (0.0, 1.0, "B"),
    ),
    Unit.BYTES_PER_S: (
        (1e9, 1e9, "GB/s"),
        (1e6, 1e6, "MB/s"),
        (1e3, 1e3, "kB/s"),
        (0.0, 1.0, "B/s"),
    ),
    Unit.S_PER_BYTE: (
        (1e-6, 1e-6, "µs/byte"),
        (1e-9, 1e-9, "ns/byte"),
        (0.0, 1e-12, "ps/byte"),
    ),
    Unit.RATIO: ((0.0, 0.01, "%"),),
    Unit.COUNT: ((0.0, 1.0, ""),),
}
_WHOLE = frozenset({Unit.COUNT, Unit.REQUESTS, Unit.TOKENS, Unit.BYTES})

_LABELS = {
    "ttft": "TTFT",
    "ttfa": "TTFA",
    "itl": "ITL",
    "inter_chunk": "inter-chunk gap",
    "tpot": "TPOT",
    "ntpot": "NTPOT",
    "e2e": "e2e latency",
    "alpha": "α",
    "beta": "β",
}
_WORDS = {"slo": "SLO", "kv": "KV", "cpu": "CPU", "cpus": "CPUs"}
_UNIT_SUFFIXES = ("_s_per_byte", "_s", "_bytes", "_usd", "_w", "_j")


def format_value(value: float | None, unit: Unit | str) -> str:
    """``0.0123, s`` → ``12.3 ms``; ``66.12, tokens/s`` → ``66.1 tokens/s``; None → ``n/a``.

    Raises ValueError for a unit that the registry does not have.
    """
    if value is None or not math.isfinite(value):
        return NOT_AVAILABLE
    unit = Unit(unit)
    if unit is Unit.RATIO:
        return f"{_percent(value)} %"
    factor, symbol = _scale(value, unit)
    return f"{_number(value / factor, _decimals(value / factor, unit))} {symbol}".rstrip()


def format_interval(low: float | None, high: float | None, unit: Unit | str) -> str:
    """``30.1–32.4 ms``: both bounds on the scale of the larger one; "" where a bound is missing.

    Bounds that differ never print alike: digits are added until they do not (at most four).
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    unit = Unit(unit)
    factor, symbol = _scale(max(abs(low), abs(high)), unit)
    a, b = low / factor, high / factor
    decimals = _decimals(max(abs(a), abs(b)), unit)
    extra = 0
    while a != b and _number(a, decimals) == _number(b, decimals) and extra < 4:
        decimals, extra = decimals + 1, extra + 1
    # An ordinary hyphen would read as a minus where a bound is negative.
    dash = "–" if low >= 0 else " to "
    return f"{_number(a, decimals)}{dash}{_number(b, decimals)} {symbol}".rstrip()


def format_measurement(m: Measurement) -> str:
    """Value with its interval, or why there is none: ``31.2 ms (30.1–32.4 ms)``, ``n/a (n = 100;
    needs at least 1000)``."""
    unit = metric(m.metric).unit
    if m.value is None:
        return f"{NOT_AVAILABLE} ({m.reason})"
    interval = format_interval(m.low, m.high, unit)
    return (
        f"{format_value(m.value, unit)} ({interval})" if interval else format_value(m.value, unit)
    )


def metric_label(name: str, statistic: str = "value") -> str:
    """``ttft_s, p99`` → ``TTFT p99``; ``output_throughput`` → ``output throughput``.

    Raises UnknownMetric.
    """
    stem = metric(name).name
    for suffix in _UNIT_SUFFIXES:
        stem = stem.removesuffix(suffix)
    words = " ".join(_WORDS.get(word, word) for word in stem.split("_"))
    label = _LABELS.get(stem, words)
    return label if statistic == "value" else f"{label} {statistic}"


def format_chance(probability: float) -> str:
    """A probability found from below, so rounded down; of what is yet to come none is 1: 0.9987 is
    ``0.998``, and 0.99999 is ``0.999``."""
    return f"{math.floor(min(probability, 0.999) * 1000 + 1e-9) / 1000:.3f}"


def format_change(share: float | None) -> str:
    """``0.1234`` → ``+12.3 %``, ``-0.004`` → ``−0.40 %``: three digits, never below 0.01 %."""
    if share is None or not math.isfinite(share):
        return NOT_AVAILABLE
    percent = 100.0 * share
    decimals = min(max(_decimals(percent, Unit.RATIO), 0), 2)
    text = _number(percent, decimals)
    if not text.strip("−0."):
        return "0 %"
    return f"{'+' if percent > 0 else ''}{text} %"


def counted(n: int, thing: str) -> str:
    """``1 worker``, ``2 workers``."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def _scale(value: float, unit: Unit) -> tuple[float, str]:
    # Round first: 999.6 ms is 1.00 s, not 1,000 ms.
    size = abs(_rounded(value))
    if size == 0:
        factor, symbol = {Unit.SECONDS: (1.0, "s"), Unit.BYTES: (1.0, "B")}.get(unit, (0.0, ""))
        if symbol:
            return factor, symbol
    for start, factor, symbol in _SCALES.get(unit, ((0.0, 1.0, unit.value),)):
        if size >= start:
            return factor, symbol
    raise AssertionError(f"no scale for {value} {unit}")


def _rounded(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT - 1}e}")


def _decimals(value: float, unit: Unit) -> int:
    if value == 0 or (unit in _WHOLE and value == int(value)):
        return 0
    exponent = math.floor(math.log10(abs(_rounded(value))))
    return max(_SIGNIFICANT - 1 - exponent, 0)


def _number(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "−")


def _percent(share: float) -> str:
    """99.96 % stays below 100 %, and 0.04 % above 0: in a share the ends are what matters."""
    percent = share * 100.0
    if percent in (0.0, 100.0):
        return f"{percent:.0f}"
    decimals = _decimals(percent, Unit.RATIO)
    if percent < 100.0:
        while _number(percent, decimals).startswith("100") and decimals < 9:
            decimals += 1
    return _number(percent, decimals)
