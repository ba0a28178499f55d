"""The C server speaks HTTP and SSE as clients read them, and its diary tells what it did."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.process import Seat, Server, build, paced_server, run_weighed
from benchmarks.truth import Diary, read_diary, truth_of

pytestmark = pytest.mark.alone

FAST = ("--ttft-us", "2000", "--itl-us", "1000")


@pytest.fixture(autouse=True)
def _compiler(require: Callable[[bool, str], None]) -> None:
    require(shutil.which("cc") is not None, "a C compiler, to build the paced server")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.bin"


def request(api: str = "completions", **fields: Any) -> bytes:
    body = json.dumps({"model": "m", "stream": True, **fields}).encode()
    head = f"POST /v1/{api} HTTP/1.1\r\nHost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Wire:
    """One connection, read answer by answer."""

    def __init__(self, server: Server) -> None:
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self.file = self.sock.makefile("rb")

    def head(self) -> tuple[int, dict[str, str]]:
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline().strip()) and b":" in line:
            name, value = line.decode().split(": ", 1)
            headers[name.lower()] = value
        return status, headers

    def stream(self) -> list[Any]:
        """The events of a chunked answer; [DONE] is left out but must be there."""
        status, headers = self.head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        raw = b""
        while size := int(self.file.readline(), 16):
            raw += self.file.read(size)
            assert self.file.readline() == b"\r\n"
        assert self.file.readline() == b"\r\n"
        *events, done, rest = raw.split(b"\n\n")
        assert (done, rest) == (b"data: [DONE]", b"")
        return [json.loads(event.removeprefix(b"data: ")) for event in events]

    def small(self) -> tuple[int, Any]:
        status, headers = self.head()
        body = self.file.read(int(headers["content-length"]))
        return status, json.loads(body) if body else None

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@pytest.fixture
def wire(log: Path) -> Iterator[Wire]:
    with paced_server(log, options=FAST) as server:
        made = Wire(server)
        yield made
        made.close()


def test_a_completion_streams_its_tokens_then_its_usage(wire: Wire) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    wire.sock.sendall(request(prompt=[5, 6, 7], max_tokens=3, stream_options=options))
    *tokens, usage = wire.stream()
    assert [t["choices"][0]["text"] for t in tokens] == [" s"] * 3
    assert [t["choices"][0]["finish_reason"] for t in tokens] == [None, None, "length"]
    assert [t["usage"]["completion_tokens"] for t in tokens] == [1, 2, 3]
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "total_tokens": 6, "completion_tokens": 3}


def test_a_chat_says_its_role_first_and_no_usage_unasked(wire: Wire) -> None:
    messages = [{"role": "user", "content": 'say "max_tokens": 9 twice'}]
    wire.sock.sendall(request("chat/completions", messages=messages, max_completion_tokens=2))
    role, *tokens = wire.stream()
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [t["choices"][0]["delta"]["content"] for t in tokens] == [" s", " s"]


def test_requests_in_pieces_and_in_one_piece_are_the_same(wire: Wire) -> None:
    for byte in request(prompt="a b", max_tokens=1):
        wire.sock.sendall(bytes([byte]))
    assert len(wire.stream()) == 1
    get = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    two = request(prompt="a" * 300_000, max_tokens=2) + request(prompt="b", max_tokens=3)
    wire.sock.sendall(two + get)
    assert len(wire.stream()) == 2
    assert len(wire.stream()) == 3
    assert wire.small() == (200, None)


def test_models_say_that_they_are_simulated_and_nonsense_is_refused(wire: Wire) -> None:
    wire.sock.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
    status, models = wire.small()
    assert status == 200
    assert [(m["id"], m["owned_by"]) for m in models["data"]] == [("m", "simulated")]
    wire.sock.sendall(request(prompt=[1], max_tokens=0) + request(prompt=[1], stream=False))
    wire.sock.sendall(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n")
    assert [wire.small()[0] for _ in range(3)] == [400, 400, 404]


def test_the_diary_has_every_request_and_who_hung_up(log: Path) -> None:
    with paced_server(log, options=FAST) as server:
        wire, leaver = Wire(server), Wire(server)
        leaver.sock.sendall(request(prompt=[1], max_tokens=100_000))
        assert leaver.file.readline().startswith(b"HTTP/1.1 200")
        leaver.close()
        wire.sock.sendall(request(prompt=[1], max_tokens=5))
        assert len(wire.stream()) == 5
        wire.close()
    diary = read_diary(log)
    assert sorted(zip(diary.asked_tokens, diary.is_complete, strict=True)) == [
        (5, True),
        (100_000, False),
    ]
    truth = truth_of(diary, num_tokens=5, ttft_s=0.002, itl_s=0.001)
    assert truth.num_complete == 1
    # Never early: every token at or after its due time.
    assert truth.ttft_s is not None and truth.ttft_s.p50 >= 0.002
    assert truth.late_p99_s is not None and truth.late_p99_s >= 0


def test_a_noop_answer_is_whole_at_once(log: Path) -> None:
    with paced_server(log, options=("--noop",)) as server:
        wire = Wire(server)
        wire.sock.sendall(request(prompt=[1], max_tokens=50) * 3)
        assert [len(wire.stream()) for _ in range(3)] == [50, 50, 50]
        wire.close()
    diary: Diary = read_diary(log)
    assert diary.num_requests == len(diary.time_s) == 3
    assert diary.is_noop.all()


def test_the_c_client_and_the_server_agree(log: Path, tmp_path: Path) -> None:
    """The two C programs know nothing of each other but HTTP; what one sent the other has."""
    with paced_server(log, options=FAST) as server:
        command = [str(build("epoll_client")), "--port", str(server.port), "--users", "1100"]
        weighed = run_weighed(
            [*command, "--seconds", "0.1", "--tokens", "4"],
            seat=Seat(),
            sampler_core=None,
            timeout_s=60.0,
            output=tmp_path / "output.txt",
            cwd=tmp_path,
        )
    said = json.loads((tmp_path / "output.txt").read_text())
    diary = read_diary(log)
    assert weighed.exit_code == 0
    assert (said["failed"], said["unanswered"], said["connections"]) == (0, 0, 1100)
    assert said["answered"] == diary.num_requests >= 1100
    assert said["tokens"] == len(diary.time_s)
    assert said["itl_s"]["n"] == 3 * said["measured"]


def test_a_program_that_does_not_end_is_ended_with_all_it_started(tmp_path: Path) -> None:
    script = "sleep 60 & echo $! > child; wait"
    weighed = run_weighed(
        ["sh", "-c", script],
        seat=Seat(nice=1),
        sampler_core=None,
        timeout_s=0.3,
        output=tmp_path / "output.txt",
        cwd=tmp_path,
    )
    assert weighed.exit_code is None
    assert weighed.max_processes >= 1
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "child").read_text()), 0)


def test_the_weight_of_a_program_counts_its_children(tmp_path: Path) -> None:
    burn = "import time; t = time.process_time()\nwhile time.process_time() < t + 0.2: pass"
    (tmp_path / "burn.py").write_text(burn)
    weighed = run_weighed(
        ["sh", "-c", f"{sys.executable} burn.py; {sys.executable} burn.py"],
        seat=Seat(),
        sampler_core=None,
        timeout_s=60.0,
        output=tmp_path / "output.txt",
        cwd=tmp_path,
    )
    assert weighed.exit_code == 0
    assert weighed.cpu_s >= 0.4
    assert weighed.cpu_until(weighed.started_s) == 0.0
    assert weighed.cpu_until(weighed.started_s + weighed.wall_s) == pytest.approx(weighed.cpu_s)


def test_a_wrong_option_is_said() -> None:
    done = subprocess.run(
        [build("paced_server"), "--ttft-ms", "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "unknown option --ttft-ms" in done.stderr
