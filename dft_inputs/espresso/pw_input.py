"""One input file of pw.x as a value: what it holds, written and read back exactly.

Namelists are written by ASE and everything is read by ASE's parser. The cards are written here: ASE's own writer knows
no species labels and no Hubbard U, and rounds coordinates to ten digits, so a file could not be read back to the value
that it came from (tested: ASE reads the same crystal from what is written here).
"""

from __future__ import annotations

import math
import re
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.io.espresso import (
    get_atomic_positions,
    get_atomic_species,
    get_cell_parameters,
    label_to_symbol,
    read_fortran_namelist,
)
from ase.io.espresso_namelist.namelist import Namelist
from pymatgen.core import Structure

from dft_inputs.causes import DftError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAMELISTS = ("control", "system", "electrons", "ions", "cell")
"""In the order that pw.x wants."""

DECIMALS = 12
"""Of lattice vectors (Å) and fractional coordinates: far below what pw.x tells apart (1e-5), exact when read back."""

_IMPLIED = {"ibrav", "nat", "ntyp", "lda_plus_u", "celldm", "starting_magnetization", "hubbard_u", "a", "b", "c"}
"""Keys of ``&SYSTEM`` that the structure and the species decide."""

_MAX_TEXT = 255
"""pw.x keeps strings in 256 characters and cuts longer ones without a word."""


@dataclass(frozen=True)
class Species:
    """One kind of atom: an element, or an element with a spin or a U of its own.

    Parameters
    ----------
    label : str
        At most three characters: the element and, if several species share it, a digit (``Fe1``).
    element : str
    mass_amu : float
    pseudopotential : str
        File name inside ``pseudo_dir``.
    starting_magnetization : float or None
        Between -1 and 1: (up - down) / valence electrons.
    hubbard_u_ev : float or None
        eV.
    """

    label: str
    element: str
    mass_amu: float
    pseudopotential: str
    starting_magnetization: float | None = None
    hubbard_u_ev: float | None = None


@dataclass(frozen=True, eq=False)
class PwInput:
    """What one run of pw.x is asked to do.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Ordered; its site order is the file's. Only elements and geometry count; they are rounded to
        :data:`DECIMALS`.
    namelists : dict of dict
        Keys ``control``, ``system``, ``electrons``, and ``ions`` and ``cell`` where the calculation has them (others
        are dropped, missing ones added empty). What structure and species imply (``ibrav``, ``nat``, ``ntyp``,
        ``starting_magnetization(i)``, ``lda_plus_u``, ``Hubbard_U(i)``) must not be in it.
    mesh : tuple of int
        Divisions of the k-mesh. (1, 1, 1) without shift is written as ``gamma``, pw.x's faster way for that point.
    shift : tuple of int
        1 to shift by half a division.
    species : tuple of Species
        In the file's order.
    site_labels : tuple of str
        The species of each site.

    Raises
    ------
    ValueError
        If parts contradict each other, or a value can't be written.
    """

    structure: Structure
    namelists: dict[str, dict[str, Any]]
    mesh: tuple[int, int, int]
    shift: tuple[int, int, int]
    species: tuple[Species, ...]
    site_labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.structure.is_ordered:
            raise ValueError("pw.x knows no partial occupancy: give an ordered structure")
        for name, value in (("mesh", self.mesh), ("shift", self.shift)):
            object.__setattr__(self, name, tuple(int(n) for n in value))
        if len(self.mesh) != 3 or min(self.mesh) < 1 or len(self.shift) != 3 or set(self.shift) - {0, 1}:
            raise ValueError(f"mesh {self.mesh} must be three numbers from 1 up, shift {self.shift} three of 0 and 1")
        object.__setattr__(self, "species", tuple(self.species))
        object.__setattr__(self, "site_labels", tuple(self.site_labels))
        object.__setattr__(self, "structure", _plain(self.structure))
        self._check_species()
        object.__setattr__(self, "namelists", _clean_namelists(self.namelists))

    def _check_species(self) -> None:
        by_label = {one.label: one for one in self.species}
        if len(by_label) != len(self.species):
            raise ValueError(f"species labels {[one.label for one in self.species]} are not unique")
        for one in self.species:
            if not re.fullmatch(rf"{one.element}[0-9A-Za-z]?", one.label) or len(one.label) > 3:
                raise ValueError(f"species label {one.label!r} is no {one.element} with at most one more character")
            if abs(one.starting_magnetization or 0.0) > 1.0:
                raise ValueError(f"{one.label}: starting magnetization {one.starting_magnetization} is outside -1...1")
        if set(self.site_labels) != set(by_label):
            raise ValueError(f"site labels {sorted(set(self.site_labels))} are not the species {sorted(by_label)}")
        elements = [site.specie.symbol for site in self.structure]
        if elements != [by_label[label].element for label in self.site_labels]:
            raise ValueError("site labels name other elements than the structure has, or in another order")

    def __eq__(self, other: object) -> bool:
        """Compare exactly: geometry to the last digit, values and species in their order."""
        if not isinstance(other, PwInput):
            return NotImplemented
        return (
            np.array_equal(self.structure.lattice.matrix, other.structure.lattice.matrix)
            and np.array_equal(self.structure.frac_coords, other.structure.frac_coords)
            and (self.namelists, self.mesh, self.shift) == (other.namelists, other.mesh, other.shift)
            and (self.species, self.site_labels) == (other.species, other.site_labels)
        )

    __hash__ = None  # type: ignore[assignment]  # namelists are dicts

    @property
    def calculation(self) -> str:
        """``scf``, ``relax``, ``vc-relax``, ``nscf``, ..."""
        return str(self.namelists["control"].get("calculation", "scf"))

    def get(self, key: str, default: Any = None) -> Any:
        """Give a namelist's value by ``"namelist.key"``."""
        namelist, name = _split(key)
        return self.namelists.get(namelist, {}).get(name, default)

    def changed(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> PwInput:
        """Give another input with some things changed.

        Parameters
        ----------
        values : mapping, optional
            By ``"namelist.key"``, e.g. ``{"electrons.mixing_beta": 0.3}``; ``None`` removes a key.
        **more
            ``structure`` (with the same elements in the same order, unless ``site_labels`` say otherwise), ``mesh``,
            ``shift``, ``species``, ``site_labels``; or further ``"namelist.key"``.

        Returns
        -------
        PwInput

        Raises
        ------
        ValueError
            As the class, or if a key names no namelist.
        """
        namelists = deepcopy(self.namelists)
        parts = {}
        for key, value in {**(values or {}), **more}.items():
            if key in {"structure", "mesh", "shift", "species", "site_labels"}:
                parts[key] = value
                continue
            namelist, name = _split(key)
            if value is None:
                namelists.get(namelist, {}).pop(name, None)
            else:
                namelists.setdefault(namelist, {})[name] = value
        return replace(self, namelists=namelists, **parts)

    def as_text(self) -> str:
        """Give the file's text."""
        implied: dict[str, Any] = {"ibrav": 0, "nat": len(self.structure), "ntyp": len(self.species)}
        for index, one in enumerate(self.species, start=1):
            if one.starting_magnetization is not None:
                implied[f"starting_magnetization({index})"] = float(one.starting_magnetization)
        if any(one.hubbard_u_ev is not None for one in self.species):
            implied["lda_plus_u"] = True
        for index, one in enumerate(self.species, start=1):
            if one.hubbard_u_ev is not None:
                implied[f"hubbard_u({index})"] = float(one.hubbard_u_ev)
        namelists = {**self.namelists, "system": {**implied, **self.namelists["system"]}}
        gamma = self.mesh == (1, 1, 1) and self.shift == (0, 0, 0)
        parts = [
            Namelist({name: namelists[name] for name in NAMELISTS if name in namelists}).to_string(),
            "ATOMIC_SPECIES\n",
            *(f"{one.label} {_decimal(one.mass_amu)} {one.pseudopotential}\n" for one in self.species),
            "\nK_POINTS gamma\n" if gamma else "\nK_POINTS automatic\n",
            "" if gamma else " ".join(map(str, (*self.mesh, *self.shift))) + "\n",
            "\nCELL_PARAMETERS angstrom\n",
            *(" ".join(map(_decimal, row)) + "\n" for row in self.structure.lattice.matrix),
            "\nATOMIC_POSITIONS crystal\n",
            *(
                f"{label} {' '.join(map(_decimal, row))}\n"
                for label, row in zip(self.site_labels, self.structure.frac_coords, strict=True)
            ),
        ]
        return "".join(parts)

    def write(self, path: Path) -> None:
        """Write the file; a reader never sees half of it."""
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(self.as_text(), encoding="utf-8")
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> PwInput:
        """Read a file: one that :meth:`write` wrote, or another with ``ibrav=0`` and a mesh of k-points.

        Raises
        ------
        DftError
            303 if it is no such file.
        """
        try:
            with path.open(encoding="utf-8") as lines:
                data, cards = read_fortran_namelist(lines)
            return cls._from_cards({name: dict(values) for name, values in data.items()}, cards)
        except (KeyError, ValueError, IndexError, TypeError, StopIteration, NotImplementedError, AttributeError) as why:
            # what ASE's parser raises, by experience, on what is no input of pw.x
            raise DftError(303, f"{path}: no input of pw.x that can be read here: {why!r}") from why

    @classmethod
    def _from_cards(cls, namelists: dict[str, dict[str, Any]], cards: list[str]) -> PwInput:
        system = namelists["system"]
        if system.pop("ibrav") != 0:
            raise ValueError("only ibrav=0 with CELL_PARAMETERS is read")
        n_atoms, n_species = system.pop("nat"), system.pop("ntyp")
        system.pop("lda_plus_u", None)
        matrix, _ = get_cell_parameters(cards)
        # with the unit cell for cell, ASE gives the fractional numbers as they stand in the file
        positions = get_atomic_positions(cards, n_atoms=n_atoms, cell=np.identity(3))
        unit = next(line for line in cards if line.upper().startswith("ATOMIC_POSITIONS")).lower()
        cartesian = "crystal" not in unit
        species = tuple(
            Species(
                label,
                label_to_symbol(label),
                mass,
                pseudopotential,
                _number(system.pop(f"starting_magnetization({index})", None)),
                _number(system.pop(f"hubbard_u({index})", None)),
            )
            for index, (label, mass, pseudopotential) in enumerate(get_atomic_species(cards, n_species), start=1)
        )
        elements = {one.label: one.element for one in species}
        labels = tuple(str(label) for label, _, _ in positions)
        structure = Structure(
            matrix,
            [elements[label] for label in labels],
            [coords for _, coords, _ in positions],
            coords_are_cartesian=cartesian,
        )
        mesh, shift = _read_mesh(cards)
        return cls(structure, namelists, mesh, shift, species, labels)


def _split(key: str) -> tuple[str, str]:
    namelist, dot, name = key.lower().partition(".")
    if not dot or namelist not in NAMELISTS or not name:
        raise ValueError(f"{key!r} is no 'namelist.key' with a namelist of {', '.join(NAMELISTS)}")
    return namelist, name


def _plain(structure: Structure) -> Structure:
    """Copy without oxidation states, properties and digits that mean nothing."""
    numbers = (structure.lattice.matrix, structure.frac_coords)
    if not all(np.isfinite(values).all() for values in numbers):
        raise ValueError("the structure holds numbers that are not finite")
    matrix, coords = (np.round(values, DECIMALS) + 0.0 for values in numbers)  # + 0.0 turns -0.0 into 0.0
    return Structure(matrix, [site.specie.symbol for site in structure], coords)


def _clean_namelists(namelists: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Lower keys, make plain numbers of values, leave the namelists that the calculation has."""
    lowered = {name.lower(): {key.lower(): value for key, value in one.items()} for name, one in namelists.items()}
    if unknown := set(lowered) - set(NAMELISTS):
        raise ValueError(f"no namelist of pw.x: {', '.join(sorted(unknown))}")
    calculation = str(lowered.get("control", {}).get("calculation", "scf"))
    wanted = ["control", "system", "electrons"]
    wanted += ["ions"] if calculation in {"relax", "md", "vc-relax", "vc-md"} else []
    wanted += ["cell"] if calculation.startswith("vc-") else []
    clean = {
        name: {key: _value(f"{name}.{key}", value) for key, value in lowered.get(name, {}).items()} for name in wanted
    }
    if implied := {key for key in clean["system"] if key.partition("(")[0] in _IMPLIED}:
        raise ValueError(f"structure and species decide {', '.join(sorted(implied))}: not a matter of namelists")
    return clean


def _value(key: str, value: Any) -> bool | int | float | str:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise ValueError(f"{key} = {value} is no number for an input")
        return float(value)
    if isinstance(value, str):
        if len(value) > _MAX_TEXT or not value.isprintable() or set(value) & set("'\"\\"):
            raise ValueError(
                f"{key} = {value!r}: pw.x takes at most {_MAX_TEXT} printable characters, without quotes or backslashes"
            )
        return value
    raise ValueError(f"{key} = {value!r}: a namelist holds numbers, strings, true and false")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _decimal(value: float) -> str:
    """Give the shortest decimal that is read back as the same number, without exponent."""
    return str(np.format_float_positional(np.float64(value), unique=True, trim="0"))


def _read_mesh(cards: list[str]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    index = next(i for i, line in enumerate(cards) if line.upper().startswith("K_POINTS"))
    kind = re.sub(r"[^a-z_]", "", cards[index].lower().removeprefix("k_points"))
    if kind == "gamma":
        return (1, 1, 1), (0, 0, 0)
    if kind != "automatic":
        raise ValueError(f"k-points {kind or 'tpiba'}: only automatic and gamma are read")
    numbers = [int(word) for word in cards[index + 1].split()[:6]]
    return (numbers[0], numbers[1], numbers[2]), (numbers[3], numbers[4], numbers[5])
