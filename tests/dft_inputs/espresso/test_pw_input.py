from __future__ import annotations

import ase.io
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from dft_inputs.causes import DftError
from dft_inputs.espresso.pw_input import PwInput, Species

ELEMENTS = ("H", "C", "Co", "Fe", "F", "O", "Si", "S", "N", "Ni")


@st.composite
def inputs(draw):
    """Random crystals with several species of one element, spins, U and settings."""
    lengths = draw(st.tuples(*[st.floats(2.0, 30.0)] * 3))
    angles = draw(st.tuples(*[st.floats(70.0, 110.0)] * 3))
    lattice = Lattice.from_parameters(*lengths, *angles)
    species = []
    for element in draw(st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=3, unique=True)):
        species += [
            Species(
                f"{element}{index or ''}",
                element,
                draw(st.floats(1.0, 250.0)),
                f"{element}.upf",
                draw(st.none() | st.floats(-1.0, 1.0)),
                draw(st.none() | st.floats(0.0, 12.0)),
            )
            for index in range(draw(st.integers(1, 3)))
        ]
    kinds = draw(st.permutations(range(len(species)))) + draw(st.lists(st.integers(0, len(species) - 1), max_size=4))
    coords = [draw(st.tuples(*[st.floats(-1.0, 2.0)] * 3)) for _ in kinds]
    structure = Structure(lattice, [species[k].element for k in kinds], coords)
    text = st.text(st.characters(codec="utf-8", exclude_characters="'\"\\"), max_size=40).filter(str.isprintable)
    value = st.booleans() | st.integers(-9999, 9999) | st.floats(allow_nan=False, allow_infinity=False) | text
    keys = st.sampled_from(["title", "nstep", "ecutwfc", "conv_thr", "mixing_beta", "outdir", "nspin", "degauss"])
    namelists = {
        name: draw(st.dictionaries(keys, value, max_size=4))
        for name in ("control", "system", "electrons", "ions", "cell")
    }
    calculation = draw(st.sampled_from(["scf", "nscf", "relax", "vc-relax"]))
    namelists["control"]["calculation"] = calculation
    mesh = draw(st.tuples(*[st.integers(1, 20)] * 3))
    shift = draw(st.tuples(*[st.integers(0, 1)] * 3))
    return PwInput(structure, namelists, mesh, shift, tuple(species), tuple(species[k].label for k in kinds))


@settings(max_examples=120, deadline=None)
@given(inputs())
def test_what_is_written_is_read_back_exactly(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("pw") / "pw.in"
    written.write(path)
    read = PwInput.read(path)
    assert read == written
    assert read.as_text() == written.as_text()


def test_ase_reads_the_same_crystal(tmp_path):
    structure = Structure(Lattice.hexagonal(3.1, 4.9), ["Al", "Al", "N", "N"], [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5],
        [1 / 3, 2 / 3, 0.382], [2 / 3, 1 / 3, 0.882]])  # fmt: skip
    species = (Species("Al", "Al", 26.98, "Al.upf"), Species("N1", "N", 14.007, "N.upf"))
    PwInput(structure, {"system": {"ecutwfc": 40}}, (4, 4, 2), (0, 0, 0), species, ("Al", "Al", "N1", "N1")).write(
        tmp_path / "pw.in"
    )
    atoms = ase.io.read(tmp_path / "pw.in", format="espresso-in")
    assert atoms.get_chemical_symbols() == ["Al", "Al", "N", "N"]
    np.testing.assert_allclose(atoms.cell, structure.lattice.matrix, atol=1e-11)
    np.testing.assert_allclose(atoms.positions, structure.cart_coords, atol=1e-10)


def silicon(**namelists):
    structure = Structure(Lattice.cubic(5.43).get_lll_reduced_lattice(), ["Si"], [[0, 0, 0]])
    return PwInput(structure, namelists, (2, 2, 2), (0, 0, 0), (Species("Si", "Si", 28.1, "Si.upf"),), ("Si",))


def test_changed_changes_only_what_it_is_told():
    before = silicon(electrons={"mixing_beta": 0.7, "conv_thr": 1e-8}, control={"calculation": "scf"})
    after = before.changed(**{"electrons.mixing_beta": 0.3, "electrons.conv_thr": None}, mesh=(3, 3, 3))
    assert (after.get("electrons.mixing_beta"), after.get("electrons.conv_thr"), after.mesh) == (0.3, None, (3, 3, 3))
    assert before.get("electrons.mixing_beta") == 0.7
    assert after.changed(**{"electrons.mixing_beta": 0.7, "electrons.conv_thr": 1e-8}, mesh=(2, 2, 2)) == before


def test_namelists_follow_the_calculation():
    relax = silicon(control={"calculation": "vc-relax"}, cell={"cell_dofree": "all"})
    assert set(relax.namelists) == {"control", "system", "electrons", "ions", "cell"}
    assert set(relax.changed(**{"control.calculation": "scf"}).namelists) == {"control", "system", "electrons"}


def test_an_input_is_not_changed_through_what_it_was_made_from():
    namelists = {"electrons": {"mixing_beta": 0.7}}
    made = silicon(**namelists)
    namelists["electrons"]["mixing_beta"] = 0.1
    assert made.get("electrons.mixing_beta") == 0.7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"system.nat": 2}, "structure and species decide nat"),
        ({"system.hubbard_u(1)": 4.0}, "hubbard_u"),
        ({"control.outdir": "a'b"}, "quotes"),
        ({"control.pseudo_dir": "x" * 256}, "255"),
        ({"electrons.conv_thr": float("nan")}, "no number"),
        ({"electrons.conv_thr": [1]}, "numbers, strings"),
        ({"mixing_beta": 0.3}, "namelist.key"),
        ({"kpoints.nk": 3}, "namelist.key"),
        ({"mesh": (0, 1, 1)}, "mesh"),
        ({"shift": (0, 2, 0)}, "shift"),
        ({"site_labels": ("Ge",)}, "site labels"),
        ({"species": (Species("Si", "Si", 28.1, "Si.upf", 1.5),)}, "outside"),
    ],
)
def test_nonsense_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        silicon().changed(**change)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello\n",
        "&control\n/\n",
        "&system\nibrav=2, nat=1, ntyp=1\n/\n",
        silicon().as_text().replace("automatic", "tpiba"),
        silicon().as_text().partition("CELL_PARAMETERS")[0],
        silicon().as_text().rpartition("Si ")[0],
        silicon().as_text().replace("Si 28.1 Si.upf", "28.1"),
    ],
)
def test_what_is_no_input_is_said_to_be_none(tmp_path, text):
    (tmp_path / "pw.in").write_text(text)
    with pytest.raises(DftError) as caught:
        PwInput.read(tmp_path / "pw.in")
    assert caught.value.code == 303
