"""``report.json``: the same numbers as the page, for programs."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

from workflows.report.collect import CONTROL_STAGES, FUNNEL
from workflows.report.provenance import provenance_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflows.records import Verdict
    from workflows.report.collect import ReportData, RoundData

UNITS = {
    "energy_above_hull": "eV/atom",
    "energy": "eV/atom",
    "phonon_min_thz": "THz; imaginary is negative",
    "phonon_tolerance_thz": "THz",
}


def report_dict(data: ReportData, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Give the report as plain JSON types.

    Parameters
    ----------
    data : ReportData
    files : mapping of str to str, optional
        Path of the CIF of a candidate, relative to the report.

    Returns
    -------
    dict
        ``campaign, spec, rounds, verdicts`` and, beside them, ``totals``, ``failures`` by cause, ``refused`` by the
        sieve, ``units`` and the campaign's own document. No number in it is NaN or infinite: those become null.
    """
    content = {
        "campaign": data.campaign,
        "spec": data.spec.model_dump(mode="json"),
        "document": data.document,
        "totals": {**data.totals, "stable_unique_novel": data.sun},
        "rounds": [_round(r) for r in data.rounds],
        "verdicts": [_verdict(data, v, (files or {}).get(v.candidate)) for v in data.verdicts],
        "failures": [
            {"code": code, "name": name, "count": len(found), "candidates": sorted(v.candidate for v in found)}
            for (code, name), found in data.failures.items()
        ],
        "refused": data.refused,
        "units": UNITS,
    }
    plain: dict[str, Any] = jsonable(content)
    return plain


def report_json(data: ReportData, files: Mapping[str, str] | None = None) -> str:
    """Give the report as the text of ``report.json``."""
    return json.dumps(report_dict(data, files), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def jsonable(value: Any) -> Any:
    """Turn stored values into JSON types: dates become ISO strings, NaN and infinities null, the unknown its text."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _round(data: RoundData) -> dict[str, Any]:
    summary = data.summary.model_dump(mode="json")
    control = data.summary.control
    return {
        "number": data.number,
        **{name: summary[name] for name in (*FUNNEL, "failures")},
        "control": {**control, **{k: control.get(k) for k in CONTROL_STAGES}} if control else None,
        "state": data.state,
        "prerelaxed": summary["prerelaxed"],
        "novelty": {k: summary[f"novel_{k}"] for k in ("composition", "prototype", "skeleton")},
        "late": summary["late"],
        "generator_state": data.generator_state,
        "control_state": data.control_state,
        "learned": data.learned,
    }


def _verdict(data: ReportData, verdict: Verdict, cif: str | None) -> dict[str, Any]:
    phonon = verdict.phonon
    return {
        "candidate": verdict.candidate,
        "round": verdict.round,
        "formula": verdict.formula,
        "spacegroup": verdict.spacegroup,
        "energy_above_hull": verdict.energy_above_hull_ev_per_atom,
        "reference_set": verdict.reference_set.model_dump(mode="json") if verdict.reference_set else None,
        "phonon_min_thz": phonon.min_thz,
        "phonon_judgement": phonon.judgement,
        "properties": {name: p.model_dump(mode="json") for name, p in sorted(verdict.properties.items())},
        "stable": verdict.stable,
        "hit": verdict.hit,
        "known_as": verdict.known_as,
        "cause": verdict.cause.model_dump(mode="json") if verdict.cause else None,
        "engine": verdict.engine,
        "protocol": verdict.protocol,
        "provenance": provenance_of(data, verdict),
        "verified": verdict.verified,
        "energy": verdict.energy_ev_per_atom,
        "phonon_how": phonon.how,
        "phonon_tolerance_thz": phonon.tolerance_thz,
        "late": verdict.late,
        "structure": verdict.structure,
        "cif": cif,
    }
