"""From chosen rows to crystals: geometries are drawn, what is no crystal is left out, the best forecast is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from generators.base import derive_seed
from generators.crystals.validity import check_structure
from generators.symmetric.arena import judge
from generators.symmetric.drawing import COOL, bare_description, densities_of, draw_rows
from generators.symmetric.tables import conventional_volume
from generators.symmetric.wyckoff import build
from generators.volume import crowding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from generators.symmetric.assignments import Row
    from generators.symmetric.model import Model

DRAWS = 10
"""Geometries drawn of a chosen row; of those that are valid the one with the lowest forecast energy is proposed."""
PATIENCE = 4
"""Times as many are drawn while a row has no valid one."""


def realise(model: Model, rows: Sequence[Row], seeds: Sequence[int]) -> list[Structure]:
    """Draw geometries of rows and keep of each the valid one with the lowest forecast energy.

    A row of which none is valid gives the least crowded one; one of which none is even a cell, a cell of right angles.
    """
    densities = densities_of(model.geometry, rows)
    best: list[tuple[tuple[int, float], Structure | None]] = [((9, np.inf), None)] * len(rows)
    column = model.energy_column
    for turn in range(PATIENCE * DRAWS):
        if turn >= DRAWS and all(rank[0] == 0 for rank, _ in best):
            break
        rngs = [np.random.default_rng(derive_seed(s, turn)) for s in seeds]
        drawn, outlook = judge(model, rows, draw_rows(densities, rows, rngs, temperature=1.0 if turn else COOL))
        for k, (description, atoms) in enumerate(zip(drawn.descriptions, drawn.atoms, strict=True)):
            if atoms is None:
                continue
            energy = float(outlook.mean[k, column]) if column is not None else 0.0
            if best[k][0] <= (0, energy):
                continue
            structure = build(description)
            rank = (0, energy) if not check_structure(structure) else (1, crowding(structure))
            if rank < best[k][0]:
                best[k] = (rank, structure)
    return [
        _upright(row, seed) if structure is None else structure
        for (_, structure), row, seed in zip(best, rows, seeds, strict=True)
    ]


def _upright(row: Row, seed: int) -> Structure:
    """Make a crystal of a row whose drawn cells all had impossible angles: right angles, equal edges."""
    rng = np.random.default_rng(derive_seed(seed, "upright"))
    bare = bare_description(row)
    orbits = tuple(o._replace(free=tuple(float(x) for x in rng.random(len(o.free)))) for o in bare.orbits)
    return build(replace(bare, orbits=orbits, volume=conventional_volume(bare)))
