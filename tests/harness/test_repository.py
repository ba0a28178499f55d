"""Versions from a real git repository: how commits are named, ordered and laid out, and that
nothing of the user's is touched."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.nightly.repository import Repository


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path, number: int, title: str = "") -> str:
    (folder / "train.py").write_text(f"print({number})\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", title or f"c{number}\n\nMore words.")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def code(tmp_path: Path) -> tuple[Path, list[str]]:
    """``c0 - c1 - c2 - merge - c4`` on main, ``c1 - s1 - s2`` merged."""
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "inner").mkdir()
    (folder / "inner" / "data.txt").write_text("kept\n")
    (folder / ".gitattributes").write_text("inner export-ignore\n")
    made = [commit(folder, 0), commit(folder, 1)]
    git(folder, "tag", "-a", "v1", "-m", "one")
    git(folder, "checkout", "-q", "-b", "side")
    (folder / "side.py").write_text("1\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "s1")
    (folder / "side.py").write_text("2\n")
    git(folder, "commit", "-q", "-am", "s2")
    git(folder, "checkout", "-q", "main")
    made.append(commit(folder, 2))
    git(folder, "merge", "-q", "--no-ff", "-m", "merge side", "side")
    made.append(git(folder, "rev-parse", "HEAD"))
    made.append(commit(folder, 4))
    return folder, made


@pytest.fixture
def repository(code: tuple[Path, list[str]], tmp_path: Path) -> Repository:
    return Repository(code[0], tmp_path / "home" / "checkouts")


def test_any_name_of_a_commit_is_known(
    repository: Repository, code: tuple[Path, list[str]]
) -> None:
    _, made = code
    for name in ("HEAD", "main", made[4], made[4][:8]):
        assert repository.commit(name) == made[4]
    assert repository.commit("v1") == made[1]  # an annotated tag is no commit itself
    assert repository.titles([made[4], made[1]]) == {made[4]: "c4", made[1]: "c1"}
    for wrong in ("v2", "", "--all", "HEAD~99", "deadbeef"):
        with pytest.raises(SpecError, match="has no such commit"):
            repository.commit(wrong)


def test_versions_go_along_the_first_parents(
    repository: Repository, code: tuple[Path, list[str]]
) -> None:
    folder, made = code
    assert repository.between("v1", "main") == tuple(made[2:])
    # From a commit that came in by the merge: what the main line was before it never had that.
    assert repository.between("side", "main") == tuple(made[3:])
    assert repository.between(made[1], "side") == (
        git(folder, "rev-parse", "side~1"),
        git(folder, "rev-parse", "side"),
    )
    assert repository.parents(made[3]) == (made[2], git(folder, "rev-parse", "side"))


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ("main", "v1", r"v1 \(\w{10}\) is older than main .*would be v1 main"),
        ("v1", "v1~0", "are the same commit"),
        ("side", "main~2", r"does not follow side .*; both follow \w{10}"),
        ("v1", "nobody", "nobody: .* has no such commit"),
    ],
)
def test_what_cannot_be_halved_says_why(
    repository: Repository, good: str, bad: str, says: str
) -> None:
    with pytest.raises(SpecError, match=says):
        repository.between(good, bad)


def test_a_shallow_clone_is_named(code: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, made = code
    git(tmp_path, "clone", "-q", "--depth", "1", folder.as_uri(), "shallow")
    shallow = Repository(tmp_path / "shallow", tmp_path / "checkouts")
    with pytest.raises(SpecError, match=r"no such commit.*shallow.*fetch --unshallow"):
        shallow.between(made[0], "main")
    git(tmp_path / "shallow", "fetch", "-q", "--depth", "1", "origin", "tag", "v1")
    with pytest.raises(SpecError, match=r"does not follow.*shallow"):
        shallow.between("v1", "main")
    assert (shallow.laid_out(made[4]) / "train.py").read_text() == "print(4)\n"


def test_a_folder_that_is_no_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"subject\.git: .*not a git repository"):
        Repository(tmp_path, tmp_path / "checkouts").commit("HEAD")


def test_the_users_own_things_are_not_touched(
    repository: Repository, code: tuple[Path, list[str]]
) -> None:
    folder, made = code
    (folder / "train.py").write_text("mine\n")
    (folder / "new.py").write_text("mine too\n")
    git(folder, "add", "new.py")
    hooks = folder / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-checkout", "post-index-change"):
        (hooks / name).write_text("#!/bin/sh\ntouch hook-ran\n")
        (hooks / name).chmod(0o755)
    git(folder, "config", "core.sparseCheckout", "true")
    (folder / ".git" / "info").mkdir(exist_ok=True)
    (folder / ".git" / "info" / "sparse-checkout").write_text("/side.py\n")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    assert repository.has_changes()
    old = repository.laid_out(made[0])
    assert (old / "train.py").read_text() == "print(0)\n"
    assert not (old / "side.py").exists() and not (old / ".git").exists()
    # ``git archive`` would have left this out.
    assert (old / "inner" / "data.txt").read_text() == "kept\n"
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    assert git(folder, "worktree", "list").count("\n") == 0


def test_a_folder_of_a_repository_keeps_its_surroundings(
    code: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, made = code
    inner = Repository(folder / "inner", tmp_path / "checkouts").laid_out(made[4])
    assert inner.name == "inner" and (inner.parent / "train.py").is_file()


def test_what_a_killed_one_left_is_cleaned(
    repository: Repository, code: tuple[Path, list[str]], tmp_path: Path
) -> None:
    _, made = code
    checkouts = tmp_path / "home" / "checkouts"
    (checkouts / f"{made[0]}.half").mkdir(parents=True)
    (checkouts / f"{made[0]}.half" / "torn.py").write_text("")
    laid = repository.laid_out(made[0])
    assert not (laid / "torn.py").exists()
    assert [p.name for p in checkouts.iterdir()] == [made[0]]
    repository.clean()
    assert not checkouts.exists()
    repository.clean()  # nothing there is no error


def test_submodules_are_named(code: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, made = code
    words = ("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(folder))
    git(folder, *words, "third_party/engine")
    git(folder, "commit", "-q", "-m", "with a submodule")
    repository = Repository(folder, tmp_path / "checkouts")
    with pytest.raises(SpecError, match=r"has submodules \(third_party/engine\)"):
        repository.laid_out(repository.commit("HEAD"))
    assert repository.laid_out(made[0]).is_dir()
