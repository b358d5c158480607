"""Which crystals are computed with spin, and from which moments they start.

Without a starting moment a calculation stays at zero, however magnetic the crystal. Started too high, a moment shrinks
to what it is; so starts are high-spin. What is *not* covered by the default, on purpose, and must be asked for with
``spin: on`` or a ``magmom`` on the sites: antiferromagnetic order (an element starts ferromagnetic), open-shell 4d and
5d ions, Ti3+, Cu2+, and molecules or defects with an odd number of electrons. An odd number of electrons in a metal
needs no spin: bands are filled in part.

The one molecule that every hull with oxygen needs is covered: O atoms as close as in O2 (1.21 Å) or a superoxide (1.28
to 1.34 Å) start with spin; in a peroxide (1.45 Å) all electrons are paired. Without spin O2 would lie too high by about
its measured singlet's 0.98 eV (Huber and Herzberg, Constants of Diatomic Molecules (1979)), and all oxides too low.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pymatgen.core import Structure

Spin = Literal["by_element", "on", "off"]

# fmt: off
STARTING_MOMENTS: dict[str, float] = {
    "V": 3.0, "Cr": 4.0, "Mn": 5.0, "Fe": 4.0, "Co": 3.0, "Ni": 2.0,
    "Ce": 1.0, "Pr": 2.0, "Nd": 3.0, "Pm": 4.0, "Sm": 5.0, "Eu": 7.0, "Gd": 7.0,
    "Tb": 6.0, "Dy": 5.0, "Ho": 4.0, "Er": 3.0, "Tm": 2.0, "Yb": 1.0,
    "Pa": 1.0, "U": 2.0, "Np": 3.0, "Pu": 5.0, "Am": 6.0, "Cm": 7.0,
}
# fmt: on
"""Bohr magnetons: unpaired electrons by Hund's first rule of the ions 2+ (3d, Eu), 3+ (4f, Pu, Am, Cm) and 4+ (Pa, U,
Np)."""

OTHER_MOMENT = 0.5
"""Bohr magnetons, for elements outside the table when spin is asked for: enough to leave the symmetric saddle."""

OXYGEN_MOMENT = 1.0
"""Bohr magnetons an atom: O2 has two unpaired electrons."""

MAX_DIOXYGEN_ANGSTROM = 1.38
"""Å; between superoxides (1.34) and peroxides (1.45 and more)."""

_MAX_FRACTION = 0.9
"""Of the valence electrons: a start where all spins point one way is no start for a self-consistent cycle."""


def starting_moments(structure: Structure, spin: Spin) -> list[float] | None:
    """Choose starting moments.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        A site property ``magmom`` (Bohr magnetons, collinear) overrides the tables for all sites.
    spin : {"by_element", "on", "off"}
        ``off`` overrides everything.

    Returns
    -------
    list of float or None
        Bohr magnetons a site; ``None`` for a calculation without spin.

    Raises
    ------
    ValueError
        If ``magmom`` is given for some sites only, or is no collinear number.
    """
    if spin == "off":
        return None
    given = structure.site_properties.get("magmom")
    if given is not None and any(value is not None for value in given):
        moments = [_collinear(value) for value in given]
    else:
        dioxygen = _dioxygen(structure)
        moments = [
            OXYGEN_MOMENT if index in dioxygen else STARTING_MOMENTS.get(site.specie.symbol, 0.0)
            for index, site in enumerate(structure)
        ]
    if spin == "on" and not any(moments):
        return [OTHER_MOMENT] * len(moments)
    return moments if any(moments) else None


def starting_fraction(moment: float, z_valence: float) -> float:
    """Give pw.x's ``starting_magnetization`` of a moment (Bohr magnetons): its part of the valence electrons."""
    return round(max(-_MAX_FRACTION, min(_MAX_FRACTION, moment / z_valence)), 4)


def _dioxygen(structure: Structure) -> set[int]:
    oxygens = [index for index, site in enumerate(structure) if site.specie.symbol == "O"]
    if not oxygens:
        return set()
    partners: dict[int, list[int]] = {}
    near = structure.get_all_neighbors(MAX_DIOXYGEN_ANGSTROM, sites=[structure[i] for i in oxygens])
    for index, others in zip(oxygens, near, strict=True):
        if all(other.specie.symbol == "O" for other in others):
            partners[index] = [other.index for other in others]
    # two that have each other and nobody else: ozone and its kin are closed shells
    return {i for i, own in partners.items() if len(own) == 1 and partners.get(own[0]) == [i]}


def _collinear(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ValueError(f"magmom {value!r}: give every site one number, in Bohr magnetons, along one axis") from error
