"""A night for programs: its JSON, a chat's webhook, and the index of all nights.

Pure: what is sent or written, and where, is the command line's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reports.confirm import Decision, Finding
from reports.model import Cell, Column, Report, Section, Table
from reports.night_report import night_sentence
from reports.night_told import NightTold
from reports.suspicion import Standing

SCHEMA = "windtunnel.nightly/1"
_MOST_IN_CHAT = 10
# A chat's markup; text of a record stays text in it.
_CHAT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def night_document(told: NightTold) -> dict[str, Any]:
    """Without the schema's name. Every number as it was judged, by the values' own names."""
    return {
        "suite": told.suite,
        "night": told.night_id,
        "date": told.date.isoformat(),
        "sentence": night_sentence(told),
        "counts": counts_of(told),
        "findings": [asdict(decision) for decision in told.decisions],
        "states": [asdict(state) for state in told.history.states] if told.history else [],
        "expected_false_suspicions": told.history.expected_false if told.history else None,
        "num_tested": told.history.num_tested if told.history else 0,
        "left_out": [asdict(one) for one in told.left_out],
        "num_torn": told.num_torn,
        "runs": [
            {
                "run_id": run.record.run_id,
                "slot": run.slot,
                "series": run.series,
                "role": run.role.value,
                "pool": run.pool,
                "outcome": run.record.outcome.kind,
                "subject": run.subject,
            }
            for run in told.runs
        ],
    }


def counts_of(told: NightTold) -> dict[str, int]:
    """Findings and standings by name, each 0 or more."""
    return {
        **{f.name.lower(): len(told.found(f)) for f in Finding},
        **{s.name.lower(): told.standing(s) for s in Standing if s is not Standing.SUSPECTED},
        "runs": len(told.runs),
        "failed": told.num_failed,
        "left_out": len(told.left_out),
    }


def chat_message(told: NightTold, url: str = "") -> dict[str, Any]:
    """For a Slack-like incoming webhook: the sentence, then what moved. ``url``: of the page."""
    lines = [f"*{_plain(told.suite)}, night of {told.date}*", _plain(night_sentence(told))]
    moved = [d for d in told.decisions if d.finding is not Finding.KNOWN]
    lines += [f"• {_plain(_line(decision))}" for decision in moved[:_MOST_IN_CHAT]]
    if len(moved) > _MOST_IN_CHAT:
        lines.append(f"… and {len(moved) - _MOST_IN_CHAT} more")
    if url:
        lines.append(url)
    text = "\n".join(lines)
    section = {"type": "section", "text": {"type": "mrkdwn", "text": text}}
    return {"text": lines[1], "blocks": [section]}


def _line(decision: Decision) -> str:
    s, c = decision.suspicion, decision.confirmation
    change = c.change.change if c is not None and c.change.change is not None else s.change
    return f"{decision.finding.value}: {s.series} {change:+.1%} since {s.likely}; {decision.why}"


def _plain(text: str) -> str:
    return text.translate(_CHAT)


# ---- the index of all nights ----


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """One night as the index shows it; ``page`` is the file's name beside the index."""

    night_id: str
    date: str
    sentence: str
    page: str
    counts: Mapping[str, int]


def index_entry(told: NightTold) -> IndexEntry:
    return IndexEntry(
        night_id=told.night_id,
        date=told.date.isoformat(),
        sentence=night_sentence(told),
        page=f"{page_name(told)}.html",
        counts=counts_of(told),
    )


def page_name(told: NightTold) -> str:
    """Of the files of a night: its date and id, nothing that a file system would not take."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{told.date}-{told.night_id}")


def index_report(suite: str, entries: Sequence[IndexEntry]) -> Report:
    """Every night, the newest first."""
    ordered = sorted(entries, key=lambda e: (e.date, e.night_id), reverse=True)
    table = Table(
        caption="The nights, the newest first",
        columns=(
            Column(name="night"),
            Column(name="regressions", numeric=True),
            Column(name="environment", numeric=True),
            Column(name="open", numeric=True),
            Column(name="failed runs", numeric=True),
        ),
        rows=tuple(
            (
                Cell(text=e.date, link=e.page, detail=e.sentence),
                _number(e.counts.get("regression", 0), bad=True),
                _number(e.counts.get("environment", 0)),
                _number(e.counts.get("suspected", 0)),
                _number(e.counts.get("failed", 0)),
            )
            for e in ordered
        ),
    )
    newest = ordered[0].sentence if ordered else "There is no night yet."
    return Report(
        title=f"Nights of {suite}",
        kind="nights",
        sentence=newest[0].upper() + newest[1:],
        sections=(Section(key="nights", heading="All nights", blocks=(table,)),),
    )


def _number(n: int, bad: bool = False) -> Cell:
    return Cell(text=str(n), tone=("bad" if bad else "warn") if n else "muted")
