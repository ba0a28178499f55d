"""Runs by the names that people have for them: ids, experiments, tags, revisions.

One text names one kind of thing. The kinds are tried in a fixed order, the most precise first, and
what was taken for what is told back, so that nobody compares what he did not mean. The index
answers, so that no record is read that was read before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from results.environment import Software
from results.errors import NothingSelected
from results.record import RunRecord
from results.store_index import RunIndex

_REVISION = re.compile(r"[0-9a-f]{7,40}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{6,64}")
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """``kind``: run, experiment, tag, revision, image, package or name. ``records`` are briefs, in
    order of run id, or in the order asked."""

    asked: str
    kind: str
    records: tuple[RunRecord, ...]


def select(index: RunIndex, asked: str, name: str = "") -> Selection:
    """``asked``: a run id or several with commas, an experiment id (each may be a beginning that
    fits one), a tag ``key=value`` or its value, a git revision, an image digest, a version
    ``vllm==0.32.0``, or the name of a spec. ``name``: among the runs of this spec alone.

    Raises NothingSelected, with what there is.
    """
    text, runs = asked.strip(), _Runs(index, name)
    kinds: tuple[tuple[str, Callable[[str], Sequence[str]]], ...] = (
        ("run", runs.by_run_id),
        ("experiment", runs.by_experiment),
        ("tag", runs.by_tag),
        ("image", runs.by_image),
        ("package", runs.by_package),
        ("name", runs.by_name),
        ("revision", runs.by_revision),
    )
    for kind, ids_of in kinds:
        run_ids = ids_of(text) if text else ()
        if run_ids:
            return Selection(asked=asked, kind=kind, records=index.briefs(run_ids))
    raise NothingSelected(f"{asked!r} names no run, experiment, tag or revision; {runs.known()}")


class _Runs:
    """The runs of one spec's name, or all, as the index has them."""

    def __init__(self, index: RunIndex, name: str) -> None:
        self._index = index
        self._and, self._values = ("AND runs.name = ?", [name]) if name else ("", [])

    def by_run_id(self, text: str) -> Sequence[str]:
        found: dict[str, None] = {}
        for part in (part.strip() for part in text.split(",") if part.strip()):
            fits = self._ids("runs.run_id >= ? AND runs.run_id < ?", part, part + "\U0010ffff")
            if not fits:
                return ()
            if len(fits) > 1 and part not in fits:
                # A beginning that many share is a day or an hour, which nobody means by a run.
                if self._experiments(part) == [part]:
                    return ()
                raise NothingSelected(
                    f"{part!r} begins {len(fits)} run ids ({fits[0]}, {fits[1]}, …); "
                    "name one, an experiment or a tag"
                )
            found |= dict.fromkeys(fits)
        return tuple(found)

    def by_experiment(self, text: str) -> Sequence[str]:
        exact = self._ids("runs.experiment_id = ?", text)
        if exact:
            return exact
        fits = self._experiments(text, "experiment_id")
        if len(fits) > 1:
            raise NothingSelected(
                f"{text!r} begins {len(fits)} experiments ({', '.join(fits[:3])}, …); ask more"
            )
        return self._ids("runs.experiment_id = ?", fits[0]) if fits else ()

    def by_tag(self, text: str) -> Sequence[str]:
        key, _, value = text.partition("=")
        return self._ids(
            "runs.run_id IN (SELECT run_id FROM tags WHERE value = ? OR (name = ? AND value = ?))",
            text, key, value,
        )  # fmt: skip

    def by_name(self, text: str) -> Sequence[str]:
        return self._ids("runs.name = ?", text)

    def by_image(self, text: str) -> Sequence[str]:
        asked = bool(_DIGEST.fullmatch(text))
        return self._answered_by(lambda s: text in s.image_digest) if asked else ()

    def by_package(self, text: str) -> Sequence[str]:
        name, sign, version = text.partition("==")
        return self._answered_by(lambda s: s.packages.get(name) == version) if sign else ()

    def by_revision(self, text: str) -> Sequence[str]:
        asked = bool(_REVISION.fullmatch(text))
        return self._answered_by(lambda s: s.git_sha.startswith(text)) if asked else ()

    def known(self) -> str:
        where = f"WHERE 1 {self._and}"
        names = self._index.query(
            f"SELECT name, min(run_id) AS first FROM runs {where} GROUP BY name "
            f"ORDER BY first DESC LIMIT {_MOST_NAMED}",
            self._values,
        )
        if not names:
            return "the store holds no run"
        tags = self._index.query(
            "SELECT tags.name || '=' || tags.value, min(runs.run_id) AS first FROM tags "
            f"JOIN runs USING (run_id) {where} GROUP BY tags.name, tags.value "
            f"ORDER BY first DESC, tags.name DESC LIMIT {_MOST_NAMED}",
            self._values,
        )
        said = f"there are runs of {', '.join(name for name, _ in reversed(names))}"
        return f"{said}; tags {', '.join(tag for tag, _ in reversed(tags))}" if tags else said

    def _ids(self, where: str, *values: str) -> list[str]:
        query = f"SELECT run_id FROM runs WHERE {where} {self._and} ORDER BY run_id"
        return [run_id for (run_id,) in self._index.query(query, [*values, *self._values])]

    def _experiments(self, text: str, begins: str = "run_id") -> list[str]:
        """Of the runs whose ``begins`` begins so, in the order of their first runs."""
        query = (
            f"SELECT experiment_id, min(run_id) AS first FROM runs WHERE {begins} >= ? AND "
            f"{begins} < ? {self._and} GROUP BY experiment_id ORDER BY first"
        )
        found = self._index.query(query, [text, text + "\U0010ffff", *self._values])
        return [experiment for experiment, _ in found]

    def _answered_by(self, fits: Callable[[Software], bool]) -> Sequence[str]:
        """Runs in whose environment the software is so; environments are few, and kept once."""
        environments = self._index.environments()
        run_ids: list[str] = []
        for digest in (d for d, found in environments.items() if fits(found.software)):
            run_ids += self._ids(
                "runs.run_id IN (SELECT run_id FROM briefs WHERE environment = ?)", digest
            )
        return sorted(run_ids)
