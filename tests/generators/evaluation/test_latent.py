from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from small_generators import Linear, Listed

from generators.base import Condition
from generators.evaluation.latent import interpolate, latent_map, latent_of

CONDITION = Condition((("Mg", "O"),), max_elements=2)


def tetragonal(a: float, c: float) -> Structure:
    return Structure(Lattice.tetragonal(a, c), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


CRYSTALS = [tetragonal(a, c) for a, c in [(2.6, 2.6), (2.8, 2.6), (2.6, 3.1), (2.9, 3.2), (3.0, 2.7)]]


@pytest.fixture
def model():
    made = Linear.blank()
    made.fit(CRYSTALS)
    return made


def test_the_map_keeps_distances_of_a_two_dimensional_space(model):
    found = latent_map(latent_of(model), CRYSTALS)
    vectors = model.latent(CRYSTALS)
    assert found.dimension == 2
    assert sum(found.explained) == pytest.approx(1)
    assert found.explained[0] >= found.explained[1]
    theirs = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    ours = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1)
    assert ours == pytest.approx(theirs)


def test_a_walk_begins_and_ends_at_its_crystals(model):
    steps = interpolate(model, CRYSTALS[0], CRYSTALS[3], CONDITION, steps=5)
    assert [s.along for s in steps] == [0, 0.25, 0.5, 0.75, 1]
    assert steps[0].structure.lattice.abc == pytest.approx(CRYSTALS[0].lattice.abc, rel=0.02)
    assert steps[-1].structure.lattice.abc == pytest.approx(CRYSTALS[3].lattice.abc, rel=0.02)
    edges = [s.structure.lattice.a for s in steps]
    assert edges == sorted(edges)
    assert all(not s.reasons for s in steps)


def test_what_would_be_refused_says_why(model):
    outside = Condition((("Ca", "O"),), max_elements=2)
    assert "outside" in interpolate(model, CRYSTALS[0], CRYSTALS[1], outside, steps=2)[0].reasons[0]


def test_models_without_a_latent_space_are_told_apart():
    with pytest.raises(ValueError, match="listed has no latent space"):
        latent_of(Listed([]))


def test_maps_and_walks_refuse_what_makes_no_sense(model, monkeypatch):
    with pytest.raises(ValueError, match="at least three"):
        latent_map(model, CRYSTALS[:2])
    with pytest.raises(ValueError, match="at least two steps"):
        interpolate(model, CRYSTALS[0], CRYSTALS[1], CONDITION, steps=1)
    monkeypatch.setattr(model, "latent", lambda structures: np.full((len(structures), 2), np.nan))
    with pytest.raises(ValueError, match="finite array"):
        latent_map(model, CRYSTALS)


def test_one_dimension_is_enough_for_a_map(model, monkeypatch):
    monkeypatch.setattr(model, "latent", lambda structures: np.arange(len(structures), dtype=float)[:, None])
    found = latent_map(model, CRYSTALS)
    assert found.explained == pytest.approx((1, 0))
    assert np.abs(np.diff(found.points[:, 0])) == pytest.approx(np.ones(4))
