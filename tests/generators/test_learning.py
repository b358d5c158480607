"""The training loop: it learns, stops early, resumes to the same weights, and survives NaN and too little memory."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from generators.learning import Recipe, train

X = torch.linspace(-1, 1, 64)[:, None]
Y = 3 * X - 1
RECIPE = Recipe(epochs=40, batch_size=16, learning_rate=0.1, patience=40)


def make():
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def losses(module):
    def loss(rows, _rng):
        return ((module(X[rows]) - Y[rows]) ** 2).mean()

    def validate():
        with torch.no_grad():
            return float(((module(X) - Y) ** 2).mean())

    return loss, validate


def test_it_learns_and_ends_with_the_best_weights():
    module = make()
    curves = train(module, *losses(module), len(X), RECIPE)
    best = min(e.validation for e in curves.epochs)
    assert curves.ending == "finished"
    assert best < 0.01 < curves.epochs[0].validation
    assert losses(module)[1]() == pytest.approx(best, abs=1e-6)
    assert curves.epochs[curves.best - 1].validation == best


def test_it_stops_when_the_held_out_loss_no_longer_falls():
    module = make()
    loss, _ = losses(module)
    curves = train(module, loss, lambda: 1.0, len(X), Recipe(epochs=50, patience=3))
    assert curves.ending == "early"
    assert len(curves.epochs) == 4
    assert curves.best == 1


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path):
    whole = make()
    train(whole, *losses(whole), len(X), RECIPE)

    class StoppedError(Exception):
        pass

    def stop(epoch):
        if epoch.number == 13:
            raise StoppedError

    first = make()
    with pytest.raises(StoppedError):
        train(first, *losses(first), len(X), RECIPE, folder=tmp_path, on_epoch=stop)
    again = make()
    seen = []
    curves = train(again, *losses(again), len(X), RECIPE, folder=tmp_path, on_epoch=lambda e: seen.append(e.number))
    assert seen[0] == 14
    assert [e.number for e in curves.epochs] == list(range(1, 41))
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-7)
    assert len(list(tmp_path.glob("training-*.safetensors"))) == 1


def test_another_training_is_not_resumed(tmp_path):
    module = make()
    train(module, *losses(module), len(X), Recipe(epochs=2), folder=tmp_path)
    with pytest.raises(ValueError, match="another training"):
        train(module, *losses(module), len(X), Recipe(epochs=3), folder=tmp_path)


def test_a_damaged_standing_is_refused(tmp_path):
    module = make()
    train(module, *losses(module), len(X), Recipe(epochs=2), folder=tmp_path)
    path = next(tmp_path.glob("training-*.safetensors"))
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    with pytest.raises(ValueError, match="damaged"):
        train(module, *losses(module), len(X), Recipe(epochs=2), folder=tmp_path)


def test_a_loss_that_is_no_number_at_once_is_refused_because_nothing_was_learned(tmp_path):
    module = make()
    with pytest.raises(ValueError, match="epoch 1, before any epoch was good: nothing was learned; try a lower"):
        train(module, lambda rows, rng: losses(module)[0](rows, rng) * math.nan, lambda: 0.0, len(X), RECIPE)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"mark": 1, "tensors": "gone", "sha256": ""}'])
def test_a_damaged_account_is_refused(text, tmp_path):
    (tmp_path / "training.json").write_text(text)
    module = make()
    with pytest.raises(ValueError, match=r"training\.json is damaged; remove .* to start over"):
        train(module, *losses(module), len(X), RECIPE, folder=tmp_path)


@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_loss_that_is_no_number_ends_with_the_last_good_weights(where):
    module = make()
    loss, validate = losses(module)
    calls = {"training": 0, "validation": 0}

    def bad_loss(rows, rng):
        calls["training"] += 1
        value = loss(rows, rng)
        return value * math.nan if where == "training" and calls["training"] > 20 else value

    def bad_validate():
        calls["validation"] += 1
        return math.nan if where == "validation" and calls["validation"] > 5 else validate()

    curves = train(module, bad_loss, bad_validate, len(X), RECIPE)
    assert curves.ending == "diverged"
    assert len(curves.epochs) == 5
    assert all(torch.isfinite(p).all() for p in module.parameters())
    assert validate() == pytest.approx(min(e.validation for e in curves.epochs), abs=1e-6)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_batch_that_does_not_fit_is_halved(error):
    module = make()
    loss, validate = losses(module)

    def greedy(rows, rng):
        if len(rows) > 5:
            raise error
        return loss(rows, rng)

    curves = train(module, greedy, validate, len(X), RECIPE)
    assert curves.epochs[-1].batch_size == 4
    assert curves.epochs[-1].validation < 0.01


def test_other_errors_are_not_swallowed():
    module = make()

    def broken(_rows, _rng):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        train(module, broken, lambda: 0.0, len(X), RECIPE)


def test_every_row_is_seen_once_an_epoch():
    module = make()
    loss, validate = losses(module)
    seen = []

    def watch(rows, rng):
        seen.extend(rows)
        return loss(rows, rng)

    train(module, watch, validate, len(X), Recipe(epochs=2, batch_size=10))
    assert np.array_equal(np.sort(seen), np.repeat(np.arange(len(X)), 2))


def test_nothing_to_train_on():
    module = make()
    with pytest.raises(ValueError, match="empty"):
        train(module, *losses(module), 0, RECIPE)
