"""The thing under test and its versions: what a spec needs so that it runs a certain one.

A version is a commit of a git repository, whose checkout's folder is put into the spec, or a value
of a field of the spec (an image, an interpreter with another engine version, an engine argument).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import SpecError
from harness.nightly.repository import Repository
from harness.nightly.suite import SubjectSpec, Suite
from harness.spec import RunSpec
from harness.spec_overrides import NotLegal, place
from harness.spec_yaml import parse_scalar
from harness.specfile import spec_from_mapping, spec_to_mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """``name`` is what tags and reports call it: a commit's whole hash, or the value."""

    name: str
    value: str | int | float

    @property
    def short(self) -> str:
        return short_name(self.name)


def short_name(name: str) -> str:
    """A commit's first digits (SHA-1 or SHA-256); any other name as it is."""
    is_commit = len(name) in (40, 64) and set(name) <= set("0123456789abcdef")
    return name[:10] if is_commit else name


class Subjects:
    """Versions of a suite's subject. ``checkouts``: the folder in which commits are laid out; who
    holds the home's lock cleans it before and after (``clean``)."""

    def __init__(self, suite: Suite, checkouts: Path) -> None:
        self._suite, self._checkouts = suite, checkouts.resolve()
        if self.spec is not None:
            self._refuse_unplaced(self.spec)

    @property
    def spec(self) -> SubjectSpec | None:
        return self._suite.spec.subject

    def tonight(self) -> Version | None:
        """The version as it is now: the repository's HEAD. None where the specs say it all."""
        spec = self.spec
        if spec is None or not spec.git:
            return None
        return self.version("HEAD")

    def name_of(self, text: str) -> str:
        """What tags and reports call that version; nothing is laid out. Raises SpecError."""
        return self.repository.commit(text) if self._required().git else text

    def version(self, text: str) -> Version:
        """A commit (any name git knows) laid out in a folder, or a value. Raises SpecError."""
        spec = self._required()
        if not spec.git:
            known = {str(value): value for value in spec.values}
            value = known[text] if text in known else parse_scalar(text, ("subject",))
            return Version(name=text, value=value)
        commit = self.repository.commit(text)
        return Version(name=commit, value=str(self.repository.laid_out(commit)))

    def between(self, good: str, bad: str) -> tuple[str, ...]:
        """The names of all versions after ``good`` up to and with ``bad``, old to new.

        Raises SpecError where one does not follow the other."""
        spec = self._required()
        if spec.git:
            return self.repository.between(good, bad)
        values = [str(value) for value in spec.values]
        missing = [v for v in (good, bad) if v not in values]
        if missing:
            raise SpecError(
                f"{', '.join(missing)} is not among the subject's values, which name the versions "
                f"from old to new: {', '.join(values) or 'none'}"
            )
        first, last = values.index(good), values.index(bad)
        if first == last:
            raise SpecError(f"{good} and {bad} are the same version: nothing is between")
        if first > last:
            raise SpecError(
                f"{bad} does not follow {good} in the subject's values, which go from old to new; "
                f"the good version comes first: {bad} {good}"
            )
        return tuple(values[first + 1 : last + 1])

    def words(self, names: Sequence[str]) -> dict[str, str]:
        """Versions as people know them, by name: ``1a2b3c4d5e Make the loop shorter``."""
        if not self._required().git:
            return {name: name for name in names}
        titles = self.repository.titles(names)
        return {name: f"{short_name(name)} {titles[name]}" for name in names}

    def brought_by_merge(self, name: str) -> tuple[str, str] | None:
        """Of a merge: from which to which commit its branch went; None for all else."""
        if not self._required().git:
            return None
        parents = self.repository.parents(name)
        if len(parents) < 2:
            return None
        base = self.repository.merge_base(parents[0], parents[1])
        return (base, parents[1]) if base and base != parents[1] else None

    def has_changes(self) -> bool:
        """Whether the repository's work tree differs from its HEAD, which is what is measured."""
        return bool(self.spec and self.spec.git) and self.repository.has_changes()

    def clean(self) -> None:
        """Take away every checkout, of a process that was killed as well."""
        if self.spec is not None and self.spec.git:
            self.repository.clean()

    @property
    def repository(self) -> Repository:
        folder = (self._suite.folder / self._required().git).resolve()
        return Repository(folder, self._checkouts)

    def at(self, spec: RunSpec, version: Version | None) -> RunSpec:
        """``spec`` running that version; as it is where there is none, or where the spec's kind of
        workload has no such field. Raises SpecError for a value that is not legal there."""
        subject = self.spec
        if version is None or subject is None:
            return spec
        try:
            return spec_from_mapping(_placed(spec, subject.into, version.value))
        except NotLegal:
            return spec

    def _refuse_unplaced(self, subject: SubjectSpec) -> None:
        refusals = []
        for series in self._suite.series:
            try:
                _placed(series.spec, subject.into, "")
            except NotLegal as refusal:
                refusals.append(f"{series.name}: {refusal.reason}")
        if len(refusals) == len(self._suite.series):
            raise SpecError(
                f"subject.into is {subject.into}, which no run of {self._suite.name} has: "
                f"{'; '.join(refusals)}"
            )

    def _required(self) -> SubjectSpec:
        if self.spec is None:
            raise SpecError(
                f"the suite {self._suite.name} names no subject, so it has no versions to run side "
                "by side; add `subject: {git: FOLDER, into: workload.cwd}` or "
                "`subject: {into: FIELD, values: […]}`"
            )
        return self.spec


def _placed(spec: RunSpec, path: str, value: str | int | float) -> Any:
    return place(RunSpec, spec_to_mapping(spec), tuple(path.split(".")), value)
