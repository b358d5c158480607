"""How formulas, space groups and numbers are written, the same in page, plots and terminal."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from pymatgen.core import Composition

if TYPE_CHECKING:
    from workflows.spec import CampaignSpec, Range

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")

PROPERTY_NAMES = {
    "energy_above_hull": "energy above hull",
    "bulk_modulus": "bulk modulus",
    "band_gap": "band gap",
}
"""Properties in words; others are written with spaces for underscores."""


def pretty_formula(formula: str) -> str:
    """Write a formula reduced and with subscripts; what is no formula is given back as it is.

    Examples
    --------
    >>> pretty_formula("Mg2 Al4 O8")
    'MgAl₂O₄'
    """
    try:
        reduced = Composition(formula).reduced_formula
    except (ValueError, KeyError, TypeError):
        return formula
    return re.sub(r"\d+", lambda match: match.group().translate(_SUBSCRIPTS), str(reduced))


def pretty_spacegroup(symbol: str | None) -> str:
    """Write a Hermann-Mauguin symbol with overbars and screw-axis subscripts.

    Examples
    --------
    >>> pretty_spacegroup("P6_3mc")
    'P6₃mc'
    """
    if not symbol:
        return "–"
    barred = re.sub(r"-(\d)", "\\1\u0305", symbol)
    return re.sub(r"_(\d)", lambda match: match.group(1).translate(_SUBSCRIPTS), barred)


def spacegroup_parts(symbol: str | None) -> list[tuple[str, bool]]:
    """Split a Hermann-Mauguin symbol into pieces, each with whether it stands under a bar.

    Examples
    --------
    >>> spacegroup_parts("Fm-3m")
    [('Fm', False), ('3', True), ('m', False)]
    """
    if not symbol:
        return [("–", False)]
    pieces = re.split(r"-(\d)", symbol)
    return [(pretty_spacegroup(piece), bool(i % 2)) for i, piece in enumerate(pieces) if piece]


def property_name(name: str) -> str:
    """Write a property's name in words."""
    return PROPERTY_NAMES.get(name, name.replace("_", " "))


def number(value: float | None, digits: int = 3) -> str:
    """Write a number to so many significant digits without exponents where that reads well; ``–`` if there is none.

    Examples
    --------
    >>> number(163.4471), number(0.02345), number(None)
    ('163', '0.0235', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4 or magnitude > 5:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - magnitude)}f}".replace("-", "−")


def thz(value: float | None) -> str:
    """Write a frequency with two decimals; ``–`` if there is none.

    Examples
    --------
    >>> thz(-0.123), thz(0.0), thz(-0.001)
    ('−0.12', '0.00', '0.00')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def mev(value_ev: float | None) -> str:
    """Write an energy in meV, whole numbers; ``–`` if there is none.

    Examples
    --------
    >>> mev(0.0234), mev(-0.0012), mev(-0.0001)
    ('23', '−1', '0')
    """
    if value_ev is None or not math.isfinite(value_ev):
        return "–"
    return str(round(value_ev * 1000)).replace("-", "−")


def percent(part: float, whole: float) -> str:
    """Write a share; ``–`` of nothing."""
    return f"{100 * part / whole:.0f} %" if whole else "–"


def plural(count: int, singular: str, many: str | None = None) -> str:
    """Write a count with its noun.

    Examples
    --------
    >>> plural(1, "hit"), plural(0, "hit"), plural(2, "candidate")
    ('1 hit', '0 hits', '2 candidates')
    """
    return f"{count:,} {singular if count == 1 else many or singular + 's'}".replace(",", "\u202f")


def limits(wanted: Range, scale: float = 1.0, unit: str | None = None) -> str:
    """Write an interval with its unit: ``≥ 120 GPa``, ``≤ 0.1 eV/atom``, ``1–3 eV``."""
    shown = unit or wanted.unit
    low, high = (None if v is None else f"{v * scale:g}".replace("-", "−") for v in (wanted.min, wanted.max))
    if low is not None and high is not None:
        return f"{low}–{high} {shown}"
    return f"≥ {low} {shown}" if low is not None else f"≤ {high} {shown}"


def systems_in_words(spec: CampaignSpec) -> str:
    """Say which chemistry a campaign searches."""
    chemistry = spec.chemistry
    if chemistry.systems:
        return ", ".join(system.replace("-", "–") for system in chemistry.systems)
    return "crystals of " + ", ".join(sorted(set(chemistry.allowed) - set(chemistry.forbidden)))


def question(spec: CampaignSpec) -> str:
    """Write what the campaign asks as one sentence."""
    targets = spec.targets
    wanted = [f"within {limits(targets.energy_above_hull).removeprefix('≤ ')} of the hull"]
    if targets.energy_above_hull.min is not None:
        wanted = [f"with {limits(targets.energy_above_hull)} above the hull"]
    if targets.phonons == "stable":
        wanted.append("dynamically stable")
    wanted += [f"with a {property_name(name)} {limits(r)}" for name, r in targets.properties.items()]
    told = wanted[0] if len(wanted) == 1 else ", ".join(wanted[:-1]) + " and " + wanted[-1]
    atoms = spec.chemistry.max_atoms
    where = systems_in_words(spec)
    if not where.startswith("crystals"):
        where = f"crystals in {where}"
    return f"Which {where} with at most {plural(atoms, 'atom')} in the cell are {told}?"
