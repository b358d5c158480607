"""Whether a structure can be a crystal at all: distances, cell, occupancies, species; and reading one from a file."""

from __future__ import annotations

import gzip
import io
import re
import warnings
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from ase.data import covalent_radii
from ase.io import read as ase_read
from pymatgen.core import Element, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifParser

from generators.crystals.lattices import niggli_reduced

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pymatgen.core import PeriodicSite

MIN_DISTANCE_RATIO = 0.65
"""Shortest distance allowed, as a share of the sum of covalent radii (Cordero et al., Dalton Trans. 2832 (2008), as in
ASE). The shortest known bonds, relative to that sum, are those of N2 (0.77) and CO (0.79)."""

PACKING_LIMITS = (0.005, 2.5)
"""Volume of spheres with the covalent radii over that of the cell. In the prototypes that ship with pymatgen it lies
between 0.055 (solid ammonia) and 1.6 (uranium); solid hydrogen has 0.007."""

MAX_ASPECT_RATIO = 15.0
"""Longest over shortest edge of the Niggli-reduced cell."""

MIN_HEIGHT_ANGSTROM = 0.8
"""Smallest distance between opposite faces of the cell: below it atoms meet their own images."""

MAX_ATOMIC_NUMBER = 96
"""Elements up to curium have a covalent radius in the source."""

_IMAGES = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)


def check_structure(structure: Structure, max_atoms: int | None = None) -> list[str]:
    """List the reasons why a structure can't be a crystal; empty if it can.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Any cell: the verdict does not depend on the choice of the cell (but ``max_atoms`` counts the given cell).
    max_atoms : int or None
        Most atoms allowed.

    Returns
    -------
    list of str
        Each says what is wrong, where, and what the limit is.
    """
    if len(structure) == 0:
        return ["the structure has no atoms"]
    reasons = _species_problems(structure)
    if max_atoms is not None and len(structure) > max_atoms:
        reasons.append(f"{len(structure)} atoms, at most {max_atoms} are allowed")
    matrix = np.asarray(structure.lattice.matrix, dtype=float)
    frac = np.asarray(structure.frac_coords, dtype=float)
    if not np.all(np.isfinite(matrix)) or not np.all(np.isfinite(frac)):
        return [*reasons, "the cell or a coordinate is not a finite number"]
    cell_reasons, reduced = _cell_problems(matrix)
    if reasons or cell_reasons:
        return reasons + cell_reasons

    numbers = np.array([site.specie.Z for site in structure])
    radii = covalent_radii[numbers]
    packing = float((4 / 3 * np.pi * radii**3).sum() / abs(np.linalg.det(matrix)))
    low, high = PACKING_LIMITS
    if not low <= packing <= high:
        what = "too large for its atoms" if packing < low else "too small for its atoms"
        reasons.append(
            f"the cell is {what}: {abs(np.linalg.det(matrix)) / len(frac):.2f} Å³/atom, covalent spheres fill "
            f"{packing:.3f} of it, between {low} and {high} is allowed"
        )
    return reasons + _short_distances(structure, reduced, frac @ matrix @ np.linalg.inv(reduced), radii)


def read_structure(path: Path) -> Structure:
    """Read a CIF, POSCAR/CONTCAR, (ext)xyz or pymatgen JSON file into an ordered structure.

    Parameters
    ----------
    path : pathlib.Path
        ``.cif``, ``.vasp``, ``.xyz`` and ``.extxyz`` (either may be gzipped), ``.json``, or a name with POSCAR or
        CONTCAR in it.

    Raises
    ------
    ValueError
        If it can't be read, has no atoms, a broken cell, partial occupancies or species that are no elements; the
        message names the file, what is wrong and what would be right.
    FileNotFoundError
        If there is no such file.
    """
    return _read(path, every=False)[0]


def read_structures(path: Path) -> list[Structure]:
    """Read all crystals of a file: the frames of an extxyz file, the data blocks of a CIF; one from other formats.

    Parameters
    ----------
    path : pathlib.Path
        As for :func:`read_structure`.

    Raises
    ------
    ValueError, FileNotFoundError
        As :func:`read_structure`, if any of them is wrong; the message tells which.
    """
    return _read(path, every=True)


def read_cif_text(text: str) -> Structure:
    """Read the first crystal of a CIF that is at hand as text, such as a cell of a table.

    Parameters
    ----------
    text : str

    Raises
    ------
    ValueError
        As :func:`read_structure`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in _read
            structure = _parse_cif(io.StringIO(text), every=False)[0]
    except Exception as error:
        raise ValueError(f"its CIF can't be read as a crystal: {_first_line(error)}") from error
    if reasons := _reading_problems(structure):
        raise ValueError("; ".join(reasons))
    return structure


def _read(path: Path, *, every: bool) -> list[Structure]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of pymatgen's warnings is checked below
            structures = _parse(path, every=every)
    except Exception as error:
        raise ValueError(f"{path}: can't be read as a crystal: {_first_line(error)}") from error
    for number, structure in enumerate(structures, start=1):
        if reasons := _reading_problems(structure):
            which = f"crystal {number} of {len(structures)}: " if len(structures) > 1 else ""
            raise ValueError(f"{path}: {which}{'; '.join(reasons)}")
    return structures


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _reading_problems(structure: Structure) -> list[str]:
    if len(structure) == 0:
        return ["it has no atoms; each crystal needs at least one"]
    reasons = _species_problems(structure)
    matrix = np.asarray(structure.lattice.matrix, dtype=float)
    if not np.all(np.isfinite(matrix)) or not np.all(np.isfinite(structure.frac_coords)):
        return [*reasons, "the cell or a coordinate is not a finite number"]
    return reasons + _cell_problems(matrix)[0]


def _parse(path: Path, *, every: bool) -> list[Structure]:
    name = path.name.lower()
    if name.endswith(".cif"):
        return _parse_cif(path, every=every)
    if name.removesuffix(".gz").endswith((".xyz", ".extxyz")):
        # ASE seeks back and forth, which in a gzipped file means to decompress it anew for every frame
        source = io.StringIO(gzip.decompress(path.read_bytes()).decode()) if name.endswith(".gz") else path
        frames = ase_read(source, index=":" if every else slice(1), format="extxyz")
        if not frames:
            raise ValueError("it is empty")
        if not all(atoms.cell.rank == 3 for atoms in frames):
            raise ValueError('it has no cell (Lattice="..." in the comment line), so it is a molecule')
        return [AseAtomsAdaptor.get_structure(atoms) for atoms in frames]
    if name.endswith((".vasp", ".json")) or "poscar" in name or "contcar" in name:
        return [Structure.from_file(path)]
    raise ValueError("its format is not known by its name; use .cif, .vasp, .extxyz, .extxyz.gz, .json or POSCAR")


def _parse_cif(source: Path | io.StringIO, *, every: bool) -> list[Structure]:
    # Occupancies above one are shown as they are, not scaled down silently.
    parser = CifParser(source, occupancy_tolerance=100.0)
    crystals = sum("_cell_length_a" in block for block in parser.as_dict().values())
    if crystals == 0:
        raise ValueError("it has no data block with a cell (_cell_length_a)")
    found: list[Structure] = []
    with suppress(ValueError, ZeroDivisionError):  # pymatgen keeps the reasons in its warnings
        found = parser.parse_structures(primitive=False, check_occu=False)
    if not found or (every and len(found) < crystals):
        why = (parser.warnings or ["no atoms"])[-1].splitlines()[-1]
        why = re.sub(r"np\.float64\(([^)]*)\)", r"\1", why)
        raise ValueError(f"{len(found)} of its {crystals} data blocks with a cell make a crystal: {why}")
    return found if every else found[:1]


def _species_problems(structure: Structure) -> list[str]:
    """Say of each species that can't be taken what is wrong with it, and where its first site is.

    A site is told by its coordinates: its number is pymatgen's, which sorts the sites of a CIF, and can't be found in
    the file.
    """
    found: dict[tuple[str, str], list[PeriodicSite]] = {}
    for site in structure:
        if problem := _species_problem(site):
            found.setdefault(problem, []).append(site)
    reasons = []
    for (species, wrong), sites in found.items():
        others = {1: "", 2: " and at 1 other site"}.get(len(sites), f" and at {len(sites) - 1} other sites")
        reasons.append(f"{species} at {_place(sites[0])}{others} {wrong}")
    return reasons


def _species_problem(site: PeriodicSite) -> tuple[str, str] | None:
    if not site.is_ordered:
        return site.species_string, "is partially occupied; give an ordered structure, one whole element a site"
    symbol = getattr(site.specie, "symbol", str(site.specie))
    if not Element.is_valid_symbol(symbol):
        return symbol, "is no element; use symbols such as Mg, Al, O"
    name = getattr(site.specie, "name", symbol)
    if site.specie.Z == 1 and name in {"D", "T"}:
        return name, "is an isotope; write H"
    if site.specie.Z > MAX_ATOMIC_NUMBER:
        return symbol, "is beyond curium; no radii are known for it"
    return None


def _place(site: PeriodicSite) -> str:
    return f"({', '.join(f'{round(float(x), 4) + 0.0:g}' for x in site.frac_coords)})"


def _cell_problems(matrix: NDArray[np.float64]) -> tuple[list[str], NDArray[np.float64]]:
    """Judge the reduced cell, so that the verdict does not depend on the choice of cell; give it too."""
    lengths = np.linalg.norm(matrix, axis=1)
    volume = abs(float(np.linalg.det(matrix)))
    if lengths.min() <= 0 or volume < 1e-3 * float(lengths.prod()) ** 0.5 or volume < 0.5:
        edges = ", ".join(f"{length:.3g}" for length in lengths)
        return [f"the cell is flat: edges {edges} Å enclose {volume:.3g} Å³"], matrix
    reduced = niggli_reduced(matrix)
    if reduced is None:
        return ["the cell can't be reduced: it is too flat or too long"], matrix
    edges = np.linalg.norm(reduced, axis=1)
    height = float(1 / np.linalg.norm(np.linalg.inv(reduced), axis=0).max())
    reasons = []
    if edges.max() / edges.min() > MAX_ASPECT_RATIO:
        reasons.append(
            f"the reduced cell is too long: edges {', '.join(f'{e:.2f}' for e in edges)} Å, "
            f"longest over shortest above {MAX_ASPECT_RATIO:g}"
        )
    if height < MIN_HEIGHT_ANGSTROM:
        reasons.append(f"the reduced cell is only {height:.2f} Å high, at least {MIN_HEIGHT_ANGSTROM} Å is needed")
    return reasons, reduced


def _short_distances(
    structure: Structure, cell: NDArray[np.float64], frac: NDArray[np.float64], radii: NDArray[np.float64]
) -> list[str]:
    """List the pairs that are too close, each pair of species once, worst first.

    In a reduced cell the 27 nearest images hold the shortest vector of each pair.
    """
    n = len(frac)
    delta = frac[None, :, :] - frac[:, None, :]
    delta -= np.round(delta)
    vectors = (delta.reshape(-1, 1, 3) + _IMAGES) @ cell
    squares = np.einsum("ijk,ijk->ij", vectors, vectors).reshape(n, n, len(_IMAGES))
    squares[np.arange(n), np.arange(n), len(_IMAGES) // 2] = np.inf  # the atom itself
    distances = np.sqrt(squares.min(axis=2))
    limits = MIN_DISTANCE_RATIO * (radii[:, None] + radii[None, :])
    ratios = np.triu(limits / np.maximum(distances, 1e-9))
    if ratios.max() <= 1:
        return []
    reasons: dict[tuple[str, ...], str] = {}
    for flat in np.argsort(-ratios, axis=None, kind="stable"):
        i, j = divmod(int(flat), n)
        if ratios[i, j] <= 1:
            break
        a, b = structure[i].specie.symbol, structure[j].specie.symbol
        other = "its own image" if i == j else f"{b} at {_place(structure[j])}"
        reasons.setdefault(
            tuple(sorted((a, b))),
            f"{a} at {_place(structure[i])} and {other} are {distances[i, j]:.2f} Å apart, at least "
            f"{limits[i, j]:.2f} Å ({MIN_DISTANCE_RATIO} of their covalent radii) is needed",
        )
    return list(reasons.values())
