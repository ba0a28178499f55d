"""The calibration as people read it: four tables, each share with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from reports.calibration import Calibration, Share


def calibration_tables(found: Calibration) -> tuple[Table, ...]:
    return _alarms(found), _powers(found), _young(found), _pairs(found)


def _alarms(found: Calibration) -> Table:
    from reports.calibration import HISTORY, NIGHTS, PROMISE

    made = _made(
        f"Null series that alarm in {NIGHTS} nights ({found.num_series} of each; promised: at "
        f"most {_percent(PROMISE)})"
    )
    made.add_column("noise")
    for column in ("from the first night", f"after {HISTORY} nights", "one-night jumps a series"):
        made.add_column(column, justify="right")
    made.add_column("")
    for f in found.false_alarms:
        fits = max(f.young.share, f.old.share) <= PROMISE
        told = "not promised, not seen in the making" if f.unseen else "not promised"
        mark = Text("kept", style="green") if fits else Text("BROKEN", style="red")
        made.add_row(
            f.family,
            _share(f.young),
            _share(f.old),
            f"{f.jumps_per_series:.2f}",
            mark if f.promised else Text(told, style="dim"),
        )
    return made


def _powers(found: Calibration) -> Table:
    from reports.calibration import AFTER, HISTORY

    made = _made(
        f"Steps found within {AFTER} nights, after {HISTORY} without; half of them by the night "
        "in brackets"
    )
    made.add_column("noise")
    made.add_column("of a night", justify="right")
    steps = sorted({p.step for p in found.powers})
    for step in steps:
        made.add_column(f"step of {_percent(step)}", justify="right")
    for family, level in dict.fromkeys((p.family, p.level) for p in found.powers):
        mine = {p.step: p for p in found.powers if (p.family, p.level) == (family, level)}
        cells = []
        for step in steps:
            nights = mine[step].median_nights
            by = f" [{nights:.0f}]" if nights is not None else ""
            cells.append(f"{_share(mine[step].found)}{by}")
        made.add_row(family, _percent(level), *(Text(cell) for cell in cells))
    return made


def _young(found: Calibration) -> Table:
    from reports.calibration import YOUNG_AT, YOUNG_NIGHTS, YOUNG_REPEATS, YOUNG_STEP

    made = _made(
        f"Series too young for a history that ask for a confirmation ({YOUNG_REPEATS} runs a night)"
    )
    made.add_column("nights differ by")
    made.add_column("runs of a night by")
    made.add_column("null: second night", justify="right")
    made.add_column(f"null: any of {YOUNG_NIGHTS}", justify="right")
    for n in YOUNG_AT:
        name = f"step of {_percent(YOUNG_STEP)}, night {n + 1}"
        made.add_column(name, justify="right")
    for y in found.young:
        row = (y.second, y.ever, *y.found)
        made.add_row(_percent(y.between), _percent(y.within), *(_share(x) for x in row))
    return made


def _pairs(found: Calibration) -> Table:
    made = _made("Comparisons that call a change, on a machine that drifts by 1 % a run")
    made.add_column("runs")
    steps = sorted({p.step for p in found.pairs})
    for step in steps:
        name = "no change: false" if step == 0.0 else f"change of {_percent(step)}"
        made.add_column(name, justify="right")
    for design, k in dict.fromkeys((p.design, p.num_pairs) for p in found.pairs):
        mine = {p.step: p for p in found.pairs if (p.design, p.num_pairs) == (design, k)}
        made.add_row(f"{k} and {k}, {design}", *(_share(mine[step].called) for step in steps))
    return made


def _made(title: str) -> Table:
    return Table(
        box=None,
        pad_edge=False,
        header_style="dim",
        title=title,
        title_justify="left",
        title_style="bold",
    )


def _share(share: Share) -> str:
    low, high = 100.0 * share.low, 100.0 * share.high
    return f"{100.0 * share.share:.1f} % ({low:.1f}–{high:.1f})"


def _percent(share: float) -> str:
    return f"{100.0 * share:g} %"
