from __future__ import annotations

import numpy as np
import pytest
import torch

from generators.base import Labelled
from generators.diffusion import Diffusion, updates
from generators.diffusion.fitting import fixed_noise
from generators.diffusion.updates import divergence, read_lesson


@pytest.fixture(autouse=True)
def _fewer_steps(monkeypatch):
    monkeypatch.setattr(updates, "STEPS", 12)


@pytest.fixture
def verdicts(salts):
    """Ten stable novel crystals, four bad ones of our own, some that say nothing."""
    structures = list(salts)
    labels = [
        Labelled(f"c{i:02d}", s, "diffusion", {}, 0.0, stable=True, novel=True, hit=i % 3 == 0)
        for i, s in enumerate(structures[:10])
    ]
    labels += [
        Labelled(f"c{i:02d}", s, "diffusion", {}, 0.5, stable=False, novel=True)
        for i, s in enumerate(structures[10:14], 10)
    ]
    labels.append(Labelled("c20", structures[20], "diffusion", {}, cause=401))
    labels.append(Labelled("c21", structures[21], "diffusion", {}, cause=101))
    labels.append(Labelled("c22", structures[22], "random", {}, 0.5, stable=False))
    labels.append(Labelled("c23", structures[23], "diffusion", {}, 0.0, stable=True, novel=False))
    labels.append(Labelled("c24", structures[24], "diffusion", {}))
    return labels


def weights(generator):
    return torch.cat([value.flatten().double() for value in generator.model.network.state_dict().values()])


def test_only_what_can_be_trusted_counts_and_good_of_anybody(fitted, verdicts):
    lesson = read_lesson(Diffusion.load(fitted).model, verdicts)
    assert lesson.good_weights.tolist() == [1.5, 1.0, 1.0, 1.5, 1.0, 1.0, 1.5, 1.0, 1.0, 1.5]
    assert lesson.bad_weights.tolist() == [1.0] * 4 + [0.25]
    assert lesson.unused == 4
    unknown = verdicts[0].structure.copy()
    unknown.replace_species({"Na": "Au", "Cl": "Br"})
    strange = [Labelled("z", unknown, "diffusion", {}, 0.0, stable=True, novel=True)]
    assert read_lesson(Diffusion.load(fitted).model, strange).unused == 1


def test_an_update_learns_never_mutates_and_is_the_same_in_any_order(fitted, verdicts, tmp_path):
    generator = Diffusion.load(fitted)
    before, version = weights(generator), generator.version
    new = generator.update(verdicts)
    assert torch.equal(weights(generator), before)
    assert generator.version == version
    assert generator.last_update == {}
    record = new.last_update
    assert record["taken"], record
    assert (record["lessons"], record["good"], record["bad"], record["unused"]) == (15, 10, 5, 4)
    assert record["good_loss"][1] < record["good_loss"][0]
    assert 0 < record["kl_nats"] <= updates.KL_LIMIT_NATS
    assert not torch.equal(weights(new), before)
    assert new.version != version
    assert new.version.endswith("+1")

    shuffled = [verdicts[i] for i in np.random.default_rng(0).permutation(len(verdicts))]
    again = Diffusion.load(fitted).update(iter(shuffled))
    assert torch.equal(weights(again), weights(new))
    assert again.last_update == record

    new.save(tmp_path)
    assert Diffusion.load(tmp_path).last_update == record
    assert new.options == generator.options


def test_steps_that_pass_the_limit_are_taken_back(fitted, verdicts, monkeypatch):
    monkeypatch.setattr(updates, "KL_LIMIT_NATS", 1e-4)
    monkeypatch.setattr(updates, "STEPS", 20)
    monkeypatch.setattr(updates, "LEARNING_RATE", 3e-3)
    generator = Diffusion.load(fitted)
    new = generator.update(verdicts)
    assert not new.last_update["taken"]
    assert new.last_update["halvings"] == updates.HALVINGS + 1
    assert "passed 0.0001 nats" in new.last_update["why"]
    assert torch.equal(weights(new), weights(generator))


def test_within_the_limit_the_divergence_really_is(fitted, verdicts, monkeypatch):
    monkeypatch.setattr(updates, "KL_LIMIT_NATS", 0.05)
    monkeypatch.setattr(updates, "LEARNING_RATE", 1e-3)
    generator = Diffusion.load(fitted)
    new = generator.update(verdicts)
    assert new.last_update["halvings"] > 0
    watched = fixed_noise(generator.model.network, generator.model.held)
    moved = divergence(new.model.network, generator.model.network, watched)
    assert moved <= 0.05
    assert moved == pytest.approx(new.last_update["kl_nats"], abs=1e-5)


def test_a_model_that_got_worse_on_held_out_crystals_is_refused(fitted, verdicts, monkeypatch):
    monkeypatch.setattr(updates, "WORSE", 0.5)
    generator = Diffusion.load(fitted)
    new = generator.update(verdicts)
    assert not new.last_update["taken"]
    assert "held-out crystals grew" in new.last_update["why"]
    assert torch.equal(weights(new), weights(generator))
    assert new.model.updates == 1


def test_a_loss_that_is_no_number_is_refused(fitted, verdicts, monkeypatch):
    monkeypatch.setattr(updates, "_loss", lambda network, *_: network.lattice_mean.sum() * network.unknown.sum() / 0.0)
    generator = Diffusion.load(fitted)
    new = generator.update(verdicts)
    assert new.last_update["why"] == "a loss was not finite"
    assert torch.equal(weights(new), weights(generator))


def test_bad_crystals_alone_teach_nothing(fitted, verdicts):
    generator = Diffusion.load(fitted)
    for labels in ([], verdicts[10:], verdicts[1:2]):
        new = generator.update(labels)
        assert not new.last_update["taken"]
        assert "at least 2 is needed" in new.last_update["why"]
        assert torch.equal(weights(new), weights(generator))


def test_bad_crystals_are_pushed_away_but_only_so_far(fitted, verdicts, monkeypatch):
    monkeypatch.setattr(updates, "NEGATIVE_WEIGHT", 3.0)
    monkeypatch.setattr(updates, "LEARNING_RATE", 1e-3)
    monkeypatch.setattr(updates, "KL_LIMIT_NATS", 50.0)
    monkeypatch.setattr(updates, "WORSE", 50.0)
    monkeypatch.setattr(updates, "STEPS", 40)
    generator = Diffusion.load(fitted)
    lesson = read_lesson(generator.model, verdicts)
    noisy = fixed_noise(generator.model.network, lesson.bad, draws=8)
    before = updates.mean_loss(generator.model.network, noisy)
    with_bad, without = generator.update(verdicts), generator.update(verdicts[:10])
    assert with_bad.last_update["taken"]
    rose = updates.mean_loss(with_bad.model.network, noisy) - before
    assert rose > updates.mean_loss(without.model.network, noisy) - before
    assert rose < 3 * updates.NEGATIVE_MARGIN
