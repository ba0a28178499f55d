"""The native routes over a real port: answers, caches, snapshots, metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests

from results.api.testing import Swappable, served
from results.recommendation.profile import TrainingStep

GEMMA, LLAMA = "google/gemma-2-27b-it", "meta-llama/Llama-3.1-8B-Instruct"


def get(url: str, path: str, **more: Any) -> requests.Response:
    return requests.get(f"{url}{path}", timeout=10, **more)


def test_an_answer_is_ranked_priced_and_evidenced(url: str) -> None:
    reply = get(url, f"/v1/recommendations?model={GEMMA}&rate_rps=4&target_ttft_milliseconds=250")
    assert reply.status_code == 200
    answer = reply.json()
    assert answer["schema"] == "windtunnel.recommendations/1"
    # H100 keeps 250 ms up to 2 requests/s a replica: two of them, 2 · $6 on demand. A TPU of four
    # chips keeps it up to 1: four replicas, 4 · 4 · $2.
    found = [
        (r["profile"]["machine"]["accelerator"], r["replicas"], r["cost"]["usd_per_hour"])
        for r in answer["recommendations"]
    ]
    assert found == [("H100", 2, 12.0), ("TPU-V6E", 4, 32.0)]
    best = answer["recommendations"][0]
    assert best["profile"]["evidence"]["repeats"] == 3
    assert best["targets"][0]["met"] is True
    assert best["cost"]["price"]["as_of"] == "2026-11-01"
    assert set(answer["flags"]) >= set(best["flags"])


def test_post_and_get_say_the_same(url: str) -> None:
    body = {"model": GEMMA, "concurrency": 8, "objective": "fastest"}
    posted = requests.post(f"{url}/v1/recommendations", json=body, timeout=10).json()
    got = get(url, f"/v1/recommendations?model={GEMMA}&concurrency=8&objective=fastest").json()
    assert posted == got  # kept under one key: answered at the same instant
    assert got["recommendations"]


def test_no_answer_says_what_stands_in_the_way(url: str) -> None:
    reply = get(url, f"/v1/recommendations?model={GEMMA}&target_ttft_milliseconds=50")
    assert reply.status_code == 200
    why = reply.json()["no_answer"]
    assert why["binding"] == "ttft_s"
    assert why["relax_to"] == pytest.approx(0.1, rel=1e-6)  # H100 at one request a second
    assert why["nearest"][0]["recommendation"]["profile"]["machine"]["accelerator"] == "H100"
    assert reply.json()["recommendations"] == []


def test_lists_of_what_there_is(url: str) -> None:
    models = get(url, "/v1/models").json()["models"]
    assert [m["model"] for m in models] == [GEMMA, LLAMA]
    kinds = get(url, "/v1/accelerators").json()["accelerators"]
    assert [k["accelerator"] for k in kinds] == ["H100", "L4", "TPU-V6E"]
    assert [k["num_chips"] for k in kinds] == [[1], [4], [4]]
    cases = get(url, "/v1/use-cases").json()["use_cases"]
    assert {"chat", "summarisation"} <= {c["name"] for c in cases}


def test_runs_come_in_pages_newest_first(url: str) -> None:
    seen, before = [], ""
    for _ in range(5):
        page = get(url, "/v1/runs", params={"limit": 3, "before": before}).json()
        seen.append([r["run_id"][-1] for r in page["runs"]])
        before = page["next_before"]
        if not before:
            break
    assert seen == [["6", "5", "4"], ["3", "2", "1"], ["0"]]
    chats = get(url, "/v1/runs?name=chat").json()["runs"]
    assert [r["run_id"][-1] for r in chats] == ["5", "3", "1"]


def test_one_run_and_one_profile(url: str, make: SimpleNamespace) -> None:
    record = get(url, "/v1/runs/20261123T170000Z-0000000003").json()
    assert record["name"] == "chat"
    wanted = make.profile(GEMMA, 0, 1).profile_id
    profile = get(url, f"/v1/profiles/{wanted}").json()
    assert profile["load"]["rate_rps"] == 2.0
    assert profile["configuration"]["engine_args"] == {"max-num-seqs": 256}


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v1/runs/20261123T170000Z-ffffffffff", 404, "/v1/runs"),
        ("/v1/runs/..%2f..%2fetc%2fpasswd", 404, ""),
        ("/v1/runs/%00", 404, "no run id"),
        ("/v1/profiles/zzz", 404, "18 profiles"),
        ("/v1/runs?limit=0", 400, "limit"),
        ("/v1/runs?limit=1e9", 400, "limit"),
        ("/v1/runs?nmae=x", 400, "did you mean name"),
        ("/v1/recommendation", 404, "did you mean /v1/recommendations"),
        ("/v1/models/", 404, ""),
        ("/v1/profiles:fetch", 405, ""),
    ],
)
def test_problems_say_what_to_do(url: str, path: str, status: int, said: str) -> None:
    reply = get(url, path)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == status
    assert said in problem["detail"]
    assert problem["what_to_do"]
    # Google's client reads nothing else; our own routes do not carry it.
    assert ("error" in problem) == (":" in path)


def test_writing_is_not_offered(url: str) -> None:
    for method in ("PUT", "DELETE", "PATCH", "POST"):
        reply = requests.request(method, f"{url}/v1/models", timeout=10)
        assert reply.status_code == 405
        assert reply.headers["allow"] == "GET"


def test_an_etag_spares_the_answer(url: str) -> None:
    path = f"/v1/recommendations?model={GEMMA}"
    first = get(url, path)
    tag = first.headers["etag"]
    assert "no-cache" in first.headers["cache-control"]
    for held in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        again = get(url, path, headers={"if-none-match": held})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert get(url, path, headers={"if-none-match": '"other"'}).status_code == 200
    # A question that is wrong stays wrong, whatever the client holds.
    assert get(url, "/v1/recommendations?x=1", headers={"if-none-match": tag}).status_code == 400


def test_head_is_get_without_the_body(url: str) -> None:
    head = requests.head(f"{url}/v1/models", timeout=10)
    assert head.status_code == 200
    assert head.content == b""
    assert int(head.headers["content-length"]) == len(get(url, "/v1/models").content)


def test_a_newer_snapshot_takes_over_and_a_broken_one_does_not(
    make: SimpleNamespace,
    app_of: Callable[..., Any],
    store: Any,
    until: Callable[[Callable[[], bool]], None],
    health_of: Callable[[str], dict[str, Any]],
) -> None:
    few = [p for p in make.profiles() if p.configuration.model == LLAMA]
    source = Swappable(make.lookup_of(few, make.prices))
    with served(app_of(source, store)) as url:
        path = f"/v1/recommendations?model={GEMMA}"
        old = get(url, path)
        assert old.json()["no_answer"] is not None
        source.lookup = RuntimeError("half a file")
        until(lambda: health_of(url)["reload_failures"] > 1)
        assert get(url, path).headers["etag"] == old.headers["etag"]
        source.lookup = make.lookup_of(make.profiles(), make.prices)
        until(lambda: health_of(url)["num_profiles"] == 18)
        assert health_of(url)["reload_failures"] == 0
        new = get(url, path, headers={"if-none-match": old.headers["etag"]})
        assert new.status_code == 200
        assert new.json()["recommendations"]
        assert new.json()["snapshot_id"] != old.json()["snapshot_id"]


def test_metrics_count_by_route_and_never_by_what_a_client_made_up(url: str) -> None:
    get(url, "/v1/models")
    get(url, "/made/up")
    get(url, "/v1/runs/20261123T170000Z-0000000003")
    text = get(url, "/metrics").text
    for line in (
        'windtunnel_lookup_requests_total{method="GET",route="/v1/models",status="200"}',
        'windtunnel_lookup_requests_total{method="GET",route="other",status="404"}',
        'windtunnel_lookup_requests_total{method="GET",route="/v1/runs/{run_id}",status="200"}',
        "windtunnel_lookup_profiles 18.0",
    ):
        assert line in text
    assert "made" not in text


class Defective:
    """A lookup with a defect: whatever it is asked, something breaks."""

    snapshot_id, num_profiles = "defective", 0

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError("a defect of the tests")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        # Answered directly, and by the framework: one is to be like the other.
        ("GET", "/v1/recommendations"),
        ("POST", "/v1/recommendations"),
        ("POST", "/v1/profiles:fetch"),
        ("GET", "/v1/models"),
    ],
)
def test_a_defect_is_a_clean_500_that_is_logged_and_counted(
    app_of: Callable[..., Any],
    store: Any,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
) -> None:
    with served(app_of(Swappable(cast(Any, Defective())), store)) as url:
        reply = requests.request(method, f"{url}{path}", json={}, timeout=10)
        assert reply.status_code == 500
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.headers["cache-control"] == "no-store"
        problem = reply.json()
        assert problem["type"].endswith(":defect") and problem["what_to_do"]
        assert "tests" not in reply.text  # what broke is for the log alone
        assert ("error" in problem) == (":" in path)
        counted = f'requests_total{{method="{method}",route="{path}",status="500"}} 1.0'
        assert counted in get(url, "/metrics").text
        assert get(url, "/healthz").status_code == 200
    logged = [r for r in caplog.records if r.exc_info and r.exc_info[0] is ZeroDivisionError]
    assert len(logged) == 1


def test_a_training_is_answered_over_http_and_started_again(
    app_of: Any, make: SimpleNamespace, store: Any
) -> None:
    base = make.profile(GEMMA, 0, 0)
    trained = replace(
        base,
        profile_id=f"{900:016x}",
        configuration=replace(base.configuration, model="8b", model_server="torch"),
        statistics=(make.statistic("training_throughput", "value", 5000.0),),
        training=TrainingStep(sequence_length=2048, sequences_per_step=64, num_steps=100),
    )
    lookup = make.lookup_of((*make.profiles(), trained), make.prices)
    with served(app_of(lookup, store)) as url:
        asked = {"use_case": "training", "model": "8b", "training_tokens": "3.6e7"}
        answer = requests.get(f"{url}/v1/recommendations", params=asked, timeout=10).json()
        (one,) = answer["recommendations"]
        # 3.6e7 tokens at 5,000/s on one H100 at $6 on demand: two hours, $12.
        assert one["training"]["hours"]["value"] == pytest.approx(2.0)
        assert one["training"]["usd"]["value"] == pytest.approx(12.0)
        body = {**asked, "training_tokens": 3.6e7}
        posted = requests.post(f"{url}/v1/recommendations", json=body, timeout=10).json()
        assert posted["recommendations"] == answer["recommendations"]
        models = requests.get(f"{url}/v1/models", timeout=10).json()
        assert [t["model"] for t in models["trainings"]] == ["8b"]
        assert "8b" not in [m["model"] for m in models["models"]]
        wanted = {"profile_id": one["profile"]["profile_id"], "platform": "run"}
        made = requests.get(f"{url}/v1/manifests", params=wanted, timeout=10).json()
        assert "preset: 8b" in made["documents"][0]["content"]
        mixed = requests.get(
            f"{url}/v1/recommendations", params={**asked, "rate_rps": "4"}, timeout=10
        )
        assert mixed.status_code == 400 and "rate_rps" in mixed.json()["detail"]
        scaled = {"profile_id": make.profile(GEMMA, 0, 0).profile_id, "autoscale": "gmp"}
        refused = requests.get(f"{url}/v1/manifests", params=scaled, timeout=10)
        assert refused.status_code == 422 and "nothing to scale" in refused.json()["detail"]
        good = requests.get(f"{url}/v1/manifests", params={**scaled, "replicas": "4"}, timeout=10)
        kinds = [d["kind"] for d in good.json()["documents"]]
        assert "HorizontalPodAutoscaler" in kinds
