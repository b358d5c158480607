from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from ase.data import covalent_radii
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import DummySpecies, Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from generators.crystals.validity import MIN_DISTANCE_RATIO, check_structure, read_structure, read_structures
from generators.data import known_structures


def test_every_shipped_structure_is_valid():
    assert [k.label for k in known_structures() if check_structure(k.structure)] == []


def problems_of(structure: Structure, **options: int) -> str:
    return "; ".join(check_structure(structure, **options))


def test_too_many_atoms(rocksalt):
    assert check_structure(rocksalt, max_atoms=8) == []
    assert "16 atoms, at most 8" in problems_of(rocksalt * (2, 1, 1), max_atoms=8)


def test_no_atoms():
    assert problems_of(Structure(Lattice.cubic(4), [], [])) == "the structure has no atoms"


def test_partial_occupancy_is_named_by_species_and_coordinates():
    mixed = {"Fe": 0.5, "Ni": 0.5}
    alloy = Structure(Lattice.cubic(3.6), ["Mg", mixed], [[0, 0, 0], [0.5, 0.5, 1 / 3]])
    assert problems_of(alloy).startswith("Fe:0.5, Ni:0.5 at (0.5, 0.5, 0.3333) is partially occupied")
    two = Structure(Lattice.cubic(3.6), [mixed] * 2, [[0, 0, 0], [0.5] * 3])
    assert problems_of(two).startswith("Fe:0.5, Ni:0.5 at (0, 0, 0) and at 1 other site is partially occupied")
    many = Structure(Lattice.cubic(3.6), [mixed] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    assert "at (0, 0, 0) and at 3 other sites is partially occupied" in problems_of(many)
    vacancies = Structure(Lattice.cubic(3.6), [{"Fe": 0.9}], [[0, 0, 0]])
    assert "partially occupied" in problems_of(vacancies)


@pytest.mark.parametrize(
    ("species", "words"),
    [
        ("D", "D at (0, 0, 0) is an isotope"),
        ("Cf", "Cf at (0, 0, 0) is beyond curium"),
        (DummySpecies("Xx"), "Xx at (0, 0, 0) is no element"),
    ],
)
def test_wrong_species(species, words):
    assert words in problems_of(Structure(Lattice.cubic(4), [species], [[0, 0, 0]]))


def test_atoms_on_top_of_each_other_are_named(rocksalt):
    rocksalt.append("O", [0.02, 0, 0])
    found = problems_of(rocksalt)
    assert "Mg at (0, 0, 0) and O at (0.02, 0, 0) are 0.08 Å apart" in found


def test_an_atom_too_close_to_its_own_image():
    squeezed = Structure(Lattice.tetragonal(2.0, 9), ["Cs"], [[0, 0, 0]])
    assert "Cs at (0, 0, 0) and its own image are 2.00 Å apart" in problems_of(squeezed)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.diag([4, 4, 0]), "flat"),
        ([[4, 0, 0], [4, 1e-4, 0], [0, 0, 4]], "flat"),
        (np.diag([0.3, 6, 6]), "too long"),
        (np.diag([2, 2, 90]), "too long"),
        (np.diag([30, 30, 30]), "too large"),
        (np.full((3, 3), np.nan), "finite"),
        (np.diag([np.inf, 4, 4]), "finite"),
    ],
)
def test_broken_cells(matrix, words):
    assert words in problems_of(Structure(Lattice(matrix), ["Mg"], [[0, 0, 0]]))


def test_squeezed(rocksalt):
    rocksalt.scale_lattice(rocksalt.volume / 6)
    found = problems_of(rocksalt)
    assert "too small" in found
    assert "apart" in found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 5),
    kind=st.sampled_from(["permuted", "translated", "rotated", "mirrored", "other cell"]),
)
def test_the_verdict_depends_on_the_crystal_alone_and_distances_are_pymatgens(redescribe, seed, n, kind):
    rng = np.random.default_rng(seed)
    lattice = Lattice.from_parameters(*rng.uniform(2.5, 6, 3), *rng.uniform(65, 115, 3))
    structure = Structure(lattice, rng.choice(["Mg", "Al", "O"], n), rng.random((n, 3)))
    found = check_structure(structure)
    assert len(found) == len(check_structure(redescribe(structure, kind, seed)))

    radii = covalent_radii[[site.specie.Z for site in structure]]
    close = any(
        neighbour.nn_distance < MIN_DISTANCE_RATIO * (radii[i] + radii[neighbour.index])
        for i, site in enumerate(structure)
        for neighbour in structure.get_neighbors(site, 2.5, include_image=True)
    )
    assert close == any("apart" in reason for reason in found)


def written(tmp_path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_each_format_is_read(tmp_path, rocksalt):
    files = {
        "a.cif": str(CifWriter(rocksalt, symprec=0.01)),
        "POSCAR": Poscar(rocksalt).get_str(),
        "c.vasp": Poscar(rocksalt).get_str(),
        "d.json": json.dumps(rocksalt.as_dict()),
        "e.extxyz": _extxyz(rocksalt),
    }
    paths = [written(tmp_path, name, text) for name, text in files.items()]
    paths.append(tmp_path / "f.extxyz.gz")
    paths[-1].write_bytes(gzip.compress(_extxyz(rocksalt).encode()))
    for path in paths:
        read = read_structure(path)
        assert read.composition == rocksalt.composition
        assert read.volume == pytest.approx(rocksalt.volume, rel=1e-4)


def _extxyz(structure: Structure) -> str:
    cell = " ".join(f"{x:.8f}" for x in structure.lattice.matrix.ravel())
    lines = [f"{s.specie.symbol} {s.x:.8f} {s.y:.8f} {s.z:.8f}" for s in structure]
    return f'{len(structure)}\nLattice="{cell}" Properties=species:S:1:pos:R:3 pbc="T T T"\n' + "\n".join(lines) + "\n"


CIF = """data_x
_cell_length_a {a}
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{atoms}
"""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("partial.cif", CIF.format(a=4, atoms="Fe1 Fe 0 0 0 0.5\nNi1 Ni 0 0 0 0.5"), "partially occupied"),
        ("vacant.cif", CIF.format(a=4, atoms="Fe1 Fe 0 0 0 0.5"), "partially occupied"),
        ("flat.cif", CIF.format(a=0, atoms="Fe1 Fe 0 0 0 1"), "flat|can't be read"),
        ("words.cif", CIF.format(a="wide", atoms="Fe1 Fe 0 0 0 1"), "can't be read"),
        ("none.cif", CIF.format(a=4, atoms=""), "can't be read|no atoms"),
        ("empty.cif", "", "can't be read"),
        ("deuterium.cif", CIF.format(a=4, atoms="D1 D 0 0 0 1"), "isotope"),
        ("POSCAR", "this is no POSCAR", "can't be read"),
        ("molecule.xyz", "1\n\nO 0 0 0\n", "no cell"),
        ("empty.extxyz", "", "can't be read"),
        ("torn.extxyz", '5\nLattice="4 0 0 0 4 0 0 0 4"\nO 0 0 0\n', "can't be read"),
        ("data.json", "{}", "can't be read"),
        ("torn.extxyz.gz", "4", "can't be read"),
        ("data.docx", "x", "format is not known"),
    ],
)
def test_bad_files_are_refused_in_one_line_that_names_them(tmp_path, name, text, words):
    with pytest.raises(ValueError, match=words) as error:
        read_structure(written(tmp_path, name, text))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_all_crystals_of_a_file_are_read_and_one_that_is_wrong_is_told_apart(tmp_path, rocksalt):
    strained = rocksalt.copy()
    strained.scale_lattice(1.2 * rocksalt.volume)
    frames = written(tmp_path, "two.extxyz", _extxyz(rocksalt) + _extxyz(strained))
    assert [read.volume for read in read_structures(frames)] == pytest.approx([rocksalt.volume, strained.volume])
    assert read_structure(frames).volume == pytest.approx(rocksalt.volume)

    good, bad = CIF.format(a=4, atoms="Fe1 Fe 0 0 0 1"), CIF.format(a="wide", atoms="Fe1 Fe 0 0 0 1")
    heading = "data_global\n_publ_section_title 'Two crystals'\n"
    blocks = written(tmp_path, "two.cif", heading + good + good.replace("data_x", "data_y"))
    assert len(read_structures(blocks)) == 2
    with pytest.raises(ValueError, match=r"1 of its 2 data blocks .* could not convert string"):
        read_structures(written(tmp_path, "torn.cif", good + bad.replace("data_x", "data_y")))
    partial = CIF.replace("data_x", "data_y").format(a=4, atoms="Fe1 Fe 0 0 0 0.5")
    with pytest.raises(ValueError, match=r"crystal 2 of 2: .*partially occupied"):
        read_structures(written(tmp_path, "partial.cif", good + partial))


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_structure(tmp_path / "nowhere.cif")
