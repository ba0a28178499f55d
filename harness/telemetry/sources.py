"""Which sources are read beside a server, by where the reader stands and what the server is on."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence

from harness.telemetry.host import HostSampler
from harness.telemetry.nvml import NvmlSampler
from harness.telemetry.prometheus import PagesSampler, PrometheusSampler
from harness.telemetry.sampler import Sampler, Source

ENGINE, HOST, NVML, TPU = "vllm", "host", "nvml", "tpu"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def beside_server(
    base_url: str, device_kind: str, *, engine_pid: int = 0, visible_gpus: str | None = None
) -> tuple[Source, ...]:
    """For a reader on the server's own node. On a node with accelerators those of a server that
    uses none are left alone: what they do is somebody else's."""
    sources = [_engine(base_url), Source(name=HOST, open=lambda: HostSampler(engine_pid))]
    if device_kind == "gpu":
        sources.append(Source(name=NVML, open=lambda: NvmlSampler(visible_gpus)))
    if device_kind == "tpu":
        sources.append(Source(name=TPU, open=_tpu))
    return tuple(sources)


def of_gpus(gpus: Sequence[str]) -> tuple[Source, ...]:
    """For a training rank that reads its own devices: their numbers on its node, or UUIDs."""
    return (Source(name=NVML, open=lambda: NvmlSampler(",".join(gpus))),)


def of_endpoint(base_url: str, metrics_url: Sequence[str] = ()) -> tuple[Source, ...]:
    """For a reader anywhere. ``metrics_url`` are the engine's pages where its metrics are not at
    ``base_url``/metrics. Host and devices are read only where the address is this host's own;
    then nothing is known of what the server runs on, so whatever is there is read."""
    pages = tuple(metrics_url)
    sources = [Source(name=ENGINE, open=lambda: PagesSampler(pages))] if pages else []
    sources = sources or [_engine(base_url)]
    if urllib.parse.urlsplit(base_url).hostname in _LOOPBACK:
        sources += [
            Source(name=HOST, open=HostSampler),
            Source(name=NVML, open=NvmlSampler),
            Source(name=TPU, open=_tpu),
        ]
    return tuple(sources)


def _engine(base_url: str) -> Source:
    return Source(name=ENGINE, open=lambda: PrometheusSampler(base_url, instance="0"))


def _tpu() -> Sampler:
    from harness.telemetry.tpu import TpuSampler  # brings gRPC; only nodes with TPUs need it

    return TpuSampler()
