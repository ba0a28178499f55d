"""The thing under test and its versions: what a spec needs so that it runs a certain one.

A version is a commit of a git repository, whose checkout's folder is put into the spec, or a value
of a field of the spec (an image, an interpreter with another engine version, an engine argument).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import SpecError
from harness.nightly.suite import SubjectSpec, Suite
from harness.spec import RunSpec
from harness.spec_overrides import NotLegal, place
from harness.spec_yaml import parse_scalar
from harness.specfile import spec_from_mapping, spec_to_mapping

_GIT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """``name`` is what tags and reports call it: a commit's whole hash, or the value."""

    name: str
    value: str | int | float

    @property
    def short(self) -> str:
        is_commit = len(self.name) == 40 and set(self.name) <= set("0123456789abcdef")
        return self.name[:10] if is_commit else self.name


class Subjects:
    """Versions of a suite's subject. ``checkouts``: the folder in which commits are laid out."""

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

    def version(self, text: str) -> Version:
        """A commit (any name git knows) laid out in a folder, or a value. Raises SpecError."""
        spec = self._required()
        if not spec.git:
            known = {str(value): value for value in spec.values}
            value = known[text] if text in known else parse_scalar(text, ("subject",))
            return Version(name=text, value=value)
        commit = self._git("rev-parse", "--verify", f"{text}^{{commit}}").strip()
        return Version(name=commit, value=str(self._laid_out(commit)))

    def between(self, good: str, bad: str) -> tuple[str, ...]:
        """The names of all versions after ``good`` up to and with ``bad``, old to new.

        Raises SpecError where one does not follow the other."""
        spec = self._required()
        if spec.git:
            one, other = (
                self._git("rev-parse", "--verify", f"{x}^{{commit}}").strip() for x in (good, bad)
            )
            # Along the first parents: a merge is one change, however many commits it brings.
            found = self._git("rev-list", "--first-parent", "--reverse", f"{one}..{other}").split()
            if not found or not self._is_ancestor(one, other):
                raise SpecError(f"{bad} does not follow {good} in {spec.git}")
            return tuple(found)
        values = [str(value) for value in spec.values]
        missing = [v for v in (good, bad) if v not in values]
        if missing:
            raise SpecError(
                f"{', '.join(missing)} is not among the subject's values, which name the versions "
                f"from old to new: {', '.join(values) or 'none'}"
            )
        first, last = values.index(good), values.index(bad)
        if first >= last:
            raise SpecError(f"{bad} does not follow {good} in the subject's values")
        return tuple(values[first + 1 : last + 1])

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

    # ---- git ----

    def _repository(self) -> Path:
        return (self._suite.folder / self._required().git).resolve()

    def _git(self, *arguments: str, cwd: Path | None = None) -> str:
        done = _run(["git", "-C", str(cwd or self._repository()), *arguments])
        if done.returncode:
            raise SpecError(
                f"git {' '.join(arguments)} in {self._repository()}: {done.stderr.strip()}"
            )
        return done.stdout

    def _is_ancestor(self, one: str, other: str) -> bool:
        arguments = ["merge-base", "--is-ancestor", one, other]
        return _run(["git", "-C", str(self._repository()), *arguments]).returncode == 0

    def _laid_out(self, commit: str) -> Path:
        """The commit's files in a folder of their own; made once, and never half."""
        folder = self._checkouts / commit
        if folder.is_dir():
            return folder
        half = self._checkouts / f".{commit}.half"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        archive = half.with_suffix(".tar")
        self._git("archive", "--format=tar", "-o", str(archive), commit)
        shutil.unpack_archive(archive, half, format="tar", filter="data")
        archive.unlink()
        half.rename(folder)
        return folder


def _placed(spec: RunSpec, path: str, value: str | int | float) -> Any:
    return place(RunSpec, spec_to_mapping(spec), tuple(path.split(".")), value)


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpecError(f"{' '.join(command)}: {error}") from error
