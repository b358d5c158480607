"""The last complete geometry of a VASP run, finished, failed or cut off in the middle of a line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Lattice, Structure

from dft_inputs.files import NoRunError, find_files

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dft_inputs.texts import Text

_CALCULATION_END = "</calculation>"
_STRUCTURE = re.compile(r"<structure\b[^>]*>(.*?)</structure>", re.DOTALL)
_BASIS = re.compile(r'<varray name="basis"\s*>(.*?)</varray>', re.DOTALL)
_PLACES = re.compile(r'<varray name="positions"\s*>(.*?)</varray>', re.DOTALL)
_ROW = re.compile(r"<v>([^<]*)</v>")
_ATOM = re.compile(r"<rc><c>\s*([A-Z][a-z]?)\s*</c><c>\s*\d+\s*</c></rc>")


def last_geometry(directory: Path) -> Structure | None:
    """Give the geometry of the last complete ionic step.

    Parameters
    ----------
    directory : pathlib.Path
        Files are found by content; of those that look alike, CONTCAR is known by its name.

    Returns
    -------
    pymatgen.core.Structure or None
        From CONTCAR if it is complete (where VASP would have gone on from), else the last complete step of XDATCAR or
        vasprun.xml, whichever has more; ``None`` if no step was finished.
    """
    try:
        files = find_files(directory)
    except NoRunError:
        return None
    contcars = [one for one in files.of("poscar") if "contcar" in one.path.name.lower()]
    for one in contcars[:1]:
        structure = _from_poscar(one.read().content)
        if structure is not None:
            return structure
    found = [_from_vasprun(text) for text in files.texts("vasprun")[:1]]
    found += [_from_xdatcar(text) for text in files.texts("xdatcar")[:1]]
    steps = [one for one in found if one is not None]
    return max(steps, key=lambda one: one[0])[1] if steps else None


def _from_poscar(text: str) -> Structure | None:
    """Read VASP's own POSCAR format; ``None`` if lines are missing, or the last of them is cut off."""
    lines = text.split("\n")
    try:
        symbols = [symbol for symbol, n in zip(lines[5].split(), lines[6].split(), strict=True) for _ in range(int(n))]
        direct = lines[7].strip()[:1].lower() == "d"
        rows = lines[8 : 8 + len(symbols)]
        matrix = _numbers(lines[2:5], 3) * float(lines[1])
        coords = _numbers(rows, 3)
    except (ValueError, IndexError):
        return None
    whole = len(rows) == len(symbols) and rows and len(rows[-1].split()[2]) >= len(rows[0].split()[2].lstrip("-"))
    if not whole or not direct:
        return None
    return _structure(matrix, symbols, coords)


def _from_vasprun(text: Text) -> tuple[int, Structure] | None:
    """Read the structure of the last calculation that was written to its end, and count them."""
    content = text.content
    end = content.rfind(_CALCULATION_END)
    if end < 0:
        return None
    symbols = _ATOM.findall(content[: content.find("<calculation>")])
    begin = content.rfind("<calculation>", 0, end)
    blocks = _STRUCTURE.findall(content, begin, end) if begin >= 0 else []
    if not blocks:
        return None
    basis, places = _BASIS.search(blocks[-1]), _PLACES.search(blocks[-1])
    if basis is None or places is None:
        return None
    try:
        matrix = _numbers(_ROW.findall(basis.group(1)), 3)
        coords = _numbers(_ROW.findall(places.group(1)), 3)
    except ValueError:
        return None
    structure = _structure(matrix, symbols, coords)
    return None if structure is None else (content.count(_CALCULATION_END), structure)


def _from_xdatcar(text: Text) -> tuple[int, Structure] | None:
    """Read the last complete configuration; with a variable cell each has a header of its own."""
    lines = text.content.split("\n")
    heads = [i for i, line in enumerate(lines) if line.startswith("Direct configuration=")]
    for number in reversed(range(len(heads))):
        at = heads[number]
        header = next((i for i in reversed(heads[: number + 1]) if _is_header(lines, i - 7)), None)
        if header is None:
            return None
        try:
            counts = [int(word) for word in lines[header - 1].split()]
            symbols = [s for s, n in zip(lines[header - 2].split(), counts, strict=True) for _ in range(n)]
            matrix = _numbers(lines[header - 5 : header - 2], 3) * float(lines[header - 6])
            # A line that is followed by another is whole.
            if len(lines) <= at + 1 + len(symbols):
                continue
            coords = _numbers(lines[at + 1 : at + 1 + len(symbols)], 3)
        except (ValueError, IndexError):
            continue
        structure = _structure(matrix, symbols, coords)
        if structure is not None:
            return number + 1, structure
    return None


def _is_header(lines: list[str], begin: int) -> bool:
    return begin >= 0 and re.fullmatch(r"[A-Z][a-z]?(\s+[A-Z][a-z]?)*", lines[begin + 5].strip()) is not None


def _numbers(rows: list[str], columns: int) -> NDArray[np.float64]:
    return np.array([[float(word) for word in row.split()[:columns]] for row in rows], dtype=np.float64)


def _structure(matrix: NDArray[np.float64], symbols: list[str], coords: NDArray[np.float64]) -> Structure | None:
    shapes_fit = matrix.shape == (3, 3) and coords.shape == (len(symbols), 3)
    if not shapes_fit or not np.isfinite(coords).all() or abs(np.linalg.det(matrix)) < 1e-6:
        return None
    return Structure(Lattice(matrix), symbols, coords)
