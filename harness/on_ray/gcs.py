"""Whether the cluster's GCS is there, and how to ask it without waiting for one that is gone.

Ray asks its GCS in compiled code that knows no deadline and hears no signal; after a minute without
an answer that code ends the whole process, and what was to be sealed with it. A supervisor that
sends its signal to every process it finds (systemd's ``KillMode=control-group``) ends the GCS at
the moment in which its driver begins to take things down.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray

from results.clock import Clock

PROBE_S = 1.0
LOOK_S = 0.5
GRACE_S = 2.0  # for an actor to end its work where the GCS is gone and the actor may not be

T = TypeVar("T")


def gcs_address() -> str:
    """HOST:PORT of the cluster that this process is connected to, for another process to join."""
    return str(ray.get_runtime_context().gcs_address)


def gcs_listens(address: str) -> bool:
    """False where nobody takes connections there any more; one that is only slow still listens."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PROBE_S):
            return True
    except TimeoutError:
        return True
    except OSError:
        return False


def is_gcs_here() -> bool:
    """Of this process's own cluster. True through Ray's client port, where no GCS is seen."""
    is_client: bool = ray.util.client.ray.is_connected()  # type: ignore[no-untyped-call]
    return is_client or gcs_listens(gcs_address())


def ask_gcs(call: Callable[[], T]) -> T:
    """What ``call`` returns or raises, made in a thread of its own. Raises ConnectionError as soon
    as the GCS is gone; the thread is then left behind."""
    answers: list[T] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(call())
        except BaseException as error:  # raised again where it was asked
            errors.append(error)

    thread = threading.Thread(target=ask, daemon=True, name="ask-gcs")
    thread.start()
    while thread.is_alive():
        thread.join(LOOK_S)
        if thread.is_alive() and not is_gcs_here():
            raise ConnectionError("nobody listens at the address of the cluster's GCS any more")
    if errors:
        raise errors[0]
    return answers[0]


def await_ends(answers: Sequence[Any], timeout_s: float, clock: Clock) -> None:
    """Until all ``answers`` have come, well or not; no longer than the timeout, and hardly longer
    than the GCS is there: without it nobody tells that an actor is dead."""
    is_here = True
    until_s = clock.monotonic_s() + timeout_s
    while answers and (left_s := until_s - clock.monotonic_s()) > 0:
        ready, _ = ray.wait(
            list(answers), num_returns=len(answers), timeout=min(LOOK_S, left_s), fetch_local=False
        )
        if len(ready) == len(answers):
            return
        if is_here and not is_gcs_here():
            is_here = False
            until_s = min(until_s, clock.monotonic_s() + GRACE_S)
