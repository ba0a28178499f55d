"""The Ray cluster that this process works on: one of its own, or one that is there already.

A cluster of our own is never shared and never outlives this process, however it ends. A cluster
that is there is asked whether it is one before Ray is let near the address: ``ray.init`` on an
address where something else listens is silent for two minutes and then ends the whole process.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.services import find_gcs_addresses, get_ray_address_from_environment
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
from ray.exceptions import RayError

from harness.deployment import Announce
from harness.errors import RayUnavailable, SpecError
from harness.on_ray.raylets import cluster_of
from harness.on_ray.session_dir import session_dir
from harness.on_ray.virtual import virtual_nodes, wrong_with
from harness.pools import VirtualCluster

CONNECT_DEADLINE_S = 10.0
CLIENT_PORT = 10001
GCS_PORT = 6379
# A client's first words in HTTP/2, and the type that the server's answer has. See RFC 9113, 3.4.
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
HTTP2_SETTINGS = 4

# An error as the raylet's C++, a Python logger and a traceback write it.
LOGGED_ERROR = re.compile(r"^\[[^]]* [EC] [^]]*\]|\bERROR\b|^\w*(Error|Exception): ")
WANTS_TOKEN = (
    "wants its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN where ~/.ray/auth_token is not it"
)
ACCEPTED = "accepted: local, auto, HOST:PORT (of the cluster's GCS) or ray://HOST:PORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterHandle:
    """``address`` is the GCS's, or the one that was asked for. ``virtual``: its pools are
    pretended."""

    address: str
    is_local: bool
    virtual: bool = False


def _say_nothing(phase: str, sentence: str) -> None:
    pass


@contextlib.contextmanager
def ray_cluster(
    address: str,
    pools: VirtualCluster | None = None,
    *,
    announce: Announce = _say_nothing,
    connect_deadline_s: float = CONNECT_DEADLINE_S,
) -> Iterator[ClusterHandle]:
    """This process, connected to the cluster that ``address`` names until the context is left.

    ``local`` starts a cluster, with these virtual ``pools`` if there are any, and ends every
    process of it; the thread that enters must live until it leaves. Others are joined and left as
    they are. Raises RayUnavailable when there is none, SpecError for pools that cannot be.
    """
    if ray.is_initialized():
        raise RayUnavailable(
            f"asked for the Ray cluster {address}, but this process is connected to one already: "
            "leave that one first"
        )
    if pools is not None:
        _check(address, pools)
    if address == "local":
        with _local(pools, announce) as handle:
            yield handle
        return
    with _joined(address, announce, connect_deadline_s) as handle:
        yield handle


def _check(address: str, pools: VirtualCluster) -> None:
    if address != "local":
        raise SpecError(f"virtual pools are made on this machine, by local Ray, not on {address}")
    wrong = [f"{'.'.join(map(str, path))}: {message}" for path, message in wrong_with(pools)]
    if wrong:
        raise SpecError("\n".join(wrong))


@contextlib.contextmanager
def _local(pools: VirtualCluster | None, announce: Announce) -> Iterator[ClusterHandle]:
    nodes = virtual_nodes(pools) if pools else ()
    what = f"with {len(nodes)} virtual nodes" if nodes else "on this machine"
    announce("ray", f"starting Ray {what}")
    with contextlib.ExitStack() as stack:
        folder = None
        try:
            folder = stack.enter_context(session_dir())
            address = stack.enter_context(cluster_of(nodes, folder))
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises the root of all errors when a start times out
            words = _last_words(folder) if folder else ""
            raise RayUnavailable(
                f"Ray could not be started {what}: {error}; is the machine busy, or out of memory "
                f"or disk?{words}"
            ) from error
        yield ClusterHandle(address=address, is_local=True, virtual=bool(nodes))


def _last_words(folder: Path) -> str:
    """The errors in Ray's logs, which go with the folder."""
    lines = []
    for path in sorted(folder.glob("session_latest/logs/*")):
        if path.is_file():
            with contextlib.suppress(OSError):
                text = path.read_text(errors="replace")
                found = [line.strip() for line in text.splitlines() if LOGGED_ERROR.search(line)]
                lines += [f"{path.name}: {line[:300]}" for line in found[:3]]
    return "".join(f"\n  {line}" for line in lines[:12])


@contextlib.contextmanager
def _joined(address: str, announce: Announce, deadline_s: float) -> Iterator[ClusterHandle]:
    found = _find(address)
    said = address if found == address else f"{address} (found {found})"
    announce("ray", f"joining Ray at {said}")
    is_client = found.startswith("ray://")
    endpoint = found.removeprefix("ray://")
    host, port = _host_and_port(endpoint, address, CLIENT_PORT if is_client else GCS_PORT)
    _probe(host, port, said, deadline_s)
    if not is_client:
        _probe_gcs(f"{host}:{port}", said, deadline_s)
    try:
        ray.init(
            address=f"ray://{host}:{port}" if is_client else f"{host}:{port}",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (RayError, ConnectionError, RuntimeError, ValueError, ImportError) as error:
        ray.shutdown()
        hint = f"; perhaps it {WANTS_TOKEN}" if is_client else ""
        raise RayUnavailable(f"Ray at {said} cannot be joined: {error}{hint}") from error
    try:
        yield ClusterHandle(address=found, is_local=False)
    finally:
        ray.shutdown()


def _find(address: str) -> str:
    """What ``auto`` means here: RAY_ADDRESS, or a cluster that runs on this machine."""
    if address != "auto":
        return address
    try:
        found = get_ray_address_from_environment("auto", None)
    except ConnectionError as error:
        raise RayUnavailable(
            "asked for the Ray cluster of this machine (auto): RAY_ADDRESS is not set and no Ray "
            "runs here; start one with `ray start --head`, or use local"
        ) from error
    if found in ("auto", "local"):
        raise RayUnavailable(
            f"asked for the Ray cluster of this machine (auto), but RAY_ADDRESS is {found}, which "
            "names none: unset it, or use local"
        )
    if found in find_gcs_addresses():  # type: ignore[no-untyped-call]
        # As ray.init does: the user's token is shown to this machine's cluster, to no address.
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    return str(found)


def _host_and_port(endpoint: str, asked: str, default_port: int) -> tuple[str, int]:
    host, colon, port = endpoint.rpartition(":")
    if not colon:
        host, port = endpoint, ""
        if default_port == GCS_PORT:  # a bare word is a typing error, not a host
            raise RayUnavailable(f'asked for the Ray cluster "{asked}"; {ACCEPTED}')
    number = int(port) if port.isdecimal() else (default_port if not colon else 0)
    if not host or not 0 < number < 65536:
        raise RayUnavailable(f'asked for the Ray cluster "{asked}"; {ACCEPTED}')
    return host.strip("[]"), number


def _probe(host: str, port: int, said: str, deadline_s: float) -> None:
    """Something must listen there that speaks HTTP/2, as Ray's servers do."""
    try:
        with socket.create_connection((host, port), timeout=deadline_s) as connection:
            connection.sendall(HTTP2_HELLO)
            answer = connection.recv(9)
    except TimeoutError as error:
        raise RayUnavailable(
            f"Ray at {said}: {host} port {port} did not answer within {deadline_s:g} s"
        ) from error
    except OSError as error:
        raise RayUnavailable(
            f"Ray at {said}: no connection to {host} port {port} ({error.strerror or error}); "
            "is the cluster up, and is that its address?"
        ) from error
    if len(answer) < 4 or answer[3] != HTTP2_SETTINGS:
        raise RayUnavailable(f"Ray at {said}: what listens at {host} port {port} is not Ray")


def _probe_gcs(endpoint: str, said: str, deadline_s: float) -> None:
    """It must be a GCS. Asked in a thread, as Ray's own deadline is 40 s and fixed."""
    errors: list[Exception] = []

    def ask() -> None:
        try:
            GcsClient(address=endpoint)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=ask, daemon=True, name="gcs-probe")
    thread.start()
    thread.join(deadline_s)
    if not errors and not thread.is_alive():
        return
    why = str(errors[0]) if errors else f"no answer within {deadline_s:g} s"
    if "Unauthenticated" in why or "AuthToken" in why:
        raise RayUnavailable(f"Ray at {said} {WANTS_TOKEN}")
    raise RayUnavailable(
        f"Ray at {said}: no GCS answers there ({why}); Ray's client port is joined as "
        f"ray://{endpoint}"
    )
