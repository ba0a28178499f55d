"""``windtunnel manifest``: a recommendation as something to deploy."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from harness.cli.exits import told
from harness.cli.lookups import fresh_lookup
from harness.cli.options import Json, Store, store_of
from harness.cli.output import print_json
from results.errors import RecordNotFound
from results.manifests import manifests
from results.prices import PriceBook
from results.recommendation.manifest import Autoscale, ManifestOptions, Platform

Where = Annotated[
    Platform,
    typer.Option(
        help="command: vLLM's command line. serve: Ray Serve's config. rayservice: KubeRay. "
        "kubernetes: Deployment and Service. Of a training run: a spec of `windtunnel run`. "
        "rayjob: KubeRay. kubernetes: a Job. command: torchrun."
    ),
]
Scaling = Annotated[
    Autoscale,
    typer.Option(
        help="Of a serving: add an autoscaler whose target is the load that was measured. "
        "prometheus: by prometheus-adapter. gmp: by Google Managed Service for Prometheus."
    ),
]
MostReplicas = Annotated[int, typer.Option(help="Of the autoscaler. Default: --replicas.")]
Script = Annotated[
    str, typer.Option(help="Of a training: your own script, to be launched by torchrun.")
]


def manifest(
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="The id that `recommend` shows.")
    ],
    platform: Where = Platform.KUBERNETES,
    replicas: Annotated[int, typer.Option(help="As `recommend` says.")] = 1,
    name: Annotated[str, typer.Option(help="Of the objects. Default: after the model.")] = "",
    namespace: Annotated[str, typer.Option(help="Kubernetes' namespace.")] = "default",
    image: Annotated[str, typer.Option(help="Default: the evidence's, or the public one.")] = "",
    model_uri: Annotated[
        str, typer.Option(help="Where the model is, if not at the name it was measured by.")
    ] = "",
    autoscale: Scaling = Autoscale.NONE,
    min_replicas: Annotated[int, typer.Option(help="Of the autoscaler.")] = 1,
    max_replicas: MostReplicas = 0,
    script: Script = "",
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Write what a profile is deployed with: a command line, Ray Serve or Kubernetes objects.

    Documents go to stdout, what to look at before you apply them to stderr.

    Examples: `windtunnel manifest 4aba4d01082911e9 | kubectl apply -f -` ·
    `windtunnel manifest 4aba4d01082911e9 --platform command` ·
    `windtunnel manifest 4aba4d01082911e9 --replicas 6 --autoscale gmp` ·
    `windtunnel manifest 1f0c3a9b2e4d5f60 --platform run > train.yaml`
    """
    with told(as_json):
        lookup = fresh_lookup(store_of(store), PriceBook())
        found = lookup.profile(profile)
        if found is None:
            raise RecordNotFound(
                f"no profile {profile} among {lookup.num_profiles}; `windtunnel recommend` shows "
                "the id of each"
            )
        options = ManifestOptions(
            name=name,
            namespace=namespace,
            replicas=replicas,
            image=image,
            model_uri=model_uri,
            autoscale=autoscale,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            script=script,
        )
        made = manifests(found, options, platform)
    if as_json:
        print_json("windtunnel.manifest/1", {"profile_id": profile, **msgspec.to_builtins(made)})
        return
    print("---\n".join(one.content for one in made.documents), end="")  # noqa: T201
    for comment in made.comments:
        print(f"windtunnel: {comment}", file=sys.stderr)  # noqa: T201
