"""judge: writes the verdict of one candidate, whatever became of its chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import job

from generators.base import derive_seed
from workflows import ledger
from workflows.causes import CAUSES, CausedError
from workflows.records import Cause, HullReference, PhononResult, PropertyResult, Verdict
from workflows.runtime import attempts
from workflows.runtime.context import current_task

if TYPE_CHECKING:
    from pymongo.database import Database

    from workflows.engines.base import Engine
    from workflows.records import Candidate
    from workflows.spec import CampaignSpec

_ENERGY_STAGES = ("relax", "gate")


@job
def judge(
    campaign: str,
    round_number: int,
    candidate: str,
    gated: dict[str, Any] | None,
    phonons: Any,
    measured: dict[str, Any],
) -> dict[str, Any]:
    """Compose and store the verdict; the only job that writes verdicts.

    Parameters
    ----------
    gated : dict or None
        Output of gate; ``None`` if there is none.
    phonons : document or None
        Output of the phonon flow.
    measured : dict
        Property name to the output of its flow, ``None`` where there is none.

    Returns
    -------
    dict
        The verdict in short: ids and flags, never structures.
    """
    from workflows.engines.registry import make_engine

    task = current_task()
    database = task.launchpad.db
    spec = ledger.campaign_spec(database, campaign)
    engine = make_engine(spec.engine, spec.protocol)
    proposal = ledger.get_candidate(database, candidate)
    causes = attempts.root_cause(database, campaign, round_number, candidate)
    verdict = compose(spec, engine, proposal, round_number, gated, phonons, measured, causes)
    traced = provenance(database, spec, engine, proposal, verdict)
    if gated is not None and verdict.verified:
        traced["relaxation"] = gated["detail"]  # where it ran, with which pseudopotentials, corrected how
    verdict = verdict.model_copy(update={"provenance": traced})
    store_verdict(database, verdict)
    return {
        "candidate": candidate,
        "verified": verdict.verified,
        "stable": verdict.stable,
        "hit": verdict.hit,
        "cause": verdict.cause.code if verdict.cause else None,
    }


def compose(
    spec: CampaignSpec,
    engine: Engine,
    proposal: Candidate,
    round_number: int,
    gated: dict[str, Any] | None,
    phonons: Any,
    measured: dict[str, Any],
    causes: dict[str, Cause],
) -> Verdict:
    """Judge one candidate by what its chain left; pure but for the engine's readers.

    A stage with a cause of its own has no result, even where an earlier run of it left one. No trustworthy energy is a
    failure; a failed phonon or property job leaves a verified candidate that is not stable or not a hit, and carries
    the cause.
    """
    energy_cause = next((causes[s] for s in _ENERGY_STAGES if s in causes), None)
    if gated is None or energy_cause is not None:
        cause = energy_cause or Cause(code=999, name="unknown", evidence="the relaxation left no result", stage="relax")
        return Verdict(
            candidate=proposal.candidate,
            campaign=spec.name,
            round=round_number,
            formula=proposal.formula,
            verified=False,
            stable=False,
            hit=False,
            cause=cause,
            engine=spec.engine,
            protocol=spec.protocol,
        )
    found: list[Cause] = []
    phonon = PhononResult(tolerance_thz=spec.targets.phonon_tolerance)
    if "phonon" in causes:
        found.append(causes["phonon"])
    elif phonons is not None:
        try:
            phonon = engine.read_phonons(phonons, spec.targets.phonon_tolerance)
        except CausedError as error:
            found.append(_as_cause(error, "phonon"))
    properties: dict[str, PropertyResult] = {}
    if "properties" in causes:
        found.append(causes["properties"])
    for name, document in sorted(measured.items()):
        if document is None:
            continue
        try:
            properties[name] = engine.read_property(name, document)
        except CausedError as error:
            found.append(_as_cause(error, "properties"))
    structure = gated["structure"]
    above_hull: float = gated["energy_above_hull_ev_per_atom"]
    stable = spec.targets.energy_above_hull.holds(above_hull) and (
        spec.targets.phonons == "any" or phonon.judgement == "stable"
    )
    met = spec.targets.met_by({name: one.value for name, one in properties.items()})
    return Verdict(
        candidate=proposal.candidate,
        campaign=spec.name,
        round=round_number,
        formula=structure.composition.reduced_formula,
        spacegroup=_spacegroup(structure),
        structure=structure.as_dict(),
        energy_ev_per_atom=gated["energy_ev_per_atom"],
        energy_above_hull_ev_per_atom=above_hull,
        reference_set=HullReference.model_validate(gated["hull"]),
        phonon=phonon,
        properties=properties,
        verified=True,
        stable=stable,
        hit=stable and met and gated["known_as"] is None,
        known_as=gated["known_as"],
        cause=found[0] if found else None,
        engine=spec.engine,
        protocol=spec.protocol,
    )


def store_verdict(database: Database[Any], verdict: Verdict) -> None:
    """Write the verdict once; one that its closed round did not count, or counted differently, is marked late."""
    before = database.verdicts.find_one({"candidate": verdict.candidate}, {"_id": 0})
    this_round = ledger.get_round(database, verdict.campaign, verdict.round)
    closed = this_round is not None and this_round.state == "closed"
    if before is not None and _same(Verdict.model_validate(before), verdict):
        kept = {"late": before["late"], "counted_in": before["counted_in"]}
    else:
        kept = {"late": closed, "counted_in": None}
    database.verdicts.replace_one(
        {"candidate": verdict.candidate}, verdict.model_copy(update=kept).model_dump(), upsert=True
    )


def _same(one: Verdict, other: Verdict) -> bool:
    """Tell whether two verdicts teach the same: flags, cause, and numbers within what a re-run may differ by."""

    def facts(v: Verdict) -> tuple[Any, ...]:
        cause = v.cause.code if v.cause else None
        return (v.verified, v.stable, v.hit, cause, v.phonon.judgement, sorted(v.properties))

    def numbers(v: Verdict) -> list[float]:
        return [v.energy_above_hull_ev_per_atom or 0.0, *(p.value / 1000 for _, p in sorted(v.properties.items()))]

    return facts(one) == facts(other) and all(
        abs(a - b) <= 1e-3 for a, b in zip(numbers(one), numbers(other), strict=True)
    )


def provenance(
    database: Database[Any], spec: CampaignSpec, engine: Engine, proposal: Candidate, verdict: Verdict
) -> dict[str, Any]:
    """Gather what it takes to trace and to reproduce a verdict."""
    from workflows.provenance import settings_hash, software_versions

    settings = engine.settings()
    jobs = database.attempts.find(
        {"campaign": spec.name, "round": verdict.round, "candidate": proposal.candidate, "state": "completed"},
        {"job_uuid": 1, "job_index": 1, "stage": 1, "name": 1},
    ).sort("launch_id", 1)
    newest = {(a["job_uuid"], a["job_index"]): a for a in jobs}
    return {
        "generator": proposal.generator,
        "generator_version": proposal.generator_version,
        "generator_state": proposal.generator_state,
        "seed": proposal.seed,
        "stream_seed": derive_seed(spec.seed, proposal.round),
        "index": proposal.index,
        "info": proposal.info,
        "engine": verdict.engine,
        "protocol": verdict.protocol,
        "settings": settings,
        "settings_sha256": settings_hash(settings),
        "reference_key": engine.reference_key,
        "screening_model": proposal.prerelax.model if proposal.prerelax else None,
        "software": software_versions(),
        "parent_jobs": [
            {"uuid": uuid, "index": index, "stage": a["stage"], "name": a["name"]}
            for (uuid, index), a in newest.items()
        ],
        "reproduce": f"nucleate reproduce {proposal.candidate}",
    }


def _spacegroup(structure: Any) -> str:
    from generators.crystals.symmetry import spacegroup_symbol

    return spacegroup_symbol(structure)


def _as_cause(error: CausedError, stage: str) -> Cause:
    return Cause(code=error.code, name=CAUSES[error.code].name, evidence=error.evidence, stage=stage)
