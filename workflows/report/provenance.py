"""Where a crystal came from: what judge stored, joined with the candidate's record and its launches."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workflows.records import Verdict
    from workflows.report.collect import ReportData


def provenance_of(data: ReportData, verdict: Verdict) -> dict[str, Any]:
    """Join all that is known of a verdict's origin; what judge wrote wins over what is joined.

    Parameters
    ----------
    data : ReportData
    verdict : Verdict

    Returns
    -------
    dict
        What judge wrote (``generator, generator_version, generator_state, seed, info, engine, protocol, settings,
        settings_sha256, reference_key, screening_model, software, parent_jobs, reproduce``) and, beside it,
        ``campaign, spec_sha256, sample_index, reference_sha256`` and ``launches``: of every launch stage, state, job
        uuid, firework and launch id, seconds, host, directory, cause and overrides. What is not known is left out.
    """
    origin = data.origins.get(verdict.candidate, {})
    joined: dict[str, Any] = {
        "campaign": data.campaign,
        "spec_sha256": data.document.get("spec_sha256") or data.spec.sha256(),
        "generator": origin.get("generator"),
        "generator_version": origin.get("generator_version"),
        "generator_state": origin.get("generator_state"),
        "seed": origin.get("seed"),
        "sample_index": origin.get("index"),
        "info": origin.get("info"),
        "screening_model": (origin.get("prerelax") or {}).get("model"),
        "engine": verdict.engine,
        "protocol": verdict.protocol,
        "reference_key": verdict.reference_set.key if verdict.reference_set else None,
        "reference_sha256": verdict.reference_set.sha256 if verdict.reference_set else None,
        "reproduce": f"nucleate reproduce {shlex.quote(verdict.candidate)}",
        "launches": [_launch(a) for a in data.attempts.get(verdict.candidate, [])],
    }
    return _known({**joined, **_known(verdict.provenance)})


def _launch(attempt: dict[str, Any]) -> dict[str, Any]:
    fields = ("stage", "name", "state", "job_uuid", "job_index", "fw_id", "launch_id", "scheduler_job", "seconds")
    shown = {key: attempt.get(key) for key in (*fields, "host", "directory", "overrides")}
    return _known({**shown, "cause": (attempt.get("cause") or {}).get("code")})


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, "", [], {})}
