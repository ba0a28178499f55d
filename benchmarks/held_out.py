"""Grids that the tuners were not made on, for ``benchmarks.tuners --held-out``.

Four kinds: the H200 grid under other questions; AIConfigurator's *measured* sample, of other
models, chips and engines, as far as its rows make a grid; the H200 grid with a forecast that
misleads; and synthetic surfaces of other families than the forecast's own, all of which have the
word in their name. Every one is a ``Table`` as a file would give it, so that nothing here is known
to a strategy that a file would not tell it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grid_file import Table, WrongGrid, read_grid, table_of
from benchmarks.replay import Grid, question_of
from benchmarks.surfaces import SURFACES, surface

_CHIPS = {"h100_sxm": "H100", "h200_sxm": "H200", "b200_sxm": "B200"}
_USD_PER_CHIP_HOUR = 5.0  # any price: it only scales
Rows = list[dict[str, Any]]


def held_out(name: str, shared: Path) -> Grid:
    """Raises WrongGrid for a name that there is none of, and where the data is not there."""
    if name not in HELD_OUT:
        raise WrongGrid(f"no held-out grid is called {name}; there are: {', '.join(HELD_OUT)}")
    table = HELD_OUT[name](name, shared)
    return Grid(table, question_of(table))


# ---- the H200 grid under other questions ----


def _asked(**said: Any) -> Callable[[str, Path], Table]:
    def make(name: str, shared: Path) -> Table:
        header = {"model": "qwen3-32b", "chip": "H200", "goals": ["tpsg"], "limits": {}, **said}
        return table_of(_h200(shared), header, source=name)

    return make


def _h200(shared: Path) -> Rows:
    found = read_grid(shared / "grid_h200_q32.jsonl")
    return [dict(row) for row in found.rows.values()]


def _priced(name: str, shared: Path) -> Table:
    """What a million output tokens cost, with prompts at a quarter of the price."""
    rows = _h200(shared)
    for row in rows:
        if row.get("tpsg"):
            row["usd"] = _USD_PER_CHIP_HOUR / 3600 / row["tpsg"] * 1e6 / (1 + 2048 / 512 / 4)
            del row["tpsg"]
    header = {"goals": ["usd"], "limits": {"tpot": 20, "ttft": 800}}
    return table_of(rows, {**header, "model": "qwen3-32b", "chip": "H200"}, source=name)


def _good(name: str, shared: Path) -> Table:
    """Tokens a second of requests that kept 500 ms and 25 ms, their times log-normal around the
    grid's with a spread of 0.15: of which nothing is forecast."""
    rows = _h200(shared)
    for row in rows:
        if row.get("tpsg"):
            late = [math.log(row["ttft"] / 500) / 0.15, math.log(row["tpot"] / 25) / 0.15]
            kept = math.prod(0.5 * math.erfc(z / math.sqrt(2)) for z in late)
            row["goodput_token_rate"] = max(row["tpsg"] * row["tp"] * row["pp"] * kept, 1e-3)
    header = {"goals": ["goodput_token_rate"], "limits": {}}
    return table_of(rows, header, source=name)


# ---- the H200 grid with a forecast that misleads ----


def _misled(name: str, shared: Path) -> Table:
    """Twice too fast, and in the wrong order: it takes many sequences for few and few for many, and
    more chips for slower."""
    return _wrong(name, shared, lambda seqs, most: most / seqs)


def _biased(name: str, shared: Path) -> Table:
    """Right in the middle and wrong by a factor of four from one end of the batch sizes to the
    other, the wrong way for the limit."""
    return _wrong(name, shared, lambda seqs, most: (seqs / math.sqrt(most)) ** 0.3, own=True)


def _wrong(
    name: str, shared: Path, tilt: Callable[[float, float], float], *, own: bool = False
) -> Table:
    rows = [row for row in _h200(shared) if row["tp"] * row["pp"] <= 8]
    most = max(row["max_num_seqs"] for row in rows)
    least = min(row["max_num_seqs"] for row in rows)
    typical = {c: np.median([r[c] for r in rows if r.get(c)]) for c in ("ttft", "tpot", "tpsg")}
    for row in rows:
        by = tilt(row["max_num_seqs"], most * least if not own else most)
        if own:
            base = {c: row.get(c) or float(typical[c]) for c in typical}
            said = {"tpsg": base["tpsg"] * by, "tpot": base["tpot"] / by, "ttft": base["ttft"]}
        else:
            chips = row["tp"] * row["pp"]
            said = {
                "tpsg": float(typical["tpsg"]) * (by / 32) ** 0.7 / chips**0.5,
                "tpot": float(typical["tpot"]) * (by / 32) ** 0.5 * chips**0.3,
                "ttft": float(typical["ttft"]) * chips**0.3,
            }
        row.update({f"forecast_{c}": v * (2.0 if c == "tpsg" else 0.5) for c, v in said.items()})
    header = {"goals": ["tpsg"], "limits": {"ttft": 500, "tpot": 25}}
    return table_of(rows, header, source=name)


# ---- AIConfigurator's measured sample ----


def _silicon(
    model: str, system: str, backend: str, lengths: tuple[int, int], limits: Mapping[str, float]
) -> Callable[[str, Path], Table]:
    def make(name: str, shared: Path) -> Table:
        asked = (model, system, backend, *map(str, lengths))
        rows = [_measured(row) for row in _sample(shared) if _is(row, asked)]
        header: dict[str, Any] = {"goals": ["tpsg"], "limits": dict(limits)}
        if system in _CHIPS:
            header |= {"model": model.rpartition("/")[2].lower(), "chip": _CHIPS[system]}
        header |= {"input_tokens": lengths[0], "output_tokens": lengths[1], "max_gpus": 1024}
        return table_of(rows, header, source=name)

    return make


def _sample(shared: Path) -> Iterator[dict[str, str]]:
    path = shared / "aiconfigurator_silicon_sample.csv"
    if not path.is_file():
        raise WrongGrid(f"there is no {path}, which the measured grids are made of")
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _is(row: Mapping[str, str], asked: Sequence[str]) -> bool:
    found = (row["model_path"], row["system"], row["backend"], row["isl"], row["osl"])
    return row["mode"] == "agg" and found == tuple(asked) and bool(row["silicon_tpot_ms"])


def _measured(row: Mapping[str, str]) -> dict[str, Any]:
    """The layout as one choice; tokens/s a chip from the two times of the whole batch."""
    tp, pp, dp = (int(row[f"{name}_size"] or 1) for name in ("tp", "pp", "attention_dp"))
    batch, ttft, tpot = (
        int(row["batch_size"]),
        float(row["silicon_ttft_ms"]),
        float(row["silicon_tpot_ms"]),
    )
    tokens = int(row["osl"])
    seconds = (ttft + tpot * (tokens - 1)) / 1e3
    return {
        "tp": tp,
        "pp": pp,
        "layout": f"dp{dp} mtp{row['moe_tp_size'] or 1} mep{row['moe_ep_size'] or 1}",
        "quant": row["gemm_quant_mode"] or row["precision"],
        "batch_size": batch,
        "ttft": ttft,
        "tpot": tpot,
        "tpsg": batch * tokens / seconds / (tp * pp * dp),
    }


def _synthetic(name: str, shared: Path) -> Table:
    del shared
    rows, header = surface(name)
    return table_of(rows, header, source=name)


HELD_OUT: dict[str, Callable[[str, Path], Table]] = {
    "h200-tight": _asked(limits={"ttft": 300, "tpot": 15}),
    "h200-loose": _asked(limits={"ttft": 3000, "tpot": 70}),
    "h200-ttft": _asked(limits={"ttft": 350}),
    "h200-tpot": _asked(limits={"tpot": 16}),
    "h200-free": _asked(),
    "h200-usd": _priced,
    "h200-goodput": _good,
    "h200-two-goals": _asked(goals=["tpsg", "tpot"], limits={"ttft": 500}),
    "h200-misled": _misled,
    "h200-biased": _biased,
    "silicon-minimax-b200": _silicon(
        "MiniMaxAI/MiniMax-M2.5", "b200_sxm", "vllm", (1024, 1024), {"tpot": 16, "ttft": 400}
    ),
    "silicon-deepseek-b200": _silicon(
        "deepseek-ai/DeepSeek-R1", "b200_sxm", "trtllm", (8192, 1024), {"tpot": 30}
    ),
    "silicon-llama70b-b200": _silicon(
        "meta-llama/Llama-3.1-70B", "b200_sxm", "vllm", (1024, 1024), {"tpot": 15}
    ),
    **dict.fromkeys(SURFACES, _synthetic),
}
