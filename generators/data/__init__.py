"""Crystals to know and to learn from: what ships in dependencies, and data sets built from it or read from files."""

from generators.data.library import (
    MAX_KNOWN_ATOMS,
    KnownStructure,
    Prototype,
    element_ground_states,
    elemental_prototypes,
    known_structures,
    prototypes,
)

__all__ = [
    "MAX_KNOWN_ATOMS",
    "KnownStructure",
    "Prototype",
    "element_ground_states",
    "elemental_prototypes",
    "known_structures",
    "prototypes",
]
