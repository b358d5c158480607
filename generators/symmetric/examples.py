"""What forecasts are trained on: crystals as proposals show them, with what their relaxation found.

Half of the copies are the relaxed crystal, disturbed; half are drawn by the geometry network for the crystal's row, as
a proposal would be, wrong in the ways that proposals are wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from generators.base import derive_seed
from generators.symmetric.assignments import row_of
from generators.symmetric.drawing import COOL, Drawn, densities_of, draw_rows, numbers_of
from generators.symmetric.forecast import EXPANSION_SCALE, LOGARITHMIC, Packed, Scale, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from generators.data.dataset import Entry
    from generators.symmetric.geometry import GeometryNetwork
    from generators.symmetric.wyckoff import Description

    Floats = NDArray[np.float64]
    Seen = tuple[NDArray[np.int64], Floats, Floats]
    """Atomic numbers (m,), lattice (3, 3) in Å, fractional coordinates (m, 3)."""

STRAIN, RATTLE = 0.12, 0.02
"""Standard deviations of the disturbance: ln of the volume, and fractions of the cell."""
LEARNED_EXPANSION = 0.8
"""Changes of ln V beyond it are learned as this."""


@dataclass(frozen=True)
class Examples:
    """Crystals as seen, with standardised properties and expansion, NaN where there is none.

    Parameters
    ----------
    packed : Packed
        Look by look, each of all crystals.
    targets : Tensor, shape (looks · n, properties + 1)
    looks : int
    """

    packed: Packed
    targets: Tensor
    looks: int


@dataclass(frozen=True)
class Looker:
    """Makes copies of crystals; the same copies for the same seed.

    Parameters
    ----------
    geometry : GeometryNetwork
    properties : tuple of str
    scale : Scale
        Of the properties.
    seed : int
    """

    geometry: GeometryNetwork
    properties: tuple[str, ...]
    scale: Scale
    seed: int

    def examples(self, rows: Sequence[tuple[Entry, Description]], disturbed: int, drawn: int) -> Examples:
        """Copy each crystal so many times: disturbed, and drawn."""
        seen: list[Seen] = []
        targets: list[list[float]] = []
        undrawn: list[Seen | None] = [None] * len(rows)
        looks = [undrawn] * disturbed + [_seen(one, rows) for one in self.drawn(rows, drawn)]
        for look, copies in enumerate(looks):
            for (entry, _), copy in zip(rows, copies, strict=True):
                # a row whose drawn cell makes no sense is shown disturbed once more
                one = self._disturbed(entry, look, rattled=look > 0 or disturbed == 1) if copy is None else copy
                seen.append(one)
                targets.append([*self._properties(entry), _expansion(entry, one)])
        packed = pack([z for z, _, _ in seen], [cell for _, cell, _ in seen], [places for _, _, places in seen])
        return Examples(packed, torch.tensor(targets, dtype=torch.float32), disturbed + drawn)

    def drawn(self, rows: Sequence[tuple[Entry, Description]], turns: int) -> list[Drawn]:
        """Draw geometries for the row of each crystal, so many times, first near the middle."""
        bare = [row_of(description) for _, description in rows]
        densities = densities_of(self.geometry, bare)
        made = []
        for turn in range(turns):
            rngs = [np.random.default_rng(derive_seed(self.seed, "drawn", turn, entry.label)) for entry, _ in rows]
            made.append(draw_rows(densities, bare, rngs, COOL if turn == 0 else 1.0))
        return made

    def _disturbed(self, entry: Entry, look: int, *, rattled: bool) -> Seen:
        rng = np.random.default_rng(derive_seed(self.seed, "disturbed", look, entry.label))
        structure = entry.structure
        matrix = structure.lattice.matrix * math.exp(STRAIN * rng.standard_normal() / 3)
        places = structure.frac_coords + RATTLE * rng.standard_normal((len(structure), 3)) * rattled
        return np.array([site.specie.Z for site in structure]), matrix, places

    def _properties(self, entry: Entry) -> list[float]:
        return [
            (scaled(name, entry.properties.get(name, math.nan)) - centre) / spread
            for name, centre, spread in zip(self.properties, self.scale.centre, self.scale.spread, strict=True)
        ]


def scaled(name: str, value: float) -> float:
    """Give a property as it is forecast: logarithms of positive ones that scatter by factors."""
    return math.log(max(value, 1e-3)) if name in LOGARITHMIC and math.isfinite(value) else value


def _seen(drawn: Drawn, rows: Sequence[tuple[Entry, Description]]) -> list[Seen | None]:
    return [
        None if atoms is None else (numbers_of(row_of(description), atoms), atoms.lattice, atoms.places)
        for atoms, (_, description) in zip(drawn.atoms, rows, strict=True)
    ]


def _expansion(entry: Entry, seen: Seen) -> float:
    numbers, lattice, _ = seen
    relaxed = entry.structure.volume / len(entry.structure)
    change = math.log(relaxed * len(numbers) / abs(float(np.linalg.det(lattice))))
    return min(LEARNED_EXPANSION, max(-LEARNED_EXPANSION, change)) / EXPANSION_SCALE
