"""What every object that is written says of itself: its name, and the evidence behind it. Pure."""

from __future__ import annotations

from typing import Any

from results.recommendation.manifest import ManifestOptions
from results.recommendation.profile import Evidence, Profile


def metadata(profile: Profile, options: ManifestOptions, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": options.namespace,
        "labels": {"app": name},
        "annotations": {
            "windtunnel/profile": profile.profile_id,
            "windtunnel/evidence": evidence_words(profile.evidence),
        },
    }


def evidence_words(evidence: Evidence) -> str:
    if evidence.estimated is not None:
        return f"{evidence.kind} estimate: NOT MEASURED"
    return (
        f"{evidence.kind}, {evidence.repeats} run(s), last measured "
        f"{evidence.last_measured:%Y-%m-%d}"
    )
