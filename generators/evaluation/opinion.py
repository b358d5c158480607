"""A second force field's opinion on what the first calls stable.

Both models are trained on the Materials Project: where they err together, neither sees it. It is a second opinion, not
an independent one, and only DFT decides.

CHGNet was trained on energies with the Materials Project's corrections (MP2020: about -0.69 eV an oxygen in oxides),
SevenNet-0 on bare ones. Energies of formation therefore differ by a constant for each anion, which says nothing about
either; distances to the hull compare phases of one composition or nearly so, where most of it cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from generators.evaluation.hull import Hull, Phase
from generators.evaluation.statistics import Share, share
from generators.evaluation.store import numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymatgen.core import Structure

    from generators.evaluation.judge import Judged
    from generators.evaluation.store import Store

WINDOW_EV_PER_ATOM = 0.1
"""Competitors within so much of the first model's hull are asked about: others would have to fall by more."""
WARNING = (
    "both models were trained on the Materials Project: a second opinion, not an independent one; energies are taken "
    "at the first model's geometries; CHGNet's carry the Materials Project's corrections, SevenNet-0's do not"
)


@dataclass(frozen=True)
class Second:
    """A model to ask.

    Parameters
    ----------
    name : str
        With its version.
    energies : callable
        Total energies in eV/atom of structures as they are; ``None`` where there is none.
    """

    name: str
    energies: Callable[[list[Structure]], list[float | None]]


@dataclass(frozen=True)
class Opinion:
    """What the second model says of the crystals that the first calls stable.

    Parameters
    ----------
    model : str
    agrees : Share
        Of those: also within the cut, by the second model's energies of crystal and competitors.
    distance_mae_ev_per_atom : float or None
        Mean absolute difference of the distances to the hull, each by the model's own energies.
    correlation : float or None
        Pearson's, of the same; ``None`` for fewer than three.
    competitors : int
        That were asked about.
    note : str
    """

    model: str
    agrees: Share
    distance_mae_ev_per_atom: float | None
    correlation: float | None
    competitors: int
    note: str = WARNING

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-compatible form."""
        return {**vars(self), "agrees": self.agrees._asdict()}


def second_opinion(
    judged: Sequence[Judged], hull: Hull, second: Second, store: Store, cut_ev_per_atom: float
) -> Opinion:
    """Ask a second model about what the first one calls stable.

    Parameters
    ----------
    judged : sequence of Judged
        Of one generator, all seeds.
    hull : Hull
        The first model's.
    second : Second
    store : Store
        Keeps the second model's energies, too.
    cut_ev_per_atom : float
    """
    stable = [(j, j.relaxed) for j in judged if j.relaxed is not None and j.stable(cut_ev_per_atom)]
    systems = sorted({tuple(sorted(e.symbol for e in s.composition.elements)) for _, s in stable})
    phases = {phase.label: phase for system in systems for phase in hull.near(system, WINDOW_EV_PER_ATOM)}
    wanted = [*phases.values()]
    kind = f"second/{second.name}"
    theirs = numbers([p.structure for p in wanted], store, kind, second.energies)
    other = Hull(Phase(p.label, p.structure, e) for p, e in zip(wanted, theirs, strict=True) if e is not None)
    energies = numbers([s for _, s in stable], store, kind, second.energies)
    agreed: list[bool] = []
    pairs: list[tuple[float, float]] = []
    for (j, structure), energy in zip(stable, energies, strict=True):
        if energy is None:
            agreed.append(False)
            continue
        distance = other.above(structure.composition, energy)
        agreed.append(distance is not None and distance <= cut_ev_per_atom)
        if distance is not None and j.above_hull_ev_per_atom is not None:
            pairs.append((j.above_hull_ev_per_atom, distance))
    one, two = np.array(pairs, dtype=float).reshape(-1, 2).T
    varied = len(pairs) >= 3 and one.std() > 0 and two.std() > 0
    seeds = sorted({j.seed for j, _ in stable})
    clusters = [
        (
            sum(yes for yes, (j, _) in zip(agreed, stable, strict=True) if j.seed == seed),
            sum(j.seed == seed for j, _ in stable),
        )
        for seed in seeds
    ]
    return Opinion(
        model=second.name,
        agrees=share(clusters),
        distance_mae_ev_per_atom=float(np.abs(one - two).mean()) if pairs else None,
        correlation=float(np.corrcoef(one, two)[0, 1]) if varied else None,
        competitors=len(wanted),
    )
