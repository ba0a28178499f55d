"""Google's own client of the GKE Inference Quickstart, unchanged, against this server."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
import yaml

from results.api.testing import Swappable, served

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # google.api_core's own, about the Python it runs on
    from google.api_core.exceptions import BadRequest, NotFound
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import gkerecommender_v1 as giq
    from google.cloud.gkerecommender_v1.services.gke_inference_quickstart.transports import (
        GkeInferenceQuickstartRestTransport,
    )

GEMMA, LLAMA = "google/gemma-2-27b-it", "meta-llama/Llama-3.1-8B-Instruct"


def client_of(url: str) -> giq.GkeInferenceQuickstartClient:
    transport = GkeInferenceQuickstartRestTransport(
        host=url.removeprefix("http://"), url_scheme="http", credentials=AnonymousCredentials()
    )
    return giq.GkeInferenceQuickstartClient(transport=transport)


@pytest.fixture(scope="module")
def client(url: str) -> giq.GkeInferenceQuickstartClient:
    return client_of(url)


def test_models_servers_and_versions(client: giq.GkeInferenceQuickstartClient) -> None:
    assert list(client.fetch_models(giq.FetchModelsRequest())) == [GEMMA, LLAMA]
    servers = client.fetch_model_servers(giq.FetchModelServersRequest(model=GEMMA))
    assert list(servers) == ["vllm"]
    versions = client.fetch_model_server_versions(
        giq.FetchModelServerVersionsRequest(model=GEMMA, model_server="vllm")
    )
    assert list(versions) == ["0.33.0"]


def test_its_pager_walks_through_all_pages(client: giq.GkeInferenceQuickstartClient) -> None:
    pages = list(client.fetch_models(giq.FetchModelsRequest(page_size=1)).pages)
    assert [list(page.models) for page in pages] == [[GEMMA], [LLAMA]]
    whole = list(client.fetch_profiles(giq.FetchProfilesRequest()))
    found = list(client.fetch_profiles(giq.FetchProfilesRequest(page_size=1)))
    assert len(found) == 6
    assert found == whole


def test_profiles_carry_units_money_and_ranges(client: giq.GkeInferenceQuickstartClient) -> None:
    pager = client.fetch_profiles(giq.FetchProfilesRequest(model=GEMMA, model_server="vllm"))
    page = next(iter(pager.pages))
    kinds = {p.accelerator_type: p for p in page.profile}
    assert set(kinds) == {"nvidia-h100-80gb", "nvidia-l4", "tpu-v6e-slice"}
    h100 = kinds["nvidia-h100-80gb"]
    assert h100.instance_type == "a3-highgpu-1g"
    assert h100.resources_used.accelerator_count == 1
    assert kinds["tpu-v6e-slice"].tpu_topology == "2x2"
    (point,) = h100.performance_stats
    # The busiest load point: 4 requests/s of 256 tokens; TTFT 100 ms · 2²; and the whole request
    # 0.4 s + 255 · 10 ms · 1.5² = 6.1375 s over 256 tokens is 23.97 ms, told as 24.
    assert point.queries_per_second == pytest.approx(4.0)
    assert point.output_tokens_per_second == 1024
    assert point.ttft_milliseconds == 400
    assert point.ntpot_milliseconds == 24
    (cost,) = point.cost
    # $3 an hour on spot; 4096 input tokens/s count a quarter: 3 / 3600 / (1024 + 1024) $ a token.
    usd = cost.cost_per_million_output_tokens
    assert usd.units + usd.nanos * 1e-9 == pytest.approx(3 / 3600 / 2048 * 1e6, abs=1e-9)
    cheap = cost.cost_per_million_input_tokens
    assert cheap.units + cheap.nanos * 1e-9 == pytest.approx(3 / 3600 / 2048 / 4 * 1e6, abs=1e-9)
    assert cost.pricing_model == "spot"
    # No spot price of the TPU is known: no cost, and not one of 0.
    assert len(kinds["tpu-v6e-slice"].performance_stats[0].cost) == 0
    assert (page.performance_range.ttft_range.min_, page.performance_range.ttft_range.max_) == (
        400,
        1600,
    )
    assert page.performance_range.throughput_output_range.max_ == 1024
    assert "median" in page.comments


def test_requirements_choose_the_load_point_and_the_hardware(
    client: giq.GkeInferenceQuickstartClient,
) -> None:
    wanted = giq.PerformanceRequirements(
        target_ttft_milliseconds=250,
        target_cost=giq.Cost(
            pricing_model="on-demand",
            cost_per_million_output_tokens=giq.Amount(units=5),
        ),
    )
    request = giq.FetchProfilesRequest(model=GEMMA, performance_requirements=wanted)
    found = {p.accelerator_type: p for p in client.fetch_profiles(request)}
    # H100: 100, 200, 400 ms; TPU: 150, 300, 600; L4: 400 and more.
    assert set(found) == {"nvidia-h100-80gb", "tpu-v6e-slice"}
    stats = {name: p.performance_stats[0] for name, p in found.items()}
    assert stats["nvidia-h100-80gb"].ttft_milliseconds == 200
    assert stats["tpu-v6e-slice"].ttft_milliseconds == 150
    assert stats["tpu-v6e-slice"].cost[0].pricing_model == "on-demand"


def test_what_cannot_be_met_is_an_answer_with_words(
    client: giq.GkeInferenceQuickstartClient,
) -> None:
    wanted = giq.PerformanceRequirements(target_ttft_milliseconds=1)
    page = next(
        iter(
            client.fetch_profiles(
                giq.FetchProfilesRequest(model=GEMMA, performance_requirements=wanted)
            ).pages
        )
    )
    assert len(page.profile) == 0
    assert "ttft" in page.comments.lower()


def test_benchmarking_data_has_every_load_point(client: giq.GkeInferenceQuickstartClient) -> None:
    info = giq.ModelServerInfo(model=LLAMA, model_server="vllm")
    request = giq.FetchBenchmarkingDataRequest(
        model_server_info=info, instance_type="a3-highgpu-1g", pricing_model="on-demand"
    )
    (profile,) = client.fetch_benchmarking_data(request).profile
    assert [p.queries_per_second for p in profile.performance_stats] == [1.0, 2.0, 4.0]
    assert [p.ttft_milliseconds for p in profile.performance_stats] == [100, 200, 400]
    assert profile.model_server_info.model_server_version == "0.33.0"


def test_its_errors_carry_our_words(client: giq.GkeInferenceQuickstartClient) -> None:
    with pytest.raises(NotFound, match="gemma-2-27b-it"):
        client.fetch_model_servers(giq.FetchModelServersRequest(model="google/gemma-2-27b"))
    with pytest.raises(BadRequest, match="token of ours"):
        list(client.fetch_models(giq.FetchModelsRequest(page_token="bm9uc2Vuc2U=")))


def test_pages_go_on_while_records_arrive(
    make: SimpleNamespace,
    app_of: Callable[..., Any],
    store: Any,
    until: Callable[[Callable[[], bool]], None],
    health_of: Callable[[str], dict[str, Any]],
) -> None:
    """Between two pages a profile comes that sorts before and one that sorts behind the place."""
    few = [p for p in make.profiles() if p.configuration.model == LLAMA]
    source = Swappable(make.lookup_of(few, make.prices))
    with served(app_of(source, store)) as url:
        pages = client_of(url).fetch_profiles(giq.FetchProfilesRequest(page_size=2)).pages
        first = next(iter_pages := iter(pages))
        source.lookup = make.lookup_of(make.profiles(), make.prices)
        until(lambda: health_of(url)["num_profiles"] == 18)
        rest = [p for page in iter_pages for p in page.profile]
    names = [p.accelerator_type for p in [*first.profile, *rest]]
    assert names == ["nvidia-h100-80gb", "nvidia-l4", "tpu-v6e-slice"]
    assert {p.model_server_info.model for p in rest} == {LLAMA}


def test_a_manifest_of_the_best_configuration(client: giq.GkeInferenceQuickstartClient) -> None:
    reply = client.generate_optimized_manifest(
        giq.GenerateOptimizedManifestRequest(
            model_server_info=giq.ModelServerInfo(model=GEMMA, model_server="vllm"),
            accelerator_type="nvidia-h100-80gb",
            kubernetes_namespace="serving",
        )
    )
    kinds = {m.kind: yaml.safe_load(m.content) for m in reply.kubernetes_manifests}
    assert set(kinds) == {"Deployment", "Service"}
    deployment = kinds["Deployment"]
    assert deployment["metadata"]["namespace"] == "serving"
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert GEMMA in container["args"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert any("3 runs" in comment for comment in reply.comments)
    scaled = client.generate_optimized_manifest(
        giq.GenerateOptimizedManifestRequest(
            model_server_info=giq.ModelServerInfo(model=GEMMA, model_server="vllm"),
            accelerator_type="nvidia-h100-80gb",
            performance_requirements=giq.PerformanceRequirements(target_ttft_milliseconds=1000),
        )
    )
    kinds = {m.kind: yaml.safe_load(m.content) for m in scaled.kubernetes_manifests}
    scaler = kinds["HorizontalPodAutoscaler"]
    kubernetes_validate.validate(scaler, "1.37", strict=True)
    # At 4 requests/s a request takes 0.4 s + 255 tokens of 22.5 ms: 24 in flight.
    target = scaler["spec"]["metrics"][0]["pods"]["target"]["averageValue"]
    assert target == str(int(4 * (0.4 + 255 * 0.0225)))
    assert any("maxReplicas" in comment for comment in scaled.comments)
    with pytest.raises(NotFound, match="nvidia-l4"):
        client.generate_optimized_manifest(
            giq.GenerateOptimizedManifestRequest(
                model_server_info=giq.ModelServerInfo(model=GEMMA, model_server="vllm"),
                accelerator_type="nvidia-b200",
            )
        )
