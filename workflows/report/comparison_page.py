"""One HTML file of a comparison of generators, and one of a latent space: everything inside, nothing fetched."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from generators.crystals.symmetry import CRYSTAL_SYSTEMS
from workflows.records import now
from workflows.report import words
from workflows.report.comparison_plots import (
    classes,
    crystal_systems,
    scatter,
    share_panel,
    strip,
)
from workflows.report.crystal import picture
from workflows.report.html import asset, environment, package_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymatgen.core import Structure

PANELS = (
    ("valid", "Valid"),
    ("unique", "Valid and unique"),
    ("novel", "Novel crystal"),
    ("new_prototype", "New prototype"),
    ("new_skeleton", "New skeleton"),
    ("stable", "Stable"),
    ("at_hull", "At the hull"),
    ("sun", "Stable, unique and novel"),
    ("hits", "Target met"),
)
"""Shares that are drawn, and their captions."""

MAX_CRYSTALS = 4
"""Pictures of stable crystals for each generator."""


@dataclass(frozen=True)
class Shown:
    """A crystal with its caption."""

    picture: Markup
    formula: str
    caption: str


def comparison_page(document: Mapping[str, Any], crystals: Mapping[str, Sequence[tuple[Structure, float]]]) -> str:
    """Write the page of a comparison.

    Parameters
    ----------
    document : mapping
        As ``generators.comparison.Comparison.as_dict`` gives it.
    crystals : mapping of str to sequence of (pymatgen.core.Structure, float)
        By label of the generator: stable, unique and novel crystals with their distance to the hull (eV/atom), the
        lowest first.

    Returns
    -------
    str
        A whole HTML document.
    """
    rows = [row for row in document["rows"] if row["error"] is None]
    cut = 1000 * document["cut_ev_per_atom"]
    panels = [
        (caption, document["shares"][key], share_panel(rows, key, caption))
        for key, caption in PANELS
        if any(key in row["shares"] for row in rows)
    ]
    gallery = [
        (label, [_shown(structure, above) for structure, above in found[:MAX_CRYSTALS]], len(found))
        for label, found in crystals.items()
        if found
    ]
    return (
        environment()
        .get_template("comparison.html")
        .render(
            **_frame(),
            document=document,
            condition=condition_in_words(document["condition"]),
            rows=rows,
            failed=[row for row in document["rows"] if row["error"] is not None],
            panels=panels,
            distances=strip(rows, "above_hull_ev_per_atom", "distance to the hull (meV/atom)", cut=cut, scale=1000),
            moved=strip(rows, "moved_angstrom", "root mean square displacement on relaxation (Å)"),
            systems=crystal_systems(rows),
            system_names=[name for name, _ in CRYSTAL_SYSTEMS],
            gallery=gallery,
            lead=headline(rows),
            has_hits=any("hits" in row["shares"] for row in rows),
            has_opinion=any(row.get("second_opinion") for row in rows),
            has_held_out=any(row["held_out"] for row in rows),
        )
    )


def latent_page(
    name: str,
    points: Sequence[tuple[float, float]],
    explained: tuple[float, float],
    dimension: int,
    values: Sequence[float | None],
    tips: Sequence[str],
    what: str,
    steps: Sequence[tuple[float, Structure, Sequence[str]]],
) -> str:
    """Write the page of a latent space.

    Parameters
    ----------
    name : str
        Of the generator.
    points : sequence of (float, float)
        Along the two principal directions.
    explained : (float, float)
        Shares of the variance.
    dimension : int
        Of the latent space.
    values : sequence of float or None
        What the points are coloured by.
    tips : sequence of str
    what : str
        Name and unit of the values.
    steps : sequence of (float, pymatgen.core.Structure, sequence of str)
        A walk between two crystals: how far along, decoded, why it would be refused.
    """
    known = [v for v in values if v is not None]
    edges = classes(known)
    limits = [min(known), *edges, max(known)] if known else []
    axes = (
        f"first direction ({100 * explained[0]:.0f} % of the variance)",
        f"second direction ({100 * explained[1]:.0f} %)",
    )
    walk = [
        (
            _shown_or_none(structure),
            words.pretty_formula(structure.composition.formula),
            f"{along:.2f}",
            "; ".join(reasons),
        )
        for along, structure, reasons in steps
    ]
    return (
        environment()
        .get_template("latent.html")
        .render(
            **_frame(),
            name=name,
            dimension=dimension,
            explained=explained,
            count=len(points),
            what=what,
            map=scatter(points, values, tips, axes, f"Latent space of {name}"),
            classes=[(i, words.number(a), words.number(b)) for i, (a, b) in enumerate(pairwise(limits))],
            missing=sum(v is None for v in values),
            walk=walk,
        )
    )


def condition_in_words(condition: Mapping[str, Any]) -> str:
    """Say what was asked of every generator."""
    systems = ", ".join("–".join(system) for system in condition["chemical_systems"])
    low, high = condition["min_elements"], condition["max_elements"]
    elements = f"{low}" if low == high else f"{low} to {high}"
    wanted = [
        f"{words.property_name(name)} {_interval(bounds)}" for name, bounds in sorted(condition["properties"].items())
    ]
    atoms = words.plural(condition["max_atoms"], "atom")
    told = f"{systems}: crystals of {elements} elements, at most {atoms} in the cell"
    told += f", neutrality {condition['neutrality']}"
    return f"{told}; wanted: {', '.join(wanted)}" if wanted else told


def headline(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say which generator found most, and whether the next one is told apart from it."""
    ranked = sorted(
        (row for row in rows if row["shares"]["sun"]["share"] is not None),
        key=lambda row: -row["shares"]["sun"]["share"],
    )
    if not ranked or not ranked[0]["shares"]["sun"]["count"]:
        return "No generator found a crystal that is stable, unique and novel."
    best = ranked[0]["shares"]["sun"]
    found = f"{best['count']} of {best['n']} samples are stable, unique and novel ({_with_error(best)})."
    equal = [str(row["label"]) for row in ranked if row["shares"]["sun"]["share"] == best["share"]]
    if len(equal) > 1:
        return f"{', '.join(equal[:-1])} and {equal[-1]} found equally many: {found}"
    text = f"{equal[0]} found most: {found}"
    if len(ranked) > 1:
        other = ranked[1]["shares"]["sun"]
        apart = best["share"] - other["share"]
        error = (best["standard_error"] ** 2 + other["standard_error"] ** 2) ** 0.5
        told = "is told apart from it" if apart > 2 * error else "is not told apart from it at this number of samples"
        text += f" {ranked[1]['label']}, the next ({_with_error(other)}), {told}."
    return text


def _with_error(share: Mapping[str, Any]) -> str:
    return f"{100 * share['share']:.0f} ± {100 * share['standard_error']:.0f} %"


def _frame() -> dict[str, Any]:
    return {
        "made_at": now(),
        "version": package_version(),
        "style": Markup(asset("static", "report.css") + asset("static", "comparison.css")),  # noqa: S704 - our own files
    }


def _shown(structure: Structure, above_ev: float) -> Shown:
    return Shown(
        picture(structure, 150.0),
        words.pretty_formula(structure.composition.formula),
        f"{words.mev(above_ev)} meV/atom",
    )


def _shown_or_none(structure: Structure) -> Markup | None:
    try:
        return picture(structure, 150.0)
    except (ValueError, KeyError, IndexError, ZeroDivisionError):  # what a model decodes need be no crystal
        return None


def _interval(bounds: Mapping[str, Any]) -> str:
    low, high = bounds["minimum"], bounds["maximum"]
    if low is not None and high is not None:
        return f"{low:g} to {high:g} {bounds['unit']}"
    return f"≥ {low:g} {bounds['unit']}" if low is not None else f"≤ {high:g} {bounds['unit']}"
