"""Studies that several processes share, on a journal file, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, RDBStorage

from results.lost import this_process
from results.testing import FakeClock
from tuners.errors import StorageLost, StudyError
from tuners.goals import Reading, Wish
from tuners.lease import LEASE_S, Leases
from tuners.optuna_study import OptunaSearcher, sampler_named
from tuners.outcome import Measured
from tuners.seeds import key
from tuners.space import Branch
from tuners.study_storage import close_storage, kept_at, storage_at

MEASURED = Measured(reading=Reading(goals={"output_throughput": 1.0}, bounds={"ttft_s_p99": 0.1}))

# The branch and the wish of conftest, in a process of its own: asks, says so, and waits for orders.
PEER = """
import sys
from tuners.goals import Bound, Goal, Reading, Wish
from tuners.optuna_study import OptunaSearcher, sampler_named
from tuners.study_storage import storage_at
from tuners.outcome import Measured
from tuners.space import Categorical, Knob, Ordinal, Space

goals = (Goal(metric="output_throughput"),)
bounds = (Bound(metric="ttft_s", statistic="p99", limit=0.5, margin=0.1),)
knobs = (
    Knob(path="seqs", domain=Ordinal(values=(None, 1, 2, 4, 8, 16))),
    Knob(path="chunked", domain=Categorical(values=(True, False))),
)
branch, wish = Space(knobs=knobs).branches()[0], Wish(goals=goals, bounds=bounds)
answer = Measured(reading=Reading(goals={"output_throughput": 1.0}, bounds={"ttft_s_p99": 0.1}))
for line in sys.stdin:
    url, num, tells = line.split()
    sampler = sampler_named("random", seed=1, num_trials=20)
    searcher = OptunaSearcher(branch, wish, name="s", sampler=sampler, storage=storage_at(url))
    numbers = []
    for _ in range(int(num)):
        numbers.append(searcher.ask().number)
        if tells == "tell":
            searcher.tell(numbers[-1], answer)
            searcher.reclaim()
    print(*numbers, flush=True)
"""


@pytest.fixture(scope="module")
def postgres(require: Callable[[bool, str], None]) -> Iterator[str]:
    """The URL of an empty database of a server of our own, on a socket in a folder of ours."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    require(bool(found), "PostgreSQL's server: Debian's package postgresql")
    psycopg = pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="windtunnel-pg-"))  # pytest's own lets root alone pass
    user = _unprivileged(folder)
    bin_ = found[-1].parent

    def run(*words: str) -> None:
        subprocess.run(words, user=user, check=True, capture_output=True, cwd="/", timeout=60)

    data = f"{folder}/data"
    run(str(bin_ / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    control = [str(bin_ / "pg_ctl"), "-D", data, "-w", "-l", f"{folder}/log"]
    run(*control, "-o", options, "start")
    try:
        psycopg.connect(host=str(folder), user="postgres", dbname="postgres").close()
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        run(*control, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def _unprivileged(folder: Path) -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return None
    user = pwd.getpwnam("postgres")
    shutil.chown(folder, user.pw_uid, user.pw_gid)
    return user.pw_name


_OPENED: list[BaseStorage] = []


def opened(url: str) -> BaseStorage:
    """Closed when the test ends."""
    _OPENED.append(storage_at(url))
    return _OPENED[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _OPENED:
        close_storage(_OPENED.pop())


@pytest.fixture(params=["journal", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres")
        storage = opened(url)
        assert isinstance(storage, RDBStorage)
        with storage.engine.begin() as connection:
            connection.exec_driver_sql("TRUNCATE studies CASCADE")
        return url
    return f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else f"{tmp_path}/s.journal"


def searcher(branch: Branch, wish: Wish, url: str, leases: Leases | None = None) -> OptunaSearcher:
    sampler = sampler_named("random", seed=2, num_trials=20)
    storage = opened(url)
    return OptunaSearcher(branch, wish, name="s", sampler=sampler, storage=storage, leases=leases)


@pytest.fixture(scope="module")
def peers() -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes; the test that kills one is given another by ``ask``."""
    made: list[subprocess.Popen[str]] = [_peer(), _peer()]
    yield made
    for process in made:
        process.kill()
        process.communicate()


def _peer() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def order(peer: subprocess.Popen[str], url: str, num: int, tells: str = "keep") -> None:
    assert peer.stdin is not None
    peer.stdin.write(f"{url} {num} {tells}\n")
    peer.stdin.flush()


def numbers(peer: subprocess.Popen[str]) -> list[int]:
    assert peer.stdout is not None
    return [int(word) for word in peer.stdout.readline().split()]


def test_two_processes_share_a_study(
    branch: Branch, wish: Wish, url: str, peers: list[subprocess.Popen[str]]
) -> None:
    ours = searcher(branch, wish, url)
    for peer in peers:
        order(peer, url, 5, "tell")
    for _ in range(5):
        ours.tell(ours.ask().number, MEASURED)
        assert ours.reclaim() == 0  # those that live keep what they asked for
    seen = [n for peer in peers for n in numbers(peer)]
    assert len(set(seen)) == 10
    study = optuna.load_study(study_name="s", storage=opened(url))
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 15


def test_what_a_killed_process_asked_for_is_asked_again_once(
    branch: Branch, wish: Wish, url: str, peers: list[subprocess.Popen[str]]
) -> None:
    victim = peers.pop()
    peers.append(_peer())
    order(victim, url, 2)
    left = numbers(victim)
    ours, other = searcher(branch, wish, url), searcher(branch, wish, url)
    open_ = ours.open_trials()
    assert set(open_) == set(left)
    assert ours.reclaim() == 0
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert ours.reclaim() + other.reclaim() == 2
    again = [ours.ask(), other.ask()]
    assert {key(a.config) for a in again} == {key(config) for config in open_.values()}
    assert {a.number for a in again}.isdisjoint(left)
    for one, asked in zip((ours, other), again, strict=True):
        one.tell(asked.number, MEASURED)
    assert ours.open_trials() == {}


def test_a_silent_host_is_waited_for_and_may_come_back(
    branch: Branch, wish: Wish, tmp_path: Path
) -> None:
    """It is taken for gone after a lease, and what it then tells is heard by nobody, quietly."""
    url, clock = f"{tmp_path}/s.journal", FakeClock()
    far = replace(this_process(), host="far/1", boot_id="far/1")
    theirs = searcher(branch, wish, url, Leases(clock, me=far))
    asked = theirs.ask()
    theirs.beat()
    ours = searcher(branch, wish, url, Leases(clock))
    assert ours.reclaim() == 0
    clock.advance(LEASE_S - 1)
    theirs.beat()
    assert ours.reclaim() == 0
    clock.advance(LEASE_S)
    assert ours.reclaim() == 1
    assert key(ours.ask().config) == key(asked.config)
    theirs.tell(asked.number, MEASURED)
    with pytest.raises(StudyError):
        theirs.tell(asked.number, MEASURED)


def test_a_journal_that_a_crash_cut_off_goes_on(branch: Branch, wish: Wish, tmp_path: Path) -> None:
    path = tmp_path / "s.journal"
    first = searcher(branch, wish, str(path))
    first.tell(first.ask().number, MEASURED)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":6,"wor')
    second = searcher(branch, wish, str(path))
    second.tell(second.ask().number, MEASURED)
    third = optuna.load_study(study_name="s", storage=opened(str(path)))
    assert [t.state.name for t in third.trials] == ["COMPLETE"] * 2
    assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize(
    "url", ["postgresql://nobody@127.0.0.1:1/none", "nonsense://x", "sqlite:////proc/none/s.db"]
)
def test_a_storage_that_is_not_there_is_named_without_its_password(url: str) -> None:
    with pytest.raises(StudyError, match="no study storage at"):
        storage_at(url.replace("nobody@", "nobody:secret@"))
    try:
        storage_at(url.replace("nobody@", "nobody:secret@"))
    except StudyError as error:
        assert "secret" not in str(error)


def test_a_storage_that_is_lost_is_no_fault_of_who_asked(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    with pytest.raises(StorageLost, match=r"was lost: .*--resume goes on"), kept_at(url) as storage:
        with storage.engine.begin() as connection:  # type: ignore[attr-defined]
            connection.exec_driver_sql("DROP TABLE studies")
        storage.get_all_studies()


def test_a_server_that_is_not_there_is_said_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StorageLost) as lost:
        storage_at("postgresql://me:hush@127.0.0.1:1/studies")
    assert "127.0.0.1:1/studies" in str(lost.value) and "hush" not in str(lost.value)
    with pytest.raises(StudyError, match="PostgreSQL's is postgresql://") as wrong:
        storage_at("postgres://me:hush@127.0.0.1:1/studies")
    assert not isinstance(wrong.value, StorageLost) and "hush" not in str(wrong.value)
