"""Small generators for tests: one that gives a list of crystals, and a real linear model with a latent space."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pymatgen.core import Lattice, Structure

from generators.base import FitReport, Sample, derive_seed
from generators.data.dataset import Dataset
from generators.learning import Epoch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from generators.base import Condition, Labelled


class Listed:
    """Gives crystals of a list, counting how many it was asked for."""

    version = "1"
    conditions_on: frozenset[str] = frozenset()

    def __init__(self, structures: list[Structure], name: str = "listed", refuses: str | None = None) -> None:
        self.structures, self.name, self.refuses = structures, name, refuses
        self.given = 0

    def fit(self, dataset: Iterable[Structure], **options: Any) -> FitReport:
        del dataset, options
        return FitReport(self.name, 0, 0.0)

    def sample(self, n: int, condition: Condition, seed: int, start: int = 0) -> Iterator[Sample]:
        del condition
        if self.refuses:
            raise ValueError(self.refuses)
        for index in range(start, min(n, len(self.structures))):
            self.given += 1
            yield Sample(index, self.structures[index], derive_seed(seed, index), self.name, self.version)

    def update(self, labelled: Iterable[Labelled]) -> Self:
        del labelled
        return self

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        state = {"name": self.name, "structures": [s.as_dict() for s in self.structures]}
        (directory / "generator.json").write_text(json.dumps(state))

    @classmethod
    def load(cls, directory: Path) -> Self:
        state = json.loads((directory / "generator.json").read_text())
        return cls([Structure.from_dict(s) for s in state["structures"]], state["name"])


class Linear:
    """A linear autoencoder of cells: what it encodes are edges (log) of crystals, by principal components.

    It decodes to the training crystal that is nearest in the latent space, with the decoded edges.
    """

    name = "linear"
    conditions_on: frozenset[str] = frozenset()

    def __init__(self, checkpoint: str | None = None) -> None:
        del checkpoint
        raise ValueError("linear: no weights ship; train it first")

    @classmethod
    def blank(cls) -> Self:
        made = cls.__new__(cls)
        made.mean, made.axes, made.templates = np.zeros(3), np.eye(3), []
        made.training = {}
        return made

    @property
    def version(self) -> str:
        return f"1+{len(self.templates)}"

    def fit(
        self,
        dataset: Iterable[Structure],
        *,
        epochs: int = 5,
        seed: int = 0,
        split_by: str = "prototype",
        properties: tuple[str, ...] = (),
        folder: Path | None = None,
        on_epoch: Any = None,
    ) -> FitReport:
        del seed, split_by, properties, folder
        self.templates = list(Dataset.of(dataset))
        edges = np.array([np.log(s.lattice.abc) for s in self.templates])
        self.mean = edges.mean(axis=0)
        # Subspace iteration, an epoch a step: a real, if small, training.
        axes = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0][:, :2]
        history = []
        centered = edges - self.mean
        for number in range(1, epochs + 1):
            axes = np.linalg.qr(centered.T @ (centered @ axes))[0]
            loss = float(((centered - centered @ axes @ axes.T) ** 2).mean())
            history.append([number, loss, loss, 0.01, len(edges)])
            if on_epoch is not None:
                on_epoch(Epoch(number, loss, loss, 0.01, len(edges)))
        self.axes = axes
        self.training = {"epochs": history, "best": epochs, "ending": "finished", "seconds": 0.01 * epochs}
        return FitReport(self.name, len(edges), 0.01 * epochs)

    def latent(self, structures: list[Structure]) -> np.ndarray:
        return (np.array([np.log(s.lattice.abc) for s in structures]) - self.mean) @ self.axes

    def decode_latent(self, vectors: np.ndarray, condition: Condition, seed: int) -> list[Structure]:
        del condition, seed
        known = self.latent(self.templates)
        decoded = []
        for vector in np.asarray(vectors):
            nearest = self.templates[int(((known - vector) ** 2).sum(axis=1).argmin())]
            edges = np.exp(vector @ self.axes.T + self.mean)
            lattice = Lattice.from_parameters(*edges, *nearest.lattice.angles)
            decoded.append(Structure(lattice, nearest.species, nearest.frac_coords))
        return decoded

    def sample(self, n: int, condition: Condition, seed: int, start: int = 0) -> Iterator[Sample]:
        for index in range(start, n):
            rng = np.random.default_rng(derive_seed(seed, index))
            vector = self.latent([self.templates[index % len(self.templates)]]) + rng.normal(0, 0.01, (1, 2))
            structure = self.decode_latent(vector, condition, seed)[0]
            yield Sample(index, structure, derive_seed(seed, index), self.name, self.version)

    def update(self, labelled: Iterable[Labelled]) -> Self:
        del labelled
        return self

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        state = {
            "name": self.name,
            "mean": self.mean.tolist(),
            "axes": self.axes.tolist(),
            "templates": [s.as_dict() for s in self.templates],
            "training": self.training,
        }
        (directory / "generator.json").write_text(json.dumps(state))

    @classmethod
    def load(cls, directory: Path) -> Self:
        state = json.loads((directory / "generator.json").read_text())
        made = cls.blank()
        made.mean, made.axes = np.array(state["mean"]), np.array(state["axes"])
        made.templates = [Structure.from_dict(s) for s in state["templates"]]
        made.training = state["training"]
        return made
