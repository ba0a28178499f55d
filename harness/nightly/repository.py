"""Commits of a git repository as versions: their names, their order, their files laid out.

The user's own things are only read: no ref, no index and no work tree of theirs changes. A commit
is laid out by an index of its own, so that nothing in ``.gitattributes`` leaves a file out, as an
archive would.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError, SpecError

_GIT_S = 300.0
# What a hook or a wrapper may have set for a repository of its own, and what keeps git quiet.
_SURROUNDINGS = (
    "env",
    *("-u", "GIT_DIR", "-u", "GIT_WORK_TREE", "-u", "GIT_INDEX_FILE", "-u", "GIT_PREFIX"),
    *("GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C"),
)
# A user's hooks, monitors and sparse checkouts are for the user's work tree.
_PLAIN = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"),
    *("-c", "core.sparseCheckout=false"),
)
_SUBMODULE = "160000"  # the mode of an entry that is another repository's commit


class Repository:
    """``folder``: in the repository, or the whole of it. ``checkouts``: ours, where commits are
    laid out; one process at a time lays out or cleans there."""

    def __init__(self, folder: Path, checkouts: Path) -> None:
        self.folder, self._checkouts = folder, checkouts

    def commit(self, text: str) -> str:
        """The whole hash of any name that git knows. Raises SpecError."""
        done = self._run("rev-parse", "--verify", "--quiet", f"{text}^{{commit}}")
        if done.returncode == 0 and not text.startswith("-"):
            return done.stdout.strip()
        if self._run("rev-parse", "--git-dir").returncode:
            reason = self._run("rev-parse", "--git-dir").stderr.strip()
            raise SpecError(f"subject.git: {self.folder}: {reason}")
        why = self._run("rev-parse", "--verify", f"{text}^{{commit}}").stderr.strip()
        raise SpecError(
            f"{text}: {self.folder} has no such commit, or more than one ({_first_line(why)})"
            f"{self._shallow_words()}"
        )

    def titles(self, commits: Sequence[str]) -> dict[str, str]:
        """The first line of each one's message, by whole hash."""
        words = ("log", "--no-walk=unsorted", "--format=%H %s", "--stdin")
        done = self._run(*words, said="\n".join(commits))
        if done.returncode:
            raise SpecError(f"git {' '.join(words)} in {self.folder}: {done.stderr.strip()}")
        lines = (line.partition(" ") for line in done.stdout.splitlines())
        return {commit: title for commit, _, title in lines}

    def has_changes(self) -> bool:
        """Whether the user has changed files that no commit holds."""
        done = self._run("status", "--porcelain", "--untracked-files=no")
        return done.returncode == 0 and bool(done.stdout.strip())

    def parents(self, commit: str) -> tuple[str, ...]:
        return tuple(self._git("rev-list", "--parents", "-n", "1", commit).split()[1:])

    def merge_base(self, one: str, other: str) -> str:
        """ "" where they have nothing in common."""
        done = self._run("merge-base", one, other)
        return done.stdout.split()[0] if done.returncode == 0 else ""

    def between(self, good: str, bad: str) -> tuple[str, ...]:
        """Whole hashes after ``good`` up to and with ``bad``, old to new, along the first parents:
        a merge is one change, however many commits it brings. Raises SpecError."""
        one, other = self.commit(good), self.commit(bad)
        if one == other:
            raise SpecError(
                f"{good} and {bad} are the same commit ({one[:10]}): nothing is between"
            )
        if not self._is_ancestor(one, other):
            raise SpecError(self._out_of_order(good, one, bad, other))
        line = self._git("rev-list", "--first-parent", "--reverse", f"{one}..{other}").split()
        # Where the good one came in by a merge, the main line before that merge never had it.
        after = set(self._git("rev-list", "--ancestry-path", f"{one}..{other}").split())
        return tuple(commit for commit in line if commit in after)

    def laid_out(self, commit: str) -> Path:
        """The commit's files in a folder of their own, never half. Raises SpecError for a commit
        with submodules, HarnessError where they cannot be written."""
        folder = self._checkouts / commit
        inside = self._git("rev-parse", "--show-prefix").strip()
        if not folder.is_dir():
            self._refuse_submodules(commit)
            self._lay_out(commit, folder)
        found = folder / inside
        if not found.is_dir():
            raise SpecError(f"subject.git: {commit[:10]} has no folder {inside}")
        return found

    def clean(self) -> None:
        """Take away what is laid out, whoever left it."""
        shutil.rmtree(self._checkouts, ignore_errors=True)

    def _lay_out(self, commit: str, folder: Path) -> None:
        half, index = folder.with_suffix(".half"), folder.with_suffix(".index")
        shutil.rmtree(half, ignore_errors=True)
        try:
            half.mkdir(parents=True)
            where = ("--git-dir", self._git("rev-parse", "--absolute-git-dir").strip())
            at = (*where, "--work-tree", str(half))
            own = (f"GIT_INDEX_FILE={index}",)
            for words in (("read-tree", commit), ("checkout-index", "--all", "--force")):
                done = _run([*_SURROUNDINGS, *own, "git", *_PLAIN, *at, *words], cwd=half)
                if done.returncode:
                    raise HarnessError(
                        f"{commit[:10]} of {self.folder} could not be laid out in {folder.parent}: "
                        f"{done.stderr.strip()}"
                    )
            half.rename(folder)
        except OSError as error:
            raise HarnessError(
                f"{commit[:10]} of {self.folder} could not be laid out in {folder.parent}: "
                f"{error.strerror or error}"
            ) from error
        finally:
            index.unlink(missing_ok=True)
            shutil.rmtree(half, ignore_errors=True)

    def _refuse_submodules(self, commit: str) -> None:
        entries = self._git("ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
        found = [e.partition("\t")[2] for e in entries if e.startswith(_SUBMODULE)]
        if found:
            raise SpecError(
                f"{commit[:10]} of {self.folder} has submodules ({', '.join(found)}), whose files "
                "are no part of the commit. Lay the versions out yourself, each in a folder with "
                "its submodules, and name the folders in subject.values"
            )

    def _out_of_order(self, good: str, one: str, bad: str, other: str) -> str:
        if self._is_ancestor(other, one):
            return (
                f"{bad} ({other[:10]}) is older than {good} ({one[:10]}): the good version comes "
                f"first, so that it would be {bad} {good}"
            )
        base = self.merge_base(one, other)
        words = f"{bad} ({other[:10]}) does not follow {good} ({one[:10]}) in {self.folder}"
        if base:
            words += f"; both follow {base[:10]}, which may be the good one to begin from"
        return words + self._shallow_words()

    def _shallow_words(self) -> str:
        if self._run("rev-parse", "--is-shallow-repository").stdout.strip() != "true":
            return ""
        return (
            ". The clone is shallow, so that older commits are not there: "
            f"git -C {self.folder} fetch --unshallow --tags"
        )

    def _is_ancestor(self, one: str, other: str) -> bool:
        return self._run("merge-base", "--is-ancestor", one, other).returncode == 0

    def _git(self, *words: str) -> str:
        done = self._run(*words)
        if done.returncode:
            raise SpecError(f"git {' '.join(words)} in {self.folder}: {done.stderr.strip()}")
        return done.stdout

    def _run(self, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        return _run([*_SURROUNDINGS, "git", "-C", str(self.folder), *words], said=said)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].removeprefix("fatal: ") or "git says no more"


def _run(
    command: Sequence[str], *, cwd: Path | None = None, said: str = ""
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            # Names of files and messages are bytes to git, and need not be UTF-8.
            encoding="utf-8",
            errors="replace",
            timeout=_GIT_S,
            check=False,
            cwd=cwd,
            input=said,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpecError(f"{' '.join(command)}: {error}") from error
