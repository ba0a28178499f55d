"""What is told about an endpoint that is not there, not ours, or not the right one."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.bench.preflight import Found, base_of, look, model_ids
from harness.errors import EndpointUnreachable, SpecError
from workloads.simulated.answers import Behaviour
from workloads.simulated.golden_server import golden_server

Answers = Mapping[tuple[str, str], tuple[int, object]]
MODELS = ("GET", "/v1/models")
COMPLETE = ("POST", "/v1/completions")


@contextmanager
def a_server(answers: Answers) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Answers as told, 404 to all else, and keeps what was asked."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            what = (self.command, self.path)
            asked.append(what)
            status, document = answers.get(what, (404, {"detail": "Not Found"}))
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815 - names of http.server

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    # Leaving takes up to one of its polls.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def models(*names: str) -> tuple[int, object]:
    return 200, {"object": "list", "data": [{"id": name} for name in names]}


def test_a_server_that_serves_the_model_is_asked_for_one_token() -> None:
    with a_server({MODELS: models("a", "b"), COMPLETE: (200, {"choices": []})}) as (url, asked):
        assert look(url + "/v1/", "b", "completions") == Found(
            base_url=url, model="b", models=("a", "b")
        )
        assert asked == [MODELS, COMPLETE]


def test_a_server_with_the_other_api_only() -> None:
    with (
        a_server({MODELS: models("a")}) as (url, _),
        pytest.raises(SpecError, match=r"has no completions API .*; try --api chat"),
    ):
        look(url, "a", "completions")


def test_a_server_that_refuses_a_field_is_left_to_the_load() -> None:
    refusal = (400, {"error": {"message": "use max_completion_tokens"}})
    with a_server({MODELS: models("a"), COMPLETE: refusal}) as (url, _):
        assert look(url, "a", "completions").model == "a"


def test_the_only_model_needs_no_name() -> None:
    with golden_server(Behaviour(model="solo")) as server:
        assert look(server.url, None, "completions").model == "solo"
    with (
        a_server({MODELS: models("a", "b")}) as (url, _),
        pytest.raises(SpecError, match="several models: a, b; say which with --model"),
    ):
        look(url, None, "completions")


def test_a_wrong_model_is_told_with_those_there_are() -> None:
    answers = {
        MODELS: models("a", "b"),
        COMPLETE: (404, {"error": {"message": "The model `c` does not exist."}}),
    }
    with a_server(answers) as (url, _), pytest.raises(SpecError) as raised:
        look(url, "c", "completions")
    told = str(raised.value)
    assert "does not serve 'c'" in told
    assert "The model `c` does not exist." in told
    assert told.endswith("it offers a, b")


def test_a_model_that_is_served_but_not_listed_is_taken() -> None:
    with a_server({MODELS: models("a"), COMPLETE: (200, {"choices": []})}) as (url, asked):
        assert look(url, "alias", "completions").model == "alias"
        assert asked == [MODELS, COMPLETE]


def test_a_server_without_a_list_is_asked_for_a_token() -> None:
    chat = ("POST", "/v1/chat/completions")
    with a_server({chat: (200, {"choices": []})}) as (url, asked):
        assert look(url, "m", "chat") == Found(base_url=url, model="m", models=())
        assert asked == [MODELS, chat]
        with pytest.raises(SpecError, match="name one with --model"):
            look(url, None, "chat")


def test_a_server_of_another_kind_is_told_with_what_was_tried() -> None:
    with a_server({}) as (url, _), pytest.raises(SpecError) as raised:
        look(url + "/api", "m", "completions")
    told = str(raised.value)
    assert f"there is no OpenAI-compatible API at {url}/api" in told
    assert f"GET {url}/api/v1/models → HTTP 404" in told
    assert f"POST {url}/api/v1/completions → HTTP 404" in told


def test_a_server_that_fails_is_unreachable() -> None:
    answers = {MODELS: models("a"), COMPLETE: (500, {"error": {"message": "out of order"}})}
    with a_server(answers) as (url, _), pytest.raises(SpecError, match="HTTP 500: out of order"):
        look(url, "c", "completions")
    with (
        a_server({COMPLETE: (503, {})}) as (url, _),
        pytest.raises(EndpointUnreachable, match=r"is there but does not answer .* HTTP 503"),
    ):
        look(url, "c", "completions")


def test_a_wrong_key_is_told_and_never_shown() -> None:
    behaviour = Behaviour(wants_key="sk-right")
    with golden_server(behaviour) as server:
        with pytest.raises(SpecError, match=r"no key was sent.*--api-key-env NAME"):
            look(server.url, "simulated", "completions")
        with pytest.raises(SpecError, match=r"the key in \$MY_KEY was refused") as raised:
            look(server.url, None, "completions", api_key="sk-wrong", api_key_env="MY_KEY")
        assert "sk-wrong" not in str(raised.value)
        assert "HTTP 401" in str(raised.value)
        found = look(server.url, None, "completions", api_key="sk-right", api_key_env="MY_KEY")
        assert found.model == "simulated"
    with (
        a_server({MODELS: (401, {"error": {"message": "bad key"}})}) as (url, _),
        pytest.raises(SpecError, match=r"wants another API key .no key was sent.: .*bad key"),
    ):
        look(url, "m", "completions")


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_a_port_nobody_listens_on() -> None:
    port = closed_port()
    with pytest.raises(EndpointUnreachable) as raised:
        look(f"http://127.0.0.1:{port}", "m", "completions")
    assert f"nobody listens at 127.0.0.1:{port}" in str(raised.value)
    assert f"tried GET http://127.0.0.1:{port}/v1/models" in str(raised.value)


def test_tls_where_there_is_none() -> None:
    with a_server({}) as (url, _), pytest.raises(EndpointUnreachable) as raised:
        look(url.replace("http:", "https:"), "m", "completions")
    assert "no TLS there" in str(raised.value)
    assert f"is it {url}?" in str(raised.value)


def speaks(answer: bytes) -> socket.socket:
    """A listener that says ``answer`` to the first that comes and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return listener


def test_something_that_does_not_speak_http() -> None:
    with speaks(b"\x15\x03\x03\x00\x02\x02\x16") as listener:  # a TLS alert
        port = listener.getsockname()[1]
        with pytest.raises(
            EndpointUnreachable, match=re.escape(f"is it https://127.0.0.1:{port}?")
        ):
            look(f"http://127.0.0.1:{port}", "m", "completions")


def test_something_that_never_answers() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(EndpointUnreachable, match=r"no answer within 0\.2 s"),
    ):
        port = listener.getsockname()[1]
        look(f"http://127.0.0.1:{port}", "m", "completions", timeout_s=0.2)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000", "did you mean http://localhost:8000"),
        ("ftp://host", "no http"),
        ("http://", "no http"),
        ("http://host:port", "[Pp]ort"),
        ("", "no http"),
    ],
)
def test_what_is_no_url(url: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        base_of(url)


def test_lists_of_models_in_any_shape() -> None:
    assert model_ids({"data": [{"id": "a"}, {"name": "b"}, "c"]}) == ("a",)
    assert model_ids({"data": "none"}) == model_ids([]) == model_ids(None) == ()
