from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import DummySpecies, Lattice, Structure

from dft_inputs.checks import check_geometry, check_structure_for_dft
from dft_inputs.espresso.protocols import load_protocol

FAST = load_protocol("fast")
ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.25), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def rocksalt(**replaced):
    """Give MgO with species replaced by element."""
    structure = ROCKSALT.copy()
    structure.replace_species(replaced)
    return structure


def overlapping(distance):
    return Structure(Lattice.cubic(6), ["Mg", "O"], [[0, 0, 0], [distance / 6, 0, 0]])


def codes(structure, family, **options):
    return [refusal.code for refusal in check_structure_for_dft(structure, FAST, family, **options)]


@pytest.mark.parametrize(
    "structure",
    [
        ROCKSALT,
        ROCKSALT.get_primitive_structure(),
        rocksalt().add_oxidation_state_by_element({"Mg": 2, "O": -2}),
        Structure(Lattice.cubic(8), ["H", "H"], [[0, 0, 0], [0.74 / 8, 0, 0]]),
        Structure(Lattice.cubic(8), ["C", "O"], [[0, 0, 0], [1.13 / 8, 0, 0]]),
        Structure(Lattice.cubic(9), ["Ar"], [[0, 0, 0]]),
    ],
    ids=["MgO", "primitive", "with oxidation states", "H2", "CO", "an atom alone"],
)
def test_crystals_and_molecules_pass(structure, family):
    assert check_structure_for_dft(structure, FAST, family, memory_gb=8) == []


@pytest.mark.parametrize(
    ("structure", "code", "words"),
    [
        (rocksalt(Mg="U"), 201, "U"),
        (rocksalt(Mg={"Mg": 0.5, "Ca": 0.5}), 301, "partial occupancy"),
        (rocksalt(O={"O": 0.9}), 301, "partial occupancy"),
        (overlapping(0.6), 301, "Mg and O are 0.60 Å apart"),
        (overlapping(0.0), 301, "Mg and O are 0.00 Å apart"),
        (Structure(Lattice.cubic(0.5), ["Mg"], [[0, 0, 0]]), 301, "no crystal"),
        (Structure(Lattice([[4, 0, 0], [0, 4, 0], [4, 4, 0]]), ["Mg"], [[0, 0, 0]]), 301, "no crystal"),
        (Structure(Lattice.orthorhombic(0.4, 8, 8), ["Mg"], [[0, 0, 0]]), 301, "Mg and Mg are 0.40"),
        (Structure(Lattice.cubic(40), ["Mg"], [[0, 0, 0]]), 301, "no crystal"),
        (Structure(Lattice.cubic(4), ["Mg"], [[np.nan, 0, 0]]), 301, "not finite"),
        (Structure(Lattice.cubic(np.inf), ["Mg"], [[0, 0, 0]]), 301, "not finite"),
        (Structure(Lattice.cubic(4), [], []), 301, "no atoms"),
        (rocksalt(Mg="D"), 302, "deuterium"),
        (rocksalt(Mg=DummySpecies("X")), 302, "dummy"),
    ],
)  # fmt: skip
def test_what_is_no_crystal_is_refused(structure, code, words, family):
    refusals = check_structure_for_dft(structure, FAST, family, memory_gb=8)
    assert code in [one.code for one in refusals]
    assert any(words in str(one) for one in refusals), refusals


def test_everything_is_said_at_once(family):
    broken = Structure(
        Lattice.cubic(6),
        ["U", "D", {"Mg": 0.5}, "O"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.25, 0.25], [0.26, 0.25, 0.25]],
    )
    assert codes(broken, family) == [201, 301, 301, 302]


def test_what_does_not_fit_into_memory_is_refused(family):
    big = ROCKSALT.make_supercell(4, in_place=False)
    (refusal,) = check_structure_for_dft(
        big, load_protocol("stringent").changed(family=FAST.family), family, memory_gb=16
    )
    assert refusal.code == 304
    assert "512 atoms" in refusal.message
    assert codes(big, family, memory_gb=10_000) == []
    assert codes(ROCKSALT, family, memory_gb=0.01) == [304]


def test_too_many_kinds_of_atoms_are_refused(family):
    moments = [float(m) for m in range(11)] + [0.0]
    cell = Structure(Lattice.orthorhombic(3, 3, 36), ["Fe"] * 11 + ["O"], [[0, 0, i / 12] for i in range(12)])
    assert 303 in codes(cell.copy(site_properties={"magmom": moments}), family)


@pytest.fixture
def harmed(family, tmp_path):
    """Give a function that makes the family with one file changed."""

    def harm(element, change):
        pseudo = family.files[element]
        path = tmp_path / pseudo.path.name
        path.write_bytes(change(pseudo.path.read_bytes()))
        files = {**family.files, element: dataclasses.replace(pseudo, path=path)}
        return dataclasses.replace(family, files=files)

    return harm


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda content: content[: len(content) // 2], 208),
        (lambda content: content.replace(b"1.0", b"1.1", 1), 208),
        (lambda content: content[:0], 208),
    ],
    ids=["cut short", "one digit", "empty"],
)
def test_a_damaged_pseudopotential_is_refused(harmed, change, code):
    (refusal,) = check_structure_for_dft(ROCKSALT, FAST, harmed("O", change), memory_gb=8)
    assert refusal.code == code
    assert "O" in refusal.message


def test_a_file_of_another_element_is_refused(family, tmp_path):
    path = tmp_path / "O.upf"
    shutil.copy(family.files["N"].path, path)
    files = {**family.files, "O": dataclasses.replace(family.files["O"], path=path)}
    assert codes(ROCKSALT, dataclasses.replace(family, files=files)) == [207]


def test_another_functional_is_refused(family):
    refusals = check_structure_for_dft(ROCKSALT, FAST.changed(functional="PBEsol"), family, memory_gb=8)
    assert [one.code for one in refusals] == [207]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([ROCKSALT, overlapping(0.6), rocksalt(Mg="U"), rocksalt(Mg="D"), rocksalt(Mg={"Mg": 0.5})]),
    st.randoms(use_true_random=False),
    st.tuples(*[st.floats(-2, 2)] * 3),
)
def test_order_and_origin_change_nothing(family, structure, random, shift):
    order = list(range(len(structure)))
    random.shuffle(order)
    moved = Structure.from_sites([structure[index] for index in order])
    moved.translate_sites(range(len(moved)), shift, to_unit_cell=random.random() < 0.5)
    assert check_structure_for_dft(moved, FAST, family, memory_gb=8) == check_structure_for_dft(
        structure, FAST, family, memory_gb=8
    )


def test_geometry_can_be_checked_for_any_code():
    assert check_geometry(ROCKSALT) == []
    assert [one.code for one in check_geometry(overlapping(0.5))] == [301]
