"""The lookup over HTTP: our own routes, those of the GKE Inference Quickstart, and a web page.

``door`` makes questions of requests, ``snapshots`` holds what answers, ``native`` and ``giq`` are
the routes, ``guard`` and ``meter`` lie around them, ``app`` puts them together, ``server`` runs it.
"""
