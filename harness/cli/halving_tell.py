"""What halving is asked, would take, and found, in words and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rich.table import Table
from rich.text import Text

from harness.cli.again import and_so
from harness.cli.output import print_json, stderr, stdout
from harness.cli.versions import Sides, outlook_document, outlook_words
from harness.nightly.bisect import Asked, Bisection, Found
from harness.nightly.pairs_outlook import PairsOutlook
from harness.nightly.suite import Series
from results.units import counted, metric_label


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """``asked_good``/``asked_bad``: as they were typed. ``versions``: after the good one, old to
    new; ``words``: as people know them, by name."""

    sides: Sides
    asked_good: str
    asked_bad: str
    series: Series
    metric: str
    statistic: str
    versions: tuple[str, ...]
    words: Mapping[str, str]
    outlook: PairsOutlook
    suite_path: str
    metric_text: str  # as --metric takes it

    @property
    def what(self) -> str:
        return f"{metric_label(self.metric, self.statistic)} of {self.series.name}"

    def command(self, good: str, bad: str) -> str:
        """The one that halves between two other versions."""
        words = ["windtunnel", "bisect", self.suite_path, good, bad]
        words += ["--series", self.series.name, "--metric", self.metric_text]
        return shlex.join(words) + and_so("--set", "--ray", "--pools", "--prices", "--store")


def tell_plan(question: Question, as_json: bool) -> None:
    if as_json:
        body = {**_asked_document(question), **outlook_document(question.outlook)}
        print_json("windtunnel.bisect-plan/1", body)
        return
    console = stdout()
    _head(question)
    console.print(outlook_words(question.outlook), markup=False)
    for name in reversed(question.versions):
        console.print(f"  {question.words[name]}", markup=False)


def tell(question: Question, found: Bisection, as_json: bool) -> None:
    if as_json:
        body = {
            **_asked_document(question),
            "what": question.what,
            **asdict(found),
            "is_exact": found.is_exact,
            "sentence": sentence(question, found),
        }
        print_json("windtunnel.bisect/1", body)
        return
    _head(question)
    stdout().print(_table(question, found))
    stdout().print(sentence(question, found), markup=False, style="bold")
    for line in (*_untold(question, found), *_go_on(question, found)):
        stdout().print(line, markup=False)


def tell_range(question: Question, found: Bisection) -> None:
    """On stderr, when halving was interrupted: what it already knows."""
    if found.first_bad and found.unclear:
        command = question.command(found.last_good or question.asked_good, found.first_bad)
        stderr().print(f"so far: {sentence(question, found)}", markup=False, soft_wrap=True)
        stderr().print(f"to go on: {command}", markup=False, soft_wrap=True)


def sentence(question: Question, found: Bisection) -> str:
    """The answer, in one."""
    if not found.first_bad:
        return f"{question.what}: {found.why_none}"
    asked = {one.version: one for one in found.asked}
    by = f" ({asked[found.first_bad].told} against {question.asked_good})"
    first = question.words[found.first_bad]
    if found.doubt:
        before = question.words[found.last_good]
        return (
            f"{question.what}: no answer that holds: {first} was bad{by} and {before} good, yet "
            f"measured against each other they differ by {found.doubt}; ask again on a calmer "
            "machine, or with more pairs"
        )
    if not found.unclear:
        return f"{question.what}: {first} is the first that is worse{by}"
    good = question.words[found.last_good] if found.last_good else question.asked_good
    return (
        f"{question.what}: worse from {first} on at the latest{by}, not yet at {good}; "
        f"{counted(len(found.unclear), 'version')} between not told"
    )


def _untold(question: Question, found: Bisection) -> list[str]:
    why = {one.version: one.why for one in found.asked}
    lines = [
        f"not told: {question.words[name]}: {why[name]}" for name in found.unclear if name in why
    ]
    if found.stopped:
        lines.append(f"stopped: {found.stopped}")
    return lines


def _go_on(question: Question, found: Bisection) -> list[str]:
    if not found.first_bad:
        return []
    lines = []
    if found.stopped:
        good = found.last_good or question.asked_good
        lines.append(f"to go on: {question.command(good, found.first_bad)}")
    brought = question.sides.subjects.brought_by_merge(found.first_bad)
    if brought is not None:
        lines.append(f"it is a merge; to look into what it brought: {question.command(*brought)}")
    return lines


def _head(question: Question) -> None:
    console, sides = stdout(), question.sides
    console.print(question.what, markup=False, style="bold")
    for label, typed, name in (
        ("good", question.asked_good, sides.good),
        ("bad", question.asked_bad, sides.new),
    ):
        words = question.words[name]
        shown = words if typed in (words, name) else f"{typed} = {words}"
        console.print(f"{label:<5} {shown}", markup=False)
    console.print(f"{counted(len(question.versions), 'version')} after the good one")


def _table(question: Question, found: Bisection) -> Table:
    """In the order of the versions, which shows the step; the answers say how it was come by."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("version", "found", "change", "pairs"):
        table.add_column(name, justify="right" if name == "pairs" else "left")
    place = {name: i for i, name in enumerate(question.versions)}
    for one in sorted(found.asked, key=lambda a: place[a.version]):
        cells = (question.words[one.version], str(one.found), one.told or "–", _pairs(one))
        table.add_row(*map(Text, cells))
    return table


def _pairs(one: Asked) -> str:
    return str(one.num_pairs) if one.found is not Found.SKIPPED else "–"


def _asked_document(question: Question) -> dict[str, object]:
    return {
        "good": question.sides.good,
        "bad": question.sides.new,
        "series": question.series.name,
        "metric": question.metric,
        "statistic": question.statistic,
        "versions": [{"name": n, "words": question.words[n]} for n in question.versions],
    }
