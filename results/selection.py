"""Runs by the names that people have for them: ids, experiments, tags, revisions.

One text names one kind of thing. The kinds are tried in a fixed order, the most precise first, and
what was taken for what is told back, so that nobody compares what he did not mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from results.errors import NothingSelected
from results.record import RunRecord

_REVISION = re.compile(r"[0-9a-f]{7,40}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{6,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """``kind``: run, experiment, tag, revision, image, package or name."""

    asked: str
    kind: str
    records: tuple[RunRecord, ...]


def select(records: Sequence[RunRecord], asked: str) -> Selection:
    """``asked``: a run id or several with commas, an experiment id (each may be a beginning that
    fits one), a tag ``key=value`` or its value, a git revision, an image digest, a version
    ``vllm==0.32.0``, or the name of a spec.

    Raises NothingSelected, with what there is.
    """
    text = asked.strip()
    kinds: tuple[tuple[str, Callable[[RunRecord], bool]], ...] = (
        ("tag", lambda r: _has_tag(r, text)),
        ("image", lambda r: bool(_DIGEST.fullmatch(text)) and text in _image(r)),
        ("package", lambda r: "==" in text and _has_package(r, text)),
        ("name", lambda r: r.name == text),
        ("revision", lambda r: bool(_REVISION.fullmatch(text)) and _sha(r).startswith(text)),
    )
    runs = _by_run_id(records, text)
    if runs:
        return Selection(asked=asked, kind="run", records=runs)
    experiment = _by_experiment(records, text)
    if experiment:
        return Selection(asked=asked, kind="experiment", records=experiment)
    for kind, fits in kinds:
        found = tuple(r for r in records if text and fits(r))
        if found:
            return Selection(asked=asked, kind=kind, records=found)
    raise NothingSelected(f"{asked!r} names no run, experiment, tag or revision; {_known(records)}")


def _by_run_id(records: Sequence[RunRecord], text: str) -> tuple[RunRecord, ...]:
    found: dict[str, RunRecord] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        fits = [r for r in records if r.run_id.startswith(part)]
        if not fits:
            return ()
        if len(fits) > 1 and all(r.run_id != part for r in fits):
            # A beginning that many share is a day or an hour, which nobody means by a run.
            if len({r.experiment_id for r in fits}) == 1 and fits[0].experiment_id == part:
                return ()
            raise NothingSelected(
                f"{part!r} begins {len(fits)} run ids ({fits[0].run_id}, {fits[1].run_id}, …); "
                "name one, an experiment or a tag"
            )
        found |= {r.run_id: r for r in fits}
    return tuple(found.values())


def _by_experiment(records: Sequence[RunRecord], text: str) -> tuple[RunRecord, ...]:
    exact = tuple(r for r in records if r.experiment_id == text)
    if exact or not text:
        return exact
    fits = dict.fromkeys(r.experiment_id for r in records if r.experiment_id.startswith(text))
    if len(fits) > 1:
        raise NothingSelected(
            f"{text!r} begins {len(fits)} experiments ({', '.join(list(fits)[:3])}, …); ask more"
        )
    return tuple(r for r in records if r.experiment_id in fits)


def _has_tag(record: RunRecord, text: str) -> bool:
    tags = record.spec.get("tags")
    if not isinstance(tags, dict):
        return False
    key, _, value = text.partition("=")
    return text in map(str, tags.values()) or (key in tags and str(tags[key]) == value)


def _has_package(record: RunRecord, text: str) -> bool:
    name, _, version = text.partition("==")
    known = record.environment.software.packages if record.environment is not None else {}
    return known.get(name) == version


def _image(record: RunRecord) -> str:
    return record.environment.software.image_digest if record.environment is not None else ""


def _sha(record: RunRecord) -> str:
    return record.environment.software.git_sha if record.environment is not None else ""


def _known(records: Sequence[RunRecord]) -> str:
    if not records:
        return "the store holds no run"
    names = ", ".join(list(dict.fromkeys(r.name for r in records))[-5:])
    tags = dict.fromkeys(
        f"{k}={v}"
        for r in records
        if isinstance(r.spec.get("tags"), dict)
        for k, v in r.spec["tags"].items()
    )
    said = f"there are runs of {names}"
    return f"{said}; tags {', '.join(list(tags)[-5:])}" if tags else said
