"""One rank's part of a command: start its process, relay what it says of its steps, end it."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import sys
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from results.clock import SystemClock
from workloads.base import JOB_FIRST_STEP, OwnProcess, TrainFacts, TrainPhase, TrainRank
from workloads.command import num_reporting
from workloads.command_argv import command_line, fill_in, rank_environment, steps_from
from workloads.errors import TrainingFailed
from workloads.host_memory import killed_for_memory, memory_seen
from workloads.params import CommandWorkload
from workloads.script_end import KILLED, why_ended
from workloads.step_lines import (
    Imported,
    NotReadable,
    Said,
    compiled,
    read_json_line,
    read_log_line,
)
from workloads.step_series import StepSeries, TokenRule

CALLBACK_DIR = str(Path(__file__).with_name("callback"))
POLL_S = 0.02  # between two looks at a file of steps
TELL_S = 1.0  # between two reports of the process's last lines
NUM_TAIL_LINES = 40
NUM_TOLD_LINES = 15
ENDED = "ended"
OWN_PREFIX = "[rank0]:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """What all ranks agree on: where the script's ranks meet, and the folder of their steps."""

    host: str
    port: int
    folder: Path

    @classmethod
    def of(cls, rank: TrainRank) -> tuple[Meeting, socket.socket | None]:
        """Rank 0 decides. Its socket keeps others off the port until the script binds it too: it
        never listens and has SO_REUSEADDR, as torch's own has."""
        held = None
        said = ""
        if rank.rank == 0:
            held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("", 0))
            port, token = held.getsockname()[1], secrets.token_hex(6)
            said = json.dumps([rank.address, port, token])
        host, port, token = json.loads(rank.from_rank_zero(said))
        folder = Path(rank.scratch_dir) / f"windtunnel-steps-{token}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(host=host, port=port, folder=folder), held


def run(params: CommandWorkload, rank: TrainRank) -> None:
    """Until the script has ended, or every rank has made ``num_steps`` steps. Raises
    TrainingFailed, its kinds included; a note on it holds the process's last lines."""
    meeting, held = Meeting.of(rank)
    watch = Watch(params, rank, meeting)
    try:
        watch.start()
        watch.until_over()
        rank.from_rank_zero("over")  # nobody's folder goes while another rank reads it
    finally:
        watch.end()
        shutil.rmtree(meeting.folder, ignore_errors=True)
        if held is not None:
            held.close()


class Watch:
    """One rank's process, its steps and its last lines."""

    def __init__(self, params: CommandWorkload, rank: TrainRank, meeting: Meeting) -> None:
        self._params, self._rank, self._meeting = params, rank, meeting
        clock = SystemClock()
        self._clock = clock
        self._offset_s = clock.monotonic_s() - rank.now_s()
        self._reports = rank.rank < num_reporting(params)
        self._pattern = compiled(params.log_pattern) if params.log_pattern else None
        rule = TokenRule(
            num_ranks=rank.world_size,
            num_reporting=num_reporting(params),
            tokens_per_step=params.tokens_per_step,
        )
        self._series = self._series_from(rule, rank.now_s())
        self._rule = rule
        self._file = None if self._pattern else FileTail(self._steps_path())
        self._process: OwnProcess | None = None
        self._tail: deque[str] = deque(maxlen=NUM_TAIL_LINES)
        self._tail_told_s = 0.0
        self._tail_is_news = False
        # The last one may have been read in the moment after a kill that is not heard of yet.
        self._memory = deque([memory_seen()], maxlen=2)
        self._all_enough = threading.Event()
        self._waits = self._judged = False

    def _series_from(self, rule: TokenRule, began_s: float) -> StepSeries:
        return StepSeries(rule, self._params.num_warmup_steps, began_s, self._rank.job_first_step)

    @property
    def _starts(self) -> bool:
        return self._params.launcher == "plain" or self._rank.local_rank == 0

    def _steps_path(self) -> Path:
        if self._params.jsonl:
            path = Path(fill_in(self._params.jsonl, self._values()))
            return path if path.is_absolute() else Path(self._params.cwd or ".") / path
        return self._meeting.folder / f"steps-{self._rank.rank}.jsonl"

    def _values(self) -> Mapping[str, str]:
        rank, meeting = self._rank, self._meeting
        return {
            "python": self._params.python or sys.executable,
            "num_workers": str(rank.world_size),
            "num_nodes": str(-(-rank.world_size // rank.local_world_size)),
            "master_address": meeting.host,
            "master_port": str(meeting.port),
            "node_rank": str(rank.node_rank),
            "local_num_workers": str(rank.local_world_size),
            "rank": str(rank.rank),
            "local_rank": str(rank.local_rank),
        }

    def start(self) -> None:
        """Start the process, where it is this rank that does; tell of it."""
        facts = {
            "launcher": self._params.launcher,
            "steps_from": steps_from(self._params),
            "num_steps": self._params.num_steps,
        }
        self._rank.report(TrainFacts(facts))
        if not self._starts:
            return
        values = self._values()
        argv = [fill_in(word, values) for word in command_line(self._params, values)]
        if self._params.launcher == "torchrun" and self._pattern:
            logs = ["--role", "rank", "--tee", "3", "--log-dir", str(self._meeting.folder / "logs")]
            argv[3:3] = logs
        env = {name: fill_in(text, values) for name, text in self._params.env.items()}
        env |= {"WINDTUNNEL_STEPS": str(self._meeting.folder / "steps-{rank}.jsonl")}
        if self._params.launcher == "plain":
            env |= rank_environment(values)
        asked_s = self._rank.now_s()
        try:
            self._process = self._rank.start_process(argv, env, self._params.cwd, (CALLBACK_DIR,))
        except OSError as error:
            raise TrainingFailed(f"{argv[0]} cannot be started: {error}") from None
        self._series = self._series_from(self._rule, self._process.started_s)
        self._rank.report(TrainPhase("process start", asked_s, self._process.started_s))

    def until_over(self) -> None:
        """Relay until the process has ended well, or every rank has enough steps."""
        while True:
            code = self._process.exit_code() if self._process is not None else self._others_code()
            self._relay()
            if self._all_enough.is_set():
                self._tell_tail(is_last=True)
                return
            if code is not None:
                self._relay()  # what was written between the last look and the end
                if not self._judge_end(code):
                    self._tell_tail(is_last=True)
                    return
            self._tell_tail()

    def _relay(self) -> None:
        """Read what there is, waiting a moment for more."""
        if self._process is not None:
            for seen_s, line in self._process.lines(POLL_S):
                self._tail.append(line)
                self._tail_is_news = True
                if self._pattern is not None and self._reports:
                    self._take_log_line(line, seen_s)
        else:
            self._clock.sleep(POLL_S)
        if self._file is not None and self._reports:
            for line in self._file.read():
                try:
                    said = read_json_line(line)
                except NotReadable as error:
                    self._fail(f"a line of {self._file.path.name} cannot be read: {error}")
                self._take(said, self._rank.now_s())
        if self._has_enough() and not self._waits:
            self._waits = True
            threading.Thread(target=self._await_peers, daemon=True).start()

    def _take_log_line(self, line: str, seen_s: float) -> None:
        assert self._pattern is not None
        if line.startswith("[rank") and not line.startswith(OWN_PREFIX):
            return  # of another rank, by torchrun's prefix
        try:
            self._take(read_log_line(self._pattern, line), seen_s)
        except NotReadable as error:
            self._fail(f"workload.log_pattern found a step in {line[:200]!r}, and {error}")

    def _take(self, said: Said | Imported | None, seen_s: float) -> None:
        if said is None or (self._params.num_steps and self._has_enough()):
            return
        if isinstance(said, Imported):
            self._series.imported(said, self._offset_s)
            began_s = self._process.started_s if self._process is not None else 0.0
            self._rank.report(TrainPhase("script start", began_s, said.at_s - self._offset_s))
            return
        try:
            step = self._series.add(said, seen_s, self._offset_s)
        except TrainingFailed as error:
            error.add_note(self._note())
            raise
        if step is None:
            return
        if self._series.num_here > 1:
            self._rank.report(step)
            return
        self._rank.report(TrainPhase("first step", step.start_s, step.start_s + step.duration_s))
        self._rank.report(step)
        first = {JOB_FIRST_STEP: self._series.job_first, "steps_numbered": said.is_own_number}
        self._rank.report(TrainFacts(first))

    def _has_enough(self) -> bool:
        wanted = self._params.num_steps
        return bool(wanted) and (not self._reports or self._series.num_steps >= wanted)

    def _await_peers(self) -> None:
        """Every rank has its steps when this returns: no process is ended in another's step."""
        self._rank.from_rank_zero("enough")
        self._all_enough.set()

    def _others_code(self) -> int | None:
        """The exit code of the node's torchrun, which another rank of this node watches."""
        with suppress(OSError, ValueError):
            return int((self._meeting.folder / ENDED).read_text())
        return None

    def _judge_end(self, code: int) -> bool:
        """The process has ended. Whether to go on, waiting for peers that are still at work."""
        if self._judged:
            return True
        self._judged = True
        if self._process is not None:
            self._rank.report(TrainFacts({"exit_code": code}))
            (self._meeting.folder / ENDED).write_text(str(code))
        if code != 0:
            if self._process is None:
                return True  # who watches torchrun tells why; until then there is nothing to add
            self._fail_with_code(code)
        wanted = self._params.num_steps
        if self._has_enough():
            return True
        if self._reports:
            made = self._series.num_steps
            if made == 0:
                self._fail(f"the script ended well and told of no step; {self._hint()}")
            if made < wanted:
                self._fail(f"the script ended after {made} of workload.num_steps = {wanted} steps")
            self._rank.report(TrainFacts({"num_steps": made}))
        return False

    def _hint(self) -> str:
        if self._pattern is not None:
            return f"no line of its log has workload.log_pattern {self._params.log_pattern!r}"
        if self._params.jsonl:
            return f"nothing was written to {self._steps_path()}"
        return "it must call windtunnel_step.step() after each, or give log_pattern or jsonl"

    def _tell_tail(self, *, is_last: bool = False) -> None:
        """Now and then, and the last words whenever they fall."""
        now_s = self._rank.now_s()
        if not (is_last or now_s - self._tail_told_s >= TELL_S):
            return
        self._tail_told_s = now_s
        if not is_last:
            self._memory.append(memory_seen())
        if self._tail_is_news:
            self._tail_is_news = False
            self._rank.report(TrainFacts({"log_tail": list(self._tail)[-NUM_TOLD_LINES:]}))

    def _fail_with_code(self, code: int) -> NoReturn:
        killed = None
        if code == KILLED:
            killed = killed_for_memory(self._memory[0], memory_seen())
        error = why_ended(code, tuple(self._tail), killed, self._memory[-1])
        error.add_note(self._note())
        raise error

    def _fail(self, message: str) -> NoReturn:
        error = TrainingFailed(message)
        error.add_note(self._note())
        raise error

    def _note(self) -> str:
        """Indented, so that nobody takes a line of it for the error itself."""
        return "\n".join(f"  | {line}" for line in self._tail)

    def end(self) -> None:
        if self._process is not None:
            self._process.end()


class FileTail:
    """Whole lines as they are added to a file that need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0
        self._rest = b""

    def read(self) -> list[str]:
        """A file made anew under the name, and so shorter, is read from its beginning."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self._at:
                    self._at, self._rest = 0, b""
                file.seek(self._at)
                chunk = file.read()
        except OSError:
            return []
        self._at += len(chunk)
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        return [line.decode(errors="replace") for line in whole if line.strip()]
