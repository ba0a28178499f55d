"""Which model a spec means, whatever its folder is called: for the workload hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.spec import RunSpec
from results.environment import stable_hash


def model_identity(spec: RunSpec) -> str:
    """Identity of the local model folder a spec names: its ``config.json`` and the name and size of
    every other file. "" for a hub id, a made model, or a folder that is not there: those are
    identified by what the spec says.

    Weights are not read: that would warm the page cache that a startup is about to measure.
    """
    model = getattr(spec.workload, "model", None)
    if not isinstance(model, str) or getattr(spec.workload, "url", None) is not None:
        return ""
    folder = Path(model).expanduser()
    config = folder / "config.json"
    try:
        digest = hashlib.sha256(config.read_bytes()).hexdigest()
        sizes = {
            file.relative_to(folder).as_posix(): file.stat().st_size
            for file in folder.rglob("*")
            if file.is_file() and not any(p.startswith(".") for p in file.relative_to(folder).parts)
        }
    except OSError:
        return ""
    return f"folder:{stable_hash({'config': digest, 'sizes': sizes})}"
