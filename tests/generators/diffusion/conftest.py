"""A tiny data set, and a tiny network fitted to it once a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from generators.data.dataset import Dataset, Entry
from generators.diffusion import Diffusion
from generators.diffusion.graph import Crystals
from generators.diffusion.model import make_network
from generators.diffusion.network import Network, Shape

if TYPE_CHECKING:
    from pathlib import Path

SALTS = {"Na": 2.0, "Mg": 1.5, "K": 2.7, "Ca": 2.0, "Li": 1.4}
ANIONS = {"Cl": 3.6, "O": 2.8, "F": 2.6, "S": 3.5}


def rocksalt(cation: str, anion: str) -> Structure:
    edge = SALTS[cation] + ANIONS[anion]
    cell = Lattice(edge * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]))
    return Structure(cell, [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def fluorite(cation: str, anion: str) -> Structure:
    edge = 1.1 * (SALTS[cation] + ANIONS[anion])
    cell = Lattice(edge * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]))
    return Structure(cell, [cation, anion, anion], [[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]])


@pytest.fixture(scope="session")
def salts() -> Dataset:
    """Rock salts, fluorites and caesium chlorides with made-up properties, each its own relative."""
    entries = []
    for i, cation in enumerate(SALTS):
        for j, anion in enumerate(ANIONS):
            for kind, structure in (("rs", rocksalt(cation, anion)), ("fl", fluorite(cation, anion))):
                properties = {"formation_energy": -1.0 - 0.1 * i - 0.2 * j, "bulk_modulus": 20.0 + 10 * i + 15 * j}
                entries.append(
                    Entry(f"{kind}-{cation}{anion}", structure, f"{kind}-{cation}{anion}", properties=properties)
                )
    return Dataset("salts", tuple(entries))


@pytest.fixture(scope="session")
def fitted(salts: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny trained model (10 steps a sample)."""
    generator = Diffusion(steps=10, tries=2)
    generator.fit(salts, epochs=30, batch_size=16, learning_rate=3e-3, width=32, layers=2)
    folder = tmp_path_factory.mktemp("diffusion")
    generator.save(folder)
    return folder


@pytest.fixture
def tiny() -> Network:
    """A random network whose output is of order one and depends on all its inputs."""
    return make_network(Shape(width=24, layers=2, properties=2), 3).requires_grad_(requires_grad=False)


@pytest.fixture
def some() -> Crystals:
    """Three random crystals of 1, 4 and 6 atoms, properties partly unknown."""
    rng = np.random.default_rng(5)
    counts = torch.tensor([1, 4, 6])
    return Crystals(
        counts,
        torch.tensor(rng.integers(1, 60, 11)),
        torch.tensor(rng.random((11, 3)), dtype=torch.float32),
        torch.tensor(rng.normal([1.4, 1.4, 1.4, 0, 0, 0], 0.15, (3, 6)), dtype=torch.float32),
        torch.tensor([[0.5, torch.nan], [torch.nan, torch.nan], [-1.0, 2.0]]),
    )
