"""What counts as known: what ships in dependencies, the reference set, training sets, crystals of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from generators.crystals.novelty import KnownStructures
from generators.data import known_structures
from generators.data.dataset import shipped as shipped_dataset
from generators.registry import is_trained
from workflows import ledger
from workflows.known_files import from_bytes
from workflows.reference_proposals import literature, polymorphs
from workflows.reference_store import campaign_reference

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymongo.database import Database

    from workflows.runtime.blobs import Blobs
    from workflows.spec import CampaignSpec


def known_structures_of(database: Database[Any], files: Blobs, spec: CampaignSpec) -> KnownStructures:
    """Gather the known structures of a campaign's chemistry, labelled by where they come from."""
    chemistry = {element for system in spec.condition().chemical_systems for element in system}
    shipped = [(known.label, known.structure) for known in known_structures()]
    reference = campaign_reference(database, files, spec.name)
    entries = [entry for part in reference.subsystems.values() for entry in part.entries]
    stored = ledger.campaign_document(database, spec.name).get("known")
    own = from_bytes(files.get_bytes(stored["sha256"])) if stored else []
    return KnownStructures(
        [
            *shipped,
            *literature(),
            *polymorphs(),
            *((f"reference {entry.id}", entry.crystal.structure()) for entry in entries),
            *((f"known {label}", structure) for label, structure in own),
            *((f"training set {label}", structure) for label, structure in _trained_on(spec, chemistry)),
        ]
    )


def _trained_on(spec: CampaignSpec, chemistry: set[str]) -> list[tuple[str, Structure]]:
    """Give the crystals of the shipped training set that lie in a campaign's chemistry, if a trained model proposes.

    What a model was shown is not novel. Of a model that was trained on other data, they belong into ``known``.
    """
    if not any(is_trained(part.name) for part in spec.generator):
        return []
    return [
        (entry.label, entry.structure)
        for entry in shipped_dataset().entries
        if {element.symbol for element in entry.structure.composition.elements} <= chemistry
    ]
