"""The reference set of a campaign: loaded at launch, completed by round 1, kept as a content-addressed file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflows import ledger
from workflows.reference import ReferenceSet, Subsystem, load_reference, required_subsystems, system_name
from workflows.runtime.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pymongo.database import Database

    from workflows.engines.base import Engine
    from workflows.runtime.blobs import Blobs
    from workflows.spec import CampaignSpec


def user_directory() -> Path:
    """Where a user's own reference sets lie, beside those of the package."""
    return load_settings().data_dir / "references"


def prepare_reference(files: Blobs, engine: Engine, spec: CampaignSpec) -> dict[str, Any]:
    """Store what is known of the campaign's chemistry; give the block that its document holds.

    Returns
    -------
    dict
        ``key``, ``sha256`` of the stored file, ``chemical_systems``, ``n_entries``, ``covers`` in words, and
        ``missing``: exact chemical systems that round 1 completes before it samples.
    """
    systems = spec.chemistry.chemical_systems()
    known = load_reference(engine.reference_key, [user_directory()])
    wanted = {system_name(part) for part in required_subsystems(systems)}
    trimmed = known.model_copy(
        update={
            "settings": engine.settings(),
            "subsystems": {name: part for name, part in known.subsystems.items() if name in wanted},
        }
    )
    return {
        **_block(files, trimmed),
        "chemical_systems": [system_name(system) for system in systems],
        "missing": [list(part) for part in trimmed.missing(systems)],
    }


def complete_reference(database: Database[Any], files: Blobs, campaign: str, built: Iterable[Subsystem]) -> int:
    """Add newly built subsystems to a campaign's set, and to the user's own for the campaigns to come.

    Returns
    -------
    int
        Number of entries in the campaign's set now.
    """
    document = ledger.campaign_document(database, campaign)["reference"]
    parts = list(built)
    whole = ReferenceSet.from_bytes(files.get_bytes(document["sha256"])).with_subsystems(parts)
    systems = [tuple(name.split("-")) for name in document["chemical_systems"]]
    block = {**_block(files, whole), "missing": [list(part) for part in whole.missing(systems)]}
    database.campaigns.update_one(
        {"name": campaign}, {"$set": {f"reference.{name}": value for name, value in block.items()}}
    )
    load_reference(whole.key, [user_directory()]).with_subsystems(parts).save(user_directory())
    return int(block["n_entries"])


def campaign_reference(database: Database[Any], files: Blobs, campaign: str) -> ReferenceSet:
    """Load a campaign's reference set."""
    document = ledger.campaign_document(database, campaign)["reference"]
    return ReferenceSet.from_bytes(files.get_bytes(document["sha256"]))


def _block(files: Blobs, reference: ReferenceSet) -> dict[str, Any]:
    parts = reference.subsystems.values()
    return {
        "key": reference.key,
        "sha256": files.put_bytes(reference.to_bytes()),
        "n_entries": sum(len(part.entries) for part in parts),
        "covers": "; ".join(sorted({part.covers for part in parts})),
    }
