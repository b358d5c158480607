"""select: spends the round's verification budget on what may well be stable, novel and on target.

What was not verified for want of budget waits: each later round compares it again, by a surrogate that knows more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobflow import Flow, OnMissing, Response, job

from workflows import ledger
from workflows.records import Novelty, Selected
from workflows.runtime.context import current_task
from workflows.stages.dress import LIGHT, block_of, dress
from workflows.stages.feedback import feedback
from workflows.stages.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pymongo.database import Database

    from generators.crystals.duplicates import Prepared
    from generators.crystals.novelty import KnownStructures
    from workflows.acquisition import Outcome
    from workflows.records import Candidate
    from workflows.reference import ReferenceSet
    from workflows.spec import CampaignSpec


@dataclass(frozen=True)
class _Found:
    """What is known of a pre-relaxed candidate before the budget is spent."""

    candidate: Candidate
    prepared: Prepared | None
    block: Selected


@job
def select(campaign: str, round_number: int, after: Any, open_next: Callable[..., bool]) -> Response:
    """Find what is unique and novel after pre-relaxation, choose what is verified, and add its verification.

    Controls are looked at in the same way, for comparison, but never verified.

    Parameters
    ----------
    after : any
        What has to be done before; only orders the graph.
    open_next : callable
        Handed on to feedback.
    """
    from workflows.acquisition import AcquisitionInput, choose
    from workflows.engines.registry import make_engine
    from workflows.known import known_structures_of
    from workflows.reference_store import campaign_reference

    del after
    task = current_task()
    database = task.database
    spec = ledger.campaign_spec(database, campaign)
    reference = campaign_reference(database, task.files, campaign)
    known = known_structures_of(database, task.files, spec)
    earlier = list(ledger.read_candidates(database, campaign, {"$lt": round_number}, control=False))
    found: dict[bool, list[_Found]] = {}
    for control in (False, True):
        batch = ledger.read_candidates(database, campaign, round_number, control=control)
        found[control] = look_at(batch, earlier, known, reference)
    waited = waiting(earlier, round_number)
    # a re-run must not take back what a later round verifies
    own = [f for f in found[False] if not _called_later(f.candidate, round_number)]
    eligible = [
        AcquisitionInput(f.candidate.candidate, f.prepared.structure, f.block.screening_e_hull_ev_per_atom)
        for f in [*waited, *own]
        if f.block.novel and f.prepared is not None
    ]
    history = outcomes(database, spec, round_number)
    chosen = {c.candidate: c for c in choose(eligible, history, spec.targets, spec.budget.verifications, spec.seed)}
    called = [f for f in waited if chosen[f.candidate.candidate].selected]  # the others keep what their round said
    for seen in [*called, *own, *found[True]]:
        choice = chosen.get(seen.candidate.candidate)
        block = seen.block
        if choice is not None:
            block = block.model_copy(
                update={
                    "score": choice.score,
                    "score_parts": choice.parts,
                    "selected": choice.selected,
                    "round": round_number if choice.selected else None,
                    "reason": choice.reason,
                }
            )
        ledger.write_block(database, seen.candidate.candidate, "select", block)

    engine = make_engine(spec.engine, spec.protocol)
    work: list[Any] = []
    judges = []
    for item in sorted((e for e in eligible if chosen[e.candidate].selected), key=lambda e: e.candidate):
        chain, last = verify(spec, engine, round_number, item.candidate, item.structure)
        work += chain
        judges.append(last)
    closing = feedback(campaign, round_number, [j.output for j in judges], open_next)
    dress(closing, block_of(campaign, round_number, "feedback", engine=spec.engine), LIGHT)
    closing.config.on_missing_references = OnMissing.NONE
    novel = sum(f.block.novel for f in found[False])
    counts = {"selected": len(judges), "novel": novel, "waited": len(waited)}
    return Response(output=counts, replace=Flow([*work, closing]))


def waiting(earlier: Iterable[Candidate], round_number: int) -> list[_Found]:
    """Find the novel candidates of earlier rounds that no budget verified but, if this runs again, this round's."""
    from pymatgen.core import Structure

    from generators.crystals.duplicates import Prepared

    return [
        _Found(candidate, Prepared(Structure.from_dict(candidate.prerelax.structure)), candidate.select)
        for candidate in earlier
        if candidate.select is not None
        and candidate.select.novel
        and (not candidate.select.selected or candidate.select.round == round_number)
        and candidate.prerelax is not None
        and candidate.prerelax.structure is not None
    ]


def _called_later(candidate: Candidate, round_number: int) -> bool:
    """Tell whether the budget of a later round verifies a candidate."""
    block = candidate.select
    return block is not None and block.selected and block.round is not None and block.round > round_number


def look_at(
    batch: Iterable[Candidate], earlier: Sequence[Candidate], known: KnownStructures, reference: ReferenceSet
) -> list[_Found]:
    """Find, in the order of their index, which relaxed candidates are unique and novel, and how far from the hull."""
    from pymatgen.core import Structure

    from generators.crystals.duplicates import DuplicateIndex, Prepared
    from generators.crystals.symmetry import spacegroup_symbol
    from workflows.screening import screening_hull

    before = DuplicateIndex()
    for candidate in earlier:
        if candidate.prerelax and candidate.prerelax.structure:
            before.add(candidate.candidate, Structure.from_dict(candidate.prerelax.structure))
    inside = DuplicateIndex()
    hull = screening_hull(reference)
    found = []
    for candidate in batch:
        if candidate.screen is None or not candidate.screen.passed:
            continue
        relaxed = candidate.prerelax
        if relaxed is None or relaxed.structure is None or relaxed.energy_ev_per_atom is None:
            why = relaxed.error if relaxed is not None else "it was never pre-relaxed"
            block = Selected(unique=True, novel=False, selected=False, reason=f"no screening energy: {why}")
            found.append(_Found(candidate, None, block))
            continue
        structure = Structure.from_dict(relaxed.structure)
        prepared = Prepared(structure)
        twin = inside.add(candidate.candidate, prepared) or before.find(prepared)
        known_as = known.match(prepared)
        novel = twin is None and known_as is None
        levels = known.novelty(prepared) if novel else None
        reason = ""
        if twin is not None:
            reason = f"relaxes to the same crystal as {twin}"
        elif known_as is not None:
            reason = f"relaxes to a known crystal: {known_as}"
        block = Selected(
            unique=twin is None,
            novel=novel,
            novelty=Novelty(composition=levels.composition, prototype=levels.prototype, skeleton=levels.skeleton)
            if levels
            else None,
            duplicate_of=twin,
            known_as=known_as,
            spacegroup=spacegroup_symbol(structure),
            screening_e_hull_ev_per_atom=hull.above(structure.composition, relaxed.energy_ev_per_atom),
            selected=False,
            reason=reason,
        )
        found.append(_Found(candidate, prepared, block))
    return found


def outcomes(database: Database[Any], spec: CampaignSpec, round_number: int) -> list[Outcome]:
    """Gather what earlier rounds verified, for the surrogate behind the acquisition."""
    from pymatgen.core import Structure

    from workflows.acquisition import Outcome

    history = []
    for verdict in ledger.read_verdicts(database, spec.name, round={"$lt": round_number}):
        candidate = ledger.get_candidate(database, verdict.candidate)
        if candidate.select is None or candidate.prerelax is None or candidate.prerelax.structure is None:
            continue
        judged = verdict.phonon.judgement
        history.append(
            Outcome(
                candidate=verdict.candidate,
                structure=Structure.from_dict(candidate.prerelax.structure),
                screening_e_hull_ev_per_atom=candidate.select.screening_e_hull_ev_per_atom,
                e_hull_ev_per_atom=verdict.energy_above_hull_ev_per_atom,
                properties={name: p.value for name, p in verdict.properties.items()},
                phonons_stable=judged == "stable" if judged in {"stable", "unstable"} else None,
            )
        )
    return history
