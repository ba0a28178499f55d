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
from results.recommendation.manifest import ManifestOptions, Platform


def manifest(
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="The id that `recommend` shows.")
    ],
    platform: Annotated[
        Platform,
        typer.Option(
            help="command: vLLM's command line. serve: Ray Serve's config. rayservice: KubeRay. "
            "kubernetes: Deployment and Service."
        ),
    ] = Platform.KUBERNETES,
    replicas: Annotated[int, typer.Option(help="As `recommend` says.")] = 1,
    name: Annotated[str, typer.Option(help="Of the objects. Default: after the model.")] = "",
    namespace: Annotated[str, typer.Option(help="Kubernetes' namespace.")] = "default",
    image: Annotated[str, typer.Option(help="Default: the evidence's, or the public one.")] = "",
    model_uri: Annotated[
        str, typer.Option(help="Where the model is, if not at the name it was measured by.")
    ] = "",
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Write what a profile is deployed with: a command line, Ray Serve or Kubernetes objects.

    Documents go to stdout, what to look at before you apply them to stderr.

    Examples: `windtunnel manifest 4aba4d01082911e9 | kubectl apply -f -` ·
    `windtunnel manifest 4aba4d01082911e9 --platform command`
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
            name=name, namespace=namespace, replicas=replicas, image=image, model_uri=model_uri
        )
        made = manifests(found, options, platform)
    if as_json:
        print_json("windtunnel.manifest/1", {"profile_id": profile, **msgspec.to_builtins(made)})
        return
    print("---\n".join(one.content for one in made.documents), end="")  # noqa: T201
    for comment in made.comments:
        print(f"windtunnel: {comment}", file=sys.stderr)  # noqa: T201
