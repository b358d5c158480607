"""Small models of each family, trained once a process on a corner of the shipped data set."""

import pytest

from generators.base import Bounds, Condition
from generators.data.dataset import Dataset, shipped
from generators.latent import Flow, Gan, Vae

CORNER = frozenset({"Mg", "Al", "Si", "Ca", "Zn", "Na", "Li", "O", "N", "S", "F", "Cl", "Ga", "Sr", "Ti", "K"})
EVERY = 150
"""Of the other crystals every so many is there, too: more skeletons."""
EPOCHS = {Vae: 25, Flow: 6, Gan: 10}


@pytest.fixture(scope="session")
def corner():
    entries = [
        e
        for i, e in enumerate(shipped().entries)
        if i % EVERY == 0 or {x.symbol for x in e.structure.composition.elements} <= CORNER
    ]
    return Dataset("corner", tuple(entries))


def _fitted(cls, corner):
    model = cls.blank()
    model.fit(corner, epochs=EPOCHS[cls], batch_size=32, seed=1)
    return model


@pytest.fixture(scope="session")
def vae(corner):
    return _fitted(Vae, corner)


@pytest.fixture(scope="session")
def flow(corner):
    return _fitted(Flow, corner)


@pytest.fixture(scope="session")
def gan(corner):
    return _fitted(Gan, corner)


@pytest.fixture(scope="session", params=["vae", "flow", "gan"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def condition():
    wanted = {"bulk_modulus": Bounds(120.0, None, "GPa")}
    return Condition((("Al", "Ca", "Mg", "O"),), max_elements=3, max_atoms=7, properties=wanted)
