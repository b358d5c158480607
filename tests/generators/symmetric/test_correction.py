from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.symmetric.correction import SLOPE_STD, Correction

SCALE = 0.25


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_what_all_lessons_share_is_expected_far_away_too(rng):
    x, f = rng.normal(size=(30, 4)), rng.uniform(0, 0.3, 30)
    fitted = Correction.fit(SCALE, x, f, f + 0.2 + rng.normal(0, 0.02, 30))
    far = fitted.predict(np.full((1, 4), 50.0), np.array([0.15]))
    assert far.mean[0] == pytest.approx(0.2, abs=0.06)


def test_one_disappointment_says_little_about_what_is_far_and_much_about_what_is_near(rng):
    x = np.vstack([np.zeros((1, 4)), rng.normal(3, 0.3, size=(12, 4))])
    f = np.full(13, 0.1)
    measured = f.copy()
    measured[0] += 0.5
    found = Correction.fit(SCALE, x, f, measured).predict(np.array([[0.0] * 4, [3.0] * 4]), np.array([0.1, 0.1]))
    assert found.mean[0] > 0.25
    assert abs(found.mean[1]) < 0.1


def test_a_forecast_that_says_nothing_loses_its_weight(rng):
    x, f = rng.normal(size=(80, 3)), rng.uniform(-0.2, 0.6, 80)
    fitted = Correction.fit(SCALE, x, f, np.full(80, 0.3))
    for low_or_high in (-0.1, 0.5):
        corrected = low_or_high + fitted.predict(np.full((1, 3), 40.0), np.array([low_or_high])).mean[0]
        assert corrected == pytest.approx(0.3, abs=0.1)


def test_uncertainty_is_least_at_the_lessons(rng):
    x, f = rng.normal(size=(20, 3)), rng.uniform(0, 0.3, 20)
    fitted = Correction.fit(SCALE, x, f, f + np.sin(3 * x[:, 0]) * 0.3)
    near, far = fitted.predict(x, f).std, fitted.predict(x + 30, f).std
    assert near.mean() < far.mean()
    assert (near >= fitted.noise).all()


def test_predictions_are_those_of_the_textbook(rng):
    """Equations 2.25 and 2.26 of Rasmussen and Williams, with plain inverses."""
    x, f = rng.normal(size=(12, 3)), rng.uniform(0, 0.3, 12)
    fitted = Correction.fit(SCALE, x, f, f + rng.normal(0, 0.1, 12))
    new, new_f = rng.normal(size=(5, 3)), rng.uniform(0, 0.3, 5)

    def k(a, fa, b, fb):
        square = 4 * ((a[:, None] - b[None]) ** 2).mean(-1)  # as generators.surrogate measures distances
        local = (fitted.amplitude * SCALE) ** 2 * np.exp(-square / (2 * fitted.length**2))
        return local + SCALE**2 + SLOPE_STD**2 * np.outer(fa, fb)

    inverse = np.linalg.inv(k(x, f, x, f) + fitted.noise**2 * np.eye(12))
    cross = k(new, new_f, x, f)
    found = fitted.predict(new, new_f)
    assert found.mean == pytest.approx(cross @ inverse @ fitted.residual, abs=1e-9)
    variance = np.diag(k(new, new_f, new, new_f) - cross @ inverse @ cross.T) + fitted.noise**2
    assert found.std == pytest.approx(np.sqrt(variance), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 25))
def test_the_order_of_lessons_does_not_matter(seed, n):
    rng = np.random.default_rng(seed)
    x, f, y = rng.normal(size=(n, 3)), rng.uniform(0, 0.3, n), rng.uniform(0, 0.6, n)
    order = rng.permutation(n)
    new, new_f = rng.normal(size=(4, 3)), rng.uniform(0, 0.3, 4)
    one = Correction.fit(SCALE, x, f, y).predict(new, new_f)
    other = Correction.fit(SCALE, x[order], f[order], y[order]).predict(new, new_f)
    assert one.mean == pytest.approx(other.mean, abs=1e-8)
    assert one.std == pytest.approx(other.std, abs=1e-8)
