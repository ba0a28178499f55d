"""``windtunnel capacity`` and ``windtunnel sweep``: what they print, write and end with.

The server is a queue in virtual time, so that a search of minutes takes milliseconds.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from harness.bench.preflight import Found
from harness.capacity.measure import PointMeasured
from harness.cli import load_outputs
from harness.cli.app import app
from harness.errors import EndpointUnreachable, EngineDied
from harness.progress import Progress
from results.measure import measure_requests
from results.record import Doubt
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import ClosedLoop, Traffic

TTFT_S, ITL_S = 0.05, 0.01
LATE = Doubt(code="client_late", message="the client itself was late", invalidates=True)
ENDPOINT = ("--endpoint", "http://server.test:8000/v1", "--model", "m")


class Server:
    """One slot, ``rate_rps`` requests a second. ``spoil`` tells which calls the client spoils."""

    def __init__(self, rate_rps: float) -> None:
        self.rate_rps = rate_rps
        self.calls: list[Traffic] = []
        self.spoil: Callable[[Traffic], bool] = lambda _: False
        self.stop_at = -1
        self.stop_by: BaseException = KeyboardInterrupt()

    @contextmanager
    def measurer(self, target: ServerTarget, *, shown: Progress, **_: Any) -> Iterator[Any]:
        self.target = target
        yield lambda traffic: self.measure(traffic, shown)

    def measure(self, traffic: Traffic, shown: Progress) -> PointMeasured:
        if len(self.calls) == self.stop_at:
            raise self.stop_by
        self.calls.append(traffic)
        samples = self._samples(traffic)
        shown.advance(samples.num_requests, samples.num_requests, 1.0)
        doubts = (LATE,) if self.spoil(traffic) else ()
        took_s = float(samples.done_s.max()) if samples.num_requests else 0.0
        return PointMeasured(
            samples=samples,
            doubts=doubts,
            took_s=took_s,
            measurements=measure_requests(samples, {}, 0),
            simulated=True,
        )

    def _samples(self, traffic: Traffic) -> RequestSamples:
        service_s = 1.0 / self.rate_rps
        if isinstance(traffic.arrivals, ClosedLoop):
            users = traffic.arrivals.num_users
            gap_s = max((TTFT_S + 0.2) / users, service_s)
            done = np.arange(1, int((traffic.duration_s or 1.0) / gap_s)) * gap_s
            intended = done - users * gap_s
        else:
            intended = build_schedule(traffic).intended_s[traffic.num_warmup_requests :]
            total = np.arange(1, len(intended) + 1) * service_s
            done = total + np.maximum.accumulate(intended - (total - service_s))
        n = len(intended)
        first = done - service_s + TTFT_S
        return RequestSamples(
            intended_s=intended,
            dispatched_s=intended,
            written_s=intended,
            first_byte_s=first,
            first_token_s=first,
            done_s=first + 20 * ITL_S,
            prompt_tokens=np.full(n, 64),
            output_tokens=np.full(n, 21),
            status=np.full(n, 200),
            error=np.array([""] * n, dtype=object),
            is_warmup=np.zeros(n, dtype=np.bool_),
            worker=np.zeros(n, dtype=np.int64),
            event_offset=np.zeros(n + 1, dtype=np.int64),
            event_s=np.empty(0),
            event_tokens=np.empty(0, dtype=np.int64),
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server(rate_rps=100.0)
    found = Found(base_url="http://server.test:8000", model="m", models=("m",))
    monkeypatch.setattr(load_outputs, "look", lambda *_, **__: found)
    monkeypatch.setattr(load_outputs, "point_measurer", made.measurer)
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def document(done: Result) -> dict[str, Any]:
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


CAPACITY = ("capacity", *ENDPOINT, "--slo", "ttft=200ms", "--no-store", "--seed", "5")


def test_a_capacity_is_told_as_one_document(server: Server, tmp_path: Path) -> None:
    """M/D/1 at 100/s: Poisson arrivals, so that it bends before the slot is full."""
    out = tmp_path / "capacity.json"
    done = run(*CAPACITY, "--tolerance", "50%", "--json", "--out", str(out))
    found = document(done)
    assert done.exit_code == 0, done.output
    assert found["schema"] == "windtunnel.capacity/1"
    assert json.loads(out.read_text()) == found
    assert found["kind"] == "found"
    assert 60.0 < found["capacity_rps"] < found["failed_rps"] < 110.0
    assert found["evidence"] == "simulated"
    assert found["endpoint"] == "http://server.test:8000"
    assert found["binding"].startswith("TTFT ≤ 200 ms")
    assert found["valid"] is found["conclusive"] is True
    assert len(found["points"]) == found["num_points"] == len(server.calls)
    ttft = found["points"][-1]["metrics"]["ttft_s"]
    assert ttft["unit"] == "s"
    assert ttft["p50"] >= TTFT_S
    assert ttft["n"] == found["points"][-1]["num_requests"]
    assert "is a simulation" in Path(found["report"]).read_text()


def test_a_capacity_is_told_in_words(server: Server, tmp_path: Path) -> None:
    picture, page = tmp_path / "c.svg", tmp_path / "c.html"
    done = run(*CAPACITY, "--tolerance", "50%", "--picture", str(picture), "--page", str(page))
    assert done.exit_code == 0
    assert "capacity of m, ttft=200ms  [simulated]" in done.stdout
    assert "First to fail: TTFT ≤ 200 ms" in done.stdout
    assert "pass" in done.stdout
    assert str(page) in done.stdout
    assert "does it pass?" in done.stderr
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    # Without its page a picture must say by itself what it is of.
    words = " ".join(ElementTree.parse(picture).getroot().itertext())
    assert "model m, ttft=200ms, simulated" in words
    assert "capacity search" in page.read_text()


def test_points_never_share_prompts_and_are_given_up_past_their_slo(server: Server) -> None:
    run(*CAPACITY, "--no-page", "--slo", "e2e=3s", "--budget", "2m")
    assert len({t.seed for t in server.calls}) == len(server.calls) > 3
    assert {t.request_timeout_s for t in server.calls} == {12.0}


def test_what_is_inconclusive_ends_with_four(server: Server) -> None:
    done = run(*CAPACITY, "--json", "--budget", "15s", "--no-page")
    assert done.exit_code == 4
    found = document(done)
    assert found["kind"] in ("undecided", "bracketed")
    assert found["conclusive"] is False
    assert found["report"] is None
    assert found["spent_s"] <= 15.0 + 1.0


def test_a_server_that_takes_all_that_is_allowed_is_an_answer(server: Server) -> None:
    done = run(*CAPACITY, "--json", "--min", "5", "--max", "20", "--no-page")
    assert (done.exit_code, document(done)["kind"]) == (0, "at_least")
    assert document(done)["capacity_rps"] == 20.0


def test_the_clients_limit_is_told_and_is_no_answer(server: Server) -> None:
    server.spoil = lambda t: getattr(t.arrivals, "rate_rps", 0.0) > 30.0
    done = run(*CAPACITY, "--no-page")
    assert done.exit_code == 4
    assert "the client's limit was reached at 32/s" in done.stdout
    found = document(run(*CAPACITY, "--no-page", "--json"))
    assert (found["valid"], found["failed_rps"], found["spoiled_rps"]) == (False, None, 32.0)


@pytest.mark.parametrize("num_points", [0, 4])
def test_ctrl_c_tells_what_is_known(server: Server, num_points: int) -> None:
    server.stop_at = num_points
    done = run(*CAPACITY, "--json", "--no-page")
    assert done.exit_code == 130
    found = document(done)
    assert found["why"] == "stopped by the user"
    assert found["num_points"] == num_points
    assert len(found["rates"]) == num_points


def test_a_server_that_goes_away_leaves_what_is_known(server: Server) -> None:
    server.stop_at, server.stop_by = 3, EngineDied("load", "it stopped answering")
    done = run(*CAPACITY, "--json", "--no-page")
    assert done.exit_code == 3
    assert (document(done)["num_points"], document(done)["why"]) == (3, "it stopped answering")
    server.calls.clear()
    done = run(*SWEEP, "--rates", "5,10,20,40", "--json", "--no-page")
    assert (done.exit_code, len(document(done)["points"])) == (3, 3)
    assert "it stopped answering" in done.stderr


def test_points_are_kept(server: Server, tmp_path: Path) -> None:
    store = tmp_path / "store"
    words = [w for w in CAPACITY if w != "--no-store"]
    done = run(*words, "--json", "--no-page", "--max", "20", "--min", "20", "--store", str(store))
    points = document(done)["points"]
    assert points
    listed = json.loads(run("runs", "list", "--store", str(store), "--json").stdout)["runs"]
    assert {row["run_id"] for row in listed} == {p["run_id"] for p in points}
    shown = run("runs", "show", points[0]["run_id"], "--store", str(store), "--json")
    record = json.loads(shown.stdout)["record"]
    assert record["evidence"] == "simulated"
    assert record["spec"]["slo"] == {"ttft_s": 0.2}


USAGE = [
    (("capacity", *ENDPOINT, "--slo", "fast"), "is no limit"),
    (("capacity", *ENDPOINT, "--slo", "ttft_p99=1s", "--min", "9", "--max", "3"), "is above --max"),
    (("capacity", *ENDPOINT, "--slo", "ttft=1s", "--budget", "soon"), "no duration"),
    (("capacity", *ENDPOINT, "--slo", "ttft=1s", "--budget", "10s"), "takes 20 s to pass"),
    (("capacity", *ENDPOINT, "--slo", "ttft=1s", "--attainment", "100%"), "a share between"),
    (("capacity", *ENDPOINT, "--slo", "ttft=1s", "--picture", "a.gif"), "a picture is .svg"),
    (("capacity", *ENDPOINT, "--slo", "ttft=1s", "--out", "/nowhere/a.json"), "no folder"),
    (("capacity", *ENDPOINT, "--slo", "ttft=1s", "--api", "soap"), "one of completions, chat"),
    (("capacity", *ENDPOINT, "--slo", "ttft=1s", "--arrival", "late"), "constant, poisson"),
    (("sweep", *ENDPOINT, "--workers", "0"), "at least one has to send"),
    (("sweep", *ENDPOINT, "--api-key-env", "NO_SUCH_KEY_HERE"), "which is not set"),
    (("sweep", *ENDPOINT, "--rates", "1", "--concurrency", "1"), "name one"),
    (("sweep", *ENDPOINT, "--rates", "fast"), "no number"),
    (("sweep", *ENDPOINT, "--input-tokens", "9:3"), "no length"),
]


@pytest.mark.parametrize(("words", "said"), USAGE)
def test_words_that_mean_nothing_are_usage(server: Server, words: Any, said: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert server.calls == []


def test_nobody_there_is_infrastructure(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    def nobody(*_: Any, **__: Any) -> Found:
        raise EndpointUnreachable("nobody answers")

    monkeypatch.setattr(load_outputs, "look", nobody)
    for words in (CAPACITY, ("sweep", *ENDPOINT, "--no-store")):
        done = run(*words)
        assert (done.exit_code, done.stdout) == (3, "")
        assert "nobody answers" in done.stderr


SWEEP = ("sweep", *ENDPOINT, "--no-store", "--seed", "5", "--duration", "20")


def test_a_sweep_is_a_table_a_page_and_a_picture(server: Server, tmp_path: Path) -> None:
    picture, page = tmp_path / "s.png", tmp_path / "s.html"
    done = run(
        *SWEEP, "--rates", "10:160:5", "--slo", "ttft=200ms",
        "--picture", str(picture), "--page", str(page),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Knee at 80/s" in done.stdout
    rows = [line.split()[0] for line in done.stdout.splitlines() if line.lstrip()[:1].isdigit()]
    assert rows == ["10/s", "20/s", "40/s", "80/s", "160/s"]
    assert "falls behind" in done.stdout
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "windtunnel sweep" in page.read_text()


def test_a_sweep_is_one_document_in_the_order_measured(server: Server) -> None:
    done = run(*SWEEP, "--rates", "5,10,20,40", "--repeats", "2", "--json", "--no-page")
    found = document(done)
    assert done.exit_code == 0
    assert found["schema"] == "windtunnel.sweep/1"
    rates = [p["rate_rps"] for p in found["points"]]
    assert sorted(rates[:4]) == sorted(rates[4:]) == [5.0, 10.0, 20.0, 40.0]
    assert rates[:4] != sorted(rates[:4]) or rates[4:] != sorted(rates[4:])
    assert [p["repeat"] for p in found["points"]] == [0] * 4 + [1] * 4
    assert found["knee"]["load"] is None


def test_a_sweep_finds_its_rates(server: Server) -> None:
    found = document(run(*SWEEP, "--json", "--no-page"))
    rates = sorted(p["rate_rps"] for p in found["points"])
    assert len(rates) == 8
    assert rates[-1] in (128.0, 256.0)
    assert 40.0 <= found["knee"]["load"] <= 110.0


def test_a_sweep_over_users(server: Server) -> None:
    found = document(run(*SWEEP, "--concurrency", "1:64", "--json", "--no-page"))
    assert sorted(p["num_users"] for p in found["points"]) == [1, 2, 4, 8, 16, 32, 64]
    # 250 ms without a queue, 100/s at most: 25 users fill it.
    assert found["knee"]["load"] == 32.0


def test_points_by_number_of_requests(server: Server) -> None:
    words = [w for w in SWEEP if w not in ("--duration", "20")]
    found = document(run(*words, "--rates", "10,50", "--num-requests", "40", "--json", "--no-page"))
    assert [p["num_requests"] for p in found["points"]] == [40, 40]


def test_a_sweep_that_the_client_spoiled_is_invalid(server: Server) -> None:
    server.spoil = lambda t: getattr(t.arrivals, "rate_rps", 0.0) > 30.0
    done = run(*SWEEP, "--rates", "20,40")
    assert done.exit_code == 4
    assert "invalid" in done.stdout
    assert "the client itself was late" in done.stdout


def test_ctrl_c_in_a_sweep(server: Server) -> None:
    server.stop_at = 2
    done = run(*SWEEP, "--rates", "5,10,20,40", "--json", "--no-page")
    assert done.exit_code == 130
    assert len(document(done)["points"]) == 2
    server.calls.clear()
    server.stop_at = 0
    done = run(*SWEEP, "--rates", "5,10")
    assert (done.exit_code, "no point was measured" in done.stdout) == (130, True)
