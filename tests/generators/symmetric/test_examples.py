"""What forecasts are trained on, and geometries at the volume that is forecast."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.symmetric import Symmetric
from generators.symmetric.arena import SETTLED_EXPANSION, judge
from generators.symmetric.assignments import row_of
from generators.symmetric.crystals import rows_of
from generators.symmetric.drawing import COOL, Drawn, densities_of, draw_rows
from generators.symmetric.examples import Looker
from generators.symmetric.forecast import EXPANSION_SCALE
from generators.symmetric.wyckoff import atoms_of, build


@pytest.fixture(scope="module")
def rows(corner):
    return rows_of(corner)[:24]


@pytest.fixture(scope="module")
def looker(small):
    return Looker(small.model.geometry, small.model.properties, small.model.scale, seed=3)


def test_copies_are_the_same_for_a_seed_and_others_for_another(looker, rows):
    one, again = looker.examples(rows, 2, 2), looker.examples(rows, 2, 2)
    assert torch.equal(one.packed.radial, again.packed.radial)
    assert torch.equal(one.targets, again.targets)
    assert len(one.targets) == 4 * len(rows)
    other = Looker(looker.geometry, looker.properties, looker.scale, seed=4).examples(rows, 2, 2)
    assert not torch.equal(one.packed.radial, other.packed.radial)


def test_properties_are_those_of_the_relaxed_crystal_in_every_copy(looker, rows, small):
    targets = looker.examples(rows, 1, 1).targets.double().numpy()
    column = small.model.energy_column
    energies = targets[:, column] * small.model.scale.spread[column] + small.model.scale.centre[column]
    expected = [entry.properties["formation_energy"] for entry, _ in rows]
    np.testing.assert_allclose(energies, expected * 2, atol=1e-5)


def test_expansion_leads_from_the_copy_to_the_relaxed_volume(looker, rows):
    examples = looker.examples(rows, 1, 1)
    change = EXPANSION_SCALE * examples.targets[:, -1].double().numpy()
    relaxed = [math.log(entry.structure.volume / len(entry.structure)) for entry, _ in rows] * 2
    found = examples.packed.volume.double().numpy() + change
    within = np.abs(change) < 0.79
    assert within.sum() > len(rows)
    np.testing.assert_allclose(found[within], np.array(relaxed)[within], atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(shift=st.floats(-0.7, 0.7))
def test_expanding_changes_the_volume_alone(rows, shift):
    descriptions = [d for _, d in rows[:5]]
    drawn = Drawn(descriptions, [*(atoms_of(d) for d in descriptions[:-1]), None])
    expanded = drawn.expanded(np.full(5, shift))
    assert expanded.atoms[-1] is None
    for before, after, a, b in zip(descriptions, expanded.descriptions, drawn.atoms, expanded.atoms, strict=True):
        assert build(after).volume == pytest.approx(build(before).volume * math.exp(shift))
        assert (after.shape, after.orbits) == (before.shape, before.orbits)
        if a is not None:
            assert np.linalg.det(b.lattice) == pytest.approx(np.linalg.det(a.lattice) * math.exp(shift))
            np.testing.assert_array_equal(a.places, b.places)


def test_judging_settles_cells_at_the_forecast_volume(rows):
    """Cells drawn too small or too large by a quarter end nearer one another, and move no further than allowed."""
    model = Symmetric().model
    bare = [row_of(d) for _, d in rows]
    rngs = [np.random.default_rng(i) for i in range(len(bare))]
    drawn = draw_rows(densities_of(model.geometry, bare), bare, rngs, COOL)
    tight, loose = (drawn.expanded(np.full(len(bare), shift)) for shift in (-0.25, 0.25))

    def volumes(one):
        return np.array([np.nan if a is None else np.log(np.linalg.det(a.lattice)) for a in one.atoms])

    ends = [volumes(judge(model, bare, one).drawn) for one in (tight, loose)]
    assert np.nanmedian(np.abs(ends[1] - ends[0])) < 0.35  # 0.5 before
    for one, end in zip((tight, loose), ends, strict=True):
        assert np.nanmax(np.abs(end - volumes(one))) <= SETTLED_EXPANSION + 1e-9
