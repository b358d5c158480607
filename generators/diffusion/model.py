"""What a trained diffusion model is: a network, the scales around it, and a few crystals to rehearse."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import torch

from generators import checkpoint
from generators.abilities import Abilities
from generators.diffusion.conditions import Compositions, PropertyScale
from generators.diffusion.graph import Crystals
from generators.diffusion.network import Network, Shape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

NAME = "diffusion"
FORMAT = 1


@dataclass(frozen=True)
class Model:
    """A trained model; nothing in it is changed once it is made.

    Parameters
    ----------
    network : Network
    scales : tuple of PropertyScale
        Of the properties it conditions on, in the network's order.
    elements : tuple of str
        That the training part held.
    compositions : Compositions
    replay, held : Crystals
        Rows of training and validation part, which updates rehearse and are judged by.
    card : dict
        Data set, sizes, recipe and curves.
    updates : int
        Rounds of verdicts it has seen.
    last_update : dict
        What became of the last of them; empty before.
    """

    network: Network
    scales: tuple[PropertyScale, ...]
    elements: tuple[str, ...]
    compositions: Compositions
    replay: Crystals
    held: Crystals
    card: dict[str, Any] = field(default_factory=dict)
    updates: int = 0
    last_update: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Eight characters that name the weights."""
        sha = hashlib.sha256()
        for key, value in sorted(self.network.state_dict().items()):
            sha.update(key.encode())
            sha.update(value.detach().contiguous().numpy().tobytes())
        return sha.hexdigest()[:8]

    @property
    def abilities(self) -> Abilities:
        """What it was shown."""
        ranges = {scale.name: (scale.low, scale.high) for scale in self.scales}
        return Abilities(self.elements, tuple(ranges), ranges, self.compositions.max_atoms)

    def standardised(self, properties: Mapping[str, float]) -> list[float]:
        """Standardise the properties it knows, NaN for those not given."""
        return [scale.standardised(properties.get(scale.name)) for scale in self.scales]

    def save(self, directory: Path, options: Mapping[str, Any]) -> None:
        """Write ``generator.json`` and ``weights.safetensors``."""
        state = {
            **self.abilities.as_dict(),
            "options": dict(options),
            "shape": asdict(self.network.shape),
            "scales": [asdict(scale) for scale in self.scales],
            "cells": dict(self.compositions.cells),
            "card": self.card,
            "updates": self.updates,
            "last_update": self.last_update,
        }
        tensors: dict[str, Tensor] = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= self.replay.as_tensors("replay") | self.held.as_tensors("held")
        checkpoint.write(directory, NAME, FORMAT, state, tensors)

    @classmethod
    def load(cls, directory: Path) -> tuple[Self, dict[str, Any]]:
        """Read what :meth:`save` wrote; gives the options too.

        Raises
        ------
        generators.checkpoint.CheckpointError
            If it is damaged, of another generator, or of another format.
        """
        state, tensors = checkpoint.read(directory, NAME, FORMAT, gaps=("replay.properties", "held.properties"))
        with checkpoint.fitting(directory, NAME):
            network = make_network(Shape(**state["shape"]), 0)
            network.load_state_dict(
                {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
            )
            model = cls(
                network=network.eval().requires_grad_(requires_grad=False),
                scales=tuple(PropertyScale(**scale) for scale in state["scales"]),
                elements=tuple(state["elements"]),
                compositions=Compositions(state["cells"]),
                replay=Crystals.from_tensors(tensors, "replay"),
                held=Crystals.from_tensors(tensors, "held"),
                card=state["card"],
                updates=int(state["updates"]),
                last_update=state["last_update"],
            )
            options = dict(state["options"])
        return model, options


def make_network(shape: Shape, seed: int) -> Network:
    """Make a network with random weights, and leave torch's own random numbers as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(shape)
