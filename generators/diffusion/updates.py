"""Learning from verdicts without forgetting: few careful steps, a limit on how far they go, and a right of refusal.

Crystals that proved stable and novel are rewarded, as often as their evidence weighs; what the model itself proposed
and failed is pushed away until its loss is NEGATIVE_MARGIN above the old one and no further; rows of the training
set are rehearsed beside them. The divergence of the new sampling process from the old one has a limit: steps that pass
it are taken back and halved. A model that predicts held-out crystals worse than before is not taken at all.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from generators.base import derive_seed
from generators.crystals.validity import check_structure
from generators.diffusion.fitting import fixed_noise, mean_loss
from generators.diffusion.graph import Crystals
from generators.diffusion.model import NAME
from generators.diffusion.objective import corrupt, losses, path_divergence
from generators.tally import evidence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from generators.base import Labelled
    from generators.diffusion.model import Model
    from generators.diffusion.network import Network
    from generators.diffusion.objective import Noisy

STEPS, CHECK_EVERY = 40, 4
LEARNING_RATE = 2e-4
GOOD_BATCH, BAD_BATCH, REPLAY_BATCH = 24, 16, 32
NEGATIVE_WEIGHT, NEGATIVE_MARGIN = 0.3, 0.2
KL_LIMIT_NATS = 0.5
"""Most nats a crystal between the new and the old sampling process."""
HALVINGS = 3
WORSE = 1.03
"""An update whose loss on held-out crystals grows by more than this factor is refused."""
FEWEST_GOOD = 2
"""Evidence, in good crystals, below which nothing is rewarded: one crystal would be learned by heart."""


class Lesson(NamedTuple):
    """What a batch of verdicts teaches: good and bad crystals with weights, and how many were of no use."""

    good: Crystals | None
    good_weights: np.ndarray[Any, np.dtype[np.float64]]
    bad: Crystals | None
    bad_weights: np.ndarray[Any, np.dtype[np.float64]]
    unused: int


def read_lesson(model: Model, labelled: Iterable[Labelled]) -> Lesson:
    """Sort verdicts into good and bad by :func:`generators.tally.evidence`; the order of the input is irrelevant.

    Good crystals of any generator count; bad ones only if this one proposed them: what others do wrong it may never
    have done.
    """
    good: list[tuple[Labelled, float]] = []
    bad: list[tuple[Labelled, float]] = []
    unused = 0
    for label in sorted(labelled, key=lambda item: item.candidate):
        weight = evidence(label)
        known = {site.specie.symbol for site in label.structure} <= set(model.elements)
        if not known or check_structure(label.structure):
            unused += 1
        elif weight.good:
            good.append((label, weight.good))
        elif weight.bad and label.generator == NAME:
            bad.append((label, weight.bad))
        else:
            unused += 1
    return Lesson(*_pack(model, good), *_pack(model, bad), unused)


def _pack(
    model: Model, rows: list[tuple[Labelled, float]]
) -> tuple[Crystals | None, np.ndarray[Any, np.dtype[np.float64]]]:
    weights = np.array([weight for _, weight in rows])
    if not rows:
        return None, weights
    crystals = Crystals.of(
        [label.structure for label, _ in rows], [model.standardised(label.properties) for label, _ in rows]
    )
    return crystals, weights


def learn(model: Model, labelled: Iterable[Labelled]) -> Model:
    """Return a model that has learned from verdicts, or the old weights with the reason in ``last_update``."""
    verdicts = sorted(labelled, key=lambda item: item.candidate)
    lesson = read_lesson(model, verdicts)
    record: dict[str, Any] = {
        "taken": False,
        "lessons": len(lesson.good_weights) + len(lesson.bad_weights),
        "good": len(lesson.good_weights),
        "bad": len(lesson.bad_weights),
        "unused": lesson.unused,
    }
    rewarding = float(lesson.good_weights.sum()) >= FEWEST_GOOD
    if not rewarding:
        record["why"] = (
            f"what is stable and novel counts as {lesson.good_weights.sum():g} crystals (a hit as 1.5, one that was "
            f"not judged as 0.5); at least {FEWEST_GOOD} is needed"
        )
        return replace(model, updates=model.updates + 1, last_update=record)
    seed = derive_seed("diffusion update", model.updates, *(label.candidate for label in verdicts))
    network, outcome = _descend(model, lesson, np.random.default_rng(seed))
    record |= outcome
    if not record["taken"]:
        return replace(model, updates=model.updates + 1, last_update=record)
    return replace(
        model,
        network=network.eval().requires_grad_(requires_grad=False),
        updates=model.updates + 1,
        last_update=record,
    )


def _descend(model: Model, lesson: Lesson, rng: np.random.Generator) -> tuple[Network, dict[str, Any]]:
    old, network = model.network, copy.deepcopy(model.network).requires_grad_(requires_grad=True)
    watched = fixed_noise(old, model.held)
    assert lesson.good is not None  # noqa: S101 - the caller has counted them
    praised = fixed_noise(old, lesson.good, draws=2)
    before, good_before = mean_loss(old, watched), mean_loss(old, praised)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    kept, kl, steps, halvings = copy.deepcopy(network.state_dict()), 0.0, 0, 0
    finite = True
    for number in range(1, STEPS + 1):
        loss = _loss(network, model, lesson, rng)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            finite = False
            break
        optimizer.step()
        if number % CHECK_EVERY:
            continue
        moved = divergence(network, old, watched)
        if not math.isfinite(moved) or moved > KL_LIMIT_NATS:
            network.load_state_dict(kept)
            halvings += 1
            if halvings > HALVINGS:
                break
            optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE / 2**halvings)
            continue
        kept, kl, steps = copy.deepcopy(network.state_dict()), moved, number
    network.load_state_dict(kept)
    with torch.no_grad():
        after, good_after = mean_loss(network, watched), mean_loss(network, praised)
    outcome: dict[str, Any] = {
        "kl_nats": round(kl, 6),
        "steps": steps,
        "halvings": halvings,
        "held_out_loss": [round(before, 6), round(after, 6)],
        "good_loss": [round(good_before, 6), round(good_after, 6)],
    }
    if not finite or not math.isfinite(after):
        return network, outcome | {"taken": False, "why": "a loss was not finite"}
    if after > WORSE * before:
        why = f"the loss on held-out crystals grew from {before:.4f} to {after:.4f}"
        return network, outcome | {"taken": False, "why": why}
    if steps == 0:
        return network, outcome | {"taken": False, "why": f"the first steps passed {KL_LIMIT_NATS} nats a crystal"}
    return network, outcome | {"taken": True, "why": "within all limits"}


def _loss(network: Network, model: Model, lesson: Lesson, rng: np.random.Generator) -> Tensor:
    rehearsed = model.replay.take(rng.integers(0, len(model.replay), REPLAY_BATCH))
    total = _mean(network, rehearsed, rng)
    assert lesson.good is not None  # noqa: S101 - the caller has counted them
    shares = lesson.good_weights / lesson.good_weights.sum()
    total = total + _mean(network, lesson.good.take(rng.choice(len(shares), GOOD_BATCH, p=shares)), rng)
    if lesson.bad is None:
        return total
    rows = rng.integers(0, len(lesson.bad), BAD_BATCH)
    noisy = corrupt(network, lesson.bad.take(rows), rng)
    with torch.no_grad():
        ceiling = losses(noisy.predict(model.network), noisy) + NEGATIVE_MARGIN
    short = (ceiling - losses(noisy.predict(network), noisy)).clamp_min(0.0)
    weights = torch.tensor(lesson.bad_weights[rows], dtype=torch.float32)
    return total + NEGATIVE_WEIGHT * (weights * short).mean()


def _mean(network: Network, crystals: Crystals, rng: np.random.Generator) -> Tensor:
    noisy = corrupt(network, crystals, rng)
    return losses(noisy.predict(network), noisy).mean()


def divergence(new: Network, old: Network, batches: list[Noisy]) -> float:
    """Average :func:`generators.diffusion.objective.path_divergence` over noisy batches, nats a crystal."""
    with torch.no_grad():
        values = [path_divergence(noisy.predict(new), noisy.predict(old), noisy) for noisy in batches]
    return float(torch.cat(values).double().mean())
