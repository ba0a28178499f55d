"""The page names only what exists: metrics of the registry, peers that were read, presets."""

from __future__ import annotations

from reports.metrics_page import metrics_page
from reports.peer_definitions import DIFFERENCES, PEERS, PERCENTILES
from results.metrics import REGISTRY, Area
from results.slo import PRESETS


def test_every_latency_says_where_peers_differ() -> None:
    latencies = {m.name for m in REGISTRY.values() if m.area is Area.LATENCY}
    assert latencies <= {d.metric for d in DIFFERENCES} <= set(REGISTRY)


def test_every_peer_that_is_named_was_read_in_some_version() -> None:
    named = {peer for d in DIFFERENCES for peer in d.peers}
    named |= {peer for peers, _ in PERCENTILES for peer in peers.split(", ")}
    assert named == set(PEERS)
    assert all(PEERS.values())


def test_the_page_holds_every_metric_peer_and_preset() -> None:
    page = metrics_page()
    for name in (*REGISTRY, *PRESETS):
        assert f"`{name}`" in page
    for d in DIFFERENCES:
        assert d.theirs in page
    assert "p99 662" in page
