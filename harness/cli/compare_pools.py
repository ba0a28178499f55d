"""``windtunnel compare-pools``: the same model and traffic on other accelerators."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import typer
from rich.table import Table

from harness.cli.exits import Exit, told
from harness.cli.load_options import with_groups
from harness.cli.lookups import fresh_lookup, price_book
from harness.cli.options import Json, Store, store_of
from harness.cli.output import print_json, stdout
from harness.cli.question_options import Asking, PriceFiles
from harness.cli.recommend_tables import cost_per_million, deployment_words, evidence_words
from harness.cli.recommend_training import how
from harness.errors import SpecError
from results.clock import SystemClock
from results.metrics import Unit
from results.recommendation.answer import Between, TrainingFigures
from results.recommendation.compare import PoolResult, accelerators_with
from results.recommendation.compare import compare_pools as compare
from results.units import format_value


@with_groups
def compare_pools(
    *,
    asking: Asking,
    prices: PriceFiles = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Put the best deployment of each accelerator side by side: cost, latency, throughput, startup.

    Each pool answers the same question; ratios are to the first that has an answer. Without
    --accelerator all are compared on which the model was measured.

    Example: `windtunnel compare-pools --model Qwen/Qwen3-32B --use-case chat --rate 20
    --accelerator H100 --accelerator TPU-V6E --prices prices.yaml`
    """
    with told(as_json):
        question = asking.question()
        lookup = fresh_lookup(store_of(store), price_book(prices))
        names = question.accelerators or accelerators_with(lookup, question)
        if not names:
            what = question.model or "a model without a name: give --model"
            raise SpecError(f"nothing is known of {what}; `windtunnel recommend` says what is")
        found = compare(lookup, question, names, SystemClock().now_utc())
    if as_json:
        print_json("windtunnel.compare-pools/1", {"pools": msgspec.to_builtins(found)})
    else:
        _print(found)
    if not any(one.best for one in found):
        raise typer.Exit(Exit.INVALID)


def _print(found: tuple[PoolResult, ...]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for one in found:
        table.add_column(one.accelerator, justify="right")
    rows = [_cells(one) for one in found]
    for name in dict.fromkeys(name for cells in rows for name in cells):
        table.add_row(name, *(cells.get(name, "none") for cells in rows))
    console = stdout()
    console.print(table)
    for one in found:
        if one.answer.no_answer is not None:
            console.print(f"{one.accelerator}: {one.answer.no_answer.words}", markup=False)


_Cell = Callable[..., str]  # (value, ratio, unit) as text


def _cells(one: PoolResult) -> dict[str, str]:
    best, ratios = one.best, one.ratios
    cost = best.cost if best else None

    def cell(value: float | None, ratio: float | None, unit: Unit | None = None) -> str:
        if value is None:
            return "n/a" if best else "none"
        text = format_value(value, unit) if unit else f"{value:.4g}"
        return text if ratio is None else f"{text} (×{ratio:.3g})"

    if best is not None and best.training is not None:
        return _training_cells(one, best.training, cell)
    return {
        "deployment": deployment_words(best.profile.machine, best.replicas) if best else "none",
        "$ per hour": cell(
            cost.usd_per_hour if cost else None, ratios.usd_per_hour if ratios else None
        ),
        "$ per million output tokens": cell(
            cost_per_million(cost) if cost else None,
            ratios.usd_per_million_output_tokens if ratios else None,
        ),
        "output tokens/s/chip": cell(
            best.output_tokens_per_s_per_chip if best else None,
            ratios.output_tokens_per_s_per_chip if ratios else None,
        ),
        "end to end": cell(
            best.e2e_s if best else None, ratios.e2e_s if ratios else None, Unit.SECONDS
        ),
        **{(t.target): cell(t.value_s, None, Unit.SECONDS) for t in (best.targets if best else ())},
        "startup": cell(one.startup_s, ratios.startup_s if ratios else None, Unit.SECONDS),
        "evidence": evidence_words(best.profile) if best else "",
        "profile": best.profile.profile_id if best else "",
    }


def _training_cells(one: PoolResult, figures: TrainingFigures, cell: _Cell) -> dict[str, str]:
    best, ratios = one.best, one.ratios
    assert best is not None  # whose figures these are

    def told(found: Between | None, ratio: str, unit: Unit | None = None) -> str:
        value = None if found is None else found.value
        return cell(value, getattr(ratios, ratio) if ratios else None, unit)

    whole = {
        "hours in all": told(figures.hours, "training_hours"),
        "$ in all": told(figures.usd, "training_usd"),
    }
    return {
        "deployment": deployment_words(best.profile.machine, 1),
        "configuration": how(best.profile),
        "$ per hour": cell(best.cost.usd_per_hour, ratios.usd_per_hour if ratios else None),
        "$ per million tokens": told(
            figures.usd_per_million_tokens, "usd_per_million_training_tokens"
        ),
        "tokens/s": told(figures.tokens_per_s, "training_tokens_per_s"),
        "tokens/s/chip": told(figures.tokens_per_s_per_chip, "training_tokens_per_s_per_chip"),
        "MFU": told(figures.mfu, "mfu"),
        "step": cell(
            figures.step_time_s.value if figures.step_time_s else None, None, Unit.SECONDS
        ),
        **(whole if figures.hours is not None else {}),
        "startup": cell(one.startup_s, ratios.startup_s if ratios else None, Unit.SECONDS),
        "evidence": evidence_words(best.profile),
        "profile": best.profile.profile_id,
    }
