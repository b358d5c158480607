"""Hull diagrams: convex hulls of binaries, triangles of ternaries, distances to the hull for everything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from workflows.report.collect import finite
from workflows.report.svg import Frame, Labels, Svg, padded
from workflows.report.words import mev, pretty_formula, pretty_spacegroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup

    from workflows.records import Verdict
    from workflows.reference import ReferenceSet


@dataclass(frozen=True)
class HullEntry:
    """A competing phase of the reference set.

    Parameters
    ----------
    formula : str
    energy_ev_per_atom : float
    label : str
        Prototype or origin, for people.
    """

    formula: str
    energy_ev_per_atom: float
    label: str = ""


@dataclass(frozen=True)
class Diagram:
    """A drawn hull of one chemical system."""

    system: str
    picture: Markup
    n_reference: int
    n_verdicts: int
    n_hits: int


def reference_entries(reference: ReferenceSet) -> list[HullEntry]:
    """Give the phases of a reference set, for the diagrams."""
    return [
        HullEntry(entry.formula, entry.energy_ev_per_atom, entry.id)
        for part in reference.subsystems.values()
        for entry in part.entries
    ]


def kind_of(verdict: Verdict) -> str:
    """Name how a verdict is drawn: ``hit``, ``stable``, ``verified`` or ``failed``."""
    return "hit" if verdict.hit else "stable" if verdict.stable else "verified" if verdict.verified else "failed"


def tip_of(verdict: Verdict) -> str:
    """Write a verdict's tooltip."""
    parts = [
        verdict.candidate,
        f"{pretty_formula(verdict.formula)} {pretty_spacegroup(verdict.spacegroup)}",
        f"{mev(verdict.energy_above_hull_ev_per_atom)} meV/atom above the hull",
    ]
    return "\n".join(parts)


def hull_diagrams(verdicts: Iterable[Verdict], entries: Iterable[HullEntry]) -> list[Diagram]:
    """Draw the hull of every binary and ternary system that has a verified candidate.

    Parameters
    ----------
    verdicts : iterable of Verdict
        Those without energies are passed over.
    entries : iterable of HullEntry
        The reference set, all of one engine, protocol and model. A system that it does not span is left out.

    Returns
    -------
    list of Diagram
        Systems with most hits first, then most verdicts.
    """
    placed = [v for v in verdicts if v.verified and finite(v.energy_ev_per_atom) is not None]
    known = [(e, frozenset(str(el) for el in Composition(e.formula).elements)) for e in entries]
    diagrams = []
    for system in sorted({_system(v) for v in placed}):
        if not 2 <= len(system) <= 3:
            continue
        inside = [e for e, elements in known if elements <= set(system)]
        spanned = {elements for e, elements in known if len(elements) == 1}
        if any(frozenset([element]) not in spanned for element in system):
            continue
        # A triangle's edges are its binaries: their candidates belong on it too.
        here = [v for v in placed if set(_system(v)) <= set(system)]
        diagram = PhaseDiagram([_entry(e) for e in inside])
        draw = _binary if len(system) == 2 else _ternary
        own = [v for v in here if _system(v) == system]
        diagrams.append(
            Diagram("–".join(system), draw(system, diagram, here), len(inside), len(own), sum(v.hit for v in own))
        )
    return sorted(diagrams, key=lambda d: (-d.n_hits, -d.n_verdicts, d.system))


def distance_strip(verdicts: Iterable[Verdict], cut_ev: float) -> Markup | None:
    """Draw every verified candidate's distance to its hull, a row per chemical system; ``None`` if there is none.

    Parameters
    ----------
    verdicts : iterable of Verdict
    cut_ev : float
        The campaign's hull cut, eV/atom.
    """
    rows: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.verified and finite(verdict.energy_above_hull_ev_per_atom) is not None:
            rows.setdefault("–".join(_system(verdict)), []).append(verdict)
    if not rows:
        return None
    width, step, left, top = 1000.0, 28.0, 110.0, 24.0
    energies = [1000 * (v.energy_above_hull_ev_per_atom or 0.0) for row in rows.values() for v in row]
    cut = 1000 * cut_ev
    # Far outliers would squeeze everything that matters: they are drawn at the border with an arrow's worth of tooltip.
    high = min(max(1.06 * max(energies), 1.4 * cut), max(8 * cut, 100.0))
    low = min(0.0, 1.1 * min(energies))
    frame = Frame(left, top, width - left - 20, step * len(rows), low, high, 0, len(rows))
    svg = Svg(width, frame.bottom + 46, "Distance to the hull of every verified candidate", "wide")
    svg.add(
        "rect",
        x=frame.x(low),
        y=frame.top,
        width=frame.x(cut) - frame.x(low),
        height=frame.height,
        css="target",
    )
    frame.axes(svg, "energy above hull (meV/atom)", "", yticks=[])
    svg.line(frame.x(0), frame.top, frame.x(0), frame.bottom, css="zero")
    svg.line(frame.x(cut), frame.top, frame.x(cut), frame.bottom, css="cut")
    svg.text(frame.x(cut), frame.top - 8, f"hull cut {cut:g}", "middle", "note")
    for i, (system, row) in enumerate(sorted(rows.items(), key=lambda item: (-len(item[1]), item[0]))):
        y = frame.top + (i + 0.5) * step
        svg.text(left - 10, y + 4, system, "end", "tick strong")
        if i:
            svg.line(frame.left, y - step / 2, frame.right, y - step / 2, css="grid")
        for verdict in sorted(row, key=lambda v: v.hit):
            energy = 1000 * (verdict.energy_above_hull_ev_per_atom or 0.0)
            svg.marker(frame.x(min(energy, high)), y, kind_of(verdict), tip_of(verdict), 5)
    return svg.markup()


def _system(verdict: Verdict) -> tuple[str, ...]:
    return tuple(sorted(str(element) for element in Composition(verdict.formula).elements))


def _entry(entry: HullEntry) -> PDEntry:
    composition = Composition(entry.formula)
    return PDEntry(composition, entry.energy_ev_per_atom * composition.num_atoms, name=entry.label or None)


def _per_atom(diagram: PhaseDiagram, formula: str, energy_ev_per_atom: float) -> float:
    """Give the formation energy (eV/atom) against the set's own elements."""
    fractions = Composition(formula).fractional_composition
    pure = sum(amount * diagram.el_refs[element].energy_per_atom for element, amount in fractions.items())
    return float(energy_ev_per_atom - pure)


def _binary(system: Sequence[str], diagram: PhaseDiagram, verdicts: Sequence[Verdict]) -> Markup:
    second = system[1]
    known = [
        (e.composition.get_atomic_fraction(second), _per_atom(diagram, e.composition.formula, e.energy_per_atom), e)
        for e in diagram.all_entries
    ]
    stable = {id(e) for e in diagram.stable_entries}
    hull = sorted((x, y, e.composition.formula) for x, y, e in known if id(e) in stable)
    mine = [
        (
            Composition(v.formula).get_atomic_fraction(second),
            _per_atom(diagram, v.formula, v.energy_ev_per_atom or 0.0),
            v,
        )
        for v in verdicts
    ]
    deepest = min(y for _, y, _ in (*hull, *mine))
    # Phases far above the hull say nothing about it and would flatten the plot: they stay at its upper border.
    highest = min(max([0.0, *(y for _, y, _ in mine)]), abs(deepest) * 0.6 + 0.1)
    y0, y1 = padded([deepest, highest], share=0.12, at_least=0.05)
    frame = Frame(60, 10, 290, 220, -0.03, 1.03, y0, y1)
    svg = Svg(360, 274, f"Convex hull of {'–'.join(system)}")
    frame.axes(svg, f"atomic fraction of {second}", "formation energy (eV/atom)", xticks=[0, 0.25, 0.5, 0.75, 1])
    svg.path([(frame.x(x), frame.y(y)) for x, y, _ in hull], "hull")
    for x, y, e in known:
        if y <= y1:
            on_hull = id(e) in stable
            where = "on the hull" if on_hull else f"{mev(diagram.get_e_above_hull(e))} meV/atom above the hull"
            tip = f"{pretty_formula(e.composition.formula)} ({e.name})\nreference set, {where}"
            kind = "known" if on_hull else "known-above"
            svg.marker(frame.x(x), frame.y(y), kind, tip, 4 if on_hull else 2.5)
    spots = [(frame.x(x), max(frame.y(y), frame.top), v) for x, y, v in mine]
    labels = Labels(svg, [(x, y) for x, y, _ in spots] + [(frame.x(x), frame.y(y)) for x, y, _ in hull])
    for x, y, v in sorted(spots, key=lambda spot: (spot[2].hit, spot[2].stable)):
        svg.marker(x, y, kind_of(v), tip_of(v), 5)
    for x, y, name in hull:
        labels.place(frame.x(x), frame.y(y), pretty_formula(name), "note strong")
    _distances(labels, spots)
    return svg.markup()


def _ternary(system: Sequence[str], diagram: PhaseDiagram, verdicts: Sequence[Verdict]) -> Markup:
    side, left, top = 270.0, 45.0, 26.0
    height = side * math.sqrt(3) / 2

    def place(composition: Composition) -> tuple[float, float]:
        a, b, c = (composition.get_atomic_fraction(el) for el in system)
        # Left corner: first element; right corner: second; top: third.
        return left + side * (b + c / 2) / (a + b + c), top + height * (1 - c / (a + b + c))

    svg = Svg(360, top + height + 28, f"Phase diagram of {'–'.join(system)}")
    corners = [place(Composition(el)) for el in system]
    for share in (0.25, 0.5, 0.75):
        for one, two, three in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            start = _between(corners[one], corners[two], share)
            end = _between(corners[one], corners[three], share)
            svg.line(*start, *end, css="grid")
    svg.path(corners, "box", close=True)
    edges = {
        tuple(sorted(pair, key=id))
        for facet in diagram.facets
        for pair in combinations([diagram.qhull_entries[i] for i in facet], 2)
    }
    for one, two in edges:
        svg.line(*place(one.composition), *place(two.composition), css="hull")
    stable = {id(e) for e in diagram.stable_entries}
    above: dict[tuple[float, float], list[str]] = {}
    on_hull = []
    for entry in diagram.all_entries:
        x, y = place(entry.composition)
        name = pretty_formula(entry.composition.formula)
        if id(entry) in stable:
            on_hull.append((x, y, name, f"{name} ({entry.name})\nreference set, on the hull"))
        else:
            tip = f"{name} ({entry.name}): {mev(diagram.get_e_above_hull(entry))} meV/atom"
            above.setdefault((round(x, 1), round(y, 1)), []).append(tip)
    for (x, y), tips in sorted(above.items()):
        tip = "\n".join(["reference set, above the hull", *sorted(tips)[:12]])
        svg.marker(x, y, "known-above", tip, 2.5)
    for x, y, _, tip in on_hull:
        svg.marker(x, y, "known", tip, 4)
    for (x, y), name, dx, dy in zip(corners, system, (-12, 12, 0), (14, 14, -10), strict=True):
        svg.text(x + dx, y + dy, name, "middle", "label strong")
    seen: dict[tuple[float, float], int] = {}
    spots = []
    for verdict in sorted(verdicts, key=lambda v: (not v.hit, not v.stable, v.candidate)):
        x, y = place(Composition(verdict.formula))
        spot = (round(x, 1), round(y, 1))
        n = seen[spot] = seen.get(spot, -1) + 1
        # Polymorphs share a composition: fan them out around it instead of hiding all but one.
        spots.append((x, y, verdict) if n == 0 else (x + 9 * math.cos(n * 2.4), y + 9 * math.sin(n * 2.4), verdict))
    labels = Labels(svg, [(x, y) for x, y, _ in spots] + [(x, y) for x, y, _, _ in on_hull])
    for x, y, verdict in reversed(spots):
        svg.marker(x, y, kind_of(verdict), tip_of(verdict), 5)
    for x, y, name, _ in sorted(on_hull):
        if name.rstrip("₀₁₂₃₄₅₆₇₈₉") not in system:
            crowded = seen.get((round(x, 1), round(y, 1)), 0) > 0
            labels.place(x, y, name, "note strong", 18 if crowded else 9)
    _distances(labels, spots)
    return svg.markup()


def _distances(labels: Labels, spots: Sequence[tuple[float, float, Verdict]]) -> None:
    """Write the lowest distance to the hull (meV/atom) of each composition beside it, and how many share it."""
    groups: dict[str, list[tuple[float, float, Verdict]]] = {}
    for spot in spots:
        groups.setdefault(Composition(spot[2].formula).reduced_formula, []).append(spot)
    for group in groups.values():
        x, y, lowest = min(group, key=lambda s: s[2].energy_above_hull_ev_per_atom or 0.0)
        distance = mev(lowest.energy_above_hull_ev_per_atom)
        shown = distance if distance.startswith("−") or distance == "0" else f"+{distance}"
        if len(group) > 1:
            labels.place(x, y, f"{shown} ({len(group)})", gap=18)
        elif distance not in {"0", "–"}:
            labels.place(x, y, shown)


def _between(one: tuple[float, float], two: tuple[float, float], share: float) -> tuple[float, float]:
    return one[0] + (two[0] - one[0]) * share, one[1] + (two[1] - one[1]) * share
