from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.diffusion_speed import plainly
from benchmarks.plain_diffusion import predict
from generators.diffusion.graph import Crystals, Graph
from generators.diffusion.objective import corrupt, losses, path_divergence
from generators.diffusion.sampler import guided


def inputs(network, crystals):
    t = torch.tensor([0.1, 0.4, 0.9])
    lattice = network.encode(crystals.logarithm, crystals.counts)
    return crystals.species, crystals.frac, lattice, t, crystals.properties


def test_all_pairs_of_each_cell_and_no_others_are_joined():
    graph = Graph.of(torch.tensor([2, 1, 3]))
    pairs = set(zip(graph.receivers.tolist(), graph.senders.tolist(), strict=True))
    expected = {(i, j) for group in ((0, 1), (2,), (3, 4, 5)) for i in group for j in group}
    assert pairs == expected
    assert len(graph.receivers) == 14
    assert graph.crystal.tolist() == [0, 0, 1, 2, 2, 2]


def test_moving_a_crystal_or_an_atom_by_cells_changes_nothing(tiny, some):
    graph = Graph.of(some.counts)
    species, frac, lattice, t, wanted = inputs(tiny.double(), some)
    frac, lattice, t, wanted = frac.double(), lattice.double(), t.double(), wanted.double()
    before = tiny(graph, species, frac, lattice, t, wanted)
    rng = np.random.default_rng(0)
    shift = torch.tensor(rng.random((3, 3)))[graph.crystal]
    whole = torch.tensor(rng.integers(-2, 3, (11, 3)))
    after = tiny(graph, species, frac + shift + whole, lattice, t, wanted)
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one[torch.isfinite(one)], other[torch.isfinite(other)], atol=1e-9)
    assert float(before.coordinates[1:].abs().max()) > 1e-3
    assert torch.allclose(graph.crystal_mean(before.coordinates), torch.zeros(3, 3, dtype=torch.float64), atol=1e-12)


def test_the_order_of_atoms_only_orders_the_answers(tiny, some):
    graph = Graph.of(some.counts)
    species, frac, lattice, t, wanted = inputs(tiny, some)
    before = tiny(graph, species, frac, lattice, t, wanted)
    order = torch.tensor([0, 3, 1, 4, 2, 10, 5, 8, 6, 9, 7])
    after = tiny(graph, species[order], frac[order], lattice, t, wanted)
    assert torch.allclose(before.coordinates[order], after.coordinates, atol=1e-5)
    assert torch.allclose(before.lattice, after.lattice, atol=1e-5)
    assert torch.allclose(before.logits[order][:, 1:], after.logits[:, 1:], atol=1e-4)


def test_crystals_in_a_batch_do_not_see_each_other(tiny, some):
    t = torch.tensor([0.1, 0.4, 0.9])
    species, frac, lattice, _, wanted = inputs(tiny, some)
    together = tiny(Graph.of(some.counts), species, frac, lattice, t, wanted)
    alone = tiny(Graph.of(some.counts[1:2]), species[1:5], frac[1:5], lattice[1:2], t[1:2], wanted[1:2])
    assert torch.allclose(together.coordinates[1:5], alone.coordinates, atol=1e-5)
    assert torch.allclose(together.lattice[1:2], alone.lattice, atol=1e-5)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_the_plain_model_says_the_same(tiny, some, row):
    species, frac, lattice, t, wanted = inputs(tiny, some)
    ours = tiny(Graph.of(some.counts), species, frac, lattice, t, wanted)
    atoms = slice([0, 1, 5][row], [1, 5, 11][row])
    plain = predict(tiny, species[atoms], frac[atoms], lattice[row], float(t[row]), wanted[row])
    assert torch.allclose(ours.coordinates[atoms], plain[0], atol=2e-5)
    assert torch.allclose(ours.lattice[row], plain[1], atol=2e-5)
    assert torch.allclose(ours.logits[atoms][:, 1:], plain[2][:, 1:], atol=2e-5)


def test_the_plain_model_has_the_same_loss_and_gradients(tiny, some):
    tiny.requires_grad_(requires_grad=True)
    noisy = corrupt(tiny, some, np.random.default_rng(0))
    gradients = []
    for ask in (lambda: noisy.predict(tiny), lambda: plainly(tiny, noisy)):
        tiny.zero_grad()
        losses(ask(), noisy).mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in tiny.parameters() if p.grad is not None]))
    assert float(gradients[0].norm()) > 0.01
    assert torch.allclose(gradients[0], gradients[1], atol=1e-4 * float(gradients[0].norm()))


def test_guidance_0_is_the_free_model_1_the_conditional_one_and_2_as_far_beyond(tiny, some):
    graph = Graph.of(some.counts)
    species, frac, lattice, t, wanted = inputs(tiny, some)
    free = tiny(graph, species, frac, lattice, t, torch.full_like(wanted, torch.nan))
    asked = tiny(graph, species, frac, lattice, t, wanted)
    got = {w: guided(tiny, wanted, w)(graph, species, frac, lattice, t) for w in (0.0, 1.0, 2.0)}
    for part in ("coordinates", "lattice"):
        assert torch.equal(getattr(got[0.0], part), getattr(free, part))
        assert torch.equal(getattr(got[1.0], part), getattr(asked, part))
        beyond = 2 * getattr(asked, part) - getattr(free, part)
        assert torch.allclose(getattr(got[2.0], part), beyond, atol=1e-5)
        assert not torch.allclose(getattr(asked, part), getattr(free, part), atol=1e-3)
    assert torch.equal(got[1.0].logits, asked.logits)
    assert bool((got[2.0].logits[:, 0] == -torch.inf).all())


def test_what_is_hidden_is_what_the_loss_asks_for(tiny, some):
    many = Crystals(
        some.counts.repeat(200),
        some.species.repeat(200),
        some.frac.repeat(200, 1),
        some.logarithm.repeat(200, 1),
        some.properties.repeat(200, 1),
    )
    noisy = corrupt(tiny, many, np.random.default_rng(0))
    hidden = (noisy.species == 0).float()
    share = noisy.graph.crystal_mean(hidden)
    assert float((share == 0).float().mean()) > 0.6
    # 0.4 of the crystals hide each species with probability t, which is even over (0, 1)
    assert float(hidden.mean()) == pytest.approx(0.2, abs=0.04)
    late = noisy.t > 0.9
    assert float(share[late].mean()) == pytest.approx(0.4 * 0.95, abs=0.12)
    assert bool((noisy.true_species[hidden == 0] == noisy.species[hidden == 0]).all())
    given = noisy.predict(tiny)
    wrong = given._replace(logits=given.logits.roll(1, 1))
    same = losses(given, noisy) == losses(wrong, noisy)
    assert bool((same == (share == 0)).all())
    unknown = noisy.wanted.isnan().float().mean()
    assert float(unknown) > float(many.properties.isnan().float().mean()) + 0.1


def test_the_divergence_is_zero_for_the_same_model_and_quadratic_in_a_small_change(tiny, some):
    noisy = corrupt(tiny, some, np.random.default_rng(0))
    said = noisy.predict(tiny)
    assert float(path_divergence(said, said, noisy).abs().max()) == 0
    far = [
        path_divergence(said._replace(coordinates=said.coordinates + e, lattice=said.lattice - e), said, noisy)
        for e in (0.01, 0.02)
    ]
    assert torch.allclose(far[1], 4 * far[0], rtol=1e-2)
    assert bool((far[0] > 0).all())
