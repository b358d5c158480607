"""The table to choose from: for one condition, decorated skeletons with what the networks forecast of each.

Rows are drawn from every skeleton that fits, seen ones and ones never seen. A first geometry of each is judged by the
forecast networks; the forecast energies of all rows together with the training set's make a hull of their own, which
gives every row a forecast distance to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.special import logsumexp

from generators.base import derive_seed
from generators.compositions import asked
from generators.symmetric.assignments import Row, assignments
from generators.symmetric.drawing import COOL, Drawn, densities_of, draw_rows, numbers_of
from generators.symmetric.forecast import pack
from generators.symmetric.species import log_probability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from generators.base import Condition
    from generators.symmetric.forecast import Forecast
    from generators.symmetric.model import Model
    from generators.symmetric.skeletons import Skeleton
    from generators.symmetric.wyckoff import Atoms

    Floats = NDArray[np.float64]

SEEN_ROWS, UNSEEN_ROWS = 3000, 800
"""Rows of an arena, from skeletons of the training set and from new ones."""
FEW = 60
"""Most rows of one skeleton to begin with; where few skeletons fit, each may have more."""
SETTLED_EXPANSION = 0.5
"""Most that a drawn volume is changed by a forecast, in ln V."""
PESSIMISM = 0.5
"""Standard deviations by which forecast competitors are taken to be less stable than forecast: the lowest of many noisy
numbers is too low."""


@dataclass(frozen=True)
class Arena:
    """The table of one condition.

    Parameters
    ----------
    rows : tuple of Row
    prior : ndarray, shape (n,)
        Log probability of each row's skeleton, shared by its rows: evenly, or, where no energy is forecast or none is
        wanted, by what elements training has on their sites.
    unseen : ndarray of bool, shape (n,)
        Whether the skeleton is in no training crystal.
    known : ndarray of bool, shape (n,)
        Whether the row is a training crystal.
    outlook : Forecast
        NaN where no geometry made sense.
    above_hull : ndarray, shape (n,)
        Forecast energy above the hull of forecasts, eV/atom; NaN without an energy.
    hull : Hull
    """

    rows: tuple[Row, ...]
    prior: Floats
    unseen: NDArray[np.bool_]
    known: NDArray[np.bool_]
    outlook: Forecast
    above_hull: Floats
    hull: Hull

    @cached_property
    def position(self) -> dict[str, int]:
        """Index of each row by its key."""
        return {row.key: i for i, row in enumerate(self.rows)}

    @cached_property
    def composition(self) -> NDArray[np.int64]:
        """Number of each row's composition."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(row.formula, len(numbers)) for row in self.rows], dtype=np.int64)


def make_arena(model: Model, condition: Condition) -> Arena:
    """Enumerate, draw, forecast; the same condition gives the same arena.

    Raises
    ------
    ValueError
        If no row meets the condition.
    """
    pools = []
    for unseen, skeletons, total in (
        (False, model.seen_skeletons(condition.max_atoms), SEEN_ROWS),
        (True, model.new_skeletons(condition.max_atoms), UNSEEN_ROWS),
    ):
        pools.append(_fill(model, skeletons, condition, total, unseen))
    rows = tuple(row for rows, _, _ in pools for row in rows)
    if not rows:
        raise ValueError(f"symmetric: no crystal of {asked(condition)}")
    prior = np.concatenate([p for _, p, _ in pools])
    unseen_rows = np.concatenate([np.full(len(rows), u) for rows, _, u in pools])
    outlook = look(model, rows)
    hull = Hull.of(model, condition, rows, outlook)
    known = np.array([row.key in model.known_rows for row in rows])
    return Arena(rows, prior, unseen_rows, known, outlook, hull.above(rows, outlook.mean), hull)


def _fill(
    model: Model, skeletons: Sequence[Skeleton], condition: Condition, total: int, unseen: bool
) -> tuple[list[Row], Floats, bool]:
    """Give each skeleton its rows, the likelier ones more, until the table is full or there are no more."""
    species = None if model.energy_column is not None and condition.stable else model.species
    fitting = []
    for skeleton in skeletons:
        rows = assignments(skeleton, condition, limit=total, species=species)
        if rows:
            fitting.append((skeleton, rows))
    limit = FEW
    while limit < total and sum(min(limit, len(rows)) for _, rows in fitting) < total:
        if all(len(rows) <= limit for _, rows in fitting):
            break
        limit = int(limit * 1.5)
    chosen: list[Row] = []
    prior: list[float] = []
    elements = sorted({e for system in condition.chemical_systems for e in system})
    for skeleton, rows in fitting:
        rng = np.random.default_rng(derive_seed("arena", skeleton.key))
        kept = rows if len(rows) <= limit else [rows[i] for i in sorted(rng.choice(len(rows), limit, replace=False))]
        chosen += kept
        share = np.zeros(len(kept)) if species is None else log_probability(species, kept, elements)
        prior += (model.log_skeletons[skeleton] + share - logsumexp(share)).tolist()
    if len(chosen) > total:
        rng = np.random.default_rng(derive_seed("arena", total))
        keep = sorted(rng.choice(len(chosen), total, replace=False))
        chosen, prior = [chosen[i] for i in keep], [prior[i] for i in keep]
    return chosen, np.array(prior), unseen


class Judged(NamedTuple):
    """Drawn geometries at the volumes that are forecast for them, and what is forecast there."""

    drawn: Drawn
    outlook: Forecast


def judge(model: Model, rows: Sequence[Row], drawn: Drawn) -> Judged:
    """Forecast drawn geometries, put them at the volume they are forecast to relax to, and forecast again.

    A cell drawn too small looks stiff and, by chance, stable; at the volume it is expected to have it is what it is.
    """
    first = _forecast(model, rows, drawn.atoms)
    settled = drawn.expanded(np.clip(first.expansion, -SETTLED_EXPANSION, SETTLED_EXPANSION))
    return Judged(settled, _forecast(model, rows, settled.atoms))


def _forecast(model: Model, rows: Sequence[Row], atoms: Sequence[Atoms | None]) -> Forecast:
    """Forecast geometries; NaN where there is none."""
    good = [k for k, a in enumerate(atoms) if a is not None]
    found = model.nothing(len(rows))
    if good:
        there = [(rows[k], a) for k in good if (a := atoms[k]) is not None]
        packed = pack(
            [numbers_of(row, a) for row, a in there],
            [a.lattice for _, a in there],
            [a.places for _, a in there],
        )
        for whole, part in zip(found, model.forecast(packed), strict=True):
            whole[good] = part
    return found


def look(model: Model, rows: Sequence[Row]) -> Forecast:
    """Forecast rows from a first geometry each, the same for the same row."""
    rngs = [np.random.default_rng(derive_seed(0, "look", 0, row.key)) for row in rows]
    return judge(model, rows, draw_rows(densities_of(model.geometry, rows), rows, rngs, COOL)).outlook


@dataclass(frozen=True)
class Hull:
    """Lower convex hull of formation energies: forecast rows, training crystals, elements at zero.

    Parameters
    ----------
    elements : tuple of str
    fractions : ndarray, shape (m, len(elements))
    energies : ndarray, shape (m,)
        eV/atom, the lowest of each composition.
    column : int or None
        Of the energy among the properties.
    """

    elements: tuple[str, ...]
    fractions: Floats
    energies: Floats
    column: int | None

    @classmethod
    def of(cls, model: Model, condition: Condition, rows: Sequence[Row], outlook: Forecast) -> Hull:
        """Gather the lowest energy of every composition."""
        elements = tuple(sorted({e for system in condition.chemical_systems for e in system}))
        column = model.energy_column
        lowest: dict[tuple[float, ...], float] = {
            tuple(float(i == j) for j in range(len(elements))): 0.0 for i in range(len(elements))
        }
        if column is not None:
            inside = set(elements)
            entries = [(a, e) for a, e in model.training_energies if set(a) <= inside]
            pessimistic = outlook.mean[:, column] + PESSIMISM * outlook.std[:, column]
            entries += [(row.amounts, float(e)) for row, e in zip(rows, pessimistic, strict=True) if np.isfinite(e)]
            for amounts, energy in entries:
                key = _fractions(amounts, elements)
                lowest[key] = min(lowest.get(key, np.inf), energy)
        keys = sorted(lowest)
        return cls(elements, np.array(keys), np.array([lowest[k] for k in keys]), column)

    def above(self, rows: Sequence[Row], mean: Floats) -> Floats:
        """Energies above the hull, eV/atom, shape (n,); NaN where there is no energy."""
        if self.column is None:
            return np.full(len(rows), np.nan)
        ground: dict[tuple[float, ...], float] = {}
        found = np.full(len(rows), np.nan)
        for k, row in enumerate(rows):
            if not np.isfinite(mean[k, self.column]):
                continue
            key = _fractions(row.amounts, self.elements)
            if key not in ground:
                ground[key] = self._ground(np.array(key))
            found[k] = mean[k, self.column] - ground[key]
        return found

    def _ground(self, fractions: Floats) -> float:
        """Energy of the hull at a composition: the least over all mixtures (a linear programme)."""
        inside = np.flatnonzero((self.fractions[:, fractions == 0] == 0).all(axis=1))
        there = fractions > 0
        matrix = self.fractions[inside][:, there].T
        solved = linprog(self.energies[inside], A_eq=matrix, b_eq=fractions[there], bounds=(0, None), method="highs")
        return float(solved.fun) if solved.success else 0.0


def _fractions(amounts: Mapping[str, int], elements: Sequence[str]) -> tuple[float, ...]:
    total = sum(amounts.values())
    return tuple(round(amounts.get(e, 0) / total, 6) for e in elements)
