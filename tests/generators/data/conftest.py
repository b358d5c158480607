"""Small crystals whose properties everybody knows."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from generators.crystals.symmetry import prototype_key
from generators.data.dataset import Entry


def rocksalt(a, cation="Mg", anion="O"):
    half = a / 2
    return Structure(
        Lattice([[0, half, half], [half, 0, half], [half, half, 0]]), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def fcc(a, symbol="Al"):
    half = a / 2
    return Structure(Lattice([[0, half, half], [half, 0, half], [half, half, 0]]), [symbol], [[0, 0, 0]])


def diamond(a, symbol="Si"):
    half = a / 2
    lattice = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
    return Structure(lattice, [symbol, symbol], [[0, 0, 0], [0.25, 0.25, 0.25]])


def perovskite(a=3.9, elements=("Sr", "Ti", "O")):
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    one, two, three = elements
    return Structure(Lattice.cubic(a), [one, two, three, three, three], sites)


def entry(label, structure, energy=None, **properties):
    return Entry(label, structure, prototype_key(structure), "test", energy, properties)


@pytest.fixture(scope="session")
def crystals():
    return {
        "MgO": rocksalt(4.22),
        "Al": fcc(4.05),
        "Si": diamond(5.43),
        "SrTiO3": perovskite(),
        "rocksalt": rocksalt,
        "fcc": fcc,
        "diamond": diamond,
        "perovskite": perovskite,
        "entry": entry,
    }
