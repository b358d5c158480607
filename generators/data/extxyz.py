"""The extended XYZ of data sets: plain enough for every reader, and strings come back as the strings they were.

ASE's writer leaves a label such as ``007``, ``T`` or an empty one unquoted, and readers make a number, a truth value or
the next key of it; so strings are always quoted here, with the escapes of JSON, and read back as such.
Format: https://github.com/libAtoms/extxyz.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pymatgen.core import Element, Lattice, Structure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TOKEN = re.compile(r'([A-Za-z_][\w-]*)=("(?:[^"\\]|\\.)*"|\S*)')
_COLUMNS = "species:S:1:pos:R:3"


class Frame(NamedTuple):
    """One crystal as it was read.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Coordinates in Å, inside the cell.
    values : dict of str to str
        What the comment line holds besides the cell and the columns.
    """

    structure: Structure
    values: dict[str, str]


def write_frame(structure: Structure, strings: Mapping[str, str], numbers: Mapping[str, float]) -> str:
    """Write one crystal.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Ordered; positions are kept to 1e-8 Å.
    strings, numbers : mappings
        For the comment line, in this order.

    Returns
    -------
    str
        ``len(structure) + 2`` lines.
    """
    matrix = " ".join(repr(float(x)) for x in structure.lattice.matrix.flat)
    tokens = [f'Lattice="{matrix}"', f"Properties={_COLUMNS}"]
    tokens += [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in strings.items()]
    tokens += [f"{key}={float(value)!r}" for key, value in numbers.items()]
    # 0.0 is added so that no -0.00000000 is written
    positions = np.round(structure.cart_coords, 8) + 0.0
    atoms = [
        f"{site.specie.symbol:<2} {x:16.8f} {y:16.8f} {z:16.8f}"
        for site, (x, y, z) in zip(structure, positions, strict=True)
    ]
    return "\n".join([str(len(structure)), " ".join([*tokens, 'pbc="T T T"']), *atoms, ""])


def read_frames(text: str) -> Iterator[Frame]:
    """Read what :func:`write_frame` wrote, one frame after the other.

    Raises
    ------
    ValueError
        The message names the line.
    """
    # not splitlines(): a label may hold what Unicode calls the end of a line
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    place = 0
    while place < len(lines):
        count = lines[place].strip()
        if not count.isdigit() or int(count) < 1:
            raise ValueError(f"line {place + 1} should hold a number of atoms, it holds {count[:40]!r}")
        end = place + 2 + int(count)
        if end > len(lines):
            raise ValueError(f"line {place + 1} announces {count} atoms, but the file ends before the last of them")
        yield _frame(lines[place + 1], lines[place + 2 : end], place + 2)
        place = end


def _frame(comment: str, atoms: list[str], line: int) -> Frame:
    values = {key: _unquoted(value) for key, value in _TOKEN.findall(comment)}
    if values.get("Properties") != _COLUMNS:
        raise ValueError(f"line {line} should say Properties={_COLUMNS}")
    try:
        matrix = np.array([float(x) for x in values["Lattice"].split()]).reshape(3, 3)
        cells = [row.split() for row in atoms]
        positions = np.array([[float(x) for x in row[1:]] for row in cells]).reshape(len(cells), 3)
        lattice = Lattice(matrix)
        frac = lattice.get_fractional_coords(positions)
        if not (np.isfinite(matrix).all() and np.isfinite(frac).all()):
            raise ValueError("a number is not finite")  # noqa: TRY301 - told with the line below
        structure = Structure(lattice, [Element(row[0]) for row in cells], frac, to_unit_cell=True)
    except (KeyError, IndexError, ValueError, np.linalg.LinAlgError) as error:
        raise ValueError(f"the frame at line {line} has no good cell or atoms: {error}") from error
    return Frame(
        structure, {key: value for key, value in values.items() if key not in {"Lattice", "Properties", "pbc"}}
    )


def _unquoted(token: str) -> str:
    if not token.startswith('"'):
        return token
    try:
        return str(json.loads(token))
    except json.JSONDecodeError:  # written by another program, which escapes quotes only
        return token[1:-1].replace('\\"', '"')
