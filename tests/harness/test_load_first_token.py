import socket
import threading
import time

import pytest

from harness.load.driver import HttpLoadDriver
from workloads.base import ServerTarget
from workloads.simulated.answers import Behaviour
from workloads.simulated.golden_server import GoldenServer, golden_server
from workloads.simulated.transport import Exchange

pytestmark = pytest.mark.alone


def bound() -> socket.socket:
    """A port that is ours and refuses connections."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_the_first_token_is_timed(api: str) -> None:
    with golden_server(Behaviour(ttft_s=0.1, itl_s=0.05)) as server:
        begun_s = time.monotonic()
        seen = HttpLoadDriver().first_token(server.target, 10.0, api)
        ended_s = time.monotonic()
    assert (seen.status, seen.error) == (200, "")
    assert seen.ttft_s is not None
    assert seen.seen_s is not None
    assert 0.1 <= seen.ttft_s <= ended_s - begun_s
    # Not the end of the answer: seven more tokens followed.
    assert begun_s + 0.1 <= seen.seen_s <= ended_s - 7 * 0.05 + 0.005


def test_it_waits_for_a_server_that_is_not_up_yet() -> None:
    up_after_s = 0.5
    with golden_server(Behaviour(ttft_s=0.01)) as server:
        with bound() as front:
            target = ServerTarget(
                base_url=f"http://127.0.0.1:{front.getsockname()[1]}", model="simulated"
            )
            relay = Relay(front, server.port)
            timer = threading.Timer(up_after_s, relay.start)
            begun_s = time.monotonic()
            timer.start()
            seen = HttpLoadDriver().first_token(target, 20.0)
            timer.join()
        relay.join()
    assert seen.error == ""
    assert seen.ttft_s is not None
    assert seen.seen_s is not None
    assert seen.seen_s - begun_s >= up_after_s
    assert seen.ttft_s < seen.seen_s - begun_s - 0.3  # counts from the attempt, not the waiting


class Relay(threading.Thread):
    """Begins to listen on ``front`` when started; passes one connection on to ``port``."""

    def __init__(self, front: socket.socket, port: int) -> None:
        super().__init__(daemon=True)
        self.front, self.port = front, port

    def run(self) -> None:
        self.front.listen()
        near, _ = self.front.accept()
        far = socket.create_connection(("127.0.0.1", self.port))
        back = threading.Thread(target=self.copy, args=(far, near), daemon=True)
        back.start()
        self.copy(near, far)
        back.join()
        near.close()
        far.close()

    @staticmethod
    def copy(source: socket.socket, sink: socket.socket) -> None:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def test_nobody_there_until_the_end_says_so() -> None:
    with bound() as front:
        target = ServerTarget(base_url=f"http://127.0.0.1:{front.getsockname()[1]}", model="m")
        begun_s = time.monotonic()
        seen = HttpLoadDriver().first_token(target, 0.4)
        assert 0.4 <= time.monotonic() - begun_s < 10.0
    assert (seen.ttft_s, seen.seen_s, seen.status) == (None, None, -1)
    assert seen.error.startswith("timeout: no answer within 0.4 s; last: refused: ")


def test_a_server_that_never_answers_is_given_up() -> None:
    with golden_server(Behaviour(never_answer_share=1.0)) as server:
        begun_s = time.monotonic()
        seen = HttpLoadDriver().first_token(server.target, 0.4)
        assert 0.4 <= time.monotonic() - begun_s < 10.0
    assert seen.ttft_s is None
    assert seen.error.startswith("timeout: not answered in full within 0.4")


def test_a_broken_server_is_told_apart_from_one_that_loads() -> None:
    with golden_server(Behaviour(fail_share=1.0)) as server:
        seen = HttpLoadDriver().first_token(server.target, 30.0)
    assert (seen.ttft_s, seen.status) == (None, 500)
    assert seen.error == "http_500: simulated engine failure"


def test_a_server_that_refuses_fields_still_answers() -> None:
    behaviour = Behaviour(ttft_s=0.01, refuses_extensions=True, refuses_stream_options=True)
    with golden_server(behaviour) as server:
        seen = HttpLoadDriver().first_token(server.target, 30.0)
    assert (seen.status, seen.error) == (200, "")


def test_a_simulated_server_says_so() -> None:
    with golden_server(Behaviour(ttft_s=0.01)) as server:
        assert HttpLoadDriver().first_token(server.target, 10.0).simulated


def test_a_server_that_names_no_owner_is_taken_at_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_models(self: GoldenServer, exchange: Exchange) -> None:
        exchange.respond(404, b"")

    monkeypatch.setattr(GoldenServer, "_models", no_models)
    with golden_server(Behaviour(ttft_s=0.01)) as server:
        seen = HttpLoadDriver().first_token(server.target, 10.0)
    assert seen.ttft_s is not None
    assert not seen.simulated
