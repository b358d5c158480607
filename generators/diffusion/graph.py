"""Crystals of different sizes in flat tensors: atoms one after another, and all pairs within each cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from generators.crystals.lattices import niggli_reduced
from generators.diffusion.lattices import log_metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure
    from torch import Tensor


@dataclass(frozen=True)
class Graph:
    """Which atoms belong together.

    Parameters
    ----------
    counts : Tensor, shape (b,)
        Atoms of each crystal.
    crystal : Tensor, shape (n,)
        Crystal of each atom.
    receivers, senders : Tensor, shape (e,)
        Atoms of each ordered pair within a crystal, an atom with itself included: ``e`` is the sum of ``counts²``.
    """

    counts: Tensor
    crystal: Tensor
    receivers: Tensor
    senders: Tensor

    @classmethod
    def of(cls, counts: Tensor) -> Graph:
        """Join all atoms of each crystal with one another."""
        starts = counts.cumsum(0) - counts
        crystal = torch.repeat_interleave(torch.arange(len(counts)), counts)
        degree = counts[crystal]
        receivers = torch.repeat_interleave(torch.arange(len(crystal)), degree)
        first = degree.cumsum(0) - degree
        senders = starts[crystal][receivers] + torch.arange(len(receivers)) - first[receivers]
        return cls(counts, crystal, receivers, senders)

    def crystal_mean(self, values: Tensor) -> Tensor:
        """Average over the atoms of each crystal, (n, ...) to (b, ...)."""
        sums = values.new_zeros((len(self.counts), *values.shape[1:])).index_add_(0, self.crystal, values)
        return sums / self.counts.to(values.dtype).reshape(-1, *[1] * (values.dim() - 1))

    def atom_mean(self, values: Tensor) -> Tensor:
        """Average over the partners of each atom, (e, ...) to (n, ...)."""
        sums = values.new_zeros((len(self.crystal), *values.shape[1:])).index_add_(0, self.receivers, values)
        return sums / self.counts[self.crystal].to(values.dtype).reshape(-1, *[1] * (values.dim() - 1))

    def centred(self, values: Tensor) -> Tensor:
        """Take each crystal's mean away: what is left can't move a crystal as a whole."""
        return values - self.crystal_mean(values)[self.crystal]


@dataclass(frozen=True)
class Crystals:
    """Crystals as tensors, one after another.

    Parameters
    ----------
    counts : Tensor, shape (b,)
    species : Tensor, shape (n,)
        Atomic numbers.
    frac : Tensor, shape (n, 3)
        Fractional coordinates in the Niggli-reduced cell.
    logarithm : Tensor, shape (b, 6)
        ``½ ln G`` of that cell (:mod:`generators.diffusion.lattices`).
    properties : Tensor, shape (b, p)
        Standardised, NaN where unknown.
    """

    counts: Tensor
    species: Tensor
    frac: Tensor
    logarithm: Tensor
    properties: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    @classmethod
    def of(cls, structures: Iterable[Structure], properties: Sequence[Sequence[float]]) -> Crystals:
        """Reduce structures and lay them out; ``properties`` are standardised, NaN where unknown.

        Raises
        ------
        ValueError
            If a cell can't be reduced.
        """
        counts: list[int] = []
        species: list[int] = []
        fracs, reduced = [], []
        for number, structure in enumerate(structures):
            matrix = np.asarray(structure.lattice.matrix, dtype=float)
            cell = niggli_reduced(matrix)
            if cell is None:
                raise ValueError(
                    f"crystal {number + 1} ({structure.composition.reduced_formula}): its cell can't be reduced, "
                    "it is too flat or too long"
                )
            counts.append(len(structure))
            species.extend(int(site.specie.Z) for site in structure)
            fracs.append((np.asarray(structure.frac_coords) @ matrix @ np.linalg.inv(cell)) % 1.0)
            reduced.append(cell)
        if not counts:
            raise ValueError("there are no crystals")
        return cls(
            torch.tensor(counts),
            torch.tensor(species),
            torch.tensor(np.concatenate(fracs), dtype=torch.float32),
            log_metric(torch.tensor(np.array(reduced))).float(),
            torch.tensor(properties, dtype=torch.float32).reshape(len(counts), -1),
        )

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Crystals:
        """Pick crystals, in the order of ``rows``."""
        chosen = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        starts, counts = self.counts.cumsum(0) - self.counts, self.counts[chosen]
        first = counts.cumsum(0) - counts
        atoms = torch.repeat_interleave(starts[chosen] - first, counts) + torch.arange(int(counts.sum()))
        return Crystals(counts, self.species[atoms], self.frac[atoms], self.logarithm[chosen], self.properties[chosen])

    def as_tensors(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors by name, for a checkpoint."""
        return {
            f"{prefix}.counts": self.counts,
            f"{prefix}.species": self.species,
            f"{prefix}.frac": self.frac,
            f"{prefix}.logarithm": self.logarithm,
            f"{prefix}.properties": self.properties,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], prefix: str) -> Crystals:
        """Read what :meth:`as_tensors` gave."""
        names = ("counts", "species", "frac", "logarithm", "properties")
        return cls(*(tensors[f"{prefix}.{name}"] for name in names))
