from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from generators.surrogate import DESCRIPTORS, Surrogate, correlation, describe

D = len(DESCRIPTORS)


def rocksalt(a: str, b: str, edge: float) -> Structure:
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    return Structure(Lattice.cubic(edge), [a] * 4 + [b] * 4, np.vstack([corners, corners + 0.5]))


def test_descriptors_are_finite_and_of_order_one_for_ordinary_crystals():
    for structure in (rocksalt("Mg", "O", 4.2), rocksalt("Na", "Cl", 5.6), rocksalt("Ti", "N", 4.2)):
        features = describe(structure)
        assert features.shape == (D,)
        assert np.isfinite(features).all()
        assert np.abs(features).max() < 5


def test_descriptors_do_not_depend_on_the_choice_of_cell_or_order_of_sites():
    structure = rocksalt("Mg", "O", 4.2)
    primitive = structure.get_primitive_structure()
    turned = Structure.from_sites(list(reversed(structure.sites)))
    assert describe(primitive) == pytest.approx(describe(structure), abs=1e-9)
    assert describe(turned) == pytest.approx(describe(structure), abs=1e-12)


def test_noble_gases_and_elements_without_a_radius_are_described():
    assert np.isfinite(describe(rocksalt("Xe", "F", 6.0))).all()
    assert np.isfinite(describe(rocksalt("Cm", "Po", 6.0))).all()


def test_without_data_the_prior_answers():
    prediction = Surrogate(prior_std=0.3, noise_std=0.4).predict(np.zeros((2, D)), np.array([1.0, 2.0]))
    assert prediction.mean.tolist() == [1.0, 2.0]
    assert prediction.std == pytest.approx([0.5, 0.5])


def test_learns_a_smooth_function_and_knows_where_it_has_not_been():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, D)) * np.eye(D)[0] * 1.0 + rng.normal(size=(60, D)) * 0.3

    def truth(features):
        return np.sin(features[:, 0]) + 0.3 * features[:, 1]

    model = Surrogate(prior_std=1.0, noise_std=0.05).fit(x[:50], truth(x[:50]), np.zeros(50))
    near = model.predict(x[50:], np.zeros(10))
    assert np.abs(near.mean - truth(x[50:])).mean() < 0.5 * np.abs(truth(x[50:])).mean()
    far = model.predict(x[50:] + 20.0, np.full(10, 7.0))
    assert far.mean == pytest.approx(np.full(10, 7.0), abs=1e-3)
    assert (far.std > 2 * near.std).all()


def test_repeated_measurements_shrink_the_uncertainty_down_to_the_noise():
    x, y = np.zeros((40, D)), np.full(40, 0.2)
    prediction = Surrogate(prior_std=1.0, noise_std=0.1).fit(x, y, np.zeros(40)).predict(x[:1], np.zeros(1))
    assert prediction.mean[0] == pytest.approx(0.2, abs=0.02)
    assert 0.1 <= prediction.std[0] < 0.11


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)), st.integers(0, 5))
def test_order_of_the_training_data_does_not_matter(order, seed):
    rng = np.random.default_rng(seed)
    x, y, new = rng.normal(size=(12, D)), rng.normal(size=12), rng.normal(size=(3, D))
    once = Surrogate(1.0, 0.1).fit(x, y, np.zeros(12)).predict(new, np.zeros(3))
    again = Surrogate(1.0, 0.1).fit(x[order], y[order], np.zeros(12)).predict(new, np.zeros(3))
    assert again.mean == pytest.approx(once.mean, abs=1e-8)
    assert again.std == pytest.approx(once.std, abs=1e-8)


def test_fit_leaves_the_old_surrogate_alone():
    old = Surrogate(1.0, 0.1)
    new = old.fit(np.zeros((1, D)), np.array([3.0]), np.zeros(1))
    assert old.predict(np.zeros((1, D)), np.zeros(1)).mean[0] == 0.0
    assert new.predict(np.zeros((1, D)), np.zeros(1)).mean[0] > 1.0


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="belong together"):
        Surrogate(1.0, 0.1).fit(np.zeros((2, D)), np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        Surrogate(1.0, 0.1).fit(np.zeros((1, D)), np.array([np.nan]), np.zeros(1))


def test_correlation_is_one_with_itself_and_falls_with_distance():
    x = np.zeros((1, D))
    near, far = x + 0.1, x + 1.0
    assert correlation(x, x, 1.0)[0, 0] == 1.0
    assert 1.0 > correlation(x, near, 1.0)[0, 0] > correlation(x, far, 1.0)[0, 0] > 0.0
