"""The sampler against oracles: where the true score is known, and where one crystal is all there is to learn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from generators.crystals.elements import MAX_Z
from generators.diffusion.graph import Crystals, Graph
from generators.diffusion.model import make_network
from generators.diffusion.network import Prediction, Shape
from generators.diffusion.noise import MASKED, amplitudes, score_scale, sigma_of, wrapped_score
from generators.diffusion.objective import corrupt, losses
from generators.diffusion.sampler import Noise, draw, guided


class TwoDistances:
    """The exact model of diatomic crystals whose second atom is 0.2 or 0.5 cells along x from the first.

    The lattice is normal with mean 0.5 and deviation 0.3 in each number; the species are Na and Cl or K and Br.
    """

    places, weights = (0.2, 0.5), (0.3, 0.7)

    def __call__(self, _graph, species, frac, lattice, t):
        first, second = frac[0::2], frac[1::2]
        sigma = sigma_of(t) * 2**0.5  # a difference of two atoms has twice the variance
        difference = second - first
        along, log_weights = [], []
        for place, weight in zip(self.places, self.weights, strict=True):
            gap = difference - torch.tensor([place, 0.0, 0.0])
            along.append(wrapped_score(gap, sigma[:, None]))
            images = gap[:, 0, None] + torch.arange(-3, 4)
            log_weights.append(np.log(weight) + torch.logsumexp(-0.5 * (images / sigma[:, None]) ** 2, 1))
        mixed = torch.softmax(torch.stack(log_weights), 0)
        gradient = (mixed[:, :, None] * torch.stack(along)).sum(0)
        coordinates = torch.stack([-gradient, gradient], 1).reshape(-1, 3) / score_scale(sigma_of(t)).repeat_interleave(
            2
        ).reshape(-1, 1)
        alpha, noise = (a[:, None] for a in amplitudes(t))
        variance = alpha**2 * 0.3**2 + noise**2
        epsilon = noise * (lattice - alpha * 0.5) / variance
        x0 = 0.5 + alpha * 0.3**2 * (lattice - alpha * 0.5) / variance
        partner = species.reshape(-1, 2).flip(1).flatten()
        position = torch.arange(len(species)) % 2
        logits = torch.full((len(species), MAX_Z + 1), -30.0)
        for pair in ((11, 17), (19, 35)):
            own, other = torch.tensor(pair)[position], torch.tensor(pair)[1 - position]
            fits = (partner == MASKED) | (partner == other)
            logits[torch.arange(len(species))[fits], own[fits]] = 0.0
        return Prediction(coordinates, alpha * epsilon - noise * x0, logits)


def test_with_the_true_score_the_true_distribution_comes_out():
    b = 500
    graph = Graph.of(torch.full((b,), 2))
    drawn = draw(TwoDistances(), graph, torch.full((2 * b,), MASKED), Noise.of(range(b), [2] * b, 60))
    gaps = (drawn.frac[1::2] - drawn.frac[0::2]) % 1.0
    at = [((gaps - torch.tensor([p, 0.0, 0.0]) + 0.5) % 1 - 0.5).abs().max(1).values < 0.02 for p in (0.2, 0.5)]
    assert float((at[0] | at[1]).float().mean()) > 0.99
    assert abs(float(at[0].float().mean()) - 0.3) < 0.07
    assert torch.allclose(drawn.lattice.mean(0), torch.full((6,), 0.5), atol=0.05)
    assert torch.allclose(drawn.lattice.std(0), torch.full((6,), 0.3), atol=0.04)
    # both species of a pair appear in one step, blind to each other, in 1/60 of the crystals; half of these are wrong
    pairs = Counter(tuple(pair) for pair in drawn.species.reshape(-1, 2).tolist())
    assert abs(pairs[11, 17] / b - 0.5) < 0.08
    assert pairs[11, 17] + pairs[19, 35] > 0.975 * b
    centres = torch.histc(drawn.frac[:, 1], 5, 0, 1) / (2 * b)
    assert torch.allclose(centres, torch.full((5,), 0.2), atol=0.06)  # no origin is preferred


def test_species_given_stay_and_only_allowed_ones_appear():
    b = 40
    graph = Graph.of(torch.full((b,), 2))
    given = torch.tensor([11, MASKED] * b)
    allowed = torch.zeros((2 * b, MAX_Z + 1), dtype=torch.bool)
    allowed[:, [8, 9]] = True
    drawn = draw(TwoDistances(), graph, given, Noise.of(range(b), [2] * b, 5), allowed)
    assert (drawn.species[0::2] == 11).all()
    assert set(drawn.species[1::2].tolist()) == {8, 9}


def test_noise_of_a_crystal_depends_on_its_seed_alone():
    alone, among = Noise.of([7], [3], 4), Noise.of([5, 7, 9], [2, 3, 4], 4)
    assert torch.equal(alone.frac, among.frac[2:5])
    assert torch.equal(alone.lattice[:, 0], among.lattice[:, 1])
    assert torch.equal(alone.moves, among.moves[:, :, 2:5])
    assert torch.equal(alone.chance, among.chance[:, 2:5])


def test_one_crystal_is_learned_by_heart_and_drawn_again():
    torch.manual_seed(0)
    frac = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.3, 0.3, 0.5]])
    logarithm = torch.tensor([[1.5, 1.5, 1.2, 0.05, 0.0, 0.1]])
    one = Crystals(torch.tensor([3]), torch.tensor([22, 8, 7]), frac, logarithm, torch.zeros(1, 0))
    network = make_network(Shape(width=32, layers=2), 0)
    network.volume.fill_(25.0)
    network.lattice_mean.copy_(torch.tensor([0.1, 0.1, 0.0, 0.0, 0.0, 0.0]))
    network.lattice_std.fill_(0.2)
    batch = one.take([0] * 32)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    for number in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - number / 400)
        noisy = corrupt(network, batch, rng)
        loss = losses(noisy.predict(network), noisy).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    b = 16
    graph = Graph.of(torch.full((b,), 3))
    predictor = guided(network, torch.zeros(b, 0), 2.0)
    drawn = draw(predictor, graph, torch.tensor([22, 8, 7] * b), Noise.of(range(b), [3] * b, 50))
    found = drawn.frac.reshape(b, 3, 3)
    relative = found - found[:, :1]
    errors = ((relative - frac + 0.5) % 1 - 0.5).abs().amax((1, 2)).numpy()
    assert np.median(errors) < 0.03
    assert np.mean(errors < 0.06) > 0.7
    logarithms = network.decode(drawn.lattice, graph.counts)
    assert float((logarithms - logarithm).abs().median()) < 0.03

    hidden = draw(predictor, graph, torch.full((3 * b,), MASKED), Noise.of(range(b), [3] * b, 50))
    formulas = [sorted(crystal) for crystal in hidden.species.reshape(b, 3).tolist()]
    assert sum(formula == [7, 8, 22] for formula in formulas) >= 0.6 * b  # by chance 0.22
