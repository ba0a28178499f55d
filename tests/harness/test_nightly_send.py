"""A night's outputs against real servers on this machine: what arrives, what does not, and that the
night is kept, told and can be sent again."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from harness.cli import nightly_send
from harness.cli.app import app
from harness.cli.exits import Exit
from harness.cli.nightly_options import Telling
from harness.cli.nightly_send import OTHERS_S, post_to_chat
from harness.errors import HarnessError, SpecError
from harness.nightly.journal import Journal
from results.measurement import Measurement
from results.nights import NightRole, night_tags
from results.store_files import FileStore
from results.testing import make_record, make_run_id

SECRET = "T000/B000/s3cr3t-t0k3n"
Answer = tuple[int, bytes]


class Server(ThreadingHTTPServer):
    """Answers what it is told to and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Answer = (200, b"ok")
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who does not wait for the answer is no error of ours."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        status, said = self.server.answer
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_PUT = do_GET = _take  # noqa: N815 - names of the base class

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    """Listens, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def refusing() -> str:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


# ---- the webhook ----


def test_a_chat_gets_json(server: Server) -> None:
    post_to_chat(f"{server.url}/services/{SECRET}", {"text": "ä", "blocks": []})
    ((method, path, headers, body),) = server.asked
    assert (method, path) == ("POST", f"/services/{SECRET}")
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {"text": "ä", "blocks": []}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((500, b"oops"), "the server answered 500 Internal Server Error"),
        ((404, b"no_service"), "the server answered 404 Not Found: no_service"),
        ((404, f"Cannot POST /services/{SECRET}".encode()), "the server answered 404 Not Found"),
        ((299, b""), ""),
        ((799, b""), "the server answered 799"),
    ],
)
def test_an_answer_that_is_no_yes_is_told(server: Server, answer: Answer, says: str) -> None:
    server.answer = answer
    if not says:
        post_to_chat(f"{server.url}/services/{SECRET}", {})
        return
    with pytest.raises(HarnessError) as error:
        post_to_chat(f"{server.url}/services/{SECRET}", {})
    assert str(error.value) == says


def test_a_message_is_not_sent_on(server: Server) -> None:
    """A client that follows asks the other place without the message, and takes that for a yes."""
    server.answer, server.headers = (302, b""), {"Location": f"{server.url}/login"}
    with pytest.raises(HarnessError, match="answered 302 Found"):
        post_to_chat(f"{server.url}/services/{SECRET}", {})
    assert len(server.asked) == 1


def test_who_does_not_answer_is_told(
    silent: str, refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert OTHERS_S == 10.0
    monkeypatch.setattr(nightly_send, "OTHERS_S", 0.2)
    with pytest.raises(HarnessError, match=r"no answer within 0\.2 s"):
        post_to_chat(f"{silent}/{SECRET}", {})
    with pytest.raises(HarnessError, match="Connection refused"):
        post_to_chat(f"{refusing}/{SECRET}", {})


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:port/{SECRET}",
        f"http://[::1/{SECRET}",
        f"http://127.0.0.1:1/{SECRET} with spaces",
        f"http://no-such-host.invalid/{SECRET}",
        f"http:///{SECRET}",
    ],
)
def test_no_error_holds_the_secret(url: str) -> None:
    with pytest.raises(HarnessError) as error:
        post_to_chat(url, {})
    said = repr(error.value) + repr(error.value.__cause__)
    assert "s3cr3t" not in said and "no-such-host" not in said
    assert error.value.__suppress_context__


# ---- a night that is sent again ----


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A store with two nights of the suite ``s``; gives the command that sends one again."""
    store, home = FileStore(tmp_path / "store"), tmp_path / "home"
    store.prepare()
    monkeypatch.setenv("WINDTUNNEL_HOME", str(home))
    monkeypatch.setenv("WINDTUNNEL_STORE", str(tmp_path / "store"))
    for number in range(6):
        keep(store, number, number // 3, "s")
    journal = Journal(home, "s", "n001")
    now = datetime(2026, 10, 2, tzinfo=UTC)
    journal.append(now, "begun", date="2026-10-02", suite="h", subject="", suite_path="s.yaml")
    journal.append(now, "not_run", what="b", why="the budget is spent")
    journal.append(now, "ended", page="")

    def publish(*words: str) -> Any:
        return CliRunner().invoke(app, ["nights", "publish", *words])

    return publish


def keep(store: FileStore, number: int, night: int, suite: str) -> None:
    on = date(2026, 10, 1 + night)
    at = datetime(2026, 10, 1 + night, tzinfo=UTC) + timedelta(seconds=number)
    tags = night_tags(
        night_id=f"n{night:03}",
        on=on,
        suite=suite,
        series="chat",
        role=NightRole.RUN,
        slot=f"chat#{number}",
        metrics=("ttft_p50",),
    )
    record = make_record(
        run_id=make_run_id(number, at),
        started_at=at,
        name="chat",
        artifacts=(),
        spec={"name": "chat", "tags": tags},
        measurements=(Measurement(metric="ttft_s", statistic="p50", value=0.1, n=100),),
    )
    store.seal(record, {})


def test_every_output_arrives(
    night: Callable[..., Any], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", f"{server.url}/services/{SECRET}")
    text, metrics = tmp_path / "n.md", tmp_path / "n.prom"
    made = night(
        *("--publish", str(tmp_path / "pages"), "--webhook-env", "HOOK", "--json"),
        *("--pushgateway", server.url, "--markdown", str(text), "--prometheus", str(metrics)),
    )
    assert made.exit_code == Exit.OK, made.output
    document = json.loads(made.stdout)
    assert (document["night"], document["unsent"]) == ("n001", [])
    page = Path(document["page"])
    assert page.parent == tmp_path / "pages" / "s" and "the budget is spent" in page.read_text()
    assert "windtunnel nightly s.yaml" in page.read_text()
    pushed, posted = server.asked
    # What a push gateway takes: PUT replaces the group that the path names.
    assert pushed[:2] == ("PUT", "/metrics/job/windtunnel_nightly/suite/s")
    assert pushed[2]["Content-Type"].startswith("text/plain; version=")
    assert pushed[3].decode() == metrics.read_text()
    families = {f.name for f in text_string_to_metric_families(metrics.read_text())}
    assert "windtunnel_night_findings" in families
    assert posted[0] == "POST" and "nothing to" not in posted[3].decode()
    assert json.loads(posted[3])["text"].startswith("0 regressions confirmed")
    before = page.read_bytes()
    night("--publish", str(tmp_path / "pages"))
    assert page.read_bytes() == before
    assert "s3cr3t" not in made.output


def test_what_does_not_arrive_is_told_and_takes_nothing_with_it(
    night: Callable[..., Any],
    server: Server,
    refusing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOOK", f"{refusing}/services/{SECRET}")
    server.answer = (503, b"")
    gateway = server.url.replace("http://", "http://me:pass@")
    made = night(
        *("n001", "--webhook-env", "HOOK", "--pushgateway", gateway, "--json"),
        *("--publish", "memory://pages"),
    )
    assert made.exit_code == Exit.INFRASTRUCTURE
    unsent = {one["what"].split()[0]: one["why"] for one in json.loads(made.stdout)["unsent"]}
    assert unsent["--webhook-env"] == "Connection refused"
    assert set(unsent) == {"--webhook-env", "--pushgateway"}
    said = " ".join(made.stderr.split())
    assert "to send it again: windtunnel nights publish n001 --suite s" in said
    assert "--webhook-env HOOK" in said
    everything = made.output + "".join(
        p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file()
    )
    assert "s3cr3t" not in everything and "me:pass" not in everything


def test_a_place_that_refuses_leaves_the_page_at_home(
    night: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "pages"
    (place / "s").mkdir(parents=True)
    (place / "s" / "2026-10-02-n001.html").mkdir()  # nothing can be put over a folder
    made = night("2026-10-02", "--publish", str(place), "--json")
    document = json.loads(made.stdout)
    assert made.exit_code == Exit.INFRASTRUCTURE
    (unsent,) = document["unsent"]
    assert unsent["what"] == f"--publish {place}" and "cannot write" in unsent["why"]
    assert Path(document["page"]).parent == tmp_path / "home" / "nights" / "pages" / "s"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--webhook-env", "NOT_SET"), "there is no such variable"),
        (("--pushgateway", "ftp://gateway"), "accepted: an http URL"),
        (("--publish", "nowhere://bucket"), "--publish: cannot write nowhere://bucket/pages"),
        (("2020-01-01",), "no night of s fits '2020-01-01'; the latest are 2026-10-01 (n000)"),
        (("n00",), "2 nights of s fits 'n00'"),
        (("--suite", "other"), "the store holds no night of other"),
    ],
)
def test_what_cannot_be_meant_is_refused(night: Any, words: Any, says: str) -> None:
    made = night(*words)
    assert made.exit_code == Exit.USAGE and says in " ".join(made.stderr.split())


def test_of_several_suites_one_has_to_be_named(night: Any, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    keep(store, 7, 3, "other")
    keep(store, 8, 4, "s:across")  # versions in pairs are no night
    made = night("last")
    assert made.exit_code == Exit.USAGE and "holds nights of other, s; say which" in made.stderr
    assert night("last", "--suite", "s").exit_code == Exit.OK


def test_outputs_are_checked_before_the_night(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", f"ftp://host/{SECRET}")
    with pytest.raises(SpecError, match="holds no http URL") as error:
        Telling(webhook_env="HOOK").checked()
    assert "s3cr3t" not in str(error.value)
