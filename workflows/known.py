"""What counts as known in a campaign: what ships in dependencies, its reference set, and crystals of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from generators.crystals.novelty import KnownStructures
from generators.data import known_structures
from workflows import ledger
from workflows.known_files import from_bytes
from workflows.reference_store import campaign_reference

if TYPE_CHECKING:
    from pymongo.database import Database

    from workflows.runtime.blobs import Blobs
    from workflows.spec import CampaignSpec


def known_structures_of(database: Database[Any], files: Blobs, spec: CampaignSpec) -> KnownStructures:
    """Gather the known structures of a campaign's chemistry, labelled by where they come from."""
    shipped = [(known.label, known.structure) for known in known_structures()]
    reference = campaign_reference(database, files, spec.name)
    entries = [entry for part in reference.subsystems.values() for entry in part.entries]
    stored = ledger.campaign_document(database, spec.name).get("known")
    own = from_bytes(files.get_bytes(stored["sha256"])) if stored else []
    return KnownStructures(
        [
            *shipped,
            *((f"reference {entry.id}", entry.crystal.structure()) for entry in entries),
            *((f"known {label}", structure) for label, structure in own),
        ]
    )
