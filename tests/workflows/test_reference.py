from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from workflows.causes import CausedError
from workflows.engines.registry import make_engine
from workflows.reference import (
    Crystal,
    ReferenceEntry,
    ReferenceSet,
    ReferenceSetError,
    Source,
    Subsystem,
    energy_above_hull,
    file_name,
    hull,
    load_reference,
    required_subsystems,
    system_name,
)

DEMO = ("Al", "Mg", "N", "O", "Si")
CUBE = Crystal(lattice=((4, 0, 0), (0, 4, 0), (0, 0, 4)), species=("Mg",), coords=((0, 0, 0),))


def reference(energies, key="k"):
    """A set of (formula, eV/atom)."""
    parts = {}
    for number, (formula, energy) in enumerate(energies):
        name = system_name(e.symbol for e in Composition(formula).elements)
        entry = ReferenceEntry(
            id=f"{name}/{number}",
            formula=formula,
            energy_ev_per_atom=energy,
            crystal=CUBE,
            spacegroup="P1",
            source=Source(kind="known", prototype="p"),
        )
        parts.setdefault(name, []).append(entry)
    return ReferenceSet(
        key=key,
        subsystems={
            name: Subsystem(elements=tuple(name.split("-")), entries=entries, covers="test", enumerated=1, relaxed=1)
            for name, entries in parts.items()
        },
    )


ENERGIES = [("Mg", -1.6), ("O2", -4.9), ("MgO", -5.98), ("MgO2", -5.4), ("Mg2O", -4.0), ("Mg", -1.5)]


@settings(max_examples=25, deadline=None)
@given(
    energy=st.floats(-8, 0),
    formula=st.sampled_from(["MgO", "Mg2O3", "Mg3O", "MgO3", "Mg", "O2"]),
    shift=st.floats(-1, 1),
)
def test_distances_are_those_of_pymatgen(energy, formula, shift):
    energies = [(f, e + shift * i / 7) for i, (f, e) in enumerate(ENERGIES)]
    distance, record = energy_above_hull(Composition(formula), energy, reference(energies))
    composition = Composition(formula)
    entry = PDEntry(composition, energy * composition.num_atoms)
    others = [PDEntry(c := Composition(f), e * c.num_atoms) for f, e in energies]
    without, including = PhaseDiagram(others), PhaseDiagram([*others, entry])
    _, expected = without.get_decomp_and_e_above_hull(entry, allow_negative=True)
    assert distance == pytest.approx(expected, abs=1e-9)
    assert max(distance, 0) == pytest.approx(including.get_e_above_hull(entry), abs=1e-9)
    assert record.n_entries == len(energies if len(composition) == 2 else [f for f, _ in energies if f == formula])


def test_a_candidate_below_the_hull_has_a_negative_distance():
    distance, record = energy_above_hull(Composition("MgO"), -6.08, reference(ENERGIES))
    assert distance == pytest.approx(-0.1)
    assert (record.key, record.chemical_system, record.covers) == ("k", "Mg-O", "test")


def test_energies_of_two_keys_never_meet():
    ours, theirs = reference(ENERGIES, "mlip:7net-0:fast:1"), reference(ENERGIES, "mlip:7net-0:balanced:1")
    with pytest.raises(ReferenceSetError, match="must not be mixed"):
        ours.merged(theirs)
    with pytest.raises(ReferenceSetError, match="must not be compared"):
        energy_above_hull(Composition("MgO"), -6.0, ours, key=theirs.key)


def test_a_file_renamed_to_another_key_is_refused(tmp_path):
    path = reference(ENERGIES, "a:b").save(tmp_path)
    path.rename(tmp_path / file_name("c:d"))
    with pytest.raises(ReferenceSetError, match="must not be mixed"):
        load_reference("c:d", [tmp_path])


def test_missing_subsystems_are_named_and_refused():
    part = reference([("Mg", -1.6), ("MgO", -5.98)])
    assert part.missing([("Mg", "O"), ("Mg",)]) == [("O",)]
    with pytest.raises(CausedError, match="lacks O") as caught:
        hull(part, ("Mg", "O"))
    assert caught.value.code == 606
    empty = part.with_subsystems([Subsystem(elements=("O",), entries=(), covers="", enumerated=3, relaxed=0)])
    with pytest.raises(CausedError, match="no elemental phase of O"):
        hull(empty, ("Mg", "O"))


def test_required_subsystems_are_shared():
    needed = required_subsystems([("Al", "Mg", "O"), ("O", "Mg", "Si")])
    assert len(needed) == len(set(needed)) == 4 + 5 + 2
    assert needed[0] == ("Al",)
    assert needed[-1] == ("Mg", "O", "Si")


def test_files_are_deterministic_and_read_back(tmp_path):
    one, other = reference(ENERGIES), reference(ENERGIES)
    other = other.model_copy(update={"subsystems": dict(reversed(other.subsystems.items()))})
    assert one.to_bytes() == other.to_bytes()
    assert one.sha256() == other.sha256() != reference(ENERGIES[:-1]).sha256()
    one.save(tmp_path)
    again = load_reference("k", [tmp_path / "absent", tmp_path])
    assert again == one
    assert [p.name for p in tmp_path.iterdir()] == [file_name("k")]


@pytest.mark.parametrize("damage", [b"", b"not gzip", reference(ENERGIES).to_bytes()[:-9]])
def test_a_damaged_file_is_named(tmp_path, damage):
    (tmp_path / file_name("k")).write_bytes(damage)
    with pytest.raises(ReferenceSetError, match=r"k\.json\.gz: not a reference set"):
        load_reference("k", [tmp_path])


def test_users_subsystems_come_before_packaged_ones(tmp_path):
    key = make_engine("mlip", "fast").reference_key
    reference([("Mg", -99.0)], key).save(tmp_path)
    both = load_reference(key, [tmp_path])
    assert both.subsystems["Mg"].entries[0].energy_ev_per_atom == -99.0
    assert both.missing([("Mg", "O")]) == []


@pytest.fixture(scope="module")
def packaged():
    return load_reference(make_engine("mlip", "fast").reference_key)


def test_the_packaged_set_spans_the_demo_chemistry(packaged):
    from itertools import combinations

    systems = list(combinations(DEMO, 3))
    assert packaged.missing(systems) == []
    assert len(packaged.subsystems) == 25
    assert packaged.settings["model"] == "7net-0"
    ids = Counter(entry.id for entry in packaged.entries(DEMO))
    assert max(ids.values()) == 1
    for entry in packaged.entries(DEMO):
        structure = entry.crystal.structure()
        assert structure.composition.reduced_formula == entry.formula
        assert system_name(e.symbol for e in structure.composition.elements) == entry.id.split("/")[0]


@pytest.mark.parametrize(
    ("formula", "spacegroups"),
    [
        ("MgO", {"Fm-3m"}),
        ("Al2O3", {"R-3c"}),
        ("SiO2", None),
        ("MgAl2O4", {"Fd-3m"}),
        ("AlN", {"P6_3mc"}),
        ("Si3N4", None),
        ("Mg2SiO4", None),
        ("Mg3N2", {"Ia-3"}),
        ("Mg2Si", {"Fm-3m"}),
    ],
)
def test_known_phases_are_on_the_packaged_hull(packaged, formula, spacegroups):
    diagram = hull(packaged, [e.symbol for e in Composition(formula).elements])
    stable = [e for e in diagram.stable_entries if e.composition.reduced_formula == formula]
    assert len(stable) == 1
    if spacegroups:
        by_id = {entry.id: entry for entry in packaged.entries(DEMO)}
        assert by_id[stable[0].name].spacegroup in spacegroups


def test_formation_energies_of_oxides_are_sane(packaged):
    """PBE without corrections, which the model was trained on: MgO -2.7, Al2O3 -3.0 eV/atom (Materials Project)."""
    for formula, expected in (("MgO", -2.72), ("Al2O3", -3.0), ("AlN", -1.4)):
        diagram = hull(packaged, [e.symbol for e in Composition(formula).elements])
        (entry,) = (e for e in diagram.stable_entries if e.composition.reduced_formula == formula)
        assert diagram.get_form_energy_per_atom(entry) == pytest.approx(expected, abs=0.2)


def test_relaxing_a_packaged_phase_again_lands_on_the_hull(packaged):
    engine = make_engine("mlip", "fast")
    entry = next(e for e in packaged.entries(("Mg", "O")) if e.formula == "MgO")
    result = engine.relax_now(entry.crystal.structure())
    distance, record = energy_above_hull(
        result.structure, result.energy_ev_per_atom, packaged, key=engine.reference_key
    )
    assert distance == pytest.approx(0, abs=1e-3)
    assert record.sha256 == packaged.sha256(("Mg", "O"))
