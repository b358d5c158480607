"""Crystals for people: a still picture of the cell, the model that the viewer turns, the CIF."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.data.colors import jmol_colors
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

from workflows.report.svg import Svg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markupsafe import Markup
    from numpy.typing import NDArray

_EDGE = 0.02  # fractional; atoms this near to a face are drawn on the opposite one too
_MAX_SHOWN = 64  # atoms; larger conventional cells are shown as relaxed


def structure_of(document: Mapping[str, Any] | None) -> Structure | None:
    """Read a stored structure; ``None`` if there is none."""
    return Structure.from_dict(dict(document)) if document else None


def shown_cell(structure: Structure, symprec: float = 0.05) -> Structure:
    """Choose the cell to show: the conventional one where symmetry finds it, else the cell as it is.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    symprec : float
        Å.
    """
    try:
        conventional: Structure = SpacegroupAnalyzer(structure, symprec=symprec).get_conventional_standard_structure()
    except (SymmetryUndeterminedError, ValueError, TypeError):
        return structure
    return conventional if len(conventional) <= _MAX_SHOWN else structure


def color_of(symbol: str) -> str:
    """Jmol's colour of an element, ``#rrggbb``."""
    red, green, blue = (round(255 * float(c)) for c in jmol_colors[atomic_numbers[symbol]])
    return f"#{red:02x}{green:02x}{blue:02x}"


def model_of(structure: Structure) -> dict[str, Any]:
    """Give what the viewer needs: lattice rows (Å), sites as ``[symbol, x, y, z]`` (fractional), element colours."""
    cell = shown_cell(structure)
    sites = [[str(s.specie.symbol), *(round(float(f) % 1.0, 5) % 1.0 for f in s.frac_coords)] for s in cell]
    symbols = sorted({str(site[0]) for site in sites})
    return {
        "lattice": np.round(cell.lattice.matrix, 5).tolist(),
        "sites": sites,
        "colors": {symbol: color_of(symbol) for symbol in symbols},
    }


def cif_of(structure: Structure, name: str, notes: Mapping[str, Any] | None = None) -> str:
    """Write a CIF of exactly this cell (P1), with our own data items beside it.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    name : str
        Data block.
    notes : mapping, optional
        Written as ``_nucleate_<key>``; values that are None are left out.

    Returns
    -------
    str
    """
    text = str(CifWriter(structure, significant_figures=8))
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("data_"))
    lines[start] = f"data_{name}"
    ours = [f"_nucleate_{key}   {_cif_value(value)}" for key, value in (notes or {}).items() if value is not None]
    return "\n".join([*lines[: start + 1], *ours, *lines[start + 1 :]]) + "\n"


def _cif_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return f"{value:.6g}"
    plain = " ".join(str(value).split()).replace("'", "’")
    return f"'{plain}'"


def picture(structure: Structure, size: float = 220.0) -> Markup:
    """Draw the cell from slightly above, as a still picture that needs no WebGL.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    size : float
        Edge of the drawing, px.
    """
    cell = shown_cell(structure)
    matrix = np.asarray(cell.lattice.matrix)
    symbols, fractional = _with_images(cell)
    turn = _view()
    positions = (fractional - 0.5) @ matrix @ turn.T
    corners = (np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) - 0.5) @ matrix @ turn.T
    radii = np.array([0.42 * covalent_radii[atomic_numbers[s]] for s in symbols])
    reach = max(np.abs(corners[:, :2]).max(), (np.abs(positions[:, :2]).max(axis=1) + radii).max())
    scale = (size / 2 - 6) / float(reach)

    def place(point: NDArray[np.float64]) -> tuple[float, float]:
        return size / 2 + scale * float(point[0]), size / 2 - scale * float(point[1])

    svg = Svg(size, size, f"Unit cell of {cell.composition.reduced_formula}", "cell")
    drawn: list[tuple[float, int, tuple[Any, ...]]] = []
    for i in range(8):
        for axis in (1, 2, 4):
            if not i & axis:
                one, two = corners[i], corners[i | axis]
                drawn.append((float(min(one[2], two[2])) - 0.5, 0, (place(one), place(two))))
    for i, j in _bonds(symbols, positions):
        middle = (positions[i] + positions[j]) / 2
        for end, symbol in ((i, symbols[i]), (j, symbols[j])):
            depth = float((positions[end][2] + middle[2]) / 2) - 0.3
            drawn.append((depth, 1, (place(positions[end]), place(middle), color_of(symbol))))
    for symbol, position, radius in zip(symbols, positions, radii, strict=True):
        drawn.append((float(position[2]), 2, (place(position), scale * float(radius), symbol)))
    for _, what, item in sorted(drawn, key=lambda d: d[:2]):
        if what == 0:
            (x1, y1), (x2, y2) = item
            svg.line(x1, y1, x2, y2, css="edge")
        elif what == 1:
            svg.add(
                "line",
                x1=item[0][0],
                y1=item[0][1],
                x2=item[1][0],
                y2=item[1][1],
                stroke=item[2],
                stroke_width=round(0.16 * scale, 2),
            )
        else:
            (x, y), radius, symbol = item
            svg.add("circle", cx=x, cy=y, r=radius, fill=color_of(symbol), css="atom", tip=symbol)
            svg.add("circle", cx=x - 0.3 * radius, cy=y - 0.3 * radius, r=0.35 * radius, css="shine")
    return svg.markup()


def _with_images(cell: Structure) -> tuple[list[str], NDArray[np.float64]]:
    """Repeat atoms on faces, edges and corners on the opposite side."""
    symbols: list[str] = []
    points: list[NDArray[np.float64]] = []
    for site in cell:
        base = np.asarray(site.frac_coords) % 1.0
        base[base > 1 - _EDGE] -= 1.0
        options = [(0, 1) if abs(f) < _EDGE else (0,) for f in base]
        for shift in ((i, j, k) for i in options[0] for j in options[1] for k in options[2]):
            symbols.append(str(site.specie.symbol))
            points.append(base + np.array(shift))
    return symbols, np.array(points)


def _bonds(symbols: list[str], positions: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair atoms nearer than 1.15 times the sum of their covalent radii (Cordero 2008, as ASE keeps them)."""
    radii = np.array([covalent_radii[atomic_numbers[s]] for s in symbols])
    distances = np.linalg.norm(positions[:, None] - positions[None, :], axis=-1)
    near = (distances < 1.15 * (radii[:, None] + radii[None, :])) & (distances > 0.1)
    # Like atoms touch in many packings without being bonded; a compound's own bonds join unlike ones.
    if len(set(symbols)) > 1:
        near &= np.array([[a != b for b in symbols] for a in symbols])
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(near))]


def _view() -> NDArray[np.float64]:
    """Rotation to the viewer's frame: c upwards, turned a little, seen from slightly above; z towards the viewer."""
    up = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    about, tilt = math.radians(-18), math.radians(14)
    around_y = np.array(
        [[math.cos(about), 0, math.sin(about)], [0, 1, 0], [-math.sin(about), 0, math.cos(about)]],
    )
    around_x = np.array([[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]])
    return np.asarray(around_x @ around_y @ up, dtype=float)
