from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from generators.crystals.elements import MAX_Z
from generators.diffusion import lattices
from generators.diffusion.noise import (
    MASKED,
    SIGMA_MAX,
    SIGMA_MIN,
    amplitudes,
    clean_lattice,
    lattice_step,
    score_scale,
    sigma_of,
    unmask,
    velocity,
    wrapped_score,
)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_cell_comes_back_from_its_six_numbers_and_turning_it_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(2, 9, 3)) + rng.normal(0, 0.8, (3, 3))
    if abs(np.linalg.det(cell)) < 5:
        return
    turned = cell @ Rotation.random(rng=rng).as_matrix()
    numbers = lattices.log_metric(torch.tensor(np.array([cell, turned])))
    assert torch.allclose(numbers[0], numbers[1], atol=1e-9)
    back = lattices.cells(numbers)[0].numpy()
    assert np.allclose(back @ back.T, cell @ cell.T, atol=1e-7)
    assert numbers[0, :3].sum() == pytest.approx(math.log(abs(np.linalg.det(cell))), abs=1e-9)


def test_any_six_numbers_are_a_cell():
    wild = torch.tensor(np.random.default_rng(0).normal(0, 3, (200, 6)))
    made = lattices.cells(wild)
    assert torch.isfinite(made).all()
    assert (torch.linalg.det(made) > 0).all()


@pytest.mark.parametrize("sigma", [SIGMA_MIN, 0.05, 0.2, SIGMA_MAX])
def test_the_wrapped_score_is_the_gradient_of_the_wrapped_density(sigma):
    x = torch.linspace(-0.499, 0.499, 101, dtype=torch.float64, requires_grad=True)
    images = x[:, None] + torch.arange(-20, 21)
    log_density = torch.logsumexp(-0.5 * (images / sigma) ** 2, 1)
    (gradient,) = torch.autograd.grad(log_density.sum(), x)
    ours = wrapped_score(x.detach(), torch.tensor(sigma, dtype=torch.float64).expand(101))
    assert torch.allclose(ours, gradient, rtol=1e-8, atol=1e-8)
    shifted = wrapped_score(x.detach() + 3, torch.tensor(sigma, dtype=torch.float64).expand(101))
    assert torch.allclose(ours, shifted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.09, 0.11, 0.25, 0.5])
def test_the_scale_of_the_score_is_its_root_mean_square(sigma):
    x = (np.random.default_rng(0).standard_normal(400_000) * sigma).astype(np.float64)
    scores = wrapped_score(torch.tensor(x), torch.full((400_000,), sigma, dtype=torch.float64))
    measured = float(scores.square().mean().sqrt())
    assert float(score_scale(torch.tensor([sigma]))[0]) == pytest.approx(measured, rel=0.01)


def test_noise_of_coordinates_ends_uniform():
    assert float(sigma_of(torch.tensor(0.0))) == pytest.approx(SIGMA_MIN)
    assert float(sigma_of(torch.tensor(1.0))) == pytest.approx(SIGMA_MAX)
    share = np.histogram((np.random.default_rng(0).standard_normal(500_000) * SIGMA_MAX) % 1, 10, (0, 1))[0] / 50_000
    assert np.abs(share - 1).max() < 0.03


def test_v_and_x0_are_two_ways_to_say_the_same():
    rng = torch.Generator().manual_seed(0)
    x0, epsilon = torch.randn((5, 6), generator=rng), torch.randn((5, 6), generator=rng)
    t = torch.tensor([0.001, 0.2, 0.5, 0.9, 1.0])[:, None]
    alpha, sigma = amplitudes(t)
    assert torch.allclose(clean_lattice(alpha * x0 + sigma * epsilon, velocity(x0, epsilon, t), t), x0, atol=1e-5)


def test_steps_of_the_lattice_with_the_true_x0_follow_its_marginals():
    rng = np.random.default_rng(1)
    x0 = torch.tensor([[0.7, -1.2, 0.3, 2.0, 0.0, -0.5]])
    times = [1.0, 0.8, 0.55, 0.3]
    x = torch.tensor(rng.standard_normal((40_000, 6)), dtype=torch.float32)
    for t, s in pairwise(times):
        z = torch.tensor(rng.standard_normal((40_000, 6)), dtype=torch.float32)
        x = lattice_step(x, x0, torch.tensor(t), torch.tensor(s), z)
        alpha, sigma = amplitudes(torch.tensor(s))
        assert torch.allclose(x.mean(0), alpha * x0[0], atol=0.03)
        assert torch.allclose(x.std(0), sigma.expand(6), atol=0.02)
    last = lattice_step(x, x0, torch.tensor(0.3), torch.tensor(0.0), torch.randn(40_000, 6))
    assert torch.allclose(last, x0.expand(40_000, 6), atol=1e-5)


def test_hidden_species_appear_at_the_rate_of_the_schedule_and_by_their_probabilities():
    rng = np.random.default_rng(2)
    n = 60_000
    species = torch.full((n,), MASKED)
    probabilities = torch.zeros(n, MAX_Z + 1)
    probabilities[:, 8], probabilities[:, 12], probabilities[:, 96] = 0.5, 0.3, 0.2
    for t, s in ((1.0, 0.75), (0.75, 0.2), (0.2, 0.0)):
        species = unmask(species, probabilities, t, s, torch.tensor(rng.random((n, 2)), dtype=torch.float32))
        assert float((species == MASKED).float().mean()) == pytest.approx(s, abs=0.01)
    for z, share in ((8, 0.5), (12, 0.3), (96, 0.2)):
        assert float((species == z).float().mean()) == pytest.approx(share, abs=0.01)


def test_species_that_are_known_or_have_no_chance_never_change():
    species = torch.tensor([MASKED, 8, 12])
    probabilities = torch.zeros(3, MAX_Z + 1)
    probabilities[:, 30] = 1.0
    for edge in (0.0, 0.999999):
        drawn = unmask(species, probabilities, 1.0, 0.0, torch.tensor([[0.0, edge]] * 3))
        assert drawn.tolist() == [30, 8, 12]
