import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Lattice, Structure

from workflows.records import RoundSummary
from workflows.report.collect import RoundData
from workflows.report.crystal import picture, shown_cell
from workflows.report.hulls import distance_strip, hull_diagrams
from workflows.report.plots import funnel, phonon_plot, property_plot, shares_by_round
from workflows.report.svg import Frame, Labels, Svg, ticks
from workflows.spec import Range


def parsed(markup):
    return ET.fromstring(str(markup))  # noqa: S314 - our own output


def markers(root, kind):
    return [e for e in root.iter() if e.get("class") == f"m {kind}"]


def tips(root, kind):
    return [e.findtext("title") for e in markers(root, kind)]


def test_a_diagram_for_each_system_with_verdicts_hits_first(data, reference):
    diagrams = hull_diagrams(data.verdicts, reference)
    assert {d.system for d in diagrams} == {"Mg–O", "Al–N", "O–Si", "Al–Mg–O", "Mg–O–Si", "Mg–N–Si", "Al–N–Si"}
    assert [d.n_hits for d in diagrams] == sorted((d.n_hits for d in diagrams), reverse=True)


def test_the_hull_is_pymatgens(data, reference):
    system = next(d for d in hull_diagrams(data.verdicts, reference) if d.system == "Mg–O–Si")
    root = parsed(system.picture)
    entries = [
        PDEntry(Composition(e.formula), e.energy_ev_per_atom * Composition(e.formula).num_atoms) for e in reference
    ]
    inside = [e for e in entries if set(map(str, e.composition.elements)) <= {"Mg", "Si", "O"}]
    diagram = PhaseDiagram(inside)
    assert len(markers(root, "known")) == len(diagram.stable_entries)
    edges = {frozenset(p) for f in diagram.facets for p in ((f[0], f[1]), (f[1], f[2]), (f[0], f[2]))}
    assert len([e for e in root.iter() if e.get("class") == "hull"]) == len(edges)
    # The triangle shows its edges' candidates too: MgO and SiO2 beside MgSiO3.
    shown = tips(root, "hit") + tips(root, "stable") + tips(root, "verified")
    assert sorted(t.splitlines()[0] for t in shown) == ["light-r01-0000", "light-r01-0003", "light-r01-0005"]


def test_a_binary_places_candidates_at_their_formation_energy(data, reference):
    root = parsed(next(d for d in hull_diagrams(data.verdicts, reference) if d.system == "Al–N").picture)
    energies = {e.formula: e.energy_ev_per_atom for e in reference}
    depth = energies["AlN"] - (energies["Al"] + energies["N"]) / 2
    circles = {e.findtext("title").split()[0]: float(e.get("cy")) for e in markers(root, "known")}
    per_pixel = depth / (circles["AlN"] - circles["Al"])
    star = markers(root, "hit")[0].get("d")
    ys = [float(y) for _, y in re.findall(r"([-\d.]+) ([-\d.]+)", star)]
    top = max(ys) - min(ys)  # a star's centre is 1.75 of 3.16 below its top
    centre = min(ys) + top * 1.75 / (1.75 + 1.75 * np.cos(np.pi / 5))
    assert (centre - circles["AlN"]) * per_pixel == pytest.approx(0.0121, abs=abs(per_pixel))


def test_systems_that_the_reference_does_not_span_are_left_out(data, reference):
    some = [e for e in reference if e.formula != "N"]
    assert {d.system for d in hull_diagrams(data.verdicts, some)} == {"Mg–O", "O–Si", "Al–Mg–O", "Mg–O–Si"}
    assert hull_diagrams(data.verdicts, []) == []


def test_every_verified_candidate_is_on_the_strip(data):
    root = parsed(distance_strip(data.verdicts, 0.1))
    assert [len(markers(root, k)) for k in ("hit", "stable", "verified")] == [3, 1, 3]
    assert distance_strip([v for v in data.verdicts if not v.verified], 0.1) is None


def test_the_target_region_starts_at_the_target(data):
    root = parsed(property_plot(data.verdicts, "bulk_modulus", Range(min=150, unit="GPa"), 0.1))
    assert len(markers(root, "hit")) == 3
    assert len(markers(root, "stable")) == 1
    region = next(e for e in root.iter() if e.get("class") == "target")
    lines = [e for e in root.iter() if e.get("class") == "cut" and e.get("y1") == e.get("y2")]
    assert float(region.get("y")) + float(region.get("height")) == pytest.approx(float(lines[0].get("y1")), abs=0.02)
    assert property_plot(data.verdicts, "band_gap", None, 0.1) is None


def test_phonons_are_drawn_piece_by_piece_with_tolerance_and_ticks(data):
    phonon = data.verdicts[0].phonon
    root = parsed(phonon_plot(phonon, "x"))
    bands = [e for e in root.iter() if e.get("class") == "band"]
    assert len(bands) == 2 * len(phonon.bands["frequencies_thz"])
    texts = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert {"Γ", "X|K", "H₂", "frequency (THz)"} <= set(texts)
    assert phonon_plot(phonon.model_copy(update={"bands": None}), "x") is None
    without = parsed(phonon_plot(phonon.model_copy(update={"dos": None}), "x"))
    assert not [e for e in without.iter() if e.get("class") == "dos"]


def test_funnel_bars_are_shares_with_the_control_beside():
    summary = RoundSummary(number=2, sampled=40, valid=20, control={"sampled": 8, "valid": 2, "unique": 1, "novel": 0})
    root = parsed(funnel(RoundData(2, "closed", summary)))
    bars = [float(e.get("width")) for e in root.iter() if e.get("class") == "bar"]
    controls = [float(e.get("width")) for e in root.iter() if e.get("class") == "control"]
    assert bars[1] / bars[0] == pytest.approx(0.5, abs=1e-3)
    assert controls[0] == pytest.approx(bars[0])
    assert controls[1] / controls[0] == pytest.approx(0.25, abs=1e-3)
    assert shares_by_round([RoundData(2, "closed", summary)]) is None


def test_an_empty_round_divides_by_nothing():
    assert "0" in funnel(RoundData(1, "open", RoundSummary(number=1)))


def test_a_rocksalt_cell_is_shown_conventional_with_its_faces_closed():
    cell = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    primitive = cell.get_primitive_structure()
    assert len(primitive) == 2
    assert len(shown_cell(primitive)) == 8
    atoms = [e for e in parsed(picture(primitive)).iter() if e.get("class") == "atom"]
    assert len(atoms) == 27


@given(
    st.floats(-1e4, 1e4, allow_nan=False).flatmap(
        lambda low: st.tuples(st.just(low), st.floats(low + 1e-3, low + 1e4, allow_nan=False))
    )
)
def test_ticks_are_round_inside_and_neither_few_nor_many(limits):
    low, high = limits
    found = ticks(low, high)
    assert all(low - 1e-6 * (high - low) <= t <= high + 1e-6 * (high - low) for t in found)
    assert 2 <= len(found) <= 8
    assert np.allclose(np.diff(found), found[1] - found[0])


def test_frame_maps_limits_to_borders():
    frame = Frame(10, 20, 100, 50, -1, 1, 0, 5)
    assert (frame.x(-1), frame.x(1), frame.y(0), frame.y(5)) == (10, 110, 70, 20)


@given(st.lists(st.tuples(st.floats(10, 290), st.floats(10, 190)), max_size=40))
def test_labels_never_cover_each_other(points):
    labels = Labels(Svg(300, 200, "x"), points)
    for x, y in points:
        labels.place(x, y, "MgAl₂O₄")
    boxes = labels._taken[len(points) :]
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
