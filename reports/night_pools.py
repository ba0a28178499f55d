"""The same workload on several pools of one night, side by side: a GPU's numbers beside a TPU's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.model import Cell, Column, Section, Table
from reports.night_told import NightTold
from reports.series import Series
from results.metrics import Direction, metric
from results.nights import NightRole, NightRun
from results.record import Placement
from results.units import counted, format_interval, format_value, metric_label


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One column: a spec of the suite where it ran. Specs are the same workload when they ask the
    same, whatever they are called and whatever answers."""

    name: str
    pool: str
    workload_hash: str
    placement: Placement


def pools_section(told: NightTold) -> Section:
    """Empty where no workload ran on two pools."""
    sides = _sides(told.runs)
    alike: dict[str, list[_Side]] = {}
    for side in sides:
        alike.setdefault(side.workload_hash, []).append(side)
    tables = tuple(
        _table(told, group) for group in alike.values() if len({side.pool for side in group}) > 1
    )
    return Section(key="pools", heading="Pools side by side", blocks=tables)


def _sides(runs: Sequence[NightRun]) -> list[_Side]:
    found: dict[tuple[str, str], _Side] = {}
    for run in runs:
        placement = run.record.placement
        if run.role is NightRole.RUN and placement is not None:
            found[run.series, placement.pool] = _Side(
                name=run.series,
                pool=placement.pool,
                workload_hash=run.record.workload_hash,
                placement=placement,
            )
    return list(found.values())


def _table(told: NightTold, sides: Sequence[_Side]) -> Table:
    names = list(dict.fromkeys(side.name for side in sides))
    tonight = {
        (s.name, s.pool, s.metric, s.statistic): s
        for s in told.series
        if s.nights[-1].night == told.date
    }
    wanted = dict.fromkeys(
        (m, statistic)
        for name, pool, m, statistic in tonight
        if any((side.name, side.pool) == (name, pool) for side in sides)
    )
    rows = [_machines(sides)]
    for m, statistic in wanted:
        every = [tonight.get((side.name, side.pool, m, statistic)) for side in sides]
        rows.append((Cell(text=metric_label(m, statistic)), *_values(every)))
    return Table(
        caption=" and ".join(names),
        columns=(
            Column(name="metric"),
            *(Column(name=_head(s, sides), numeric=True) for s in sides),
        ),
        rows=tuple(rows),
        note="The median run, below it the range of the night's runs. Best: every run of it was "
        "better than every run of the others; where runs overlap, nothing is marked.",
    )


def _head(side: _Side, sides: Sequence[_Side]) -> str:
    """The pool, as long as that is enough to tell the columns apart."""
    alone = sum(other.pool == side.pool for other in sides) == 1
    return side.pool if alone else f"{side.name} on {side.pool}"


def _machines(sides: Sequence[_Side]) -> tuple[Cell, ...]:
    return (Cell(text="machine"), *(_machine(side.placement) for side in sides))


def _machine(placement: Placement) -> Cell:
    chips = placement.num_chips
    text = f"{chips} × {placement.accelerator}" if chips else placement.accelerator
    words = [placement.topology, placement.capacity, "virtual" if placement.virtual else ""]
    return Cell(text=text, detail=", ".join(filter(None, words)))


def _values(sides: Sequence[Series | None]) -> list[Cell]:
    best = _best([s for s in sides if s is not None])
    return [_value(s, s is not None and s is best) for s in sides]


def _value(series: Series | None, is_best: bool) -> Cell:
    if series is None:
        return Cell(text="–", tone="muted", meaning="no value tonight")
    unit, night = metric(series.metric).unit, series.nights[-1]
    many = len(night.values) > 1
    spread = format_interval(min(night.values), max(night.values), unit) if many else ""
    detail = spread or counted(len(night.values), "run")
    return Cell(
        text=format_value(night.value, unit),
        detail=f"{detail}, best" if is_best else detail,
        tone="good" if is_best else "plain",
    )


def _best(sides: Sequence[Series]) -> Series | None:
    """The one whose worst run is better than the best run of every other."""
    if len(sides) < 2 or sides[0].direction is Direction.NEITHER:
        return None
    sign = 1.0 if sides[0].direction is Direction.HIGHER else -1.0
    runs = {s.key: [sign * v for v in s.nights[-1].values] for s in sides}
    first = max(sides, key=lambda s: min(runs[s.key]))
    others = [max(runs[s.key]) for s in sides if s is not first]
    return first if min(runs[first.key]) > max(others) else None
