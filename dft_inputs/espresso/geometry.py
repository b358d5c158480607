"""Geometries that pw.x printed: of its start, and of the last ionic step that it finished, however the run ended.

ASE's reader takes the axes of the header, which have six decimals, and raises where an output is cut off. Here the
cell comes with all its digits: from the input if that is the run's, else from the step's own block.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import numpy as np
from ase.io.espresso import label_to_symbol, read_espresso_in
from pymatgen.core import Lattice, Structure

from dft_inputs.espresso.pwtext import latest_run, runs_of
from dft_inputs.espresso.units import BOHR_ANG
from dft_inputs.files import NoRunError, find_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dft_inputs.espresso.pwtext import PwText
    from dft_inputs.texts import Text

_ALAT = re.compile(r"lattice parameter \(alat\) += +(\S+) +a\.u\.")
_CELLDM = re.compile(r"celldm\(1\)= *(\S+)")
_AXES = re.compile(r"a\(([123])\) = \( *(\S+) +(\S+) +(\S+) *\)")
_SITE = re.compile(r"^ +\d+ +(\S+) +tau\( *\d+\) = \( *(\S+) +(\S+) +(\S+) *\)", re.MULTILINE)
_N_ATOMS = re.compile(r"number of atoms/cell +=\s+(\d+)")
_CELL = re.compile(r"^CELL_PARAMETERS +[({]? *(\w+)(?:= *(\S+?))? *[)}]?[ \t]*\n((?:[^\n]*\n){3})", re.MULTILINE)
_POSITIONS = re.compile(r"^ATOMIC_POSITIONS +[({]? *(\w+) *[)}]?[ \t]*\n", re.MULTILINE)

_PRINTED = 1e-4
"""Å; axes in the header have six decimals in units of alat."""


def last_geometry(directory: Path) -> Structure | None:
    """Give the geometry of the last complete ionic step of a relaxation, finished, failed or cut off.

    Parameters
    ----------
    directory : pathlib.Path
        Of the run; files are found by content.

    Returns
    -------
    pymatgen.core.Structure or None
        The geometry that pw.x would have computed next (the relaxed one, if it was done), in the input's order of
        sites; ``None`` if no step was finished.
    """
    try:
        files = find_files(directory)
    except NoRunError:
        return None
    texts = files.texts("pw.out")
    latest = latest_run(texts)
    if latest is None:
        return None
    run = latest[0]
    inputs = files.texts("pw.in")
    found = geometry_of_last_step(run, inputs)
    if found is not None:
        return found
    # A restart that ended before its first step was done leaves what the run before it, in the same file, reached.
    for before in reversed(_before(run, texts)):
        start, found = initial_geometry(run, inputs), geometry_of_last_step(before, inputs)
        if start is None or (found is not None and found.species == start.species):
            return found
    return None


def _before(run: PwText, texts: Sequence[Text]) -> list[PwText]:
    for text in texts:
        if text.file == run.text.file:
            return [one for one in runs_of(text) if one.text.first_line < run.text.first_line]
    return []


def geometry_of_last_step(run: PwText, inputs: Sequence[Text]) -> Structure | None:
    """Give the geometry that a run printed last and completely after an ionic step; ``None`` if none."""
    content = run.text.content
    n_atoms = _N_ATOMS.search(content)
    begins = list(_POSITIONS.finditer(content))
    if n_atoms is None or not begins:
        return None
    for index in reversed(range(len(begins))):
        sites = _sites_after(content, begins[index].end(), int(n_atoms.group(1)))
        before = content[begins[index - 1].end() if index else 0 : begins[index].start()]
        lattice = _cell_in(before) if run.relaxes_cell else _initial_lattice(run, inputs)
        if sites is None or lattice is None:
            continue
        labels, coords = sites
        structure = _structure(lattice, labels, coords, begins[index].group(1), _alat(run))
        if structure is not None:
            return structure
    return None


def initial_geometry(run: PwText, inputs: Sequence[Text]) -> Structure | None:
    """Give the geometry that a run began with; ``None`` if it ended before it printed it.

    Parameters
    ----------
    run : PwText
    inputs : sequence of Text
        Inputs found beside it; the one with this geometry, if any, gives all digits.
    """
    alat = _alat(run)
    n_atoms = _N_ATOMS.search(run.text.content)
    sites = list(_SITE.finditer(run.text.content))
    lattice = _printed_lattice(run)
    if alat is None or n_atoms is None or lattice is None or len(sites) < int(n_atoms.group(1)):
        return None
    sites = sites[: int(n_atoms.group(1))]
    try:
        coords = np.array([[float(word) for word in site.groups()[1:]] for site in sites])
    except ValueError:
        return None
    printed = _structure(lattice, [site.group(1) for site in sites], coords, "alat", alat)
    if printed is None:
        return None
    for text in inputs:
        given = _read_input(text)
        if given is not None and _same(given, printed):
            return given
    return printed


def _read_input(text: Text) -> Structure | None:
    try:
        atoms = read_espresso_in(io.StringIO(text.content))
        return Structure(
            np.array(atoms.cell), list(atoms.symbols), atoms.get_scaled_positions(wrap=False), to_unit_cell=False
        )
    except (KeyError, ValueError, IndexError, TypeError, StopIteration, NotImplementedError, AttributeError):
        return None  # what ASE's parser raises, by experience, on what it does not know


def _same(given: Structure, printed: Structure) -> bool:
    """Whether an input's geometry is the one printed, within what is printed."""
    return (
        given.species == printed.species
        and np.allclose(given.lattice.matrix, printed.lattice.matrix, atol=_PRINTED)
        and np.allclose(given.cart_coords, printed.cart_coords, atol=_PRINTED)
    )


def _alat(run: PwText) -> float | None:
    """Lattice parameter in Å: celldm(1) has more decimals than its line of its own."""
    found = _CELLDM.search(run.text.content) or _ALAT.search(run.text.content)
    try:
        return float(found.group(1)) * BOHR_ANG if found else None
    except ValueError:
        return None


def _printed_lattice(run: PwText) -> NDArray[np.float64] | None:
    alat = _alat(run)
    rows: dict[int, tuple[str, ...]] = {}
    for found in _AXES.finditer(run.text.content):
        rows.setdefault(int(found.group(1)), found.groups()[1:])
        if len(rows) == 3:
            break
    if alat is None or len(rows) < 3:
        return None
    try:
        return np.array([[float(word) for word in rows[i]] for i in (1, 2, 3)]) * alat
    except ValueError:
        return None


def _initial_lattice(run: PwText, inputs: Sequence[Text]) -> NDArray[np.float64] | None:
    start = initial_geometry(run, inputs)
    return None if start is None else np.array(start.lattice.matrix)


def _cell_in(content: str) -> NDArray[np.float64] | None:
    """Read the last complete CELL_PARAMETERS (Å)."""
    blocks = list(_CELL.finditer(content))
    if not blocks:
        return None
    unit, alat, lines = blocks[-1].groups()
    try:
        matrix = np.array([[float(word) for word in line.split()] for line in lines.splitlines()])
        scale = {"angstrom": 1.0, "bohr": BOHR_ANG, "alat": float(alat or "nan") * BOHR_ANG}[unit]
    except (ValueError, KeyError):
        return None
    return matrix * scale if matrix.shape == (3, 3) and np.isfinite(scale) else None


def _sites_after(content: str, begin: int, n_atoms: int) -> tuple[list[str], NDArray[np.float64]] | None:
    """Read as many sites as there are atoms; ``None`` if the text ends before, or within the last of them."""
    lines = content[begin : begin + 200 * n_atoms].split("\n")
    if len(lines) <= n_atoms:
        return None
    labels, coords = [], []
    for line in lines[:n_atoms]:
        words = line.split()
        try:
            labels.append(words[0])
            coords.append([float(word) for word in words[1:4]])
        except (ValueError, IndexError):
            return None
        if len(coords[-1]) != 3:
            return None
    return labels, np.array(coords)


def _structure(
    lattice: NDArray[np.float64], labels: Sequence[str], coords: NDArray[np.float64], unit: str, alat: float | None
) -> Structure | None:
    if not (np.isfinite(lattice).all() and np.isfinite(coords).all()) or abs(np.linalg.det(lattice)) < 1e-6:
        return None
    scale = {"crystal": 1.0, "angstrom": 1.0, "bohr": BOHR_ANG, "alat": alat}.get(unit)
    if scale is None:
        return None
    try:
        symbols = [label_to_symbol(label) for label in labels]
    except KeyError:
        return None
    return Structure(Lattice(lattice), symbols, coords * scale, coords_are_cartesian=unit != "crystal")
