"""AIConfigurator's table of measured serving points (``silicon_sample.csv``), a row as a run.

The table gives one TTFT and one TPOT for each point and says neither which statistic they are (its
sources report means or medians) nor how many requests are behind them: here they are ``unstated``,
and answer no question about a percentile. TPOT is taken to leave the first token out, as
AIConfigurator itself defines it (end-to-end time = TTFT + TPOT × (output tokens − 1)).

Columns and sources: ai-dynamo/aiconfigurator,
``aic-core/src/aiconfigurator_core/systems/silicon_sample.csv``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from results.interop.foreign import EARLIEST, MS, ForeignRun, Nonsense, Reported
from results.record import Doubt, Placement
from results.serving import Serving

TOOL: Final = "AIConfigurator's silicon sample"
COLUMNS: Final = frozenset(
    {"silicon_ttft_ms", "silicon_tpot_ms", "backend", "system", "isl", "osl"}
)

# Ray's names, which pools have, of the systems that the table names by module.
_ACCELERATORS: Final = {
    "a100_sxm": "A100", "h100_sxm": "H100", "h200_sxm": "H200", "b200_sxm": "B200",
    "b300_sxm": "B300", "gb200": "GB200", "gb300": "GB300", "l40s": "L40S",
}  # fmt: skip
_PARALLEL: Final = {
    "tp_size": "tensor",
    "pp_size": "pipeline",
    "attention_dp_size": "attention_data",
    "moe_tp_size": "moe_tensor",
    "moe_ep_size": "moe_expert",
}
_KEPT: Final = ("mode", "precision", "gemm_quant_mode", "moe_quant_mode")
_UNDATED = "the row does not say when it was measured: the oldest date of its table is taken, so "


def readers(rows: Sequence[Mapping[str, Any]]) -> Iterator[Callable[[], ForeignRun]]:
    """One for each row. It raises KeyError, TypeError or ValueError for a row that is none of this
    table, Nonsense for one that holds what cannot be."""
    about = [_about(row.get("silicon_data_source") or "") for row in rows]
    dates = [_date(told.get("measured", "")) for told in about]
    # A date that cannot be has its own row refused, and must not date the others.
    oldest = min((d for d in dates if d is not None and d >= EARLIEST), default=None)
    for row, told, date in zip(rows, about, dates, strict=True):
        yield partial(_run, row, told, date, oldest)


def _about(text: str) -> dict[str, str]:
    """``a; k=v; image:tag`` → by key; a bare part is the dump's name or the container image."""
    found: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        key, equals, value = part.partition("=")
        if equals:
            found[key] = value
        elif part.startswith("db-dump/"):
            found["dump"] = part
        else:
            found["image"] = part
    if "source_file" in found:  # a path of somebody's machine says nothing but its end
        found["source_file"] = "/".join(found["source_file"].split("/")[-3:])
    return found


def _date(text: str) -> datetime | None:
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _number(row: Mapping[str, Any], name: str) -> float:
    """Raises Nonsense for what is no finite number of 0 or more."""
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise Nonsense(name, repr(row[name]), "a finite number, 0 or more")
    return value


def _whole(row: Mapping[str, Any], name: str) -> int:
    value = _number(row, name)
    if value != int(value):
        raise Nonsense(name, repr(row[name]), "a whole number")
    return int(value)


def _count(row: Mapping[str, Any], name: str) -> int:
    """A size; 1 where it is empty or 0, as the table has it for what is not split."""
    return max(_whole(row, name) if row.get(name) else 1, 1)


def _run(
    row: Mapping[str, Any], told: Mapping[str, str], date: datetime | None, oldest: datetime | None
) -> ForeignRun:
    isl, osl = _whole(row, "isl"), _whole(row, "osl")
    chips = _num_chips(row)
    concurrency = _concurrency(row, told)
    figures = {name: _number(row, name) for name in ("silicon_ttft_ms", "silicon_tpot_ms")}
    return ForeignRun(
        tool=TOOL,
        version="",
        model=row["model_path"],
        asked={"isl": isl, "osl": osl, "concurrency": concurrency},
        num_requests=0,
        num_failed=0,
        reported=tuple(
            Reported(
                metric=metric,
                statistic="unstated",
                value=figures[name] * MS,
                n=0,
                source=f"{name}; mean or median is not stated",
            )
            for metric, name in (("ttft_s", "silicon_ttft_ms"), ("tpot_s", "silicon_tpot_ms"))
        ),
        figures=figures,
        unmapped=(),
        definitions=(),
        started_at=date or oldest,
        labels={k: v for k, v in told.items() if k not in ("measured", "silicon_concurrency")},
        doubts=tuple(_doubts(told, date, chips)),
        is_table_row=True,
        serving=_serving(row, told, isl, osl, concurrency),
        placement=Placement(
            pool="imported",
            accelerator=_ACCELERATORS.get(row["system"], row["system"].upper()),
            num_chips=chips,
            capacity="",
            nodes=(),
        ),
    )


def _num_chips(row: Mapping[str, Any]) -> int:
    """Of the whole deployment; 0 where the table does not say how many workers there were."""
    if row["mode"] != "disagg":
        return _stage_chips(row, "")
    if not (row.get("prefill_num_workers") and row.get("decode_num_workers")):
        return 0
    return sum(
        _count(row, f"{stage}num_workers") * _stage_chips(row, stage)
        for stage in ("prefill_", "decode_")
    )


def _stage_chips(row: Mapping[str, Any], stage: str) -> int:
    sizes = (_count(row, stage + n) for n in ("tp_size", "pp_size", "attention_dp_size"))
    first, second, third = sizes
    return first * second * third


def _concurrency(row: Mapping[str, Any], told: Mapping[str, str]) -> int | None:
    """Requests in flight; where only the batch is given, that of every data-parallel rank."""
    if told.get("silicon_concurrency"):
        return _whole(told, "silicon_concurrency")
    if row["mode"] == "disagg" or not row.get("batch_size"):
        return None
    return _count(row, "batch_size") * _count(row, "attention_dp_size")


def _serving(
    row: Mapping[str, Any],
    told: Mapping[str, str],
    isl: int,
    osl: int,
    concurrency: int | None,
) -> Serving:
    stages = ("prefill_", "decode_") if row["mode"] == "disagg" else ("",)
    sizes = {
        f"{stage}{name}": _count(row, stage + column)
        for stage in stages
        for column, name in _PARALLEL.items()
        if row.get(stage + column)
    }
    workers = {
        f"{stage}workers": _count(row, f"{stage}num_workers")
        for stage in stages
        if stage and row.get(f"{stage}num_workers")
    }
    batches = {
        f"{s}batch_size": row[f"{s}batch_size"] for s in stages if s and row[f"{s}batch_size"]
    }
    return Serving(
        model_server=row["backend"],
        version=row.get("backend_version") or "",
        image=told.get("image", ""),
        parallelism={k: n for k, n in (sizes | workers).items() if n != 1},
        resolved={k: row[k] for k in _KEPT if row.get(k)} | batches,
        arrivals="closed",
        input_tokens=float(isl),
        output_tokens=float(osl),
        concurrency=None if concurrency is None else float(concurrency),
        setting=f"config_id={told['config_id']}" if "config_id" in told else "",
    )


def _doubts(told: Mapping[str, str], date: datetime | None, chips: int) -> Iterator[Doubt]:
    yield Doubt(
        code="statistic_unstated",
        message="the table does not say whether its TTFT and TPOT are means or medians, nor of how "
        "many requests",
    )
    yield Doubt(
        code="knobs_unrecorded",
        message="parallelism and precision are recorded, the engine's other settings are not: rows "
        "that look alike may differ",
    )
    if date is None:
        yield Doubt(code="no_date", message=f"{_UNDATED}that it is not held for fresher than it is")
    if not chips:
        yield Doubt(
            code="chips_unknown",
            message="the table does not say how many prefill and decode workers there were",
        )
    if re.fullmatch("true", told.get("wip", ""), re.IGNORECASE):
        yield Doubt(code="work_in_progress", message="its source marks the row as unfinished")
    if mode := told.get("aic_database_mode"):
        yield Doubt(
            code="not_measured_directly",
            message=f"the row names a database mode ({mode}): it may not be one measurement",
            invalidates=mode.casefold() not in ("silicon",),
        )
