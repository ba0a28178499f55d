"""An answer of the recommendations as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.cli.again import and_so
from results.metrics import Unit
from results.recommendation.answer import FLAG_WORDS, Answer, NoAnswer, Recommendation
from results.recommendation.profile import Cost, Machine, Profile
from results.units import format_chance, format_value


def answer_tables(answer: Answer) -> RenderableType:
    parts: list[RenderableType] = [Text(f"\n{_asked(answer)}", style="bold")]
    if answer.no_answer is not None:
        parts += no_answer_words(answer.no_answer, _engine)
    else:
        parts += [_ranked(answer), _engines(answer)]
        parts += footnotes(answer)
    return Group(*parts, *closing(answer))


def closing(answer: Answer) -> Iterator[RenderableType]:
    """What was assumed, and what never worked."""
    yield from (Text(comment, style="dim") for comment in answer.comments)
    if answer.failures:
        failed = ", ".join(f"{n} × {error}" for error, n in sorted(answer.failures.items()))
        yield Text(f"never worked, and so not in the list: {failed}", style="dim")


def _asked(answer: Answer) -> str:
    question = answer.question
    lengths = [f"{v:g}" for v in question.lengths if v is not None]
    said = [
        question.model or "any model",
        f"{'/'.join(lengths)} tokens" if lengths else "",
        f"{question.rate_rps:g} requests/s" if question.rate_rps else "",
        f"{question.concurrency:g} in flight" if question.concurrency else "",
        *(f"{_short(t.name)} ≤ {format_value(t.limit_s, Unit.SECONDS)}" for t in question.targets),
        str(question.objective),
    ]
    return asked_words(answer, said, "deployments")


def asked_words(answer: Answer, said: Iterable[str], things: str) -> str:
    """What was asked for in parts, and how many of the ``things`` looked at will do."""
    parts = [", ".join(filter(None, said))]
    if answer.num_considered:
        parts.append(f"{answer.num_feasible} of {answer.num_considered} {things} will do")
    return "  ".join(filter(None, parts))


def _ranked(answer: Answer) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("#", justify="right")
    table.add_column("deployment", no_wrap=True)
    targets = [t.target for t in answer.recommendations[0].targets]
    names = ["req/s", "used", *(map(_short, targets) if targets else ["end to end"])]
    names += ["P", *_LAST] if targets else list(_LAST)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("evidence", no_wrap=True)
    table.add_column("profile", no_wrap=True)
    numbers = flag_numbers(answer)
    for one in answer.recommendations:
        marks = ",".join(str(numbers[flag]) for flag in one.flags)
        table.add_row(
            str(one.rank),
            deployment_words(one.profile.machine, one.replicas),
            plain(one.rate_rps),
            "" if one.utilisation is None else f"{one.utilisation:.0%}",
            *_latencies(one),
            plain(one.output_tokens_per_s_per_chip),
            plain(one.cost.usd_per_hour),
            plain(cost_per_million(one.cost)),
            str(one.pareto_rank),
            evidence_words(one.profile) + (f" [{marks}]" if marks else ""),
            one.profile.profile_id,
        )
    return table


_LAST = ("tok/s/chip", "$/h", "$/M out", "Pareto")


def _short(target: str) -> str:
    return target.replace("_s", "", 1).replace("_", " ")


def _latencies(one: Recommendation) -> list[str]:
    if not one.targets:
        return ["n/a" if one.e2e_s is None else format_value(one.e2e_s, Unit.SECONDS)]
    values = [
        f"{'≤ ' if t.is_bound else ''}{format_value(t.value_s, Unit.SECONDS)}" for t in one.targets
    ]
    return [*values, "n/a" if one.probability is None else format_chance(one.probability)]


def _engines(answer: Answer) -> Table:
    """What runs on each, in a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("#", justify="right")
    table.add_column("engine")
    for one in answer.recommendations:
        model = "" if answer.question.model else f"{one.profile.configuration.model}: "
        table.add_row(f"#{one.rank}", model + _engine(one.profile))
    return table


def deployment_words(machine: Machine, replicas: int) -> str:
    """``3 × (2 x H100)``."""
    chips = (
        f"{machine.num_chips} x {machine.accelerator}"
        if machine.num_chips
        else (machine.accelerator or "hardware not known")
    )
    return f"{replicas} × ({chips})" if replicas > 1 else chips


def cost_per_million(cost: Cost) -> float | None:
    """At the asked load where one was asked."""
    asked = cost.usd_per_million_output_tokens_asked
    return cost.usd_per_million_output_tokens if asked is None else asked


def _engine(profile: Profile) -> str:
    c = profile.configuration
    parallel = [f"{name}={n}" for name, n in c.parallelism.items() if n > 1]
    args = [f"{k}={v}" for k, v in c.engine_args.items()]
    precision = [str(c.resolved["precision"])] if c.resolved.get("precision") else []
    words = [c.model_server, c.model_server_version, *precision, *parallel, *args]
    return " ".join(filter(None, words))


def plain(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"


def evidence_words(profile: Profile) -> str:
    e = profile.evidence
    if e.estimated is not None:
        source = e.estimated.transferred_from
        return f"{e.kind} estimate" + (f", from {source}" if source else "")
    return f"{e.repeats} × {e.kind} {e.last_measured:%Y-%m-%d}"


def flag_numbers(answer: Answer) -> dict[str, int]:
    flags = dict.fromkeys(flag for one in answer.recommendations for flag in one.flags)
    return {flag: number for number, flag in enumerate(flags, start=1)}


def footnotes(answer: Answer) -> Iterator[RenderableType]:
    yield from (
        Text(f"[{number}] {FLAG_WORDS[flag]}", style="yellow")  # type: ignore[index]
        for flag, number in flag_numbers(answer).items()
    )
    notes: dict[str, list[str]] = {}
    for one in answer.recommendations:
        for note in one.notes:
            notes.setdefault(note, []).append(f"#{one.rank}")
    for note, ranks in notes.items():
        yield Text(f"{', '.join(ranks)}: {note}", style="dim")
    first = answer.recommendations[0]
    price = first.cost.price
    if price is not None:
        where = f" in {price.region}" if price.region else ""
        yield Text(
            f"prices of {price.as_of} ({price.source}), {price.capacity}{where}", style="dim"
        )
    elif first.cost.reason:
        yield Text(f"no cost of #1: {first.cost.reason}", style="dim")
    more = f" --replicas {first.replicas}" if first.replicas > 1 else ""
    does, more = ("train", " --platform run") if first.training else ("deploy", more)
    command = f"windtunnel manifest {first.profile.profile_id}{more}{and_so('--store')}"
    yield Text(f"to {does} it: {command}", style="dim")


def no_answer_words(none: NoAnswer, engine: Callable[[Profile], str]) -> Iterator[RenderableType]:
    """``engine`` says in a line what runs."""
    yield Text(f"no deployment will do: {none.words}", style="red")
    if none.did_you_mean:
        yield Text(f"did you mean {', '.join(none.did_you_mean)}?")
    for number, miss in enumerate(none.nearest, start=1):
        profile = miss.recommendation.profile
        yield Text(
            f"near miss {number}: "
            f"{deployment_words(profile.machine, miss.recommendation.replicas)}, "
            f"{engine(profile)} (profile {profile.profile_id}, {evidence_words(profile)})"
        )
        yield from (Text(f"  {why.words}", style="yellow") for why in miss.why_not)
    for next_ in none.measure_next:
        usd = "no price known" if next_.usd is None else f"${next_.usd:.2f}"
        cost = (
            f" ({next_.chip_hours:.3g} chip-hours, {usd}; {next_.basis})"
            if next_.profile_id
            else ""
        )
        yield Text(f"measure next: {next_.what}{cost}: {next_.why}")
