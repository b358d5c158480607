"""A small model, trained once a process on a corner of the shipped data set."""

import pytest

from generators.base import Bounds, Condition
from generators.data.dataset import Dataset, shipped
from generators.symmetric import Symmetric

CORNER = frozenset({"Mg", "Al", "Si", "Ca", "Zn", "Na", "Li", "O", "N", "S", "F", "Cl", "Ga", "Sr", "Ti", "K"})


@pytest.fixture(scope="session")
def corner():
    entries = [e for e in shipped().entries if {x.symbol for x in e.structure.composition.elements} <= CORNER]
    return Dataset("corner", tuple(entries))


@pytest.fixture(scope="session")
def small(corner):
    """Trained for a few epochs: it knows little, and all its parts are there."""
    model = Symmetric.blank()
    model.fit(corner, epochs=4, seed=1)
    return model


@pytest.fixture(scope="session")
def condition():
    wanted = {"bulk_modulus": Bounds(120.0, None, "GPa")}
    return Condition((("Al", "Ca", "Mg", "N", "O"),), max_elements=3, max_atoms=7, properties=wanted)
