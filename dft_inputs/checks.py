"""What can be refused before anything is submitted.

Each check says what is wrong, where, and what would be right; all of them are made, so a user learns everything at
once. Messages name elements and distances, never site numbers: they are the same however the sites are ordered.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from pymatgen.core import DummySpecies, Element, Species

from dft_inputs.causes import DFT_CAUSES, DftError
from dft_inputs.espresso.estimate import estimate
from dft_inputs.espresso.inputs import make_input

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from dft_inputs.espresso.estimate import Estimate
    from dft_inputs.espresso.protocols import PwProtocol
    from dft_inputs.pseudos import Family

VOLUME_PER_ATOM = (1.5, 1000.0)
"""Å³: solid hydrogen at a hundred GPa has 2, a molecule in a generous box a few hundred."""

OVERLAP = 0.5
"""Of the sum of two covalent radii (Cordero et al., Dalton Trans. 2832 (2008)): no bond is that short."""

MAX_SPECIES = 10
"""pw.x 6.7's ``ntypx``."""

MAX_K_POINTS = 40_000
"""pw.x 6.7's ``npk``."""

_ISOTOPES = {"D": "deuterium", "T": "tritium"}


@dataclass(frozen=True, order=True)
class Refusal:
    """Why a crystal can't be computed.

    Parameters
    ----------
    code : int
        A key of :data:`dft_inputs.causes.DFT_CAUSES`.
    message : str
    """

    code: int
    message: str

    def __str__(self) -> str:
        """Give ``[code name] message``."""
        return f"[{self.code} {DFT_CAUSES[self.code].name}] {self.message}"


def check_structure_for_dft(
    structure: Structure,
    protocol: PwProtocol,
    family: Family,
    *,
    memory_gb: float | None = None,
    processes: int = 1,
    pools: int = 1,
) -> list[Refusal]:
    """List everything for which Quantum ESPRESSO could not, or should not, be started with a crystal.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    protocol : PwProtocol
    family : Family
    memory_gb : float, optional
        Of the machine that will run it, in GB of 1e9 bytes. Default: of this machine.
    processes, pools : int
        How it will be run.

    Returns
    -------
    list of Refusal
        Sorted by code; empty if nothing is wrong.
    """
    refusals = check_geometry(structure)
    elements = _elements(structure)
    refusals += _check_elements(elements, structure)
    refusals += _check_pseudopotentials(elements, protocol, family)
    if not refusals:
        refusals += _check_size(structure, protocol, family, memory_gb, processes, pools)
    return sorted(refusals)


def check_geometry(structure: Structure) -> list[Refusal]:
    """List what is no crystal, whichever code is to compute it (301)."""
    if not len(structure):
        return [Refusal(301, "no atoms")]
    matrix, coords = structure.lattice.matrix, structure.frac_coords
    if not (np.isfinite(matrix).all() and np.isfinite(coords).all()):
        return [Refusal(301, "lattice or coordinates hold numbers that are not finite")]
    refusals = []
    partial = sorted({site.species_string for site in structure if not site.is_ordered})
    if partial:
        refusals.append(Refusal(301, f"partial occupancy ({'; '.join(partial)}): give an ordered cell"))
    least, most = VOLUME_PER_ATOM
    volume = abs(float(np.linalg.det(matrix))) / len(structure)
    if not least <= volume <= most:
        refusals.append(
            Refusal(
                301, f"{volume:.3g} Å³/atom is no crystal: {least:g} to {most:g} are taken; check the cell's vectors"
            )
        )
    else:  # in a collapsed cell every atom is on top of its own images
        refusals += _check_distances(structure)
    return refusals


def _check_distances(structure: Structure) -> list[Refusal]:
    symbols = [min(one.symbol for one in site.species) for site in structure]
    radii = np.array([covalent_radii[atomic_numbers.get(symbol, 0)] for symbol in symbols])
    reach = float(2 * OVERLAP * radii.max())
    centres, neighbours, _, distances = structure.get_neighbor_list(reach, exclude_self=True)
    too_close: dict[tuple[str, ...], float] = {}
    for i, j, distance in zip(centres, neighbours, distances, strict=True):
        if distance < OVERLAP * (radii[i] + radii[j]):
            pair = tuple(sorted((symbols[i], symbols[j])))
            too_close[pair] = min(distance, too_close.get(pair, np.inf))
    return [
        Refusal(
            301,
            f"{one} and {other} are {distance:.2f} Å apart: atoms on top of each other "
            f"(closer than {OVERLAP:.0%} of the sum of their covalent radii)",
        )
        for (one, other), distance in sorted(too_close.items())
    ]


def _elements(structure: Structure) -> list[str]:
    """Give the symbols of what pw.x could know: no dummy sites."""
    return sorted({one.symbol for one in structure.composition if isinstance(one, Element | Species)})


def _check_elements(elements: list[str], structure: Structure) -> list[Refusal]:
    # pymatgen gives an isotope the symbol of its element; its enumeration's name tells them apart
    names = {getattr(getattr(one, "element", one), "name", "") for site in structure for one in site.species}
    refusals = [
        Refusal(302, f"{name} ({_ISOTOPES[name]}): electrons do not tell isotopes apart; write it as H")
        for name in sorted(names & set(_ISOTOPES))
    ]
    dummies = {str(one.symbol) for one in structure.composition if isinstance(one, DummySpecies)}
    refusals += [
        Refusal(302, f"{symbol} is a dummy, no element: leave vacancies out, replace placeholders")
        for symbol in sorted(dummies)
    ]
    return refusals if elements or refusals or not len(structure) else [Refusal(302, "no element that pw.x knows")]


def _check_pseudopotentials(elements: list[str], protocol: PwProtocol, family: Family) -> list[Refusal]:
    refusals = []
    if family.functional != protocol.functional:
        refusals.append(
            Refusal(
                207,
                f"family {family.name} is made for {family.functional}, protocol {protocol.name} wants "
                f"{protocol.functional}: choose a family of that functional",
            )
        )
    for element in elements:
        try:
            family.require([element])
            family.cutoffs([element], protocol.cutoff_hint)
        except DftError as error:
            refusals.append(Refusal(error.code, error.evidence))
    return refusals


def _check_size(
    structure: Structure,
    protocol: PwProtocol,
    family: Family,
    memory_gb: float | None,
    processes: int,
    pools: int,
) -> list[Refusal]:
    try:
        inp = make_input(structure, protocol, family, "scf")
    except DftError as error:
        return [Refusal(error.code, error.evidence)]
    except ValueError as error:
        return [Refusal(303, str(error))]
    refusals = []
    if len(inp.species) > MAX_SPECIES:
        refusals.append(
            Refusal(303, f"{len(inp.species)} kinds of atoms (elements and starting moments): pw.x takes {MAX_SPECIES}")
        )
    needed = estimate(inp, family, processes=processes, pools=pools)
    if needed.n_k_points > MAX_K_POINTS:
        refusals.append(
            Refusal(304, f"{needed.n_k_points} k-points: pw.x takes {MAX_K_POINTS}; give a larger k-point spacing")
        )
    available = _this_machine_gb() if memory_gb is None else memory_gb
    if needed.memory_gb > available:
        refusals.append(Refusal(304, _too_large(needed, available, len(structure), protocol)))
    return refusals


def _too_large(needed: Estimate, available: float, n_atoms: int, protocol: PwProtocol) -> str:
    return (
        f"{n_atoms} atoms with protocol {protocol.name} ({needed.n_k_points} k-points, {needed.n_bands} bands, "
        f"{needed.n_plane_waves} plane waves) need about {needed.memory_gb:.0f} GB, and {available:.0f} GB are there: "
        f"give a smaller cell, a coarser mesh or a machine with more memory"
    )


def _this_machine_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
