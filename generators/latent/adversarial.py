"""The alternating training of a Wasserstein GAN.

It keeps what :func:`generators.learning.train` promises: progress, curves, resuming after the last whole epoch, and the
last good weights when something is no number any more. An adversarial loss says nothing of how good the generator is,
so no epoch is the best: the weights are those of the last finite epoch. The held-out estimate of the Wasserstein
distance says how far the critic tells crystals that neither network was shown from made ones.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import safetensors.torch
import torch

from generators.latent.gan import LATENT, gradient_penalty
from generators.latent.networks import drop_targets
from generators.learning import Curves, Ending, Epoch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from generators.latent.gan import GanNetwork
    from generators.latent.space import Content, Frame
    from generators.learning import Recipe

N_CRITIC = 5
"""Critic steps to one of the generator (Gulrajani et al., algorithm 1)."""
PENALTY = 10.0
"""Weight of the gradient penalty (ibid.)."""
BETAS = (0.0, 0.9)
"""Of Adam (ibid.)."""


class Shown(NamedTuple):
    """Crystals with their frames."""

    content: Content
    frame: Frame

    def rows(self, index: np.ndarray | Tensor) -> Shown:
        """Take some rows."""
        return Shown(self.content.rows(index), self.frame.rows(index))


@dataclass
class _Standing:
    """What a run carries from epoch to epoch."""

    distance: list[Epoch] = field(default_factory=list)
    penalty: list[Epoch] = field(default_factory=list)
    seconds: float = 0.0


class _Optimizers(NamedTuple):
    critic: torch.optim.Optimizer
    generator: torch.optim.Optimizer


def train_adversarial(
    network: GanNetwork,
    training: Shown,
    held_out: Shown,
    recipe: Recipe,
    *,
    folder: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> dict[str, Curves]:
    """Train generator and critic in place.

    Parameters
    ----------
    network : GanNetwork
    training, held_out : Shown
    recipe : Recipe
        ``patience`` and ``clip`` have no meaning here: neither loss ends a training.
    folder : pathlib.Path, optional
        Keeps the standing after every epoch; a run that finds one goes on from it.
    on_epoch : callable, optional
        Told the estimate of the Wasserstein distance, in training and held out.

    Returns
    -------
    dict of str to Curves
        ``wasserstein``: mean score of real less that of made crystals; ``penalty``: the gradient penalty.

    Raises
    ------
    ValueError
        If a part is empty, or the folder holds another training.
    """
    n = len(training.frame.group)
    if not n or not len(held_out.frame.group):
        raise ValueError("there is nothing to train on or nothing to hold out: a part of the data is empty")
    options: dict[str, Any] = {"lr": recipe.learning_rate, "betas": BETAS}
    optimizers = _Optimizers(
        torch.optim.Adam(network.critic.parameters(), **options),
        torch.optim.Adam(network.generator.parameters(), **options),
    )
    standing = _Standing()
    mark = _mark(network, recipe, n)
    if folder is not None and (folder / "training.json").exists():
        standing = _resume(folder, network, optimizers, mark)
    ending: Ending = "finished"
    for number in range(len(standing.distance) + 1, recipe.epochs + 1):
        begin = time.perf_counter()
        good = copy.deepcopy(network.state_dict())
        torch.manual_seed(recipe.seed * 100_003 + number)
        order = np.random.default_rng([recipe.seed, number]).permutation(n)
        network.train()
        distance, penalty = _epoch(network, training, order, optimizers, recipe, number)
        network.eval()
        estimate = estimates(network, held_out) if math.isfinite(distance + penalty) else (math.nan, math.nan)
        if not all(math.isfinite(x) for x in estimate):
            network.load_state_dict(good)
            ending = "diverged"
            break
        seconds = time.perf_counter() - begin
        standing.seconds += seconds
        rounded = (round(seconds, 2), recipe.batch_size)
        standing.distance.append(Epoch(number, round(distance, 6), round(estimate[0], 6), *rounded))
        standing.penalty.append(Epoch(number, round(penalty, 6), round(estimate[1], 6), *rounded))
        if folder is not None:
            _keep(folder, network, optimizers, standing, mark)
        if on_epoch is not None:
            on_epoch(standing.distance[-1])
    network.eval()
    last = len(standing.distance)
    return {
        "wasserstein": Curves(tuple(standing.distance), last, ending, standing.seconds),
        "penalty": Curves(tuple(standing.penalty), last, ending, 0.0),
    }


def _epoch(
    network: GanNetwork, data: Shown, order: np.ndarray, optimizers: _Optimizers, recipe: Recipe, number: int
) -> tuple[float, float]:
    """One pass: gives the means of distance and penalty, NaN as soon as a step is not finite."""
    sums, places = [], range(0, len(order), recipe.batch_size)
    for step, place in enumerate(places):
        decay = max(0.02, 1 - (number - 1 + step / len(places)) / recipe.epochs)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * decay
        rows = data.rows(order[place : place + recipe.batch_size])
        frame = drop_targets(rows.frame)
        distance, penalty = _losses(network, Shown(rows.content, frame))
        loss = PENALTY * penalty - distance
        if not torch.isfinite(loss):
            return math.nan, math.nan
        optimizers.critic.zero_grad()
        loss.backward()
        optimizers.critic.step()
        sums.append((float(distance.detach()), float(penalty.detach()), len(frame.group)))
        if ((number - 1) * len(places) + step + 1) % N_CRITIC == 0:
            made = network.make(torch.randn(len(frame.group), LATENT), frame)
            value = -network.criticise(made, frame).mean()
            if not torch.isfinite(value):
                return math.nan, math.nan
            optimizers.generator.zero_grad()
            value.backward()
            optimizers.generator.step()
    n = sum(size for *_, size in sums)
    return sum(d * size for d, _, size in sums) / n, sum(p * size for _, p, size in sums) / n


def _losses(network: GanNetwork, shown: Shown) -> tuple[Tensor, Tensor]:
    """Estimate of the Wasserstein distance, and the penalty, for one batch."""
    n = len(shown.frame.group)
    real = network.vector(shown.content, shown.frame)
    with torch.no_grad():
        made = network.make(torch.randn(n, LATENT), shown.frame)

    def critic(x: Tensor) -> Tensor:
        return network.criticise(x, shown.frame)

    distance = critic(real).mean() - critic(made).mean()
    return distance, gradient_penalty(critic, real, made, torch.rand(n, 1))


def estimates(network: GanNetwork, shown: Shown) -> tuple[float, float]:
    """Estimate of the Wasserstein distance, and the penalty, the same for the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        distance, penalty = _losses(network, shown)
    return float(distance.detach()), float(penalty.detach())


def _mark(network: GanNetwork, recipe: Recipe, n: int) -> str:
    """Name a training by its recipe, rows and shapes: another one must not be resumed by mistake."""
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    return hashlib.sha256(json.dumps([asdict(recipe), n, shapes], sort_keys=True).encode()).hexdigest()


def _keep(folder: Path, network: GanNetwork, optimizers: _Optimizers, standing: _Standing, mark: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"now.{k}": v.detach().contiguous() for k, v in network.state_dict().items()}
    for name, optimizer in optimizers._asdict().items():
        for i, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{i}.{k}": torch.as_tensor(v).detach().clone() for k, v in moments.items()}
    data = safetensors.torch.save(tensors)
    # the tensors have a name of their own epoch until the JSON names them: a kill leaves the pair before
    target = folder / f"training-{len(standing.distance)}.safetensors"
    target.write_bytes(data)
    document = {
        "mark": mark,
        "distance": [list(e) for e in standing.distance],
        "penalty": [list(e) for e in standing.penalty],
        "seconds": standing.seconds,
        "sha256": hashlib.sha256(data).hexdigest(),
        "tensors": target.name,
    }
    part = folder / "training.json.part"
    part.write_text(json.dumps(document))
    part.replace(folder / "training.json")
    for other in folder.glob("training-*.safetensors"):
        if other.name != target.name:
            other.unlink()


def _resume(folder: Path, network: GanNetwork, optimizers: _Optimizers, mark: str) -> _Standing:
    stored = json.loads((folder / "training.json").read_text())
    if stored["mark"] != mark:
        raise ValueError(f"{folder} holds another training (recipe, data or model differ); choose another folder")
    data = (folder / stored["tensors"]).read_bytes()
    if hashlib.sha256(data).hexdigest() != stored["sha256"]:
        raise ValueError(f"{folder / stored['tensors']} is damaged; remove {folder} to start over")
    tensors = safetensors.torch.load(data)
    network.load_state_dict({k.removeprefix("now."): v for k, v in tensors.items() if k.startswith("now.")})
    for name, optimizer in optimizers._asdict().items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"{name}."):
                _, i, moment = key.split(".", 2)
                state.setdefault(int(i), {})[moment] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return _Standing(
        [Epoch(*e) for e in stored["distance"]], [Epoch(*e) for e in stored["penalty"]], float(stored["seconds"])
    )
