"""One run in a sentence, its badges and its key figures: what is read when nothing else is."""

from __future__ import annotations

from collections.abc import Sequence

from reports.model import Badge, KeyFigure, Paragraph
from results.collectives import rows_of, size_text
from results.measurement import Measurement
from results.metrics import metric
from results.record import Evidence, Failed, Invalid, RunRecord, Succeeded
from results.units import NOT_AVAILABLE, format_interval, format_value, metric_label

# In this order; what a run does not have is left out.
HEADLINES = (
    ("achieved_rate", "value"),
    ("output_throughput", "value"),
    ("ttft_s", "p50"),
    ("ttft_s", "p99"),
    ("tpot_s", "p50"),
    ("e2e_s", "p50"),
    ("e2e_s", "p99"),
    ("slo_attainment", "value"),
    ("error_share", "value"),
    ("training_throughput", "value"),
    ("step_time_s", "p50"),
    ("step_time_s", "p99"),
    ("final_loss", "value"),
    ("peak_memory_bytes", "value"),
    ("startup_s", "value"),
    ("cost_usd", "value"),
)

EVIDENCE_MEANING = {
    Evidence.MEASURED: "Measured by windtunnel on a real deployment.",
    Evidence.SIMULATED: "A model of an engine answered: these numbers stand for no hardware.",
    Evidence.IMPORTED: "Taken over from another tool's result; windtunnel did not measure it.",
}


def find(
    record: RunRecord, name: str, statistic: str = "value", group: str = ""
) -> Measurement | None:
    """The measurement of that name, or None where the run, or that group of it, has none."""
    for m in record.measurements:
        if (m.metric, m.statistic, m.group) == (name, statistic, group):
            return m
    return None


def number(record: RunRecord, name: str, statistic: str = "value") -> float | None:
    m = find(record, name, statistic)
    return m.value if m is not None else None


def sentence(record: RunRecord) -> str:
    """``12.4 requests/s; TTFT p50 31.2 ms; ready after 45.2 s. Valid, 2 doubts.``"""
    verdict = outcome_sentence(record)
    if isinstance(record.outcome, Failed):
        return verdict
    parts = (_rates(record), _latency(record), _busbw(record), _startup(record))
    told = "; ".join(part for part in parts if part)
    return f"{told}. {verdict}" if told else verdict


def outcome_sentence(record: RunRecord) -> str:
    """Valid, invalid or failed, and because of what."""
    match record.outcome:
        case Failed(stage=stage, error=error, message=message):
            return f"Failed during {stage}, {error}: {message}"
        case Invalid(reasons=reasons):
            why = [d.message for d in record.doubts if d.invalidates] or list(reasons)
            return f"Invalid, not to be used: {'; '.join(why)}."
        case Succeeded():
            n = len(record.doubts)
            return f"Valid, {n} doubt{'' if n == 1 else 's'}." if n else "Valid, no doubts."


def _rates(record: RunRecord) -> str:
    shown = []
    for name, extra in (
        ("achieved_rate", ""),
        ("output_throughput", "output "),
        ("training_throughput", ""),
    ):
        value = number(record, name)
        if value is not None:
            shown.append(format_value(value, metric(name).unit).replace("tokens", f"{extra}tokens"))
    return " and ".join(shown)


def _latency(record: RunRecord) -> str:
    shown = []
    for name in ("ttft_s", "step_time_s"):
        # The median, and the farthest percentile that this many samples can carry.
        known = [p for p in ("p50", "p90", "p95", "p99") if number(record, name, p) is not None]
        shown += [
            f"{metric_label(name, p)} {format_value(number(record, name, p), 's')}"
            for p in dict.fromkeys([*known[:1], *known[-1:]])
        ]
    loss = number(record, "final_loss")
    if loss is not None:
        shown.append(f"final loss {format_value(loss, metric('final_loss').unit)}")
    return ", ".join(shown)


def _busbw(record: RunRecord) -> str:
    """The highest of all collectives and sizes."""
    found = [
        (m.value, row)
        for row in rows_of(record.measurements)
        if (m := row.by.get(("busbw", "value"))) is not None and m.value is not None
    ]
    if not found:
        return ""
    value, row = max(found, key=lambda pair: pair[0])
    return (
        f"busbw up to {format_value(value, metric('busbw').unit)} over {row.num_ranks} ranks "
        f"({row.collective}, {size_text(row.size_bytes)})"
    )


def _startup(record: RunRecord) -> str:
    value = number(record, "startup_s")
    return f"ready after {format_value(value, 's')}" if value is not None else ""


def outcome_badge(record: RunRecord) -> Badge:
    meaning = outcome_sentence(record)
    match record.outcome:
        case Failed():
            return Badge(text="failed", meaning=meaning, tone="bad")
        case Invalid():
            return Badge(text="invalid", meaning=meaning, tone="bad")
        case Succeeded():
            return Badge(text="valid", meaning=meaning, tone="good")


def badges(record: RunRecord) -> tuple[Badge, ...]:
    """Outcome, evidence, and a virtual pool, in that order."""
    found = [
        outcome_badge(record),
        Badge(
            text=record.evidence.value,
            meaning=EVIDENCE_MEANING[record.evidence],
            tone="plain" if record.evidence is Evidence.MEASURED else "warn",
        ),
    ]
    if record.placement is not None and record.placement.virtual:
        found.append(Badge(text="virtual pool", meaning=_virtual(record), tone="warn"))
    return tuple(found)


def _virtual(record: RunRecord) -> str:
    place = record.placement
    assert place is not None
    what = f"{place.num_chips} x {place.accelerator}" if place.num_chips else place.accelerator
    return (
        f"Pool {place.pool} is virtual: {what} was pretended on this machine, so that placement "
        "could be exercised. The numbers say nothing about that hardware."
    )


def banners(records: Sequence[RunRecord]) -> tuple[Paragraph, ...]:
    """What must be known before any number is read; each said once, with how many runs it is."""
    said: dict[str, int] = {}
    for record in records:
        if record.evidence is not Evidence.MEASURED:
            title = record.evidence.value.capitalize()
            text = f"{title}. {EVIDENCE_MEANING[record.evidence]}"
            said[text] = said.get(text, 0) + 1
        if record.placement is not None and record.placement.virtual:
            text = f"Virtual pool. {_virtual(record)}"
            said[text] = said.get(text, 0) + 1
    many = len(records) > 1
    return tuple(
        Paragraph(
            text=f"{text} ({n} of {len(records)} runs)" if many else text, tone="warn", loud=True
        )
        for text, n in said.items()
    )


def key_figures(record: RunRecord) -> tuple[KeyFigure, ...]:
    """The headlines that this run has; a p99 that it cannot have is shown with the reason."""
    figures = []
    for name, statistic in HEADLINES:
        m = find(record, name, statistic)
        if m is None or (m.value is None and (statistic != "p99" or not m.n)):
            continue
        unit = metric(name).unit
        figures.append(
            KeyFigure(
                label=metric_label(name, statistic),
                value=format_value(m.value, unit),
                detail=_detail(m),
                meaning=metric(name).meaning,
            )
        )
    return tuple(figures)


def _detail(m: Measurement) -> str:
    if m.value is None:
        return m.reason
    interval = format_interval(m.low, m.high, metric(m.metric).unit)
    if interval:
        return f"{m.confidence * 100:g} %: {interval}"
    return f"n = {m.n:,}" if m.n > 1 else ""


def run_label(record: RunRecord) -> str:
    """``quickstart 2/3`` or ``quickstart``: short, and the same wherever the run is named."""
    repeat = f" {record.repeat_index + 1}/{record.num_repeats}" if record.num_repeats > 1 else ""
    attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
    return f"{record.name}{repeat}{attempt}"


def run_labels(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """One label per run, no two alike: where names repeat, the run id's end tells them apart."""
    plain = [run_label(record) for record in records]
    return tuple(
        label if plain.count(label) == 1 else f"{label} · {record.run_id[-10:]}"
        for label, record in zip(plain, records, strict=True)
    )


def value_or_na(m: Measurement | None) -> str:
    return format_value(m.value, metric(m.metric).unit) if m is not None else NOT_AVAILABLE
