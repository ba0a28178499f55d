"""The engine's own numbers: its Prometheus text over HTTP, brought to vLLM's present names.

vLLM exports ``vllm:name``; through Ray the same is ``ray_vllm_name``. Of a page of some thousand
lines only those that are wanted are parsed, so that a read costs a millisecond or two.
"""

from __future__ import annotations

import http.client
import math
import ssl
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from harness.errors import SourceAbsent, SourceFailed
from harness.telemetry.sampler import Reading

TIMEOUT_S = 2.0
MAX_BYTES = 16 * 2**20
PATH = "/metrics"

_GAUGES: Final = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
_COUNTERS: Final = (
    "prefix_cache_queries",
    "prefix_cache_hits",
    "num_preemptions",
    "prompt_tokens",
    "generation_tokens",
    "request_success",
)
_HISTOGRAMS: Final = (
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "e2e_request_latency_seconds",
)
# What vLLM called it before (0.8 to 0.10), → what it calls it now (0.32).
_OLD: Final = {
    "gpu_cache_usage_perc": "kv_cache_usage_perc",
    "gpu_prefix_cache_queries": "prefix_cache_queries",
    "gpu_prefix_cache_hits": "prefix_cache_hits",
    "time_per_output_token_seconds": "inter_token_latency_seconds",
}
_PREFIXES: Final = ("vllm:", "ray_vllm_", "ray_vllm:", "vllm_")
_PARTS: Final = ("_bucket", "_sum", "_count")


def _wanted() -> dict[str, tuple[str, bool]]:
    """Every sample name that may be met → (our name of it, whether it is an old one)."""
    stems = {name: (name, False) for name in (*_GAUGES, *_COUNTERS, *_HISTOGRAMS)}
    stems |= {old: (new, True) for old, new in _OLD.items()}
    found = {}
    for stem, (new, is_old) in stems.items():
        if new in _HISTOGRAMS:
            forms = {stem + part: new + part for part in _PARTS}
        elif new in _COUNTERS:
            forms = {stem: new, f"{stem}_total": new}
        else:
            forms = {stem: new}
        for prefix in _PREFIXES:
            for form, ours in forms.items():
                found[prefix + form] = (f"vllm:{ours}", is_old)
    return found


WANTED: Final = _wanted()


def wanted_lines(text: str) -> Iterator[str]:
    """The samples of the page that we read; comments and all else left out."""
    for line in text.splitlines():
        if not line.startswith(("vllm", "ray_vllm")):
            continue
        end = min(at for at in (line.find("{"), line.find(" "), len(line)) if at >= 0)
        if line[:end] in WANTED:
            yield line


def readings_of(text: str, instance: str = "") -> tuple[Reading, ...]:
    """The page's readings, one per name, replica and bucket; labels beyond those are added up.

    Where an old name and its successor both stand on the page, the successor counts. Raises
    SourceFailed for a page that is no Prometheus text.
    """
    lines = "\n".join(wanted_lines(text))
    try:
        samples = [
            sample
            for family in text_string_to_metric_families(f"{lines}\n")
            for sample in family.samples
        ]
    except ValueError as error:
        raise SourceFailed(f"the page is no Prometheus text: {error}") from error
    return _readings(samples, instance)


def _readings(samples: Iterable[Sample], instance: str) -> tuple[Reading, ...]:
    new: dict[tuple[str, str, str], float] = {}
    old: dict[tuple[str, str, str], float] = {}
    for sample in samples:
        name, is_old = WANTED[sample.name]
        if not math.isfinite(sample.value):
            continue
        bound = sample.labels.get("le")
        label = "" if bound is None else f"le={float(bound):g}"
        into = old if is_old else new
        key = (name, _replica(sample.labels, instance), label)
        into[key] = into.get(key, 0.0) + sample.value
    successors = {name for name, _, _ in new}
    merged = {key: value for key, value in old.items() if key[0] not in successors} | new
    return tuple(
        Reading(name, value, replica, label, ends_only=name.endswith(_PARTS))
        for (name, replica, label), value in merged.items()
    )


def _replica(labels: dict[str, str], instance: str) -> str:
    """Which server and which of its engines: ``0/0``. Ray names replica and worker itself."""
    ray = labels.get("ReplicaId") or labels.get("WorkerId", "")[:12]
    return "/".join(part for part in (instance, ray, labels.get("engine", "")) if part)


class PrometheusSampler:
    """Reads ``base_url``/metrics. Raises SourceAbsent where that is not vLLM's page, or, where it
    ``may_hold_none``, no page at all."""

    def __init__(
        self,
        base_url: str,
        instance: str = "",
        timeout_s: float = TIMEOUT_S,
        *,
        may_hold_none: bool = False,
    ) -> None:
        parts = urllib.parse.urlsplit(base_url)
        self._is_https = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path.removesuffix("/").removesuffix(PATH).removesuffix("/v1") + PATH
        self._instance = instance
        self._timeout_s = timeout_s
        self._url = f"{parts.scheme}://{parts.netloc}{self._path}"
        try:
            found = self.read()
        except SourceFailed as failed:
            raise SourceAbsent(str(failed)) from failed
        if not found and not may_hold_none:
            raise SourceAbsent(f"{self._url} answers, and none of its metrics has vLLM's names")

    def read(self) -> tuple[Reading, ...]:
        return readings_of(self._fetch(), self._instance)

    def close(self) -> None:
        """Nothing is held: each read has a connection of its own, as servers close idle ones."""

    def _fetch(self) -> str:
        connection = self._connection()
        try:
            # Without an Accept header the answer is the plain text format, which we parse.
            connection.request("GET", self._path, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read(MAX_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise SourceFailed(f"GET {self._url}: {error!r}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise SourceFailed(f"GET {self._url}: HTTP {answer.status}")
        if len(body) > MAX_BYTES:
            raise SourceFailed(f"GET {self._url}: more than {MAX_BYTES:,} bytes")
        return body.decode(errors="replace")

    def _connection(self) -> http.client.HTTPConnection:
        if self._is_https:
            return http.client.HTTPSConnection(
                self._host,
                self._port,
                timeout=self._timeout_s,
                context=ssl.create_default_context(),
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)


class PagesSampler:
    """Reads several pages as one: an engine inside Ray is told by the agent of each node that it
    has a replica on, and nobody says in advance which.

    Raises SourceAbsent where a page cannot be read, or none of them has vLLM's names. A page that
    fails later fails that read: half of an engine's numbers would be taken for all of them.
    """

    def __init__(self, urls: Sequence[str], timeout_s: float = TIMEOUT_S) -> None:
        self._pages = [
            PrometheusSampler(url, str(number), timeout_s, may_hold_none=True)
            for number, url in enumerate(urls)
        ]
        if not self.read():
            raise SourceAbsent(
                f"none of {', '.join(urls)} has metrics of vLLM's names, as vllm:… or ray_vllm_…"
            )

    def read(self) -> tuple[Reading, ...]:
        return tuple(reading for page in self._pages for reading in page.read())

    def close(self) -> None:
        """As each of its pages."""
