"""A profile in, what it takes to deploy it out: command line, Ray Serve, RayService, Kubernetes.

Everything is made as data and written by a YAML library; nothing is pasted into text.
"""

from __future__ import annotations

from results.manifests.render import manifests

__all__ = ["manifests"]
