from dataclasses import replace

import numpy as np
import pytest

from harness.load.driver import HttpLoadDriver
from workloads.base import Device, RemoteServer, Running, Workload
from workloads.endpoint import Endpoint
from workloads.errors import LaunchRefused
from workloads.params import EndpointWorkload
from workloads.simulated.answers import Behaviour
from workloads.simulated.golden_server import golden_server
from workloads.traffic.spec import ConstantArrivals, Traffic

CPU = Device(kind="cpu", accelerator="cpu", num_chips=0)
TRAFFIC = Traffic(arrivals=ConstantArrivals(rate_rps=50.0), num_requests=4)


def quiet(num_done: int, num_total: int, elapsed_s: float) -> None:
    pass


def test_an_endpoint_is_nothing_to_start() -> None:
    params = EndpointWorkload(url="https://host/v1", model="m", api_key_env="SOME_KEY")
    workload: Workload = Endpoint(params)
    assert workload.launch(CPU, "") == RemoteServer(
        url="https://host/v1", model="m", api_key_env="SOME_KEY"
    )
    pages = ("http://n1:8080/metrics", "http://n2:8080/metrics")
    workload = Endpoint(replace(params, metrics_url=pages))
    assert workload.launch(CPU, "").metrics_url == pages  # type: ignore[union-attr]


def test_an_endpoint_is_driven() -> None:
    with golden_server(Behaviour(ttft_s=0.001, itl_s=0.001)) as server:
        workload = Endpoint(EndpointWorkload(url=server.url + "/v1", model="simulated"))
        target = replace(server.target, base_url=server.url + "/v1")
        samples = workload.drive(Running(target=target, load=HttpLoadDriver()), TRAFFIC, quiet)
    assert samples.error.tolist() == [""] * 6
    assert np.sum(~samples.is_warmup) == 4


def test_an_endpoint_without_traffic_or_server_says_so() -> None:
    workload = Endpoint(EndpointWorkload(url="http://h", model="m"))
    with golden_server() as server:
        running = Running(target=server.target, load=HttpLoadDriver())
        with pytest.raises(LaunchRefused, match="needs traffic"):
            workload.drive(running, None, quiet)
        for incomplete in (replace(running, load=None), replace(running, target=None)):
            with pytest.raises(LaunchRefused, match="no server target or no load driver"):
                workload.drive(incomplete, TRAFFIC, quiet)
