"""A night as a page: the sentence first, then what moved and why, then where everything stands."""

from __future__ import annotations

from collections.abc import Iterable

from reports.commands import carried
from reports.confirm import Finding
from reports.model import (
    Badge,
    Cell,
    Column,
    Fact,
    Facts,
    Listing,
    Paragraph,
    Report,
    Section,
    Spark,
    Table,
    Tone,
)
from reports.night_findings import findings_section
from reports.night_pools import pools_section
from reports.night_told import NightTold
from reports.series import Series
from reports.suspicion import SeriesState, Standing
from results.metrics import Area, metric
from results.record import Evidence, Failed, Invalid
from results.units import counted, format_change, format_value, metric_label

SPARK_NIGHTS = 90


def night_sentence(told: NightTold) -> str:
    """``2 regressions confirmed, 1 environment change, …; expected false alarms 0.4``."""
    parts = [
        _count(told, Finding.REGRESSION, "regression", "confirmed") + _earlier(told),
        _count(told, Finding.SUSPECTED, "suspicion", "open"),
        _count(told, Finding.ENVIRONMENT, "series", "moved with the environment", plural="series"),
        _count(told, Finding.IMPROVEMENT, "improvement", "confirmed"),
        _count(told, Finding.WATCHED, "series", "watched", plural="series"),
    ]
    standing = [
        (Standing.UNCHANGED, "unchanged within 3 %"),
        (Standing.INCONCLUSIVE, "inconclusive"),
        (Standing.YOUNG, "too young to judge"),
    ]
    parts += [
        f"{n} series {words}" if i == 0 else f"{n} {words}"
        for i, (which, words) in enumerate(standing)
        if (n := told.standing(which)) or i == 0
    ]
    sentence = ", ".join(filter(None, parts))
    if told.history is None:
        sentence = "nothing of this night has a value"
    expected = told.history.expected_false if told.history else 0.0
    missing = _not_everything(told)
    return f"{sentence}; expected false suspicions {expected:.2g}{missing}."


def _count(told: NightTold, finding: Finding, one: str, after: str, plural: str = "") -> str:
    n = len(told.found(finding))
    if not n and finding is not Finding.REGRESSION:
        return ""
    return f"{n} {one if n == 1 else plural or one + 's'} {after}"


def _earlier(told: NightTold) -> str:
    """Regressions that an earlier night confirmed and nobody has acknowledged."""
    found = told.found(Finding.REGRESSION)
    n = sum(d.confirmation is not None and d.confirmation.night < told.date for d in found)
    return f" ({n} of an earlier night)" if n else ""


def _not_everything(told: NightTold) -> str:
    n = len(told.left_out)
    return f"; {n} {'thing' if n == 1 else 'things'} did not run" if n else ""


def night_report(told: NightTold, command: str) -> Report:
    """``command``: the one that makes the night again."""
    by_key = {series.key: series for series in told.series}
    sections = (
        findings_section(told, by_key, carried(command, "--store")),
        *_areas(told, by_key),
        _canaries(told, by_key),
        pools_section(told),
        _not_run(told),
        _runs(told),
        _method(told, command),
    )
    return Report(
        title=f"{told.suite}, night of {told.date}",
        kind="night",
        sentence=night_sentence(told)[0].upper() + night_sentence(told)[1:],
        badges=_badges(told),
        banners=_banners(told),
        sections=tuple(s for s in sections if s.blocks or s.sections),
    )


def _badges(told: NightTold) -> tuple[Badge, ...]:
    evidence = {run.record.evidence for run in told.runs}
    if evidence == {Evidence.MEASURED}:
        return (Badge(text="measured", meaning="By real runs."),)
    if Evidence.SIMULATED in evidence:
        words = "Runs of this night say of themselves that they are simulated."
        return (Badge(text="simulated", meaning=words, tone="warn"),)
    return ()


def _banners(told: NightTold) -> tuple[Paragraph, ...]:
    found = []
    if told.num_torn:
        words = (
            f"{counted(told.num_torn, 'object')} of the store or the journal could not be read and "
            f"{'is' if told.num_torn == 1 else 'are'} not counted; `windtunnel store check` names "
            "them."
        )
        found.append(Paragraph(text=words, tone="warn", loud=True))
    return tuple(found)


# ---- where everything stands ----


def _areas(told: NightTold, by_key: dict[str, Series]) -> tuple[Section, ...]:
    states = told.history.states if told.history else ()
    found = []
    for area in Area:
        mine = [
            (by_key[s.series], s)
            for s in states
            if s.series in by_key
            and not by_key[s.series].canary
            and metric(by_key[s.series].metric).area is area
        ]
        if mine:
            heading = area.value.replace("_", " ").capitalize()
            found.append(
                Section(
                    key=f"area-{area.value}",
                    heading=heading,
                    blocks=(_states(told, mine, heading),),
                )
            )
    return tuple(found)


def _canaries(told: NightTold, by_key: dict[str, Series]) -> Section:
    states = told.history.states if told.history else ()
    mine = [(by_key[s.series], s) for s in states if s.series in by_key and by_key[s.series].canary]
    if not mine:
        words = "No canary ran, so that code and machine cannot be told apart."
        return Section(
            key="canaries", heading="Canaries", blocks=(Paragraph(text=words, tone="warn"),)
        )
    return Section(key="canaries", heading="Canaries", blocks=(_states(told, mine, "Canaries"),))


def _states(told: NightTold, rows: Iterable[tuple[Series, SeriesState]], of: str) -> Table:
    ordered = sorted(rows, key=lambda row: row[0].key)
    return Table(
        caption=f"{of}: the last {SPARK_NIGHTS} nights",
        columns=(
            Column(name="series"),
            Column(name="tonight", numeric=True),
            Column(
                name="change",
                numeric=True,
                meaning="of the last three nights against those before, with its 95 % interval",
            ),
            Column(name="standing"),
            Column(name="nights"),
        ),
        rows=tuple(_state_row(told, series, state) for series, state in ordered),
    )


def _state_row(told: NightTold, series: Series, state: SeriesState) -> tuple[Cell, ...]:
    unit = metric(series.metric).unit
    tonight = next((n for n in reversed(series.nights) if n.night == told.date), None)
    shown = series.nights[-SPARK_NIGHTS:]
    if state.change is None or state.low is None or state.high is None:
        change = Cell(text="–", tone="muted", meaning="too few nights")
    else:
        detail = f"{format_change(state.low)} to {format_change(state.high)}"
        change = Cell(text=format_change(state.change), detail=detail)
    tones: dict[Standing, Tone] = {Standing.SUSPECTED: "bad", Standing.YOUNG: "muted"}
    return (
        Cell(
            text=f"{series.name} on {series.pool}" if series.pool else series.name,
            detail=metric_label(series.metric, series.statistic),
        ),
        Cell(text=format_value(tonight.value if tonight else None, unit)),
        change,
        Cell(text=state.standing.value, tone=tones.get(state.standing, "plain")),
        Cell(
            text=counted(state.num_nights, "night"),
            spark=Spark(values=tuple(n.value for n in shown), marked=_marked(told, series)),
        ),
    )


def _marked(told: NightTold, series: Series) -> int | None:
    steps = [d.suspicion.likely for d in told.decisions if d.suspicion.series == series.key]
    shown = series.nights[-SPARK_NIGHTS:]
    return next((i for i, n in enumerate(shown) if steps and n.night >= max(steps)), None)


# ---- what was run ----


def _not_run(told: NightTold) -> Section:
    rows = [(one.what, one.why) for one in told.left_out]
    for run in told.runs:
        match run.record.outcome:
            case Failed(stage=stage, message=message):
                rows.append((f"{run.slot} ({run.record.run_id})", f"{stage}: {message}"))
            case Invalid(reasons=reasons):
                rows.append((f"{run.slot} ({run.record.run_id})", f"invalid: {', '.join(reasons)}"))
    if not rows:
        return Section(key="not-run", heading="What did not run")
    table = Table(
        caption="What has no value, and why",
        columns=(Column(name="what"), Column(name="why", words=True)),
        rows=tuple((Cell(text=what), Cell(text=why, tone="warn")) for what, why in rows),
    )
    return Section(key="not-run", heading="What did not run", blocks=(table,))


def _runs(told: NightTold) -> Section:
    table = Table(
        caption="Every run of the night, in the order made",
        columns=(
            Column(name="slot"),
            Column(name="role"),
            Column(name="pool"),
            Column(name="outcome"),
            Column(name="run"),
        ),
        rows=tuple(
            (
                Cell(text=run.slot),
                Cell(text=run.role.value),
                Cell(text=run.pool or "–"),
                Cell(text=run.record.outcome.kind),
                Cell(text=run.record.run_id, code=True),
            )
            for run in told.runs
        ),
    )
    return Section(key="runs", heading="Runs", blocks=(table,) if told.runs else (), folded=True)


def _method(told: NightTold, command: str) -> Section:
    tested = told.history.num_tested if told.history else 0
    young = told.history.num_young if told.history else 0
    words = (
        f"{tested} series had a history long enough to be judged, {young} not yet. A "
        "step is a mean of the last nights that lies farther from those before than this series' "
        "own noise explains; at most one in ten of a night's suspicions is chance. Only runs of "
        "the last good night and of tonight, made in turn on the same pool, make a regression of "
        "one. Canaries were not changed: where they moved too, the machine did."
    )
    return Section(
        key="method",
        heading="How it is judged",
        blocks=(
            Paragraph(text=words),
            Facts(facts=(Fact(label="night", value=told.night_id, code=True),)),
            Listing(title="The command that makes it again", text=command),
        ),
    )
