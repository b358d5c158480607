"""Labels of a training set: relax with a force field, then energy, formation energy and bulk modulus.

The bulk modulus is a central difference of the pressure at two volumes around the relaxed one, the cell's shape and the
fractional coordinates kept: an upper bound where atoms could move (clamped ions), and exact where symmetry holds them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Element, Lattice, Structure

from generators.data.library import element_ground_states
from generators.relaxer import DEFAULT_MODEL, evaluate, relax

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FMAX_EV_PER_ANGSTROM = 0.03
MAX_STRESS_GPA = 0.5
MAX_STEPS = 250
BATCH = 16
VOLUME_STRAIN = 0.01
"""Relative change of volume on either side."""
BULK_MODULUS_RANGE_GPA = (0.5, 600.0)
"""Outside it a difference of pressures is no bulk modulus of a crystal at rest; diamond has 440 GPa."""
SIMPLE = (
    ("fcc", Lattice([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]), [[0, 0, 0]]),
    ("bcc", Lattice([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]), [[0, 0, 0]]),
    ("hcp", Lattice.hexagonal(0.707, 1.155), [[1 / 3, 2 / 3, 1 / 4], [2 / 3, 1 / 3, 3 / 4]]),
)
"""Structures that stand for an element whose ground state does not ship: its lowest is taken."""


@dataclass(frozen=True)
class Label:
    """What relaxing one proposal gave.

    Parameters
    ----------
    label : str
    structure : dict or None
        ``Structure.as_dict()`` of the relaxed crystal; ``None`` with an error.
    energy_ev_per_atom : float or None
    bulk_modulus_gpa : float or None
    converged : bool
    volume_change : float or None
    error : str or None
    """

    label: str
    structure: dict[str, Any] | None
    energy_ev_per_atom: float | None
    bulk_modulus_gpa: float | None
    converged: bool
    volume_change: float | None
    error: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-compatible form."""
        return asdict(self)


def label_all(
    labels: Sequence[str],
    structures: Sequence[Structure],
    *,
    model: str = DEFAULT_MODEL,
    max_steps: int = MAX_STEPS,
    bulk_moduli: bool = True,
    on_result: Callable[[int], None] | None = None,
) -> list[Label]:
    """Relax and label structures, in the order given.

    Parameters
    ----------
    labels, structures : sequences of equal length
    model : str
        A name in :data:`generators.relaxer.MODELS`.
    max_steps : int
        Of each relaxation; what has not converged by then is labelled all the same, and says so.
    bulk_moduli : bool
    on_result : callable, optional
        Called with the number relaxed so far.
    """
    done = 0

    def count(_index: int, _result: Any) -> None:
        nonlocal done
        done += 1
        if on_result is not None:
            on_result(done)

    relaxed = relax(
        list(structures),
        model=model,
        fmax_ev_per_angstrom=FMAX_EV_PER_ANGSTROM,
        max_stress_gpa=MAX_STRESS_GPA,
        max_steps=max_steps,
        batch_size=BATCH,
        on_result=count,
    )
    moduli: dict[int, float | None] = {}
    if bulk_moduli:
        fit = {r.index: r.structure for r in relaxed if r.structure is not None and r.converged}
        moduli = dict(zip(fit, bulk_moduli_of(list(fit.values()), model), strict=True))
    return [
        Label(
            label=label,
            structure=None if r.structure is None else r.structure.as_dict(),
            energy_ev_per_atom=r.energy_ev_per_atom,
            bulk_modulus_gpa=moduli.get(r.index),
            converged=r.converged,
            volume_change=r.volume_change,
            error=r.error,
        )
        for label, r in zip(labels, relaxed, strict=True)
    ]


def bulk_moduli_of(structures: Sequence[Structure], model: str = DEFAULT_MODEL) -> list[float | None]:
    """Bulk moduli of relaxed crystals in GPa, ions clamped; ``None`` where the difference makes no sense.

    ``K = -V dP/dV`` with ``P = -tr(σ)/3``, by a central difference at ±VOLUME_STRAIN.
    """
    strained = [
        Structure(Lattice(s.lattice.matrix * (1 + sign * VOLUME_STRAIN) ** (1 / 3)), s.species, s.frac_coords)
        for s in structures
        for sign in (-1, 1)
    ]
    points = evaluate(strained, model=model)
    found: list[float | None] = []
    low, high = BULK_MODULUS_RANGE_GPA
    for small, large in zip(points[::2], points[1::2], strict=True):
        if small.evaluation is None or large.evaluation is None:
            found.append(None)
            continue
        tension = [float(np.trace(p.evaluation.stress_gpa)) / 3 for p in (small, large) if p.evaluation is not None]
        value = (tension[1] - tension[0]) / (2 * VOLUME_STRAIN)
        found.append(value if low <= value <= high else None)
    return found


def element_energies(symbols: Sequence[str], model: str = DEFAULT_MODEL) -> dict[str, float]:
    """Energies of the elements in eV/atom, relaxed by the same model: what formation energies are counted from.

    The ground states are those of ASE's ``dcdft``; an element that has none there takes the lowest of fcc, bcc and hcp.
    """
    ground = element_ground_states()
    asked: list[tuple[str, Structure]] = []
    for symbol in symbols:
        if symbol in ground:
            asked.append((symbol, ground[symbol]))
        else:
            volume = float(Element(symbol).molar_volume or 12.0) / 0.602214076  # cm³/mol to Å³
            for _, lattice, places in SIMPLE:
                structure = Structure(lattice, [symbol] * len(places), places)
                structure.scale_lattice(volume * len(places))
                asked.append((symbol, structure))
    relaxed = relax([s for _, s in asked], model=model, fmax_ev_per_angstrom=FMAX_EV_PER_ANGSTROM, max_steps=MAX_STEPS)
    energies: dict[str, float] = {}
    for (symbol, _), result in zip(asked, relaxed, strict=True):
        if result.energy_ev_per_atom is not None:
            energies[symbol] = min(energies.get(symbol, np.inf), result.energy_ev_per_atom)
    return energies


def formation_energy(structure: Structure, energy_ev_per_atom: float, elements: dict[str, float]) -> float | None:
    """Energy of formation from the elements, eV/atom; ``None`` if one of them has no energy."""
    amounts = structure.composition.get_el_amt_dict()
    if any(symbol not in elements for symbol in amounts):
        return None
    total = sum(amounts.values())
    return float(energy_ev_per_atom - sum(elements[symbol] * n for symbol, n in amounts.items()) / total)
