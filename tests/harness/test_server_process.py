"""One server process: port, environment, log, health, end."""

from __future__ import annotations

import pickle
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.server_process import (
    MAX_LINE_CHARS,
    NUM_TAIL_LINES,
    ServerCommand,
    ServerProcess,
    ServerState,
    ServerStatus,
    child_environment,
    engine_died,
    fill_in,
    reserve_port,
    too_late,
)

DEADLINE_S = 30.0
HOST = "127.0.0.1"

# A server that takes its port plainly, as the C library offers it: without SO_REUSEADDR.
PLAIN_SERVER = """
import http.server, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 503)
        self.end_headers()
class Server(socketserver.TCPServer):
    allow_reuse_address = False
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def python(script: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", script, *arguments)


@pytest.fixture
def begin() -> Iterator[Callable[..., ServerProcess]]:
    begun: list[ServerProcess] = []

    def start(*argv: str, **options: Any) -> ServerProcess:
        server = ServerProcess(ServerCommand(argv=argv, grace_s=1.0, **options))
        begun.append(server)
        server.begin()
        return server

    yield start
    for server in begun:
        assert server.stop()


def until(server: ServerProcess, *wanted: ServerState) -> ServerStatus:
    seen = ServerState.STARTING
    while True:
        status = server.watch(seen, DEADLINE_S)
        if status.state in wanted:
            return status
        assert status.state not in (seen, ServerState.EXITED), server.tail()
        seen = status.state


def test_a_reserved_port_is_nobody_elses_and_still_the_servers() -> None:
    reservations = [reserve_port(HOST) for _ in range(200)]
    try:
        ports = {port for _, port in reservations}
        assert len(ports) == 200
        with socket.socket() as server, socket.socket() as plain:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((HOST, reservations[0][1]))
            server.listen()
            with socket.create_connection((HOST, reservations[0][1])) as client:
                assert client.getsockname()[1] not in ports
            with pytest.raises(OSError, match="in use"):
                plain.bind((HOST, reservations[1][1]))
    finally:
        for reservation, _ in reservations:
            reservation.close()


def test_only_our_own_names_are_filled_in() -> None:
    values = {"port": "80", "host": "h", "otlp": "http://o"}
    assert fill_in('{"a": {"port": {port}}} {other}', values) == '{"a": {"port": 80}} {other}'


INHERITED = {
    "PATH": "/bin",
    "RAY_JOB_ID": "1",
    "CUDA_VISIBLE_DEVICES": "3",
    "TPU_VISIBLE_CHIPS": "0,1",
    "OMP_NUM_THREADS": "2",
}


def test_a_server_without_chips_sees_none() -> None:
    command = ServerCommand(argv=(), env={"URL": "http://{host}:{port}", "OMP_NUM_THREADS": "4"})
    env = child_environment(command, {"host": "h", "port": "1"}, INHERITED)
    assert env == {
        "PATH": "/bin",
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "URL": "http://h:1",
        "OMP_NUM_THREADS": "4",
    }


def test_a_server_with_chips_sees_those_of_its_bundle() -> None:
    env = child_environment(ServerCommand(argv=(), owns_chips=True), {}, INHERITED)
    assert env["CUDA_VISIBLE_DEVICES"] == "3"
    assert env["TPU_VISIBLE_CHIPS"] == "0,1"
    assert "RAY_JOB_ID" not in env


def test_lines_are_stamped_and_progress_bars_are_lines(begin: Any) -> None:
    script = (
        "import sys; sys.stdout.write('one\\rtwo\\r\\n\\nthree \\xe9\\n');"
        f"sys.stderr.write('x' * {3 * MAX_LINE_CHARS} + '\\nlast')"
    )
    server = begin(*python(script), env={"PYTHONIOENCODING": "utf-8"})
    status = until(server, ServerState.EXITED)
    stamps, texts = zip(*server.lines(), strict=True)
    assert texts[:3] == ("one", "two", "three é")
    assert set(texts[3]) == {"x"}
    assert len(texts[3]) == MAX_LINE_CHARS
    assert texts[-1] == server.tail()[-1] == status.last_line == "last"
    assert 0.0 <= stamps[0] <= stamps[-1] <= DEADLINE_S
    assert list(stamps) == sorted(stamps)
    assert status.started_s is not None
    assert status.first_line_s == pytest.approx(status.started_s + stamps[0])
    assert status.exit_code == 0


def test_the_tail_is_the_end_and_the_lines_are_the_beginning(begin: Any) -> None:
    server = begin(*python(f"for i in range({NUM_TAIL_LINES * 2}): print(i)"))
    until(server, ServerState.EXITED)
    assert [text for _, text in server.lines()] == [str(i) for i in range(NUM_TAIL_LINES * 2)]
    assert server.tail() == tuple(str(i) for i in range(NUM_TAIL_LINES, NUM_TAIL_LINES * 2))


def test_health_is_the_path_that_was_asked_for(begin: Any) -> None:
    server = begin(*python(PLAIN_SERVER, "{port}"), health_path="/ready")
    status = until(server, ServerState.HEALTHY)
    # This one does not set SO_REUSEADDR: our own reservation was in its way, once.
    assert status.retried_s is not None
    assert status.started_s is not None
    assert status.healthy_s is not None
    assert status.retried_s < status.started_s < status.healthy_s
    assert 0.0 < status.healthy_resolution_s < DEADLINE_S
    assert any("Address already in use" in line for line in server.tail())
    assert server.stop()
    assert server.stop()
    assert until(server, ServerState.EXITED).exit_code == 143
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, status.port))


def test_a_port_of_the_servers_own_choice_is_not_tried_again(begin: Any) -> None:
    server = begin(*python("print('Address already in use'); raise SystemExit(3)", "--port=1"))
    status = until(server, ServerState.EXITED)
    assert status.exit_code == 3
    assert status.retried_s is None


def test_a_host_that_is_not_ours_is_told(begin: Any) -> None:
    server = begin(*python("pass"), host="192.0.2.1")  # a documentation address: nobody's
    assert until(server, ServerState.EXITED).exit_code == 127
    assert "cannot be started" in server.tail()[-1]


def test_stop_comes_before_begin_or_at_once_after_it() -> None:
    command = ServerCommand(argv=python("import time; time.sleep(1000)"), grace_s=1.0)
    early, soon = ServerProcess(command), ServerProcess(command)
    assert early.stop()
    early.begin()
    soon.begin()
    assert soon.stop()
    for server in (early, soon):
        assert until(server, ServerState.EXITED).exit_code == 143


def test_what_is_raised_says_what_was_printed() -> None:
    status = ServerStatus(
        state=ServerState.EXITED, elapsed_s=9.0, exited_s=2.5, exit_code=139, healthy_s=None
    )
    error = engine_died("startup", status, ("a", "b"))
    assert str(error) == (
        "the server ended with exit code 139, killed by signal 11 before it was healthy, "
        "2.5 s after its start. Its last line: b"
    )
    late = too_late("startup", "the server to be healthy", (), 4.0)
    assert str(late) == (
        "waited in vain for the server to be healthy within deadlines.startup_s = 4 s. "
        "It printed nothing."
    )
    again = pickle.loads(pickle.dumps(error))
    assert (again.stage, again.log_tail, str(again)) == ("startup", ("a", "b"), str(error))
