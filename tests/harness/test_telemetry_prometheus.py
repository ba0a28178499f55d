"""vLLM's pages, served by a real HTTP server and read as a run reads them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.errors import SourceAbsent, SourceFailed
from harness.fake_deployer import FakeDeployer
from harness.plan import make_plan
from harness.spec import RunSpec
from harness.telemetry.prometheus import (
    WANTED,
    PagesSampler,
    PrometheusSampler,
    readings_of,
    wanted_lines,
)
from harness.telemetry.sampler import Reading, Sampler
from harness.telemetry.sources import of_endpoint
from harness.telemetry.testing import SamplerContract
from harness.testing import a_traffic
from workloads.params import EndpointWorkload
from workloads.registry import workload_for

PAGES = Path(__file__).resolve().parents[1] / "data/prometheus"
BEFORE = (PAGES / "vllm-0.32-before.txt").read_text()
AFTER = (PAGES / "vllm-0.32-after.txt").read_text()


class PageServer(ThreadingHTTPServer):
    """Serves ``page`` with ``status`` at /metrics, and nothing else."""

    daemon_threads = True
    page, status = BEFORE, 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        status = self.server.status if self.path == "/metrics" else 404
        body = self.server.page.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """A test's server is silent."""


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


class TestPrometheusSampler(SamplerContract):
    @pytest.fixture
    def sampler(self, server: PageServer) -> Sampler:
        return PrometheusSampler(server.url, instance="0")


def by_name(readings: tuple[Reading, ...]) -> dict[tuple[str, str], float]:
    return {(r.name.removeprefix("vllm:"), r.label): r.value for r in readings}


def test_the_page_of_vllm_says_what_the_server_did() -> None:
    """The numbers are those of ``make_pages.py``."""
    readings = readings_of(AFTER, "0")
    assert {r.replica for r in readings} == {"0/0"}
    found = by_name(readings)
    assert found["num_requests_running", ""] == 3
    assert found["num_requests_waiting", ""] == 1
    assert found["kv_cache_usage_perc", ""] == 0.42
    assert found["prefix_cache_queries", ""] == 8 + 20 * 64
    assert found["prefix_cache_hits", ""] == 8 * 16
    assert found["num_preemptions", ""] == 2
    assert found["prompt_tokens", ""] == 8 + 20 * 64
    assert found["generation_tokens", ""] == 1 + 20 * 32
    assert found["request_success", ""] == 21  # of all reasons to finish together
    assert found["time_to_first_token_seconds_count", ""] == 21
    ttfts = [0.05, *(0.030 + 0.005 * i for i in range(20))]
    assert found["time_to_first_token_seconds_sum", ""] == pytest.approx(sum(ttfts))
    for bound in (0.02, 0.04, 0.06, 0.08, 0.1, 0.25, float("inf")):
        at_most = sum(ttft <= bound + 1e-9 for ttft in ttfts)
        assert found["time_to_first_token_seconds_bucket", f"le={bound:g}"] == at_most
    assert found["inter_token_latency_seconds_count", ""] == 20 * 31
    assert found["e2e_request_latency_seconds_count", ""] == 21


def test_buckets_are_kept_at_the_ends_alone() -> None:
    for reading in readings_of(AFTER):
        is_part = reading.name.endswith(("_bucket", "_sum", "_count"))
        assert reading.ends_only is is_part, reading.name


def test_only_what_is_wanted_is_parsed_and_no_less() -> None:
    """Against a parse of the whole page by the library."""
    whole = [
        (sample.name, sample.value, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(AFTER)
        for sample in family.samples
        if sample.name in WANTED
    ]
    text = "\n".join(wanted_lines(AFTER)) + "\n"
    filtered = [
        (sample.name, sample.value, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    assert sorted(filtered) == sorted(whole)
    assert 60 < len(filtered) < len(AFTER.splitlines()) / 3


def as_ray(page: str) -> str:
    """As Ray exports it: no colon, a prefix, and labels of its own."""
    labels = '{ReplicaId="abc123",WorkerId="f00d",SessionName="s",'
    return page.replace("vllm:", "ray_vllm_").replace("{", labels)


def test_ray_exports_the_same_under_other_names() -> None:
    through_ray = readings_of(as_ray(AFTER), "0")
    assert by_name(through_ray) == by_name(readings_of(AFTER))
    assert {r.replica for r in through_ray} == {"0/abc123/0"}


def test_ray_may_leave_the_suffix_of_counters_out() -> None:
    page = as_ray(AFTER).replace("_tokens_total{", "_tokens{")
    assert by_name(readings_of(page)) == by_name(readings_of(AFTER))


def as_old(page: str) -> str:
    """The names before 0.11."""
    return (
        page.replace("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
        .replace("vllm:prefix_cache_", "vllm:gpu_prefix_cache_")
        .replace("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")
    )


def test_old_names_are_brought_to_the_new_ones() -> None:
    assert "vllm:kv_cache_usage_perc" not in as_old(AFTER)
    assert by_name(readings_of(as_old(AFTER))) == by_name(readings_of(AFTER))


def test_where_both_names_stand_the_new_one_counts_once() -> None:
    """As releases in between exported them; here the old ones say something else."""
    old = [line for line in as_old(BEFORE).splitlines() if line not in BEFORE.splitlines()]
    assert len(old) > 20
    assert by_name(readings_of("\n".join(old) + "\n" + AFTER)) == by_name(readings_of(AFTER))


def test_engines_of_one_server_are_replicas() -> None:
    second = AFTER.replace('engine="0"', 'engine="1"')
    lines = [line for line in second.splitlines() if not line.startswith("#")]
    readings = readings_of(AFTER + "\n".join(lines) + "\n", "0")
    assert {r.replica for r in readings} == {"0/0", "0/1"}
    assert len(readings) == 2 * len(readings_of(AFTER))


def test_each_read_sees_the_page_of_now(server: PageServer) -> None:
    sampler = PrometheusSampler(server.url + "/")
    assert by_name(sampler.read())["generation_tokens", ""] == 1
    server.page = AFTER
    assert by_name(sampler.read())["generation_tokens", ""] == 641


def test_the_page_is_found_beside_the_api(server: PageServer) -> None:
    assert PrometheusSampler(f"{server.url}/v1").read()


def test_a_server_that_stops_answering_fails_that_read_alone(server: PageServer) -> None:
    sampler = PrometheusSampler(server.url)
    server.status = 500
    with pytest.raises(SourceFailed, match="HTTP 500"):
        sampler.read()
    server.status, server.page = 200, "vllm:num_requests_running{ 1.0"
    with pytest.raises(SourceFailed, match="no Prometheus text"):
        sampler.read()
    server.page = AFTER
    assert sampler.read()


def test_what_is_not_vllm_is_absent(server: PageServer) -> None:
    server.page = "# TYPE up gauge\nup 1\n"
    with pytest.raises(SourceAbsent, match="none of its metrics has vLLM's names"):
        PrometheusSampler(server.url)
    server.status = 404
    with pytest.raises(SourceAbsent, match="HTTP 404"):
        PrometheusSampler(server.url)
    with pytest.raises(SourceAbsent, match=r"127\.0\.0\.1:9/metrics"):
        PrometheusSampler("http://127.0.0.1:9")  # the discard port: nothing listens


# ---- several pages: an engine inside Ray ----

# What a node's agent says where no replica is.
AGENT = """\
# HELP ray_node_cpu_utilization Total CPU usage on a ray node
# TYPE ray_node_cpu_utilization gauge
ray_node_cpu_utilization{IsHeadNode="false",SessionName="s",Version="2.60.0",ip="10.0.0.2"} 3.5
# TYPE ray_serve_num_router_requests_total counter
ray_serve_num_router_requests_total{application="llm",deployment="LLMServer",SessionName="s"} 21.0
"""


@pytest.fixture
def other() -> Iterator[PageServer]:
    with PageServer(("127.0.0.1", 0), _Handler) as running:
        running.page = AGENT
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_the_agents_of_all_nodes_are_read_as_one_engine(
    server: PageServer, other: PageServer
) -> None:
    server.page = AGENT + as_ray(AFTER)
    urls = (f"{other.url}/metrics", f"{server.url}/metrics")
    sources = of_endpoint("http://llm.example.com", urls)
    assert [source.name for source in sources] == ["vllm"]
    sampler = sources[0].open()
    found = sampler.read()
    assert by_name(found) == by_name(readings_of(AFTER))
    assert {r.replica for r in found} == {"1/abc123/0"}
    # A replica that comes up on the other node counts from then on; the parts stay apart.
    other.page = AGENT + as_ray(BEFORE).replace("abc123", "def456")
    both = sampler.read()
    assert {r.replica for r in both} == {"0/def456/0", "1/abc123/0"}
    assert len(both) == len(found) + len(readings_of(BEFORE))
    other.status = 500
    with pytest.raises(SourceFailed, match="HTTP 500"):
        sampler.read()


def test_pages_without_an_engine_are_absent(server: PageServer, other: PageServer) -> None:
    server.page = AGENT
    (engine,) = of_endpoint("http://llm.example.com", (f"{server.url}/metrics", other.url))
    with pytest.raises(SourceAbsent, match=r"none of http://127.* has metrics of vLLM's names"):
        engine.open()
    (engine,) = of_endpoint("http://llm.example.com", (server.url, "http://127.0.0.1:9/metrics"))
    with pytest.raises(SourceAbsent, match=r"127\.0\.0\.1:9/metrics"):
        engine.open()


class TestPagesSampler(SamplerContract):
    @pytest.fixture
    def sampler(self, server: PageServer, other: PageServer) -> Sampler:
        server.page = as_ray(AFTER)
        return PagesSampler((server.url, other.url))


def test_a_run_samples_the_pages_that_its_endpoint_names(server: PageServer) -> None:
    """The deployment of an endpoint, and a watch as a run's."""
    server.page = AGENT + as_ray(AFTER)
    workload = EndpointWorkload(
        url="http://127.0.0.1:9", model="m", metrics_url=(f"{server.url}/metrics",)
    )
    deployer = FakeDeployer()
    spec = RunSpec(name="ray", workload=workload, traffic=a_traffic())
    plan = make_plan(spec, deployer.inventory())
    launch = workload_for(workload).launch
    with deployer.deploy(plan, lambda device: launch(device, ""), lambda *_: None) as deployed:
        assert deployed.watch is not None
        watch = deployed.watch(0.05)
        watch.begin()
        told = watch.end()
    running = told.total("vllm:num_requests_running")
    assert running is not None and set(running.value) == {3.0}
    # How it is looked at is not what is asked: the hash leaves the pages out.
    bare = replace(spec, workload=replace(workload, metrics_url=()))
    assert make_plan(bare, deployer.inventory()).workload_hash == plan.workload_hash
