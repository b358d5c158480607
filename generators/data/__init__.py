"""Crystals to know and to learn from: what ships in dependencies, and data sets built from it or read from files."""

from generators.data.library import (
    KnownStructure,
    Prototype,
    element_ground_states,
    elemental_prototypes,
    known_structures,
    prototypes,
)
from generators.data.sources import MAX_KNOWN_ATOMS

__all__ = [
    "MAX_KNOWN_ATOMS",
    "KnownStructure",
    "Prototype",
    "element_ground_states",
    "elemental_prototypes",
    "known_structures",
    "prototypes",
]
