"""screen: cheap checks of what was proposed, before anything is relaxed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import job

from workflows import ledger
from workflows.records import Candidate, Screened
from workflows.runtime.context import current_task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymatgen.core import Structure

    from generators.crystals.novelty import KnownStructures
    from workflows.spec import CampaignSpec


@job
def screen(campaign: str, round_number: int, after: Any) -> dict[str, int]:
    """Check geometry, cell and neutrality, and look for duplicates.

    Duplicates are sought inside the round (the first index stays), among candidates that passed in earlier rounds, and
    among known structures. Controls are screened by themselves: the twins of a round never count as each other's
    duplicates.

    Parameters
    ----------
    after : any
        What has to be done before; only orders the graph.
    """
    from workflows.known import known_structures_of

    del after
    task = current_task()
    database = task.launchpad.db
    spec = ledger.campaign_spec(database, campaign)
    known = known_structures_of(database, task.files, spec)
    earlier = list(ledger.read_candidates(database, campaign, {"$lt": round_number}, control=False))
    counts = {"valid": 0, "unique": 0, "passed": 0}
    for control in (False, True):
        batch = list(ledger.read_candidates(database, campaign, round_number, control=control))
        for candidate, screened in screen_all(batch, earlier, known, spec):
            ledger.write_block(database, candidate.candidate, "screen", screened)
            if not control:
                for name in counts:
                    counts[name] += int(getattr(screened, name))
    return counts


def screen_all(
    batch: Iterable[Candidate], earlier: Iterable[Candidate], known: KnownStructures, spec: CampaignSpec
) -> Iterable[tuple[Candidate, Screened]]:
    """Screen a round's candidates in the order of their index."""
    from pymatgen.core import Structure

    from generators.crystals.duplicates import DuplicateIndex, Prepared

    index = DuplicateIndex()
    for candidate in earlier:
        if candidate.screen and candidate.screen.passed:
            index.add(candidate.candidate, Structure.from_dict(candidate.structure))
    for candidate in batch:
        structure = Structure.from_dict(candidate.structure)
        reasons = invalid_because(structure, spec)
        prepared = Prepared(structure)
        twin = None if reasons else index.add(candidate.candidate, prepared)
        known_as = None if reasons else known.match(prepared)
        unique = not reasons and twin is None
        yield (
            candidate,
            Screened(
                valid=not reasons,
                reasons=reasons,
                unique=unique,
                duplicate_of=twin,
                known_as=known_as,
                passed=unique and known_as is None,
            ),
        )


def invalid_because(structure: Structure, spec: CampaignSpec) -> list[str]:
    """List why a proposal is refused: geometry, cell, size, chemistry, neutrality."""
    from generators.crystals.neutrality import neutral
    from generators.crystals.validity import check_structure

    reasons = check_structure(structure, max_atoms=spec.chemistry.max_atoms)
    elements = sorted(element.symbol for element in structure.composition.elements)
    if not spec.condition().allows(elements):
        reasons.append(f"{'-'.join(elements)} is outside the campaign's chemical systems")
    if not neutral(structure.composition, spec.chemistry.neutrality):
        reasons.append(f"{structure.composition.reduced_formula} is not neutral ({spec.chemistry.neutrality} rule)")
    return reasons
