"""What a study keeps up while its trials come and go: its heartbeat, and the engines' caches."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.settings import read_settings
from tuners.lease import BEAT_S
from tuners.loop import Part
from tuners.study_spec import StudySpec

# What torch and vLLM compile for one configuration, the next finds here if it needs the same.
_CACHES = {"VLLM_CACHE_ROOT": "vllm", "TORCHINDUCTOR_CACHE_DIR": "torchinductor"}


@contextmanager
def kept_caches(study: StudySpec, ray: str) -> Iterator[Mapping[str, str]]:
    """Variables for the engines' environment. With ``keep_caches`` one folder for all studies of
    this home; without it an empty one for this sitting, which goes with it. On a cluster that is
    not ours the nodes have disks of their own, and engines their own places on them."""
    if ray != "local":
        yield {}
    elif study.keep_caches:
        yield _variables(read_settings().home.resolve() / "caches")
    else:
        with tempfile.TemporaryDirectory(prefix="windtunnel-caches-") as folder:
            yield _variables(Path(folder))


def _variables(folder: Path) -> dict[str, str]:
    return {name: str(folder / place) for name, place in _CACHES.items()}


@contextmanager
def beating(parts: Sequence[Part]) -> Iterator[None]:
    """Says every ``BEAT_S`` that this process lives, to those that share the study's storage."""
    over = threading.Event()

    def beat() -> None:
        while True:
            # A storage that fails now may answer at the next beat; the search is told by its own.
            with suppress(Exception):
                for part in parts:
                    part.searcher.beat()
            if over.wait(BEAT_S):
                return

    thread = threading.Thread(target=beat, name="study-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
