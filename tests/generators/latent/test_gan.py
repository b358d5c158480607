"""The critic's penalty is what it should be, and the alternating training stops, resumes and reports as promised."""

from __future__ import annotations

import math

import pytest
import torch

from generators.latent import adversarial
from generators.latent.adversarial import estimates, train_adversarial
from generators.latent.families import Gan
from generators.latent.fitting import shown_of
from generators.latent.gan import LATENT, SIZE, gradient_penalty, present_of
from generators.latent.space import element_vectors
from generators.learning import Recipe
from generators.symmetric.crystals import rows_of


@pytest.fixture(scope="module")
def parts(gan, corner):
    split = corner.split("prototype")
    known = set(gan.space.elements)
    held_out = [row for row in rows_of(split.validation) if {o.element for o in row[1].orbits} <= known]
    return shown_of(gan.space, rows_of(split.training)[:60]), shown_of(gan.space, held_out[:30])


def fresh(gan, seed=0):
    torch.manual_seed(seed)
    return Gan.network_of(gan.space, element_vectors(gan.space.elements))


def test_a_critic_of_unit_gradient_has_no_penalty_and_others_have():
    direction = torch.nn.functional.normalize(torch.randn(5), dim=0)
    real, made, share = torch.randn(30, 5), torch.randn(30, 5), torch.rand(30, 1)
    assert float(gradient_penalty(lambda x: x @ direction, real, made, share)) == pytest.approx(0.0, abs=1e-10)
    assert float(gradient_penalty(lambda x: 3 * (x @ direction), real, made, share)) == pytest.approx(4.0, abs=1e-4)
    assert math.isfinite(float(gradient_penalty(lambda x: 0.0 * x.sum(dim=1), real, made, share)))


def test_the_critic_sees_no_absent_entry(gan, parts):
    shown, _ = parts
    x = gan.network.vector(shown.content, shown.frame)
    dirty = torch.where(present_of(shown.frame), x, 100.0)
    assert torch.equal(gan.network.criticise(x, shown.frame), gan.network.criticise(dirty, shown.frame))
    made = gan.network.make(torch.randn(len(x), LATENT), shown.frame)
    assert made.shape == (len(x), SIZE)
    assert not made[~present_of(shown.frame)].any()


def test_curves_tell_distance_and_penalty_in_training_and_held_out(gan):
    curves = gan.training["curves"]
    assert set(curves) == {"wasserstein", "penalty"}
    distance = [e[1] for e in curves["wasserstein"]["epochs"]]
    penalty = [e[1] for e in curves["penalty"]["epochs"]]
    assert len(distance) == len(penalty) == 10
    assert max(distance) > distance[0]  # the critic learns to tell them apart
    assert all(p >= 0 for p in penalty)
    assert gan.training["errors"]["wasserstein"] == pytest.approx(curves["wasserstein"]["epochs"][-1][2], abs=1e-3)


def test_a_training_that_was_killed_goes_on_to_the_same_weights(gan, parts, tmp_path):
    recipe = Recipe(epochs=4, batch_size=16, learning_rate=1e-3)
    whole = fresh(gan)
    train_adversarial(whole, *parts, recipe)

    def kill(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_adversarial(fresh(gan), *parts, recipe, folder=tmp_path, on_epoch=kill)
    again = fresh(gan, seed=9)
    curves = train_adversarial(again, *parts, recipe, folder=tmp_path)
    assert [e.number for e in curves["wasserstein"].epochs] == [1, 2, 3, 4]
    for key, value in whole.state_dict().items():
        assert torch.allclose(value, again.state_dict()[key], atol=1e-6), key


def test_another_training_is_not_resumed(gan, parts, tmp_path):
    train_adversarial(fresh(gan), *parts, Recipe(epochs=1, batch_size=30), folder=tmp_path)
    with pytest.raises(ValueError, match="another training"):
        train_adversarial(fresh(gan), *parts, Recipe(epochs=2, batch_size=30), folder=tmp_path)


def test_what_is_no_number_ends_the_training_with_the_last_good_weights(gan, parts, monkeypatch):
    network, kept = fresh(gan), {}
    real = adversarial._losses
    calls = []

    def losses(net, shown):
        calls.append(1)
        distance, penalty = real(net, shown)
        return (distance * math.nan, penalty) if len(calls) > 8 else (distance, penalty)

    def keep(_epoch):
        kept.update({k: v.clone() for k, v in network.state_dict().items()})

    monkeypatch.setattr(adversarial, "_losses", losses)
    curves = train_adversarial(network, *parts, Recipe(epochs=9, batch_size=20), on_epoch=keep)
    assert curves["wasserstein"].ending == "diverged"
    assert curves["wasserstein"].best == len(curves["wasserstein"].epochs) == 2
    assert all(torch.equal(value, kept[key]) for key, value in network.state_dict().items())


def test_the_estimate_is_the_same_for_the_same_weights_and_leaves_randomness_alone(gan, parts):
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    assert estimates(gan.network, parts[1]) == estimates(gan.network, parts[1])
    assert torch.equal(torch.rand(1), wanted)


def test_inversion_comes_nearer_than_a_random_latent_vector(gan, parts):
    shown = parts[0].rows(torch.arange(10))
    frame = shown.frame.without_targets()
    wanted = gan.network.vector(shown.content, frame)

    def off(z):
        return float((gan.network.make(z, frame) - wanted).square().sum(dim=1).mean())

    assert off(gan.network.encode(shown.content, frame)) < 0.8 * off(torch.randn(10, LATENT))
