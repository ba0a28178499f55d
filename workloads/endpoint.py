"""Someone else's OpenAI-compatible server as a workload: nothing to start, only to drive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from results.samples import RequestSamples
from workloads.base import Device, RemoteServer, Running
from workloads.errors import LaunchRefused
from workloads.params import EndpointWorkload
from workloads.traffic.spec import Traffic


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A ``Workload``. The key named by ``api_key_env`` is the load driver's business."""

    params: EndpointWorkload

    def launch(self, device: Device, models_dir: str) -> RemoteServer:
        return RemoteServer(
            url=self.params.url,
            model=self.params.model,
            api_key_env=self.params.api_key_env,
            metrics_url=self.params.metrics_url,
        )

    def drive(
        self,
        running: Running,
        traffic: Traffic | None,
        on_progress: Callable[[int, int, float], None],
    ) -> RequestSamples:
        """Raises LaunchRefused when the spec has no traffic or the deployment no server."""
        if traffic is None:
            raise LaunchRefused(
                f"endpoint {self.params.url} needs traffic to drive it with; the spec has none"
            )
        if running.target is None or running.load is None:
            raise LaunchRefused(
                f"endpoint {self.params.url} is driven over HTTP; the deployment has no server "
                "target or no load driver"
            )
        return running.load.drive(running.target, traffic, on_progress)
