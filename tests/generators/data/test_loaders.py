from __future__ import annotations

import csv
import gzip

import pytest
from ase.io import write as ase_write
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter

from generators.crystals.duplicates import same
from generators.data.dataset import Dataset
from generators.data.gate import sift, sort_of
from generators.data.loaders import load, load_cifs, load_extxyz, load_table


def cif(structure):
    return str(CifWriter(structure))


@pytest.fixture
def folder(tmp_path, crystals):
    place = tmp_path / "mine"
    place.mkdir()
    for name in ("MgO", "Al", "Si"):
        (place / f"{name}.cif").write_text(cif(crystals[name]))
    return place


BROKEN = {
    "half": ("occupancy", "partial occupancy"),
    "close": ("Å apart", "atoms too close"),
    "flat": ("the cell", "cell"),
    "text": ("can't be read as a crystal", "unreadable"),
    "empty": ("can't be read as a crystal", "unreadable"),
}


def broken(crystals):
    base = crystals["MgO"]
    flat = cif(base).replace(f"_cell_length_a   {base.lattice.a:.8f}", "_cell_length_a   0.001")
    return {
        "half": cif(Structure(base.lattice, [{"Mg": 0.5, "Al": 0.5}, "O"], base.frac_coords)),
        "close": cif(Structure(base.lattice, base.species, [[0, 0, 0], [0.03, 0, 0]])),
        "flat": flat,
        "text": "this is a letter",
        "empty": "",
    }


def test_a_folder_of_cifs(folder, crystals):
    entries, rejected = load_cifs(folder)
    assert rejected == []
    assert [e.label for e in entries] == ["Al", "MgO", "Si"]
    assert {e.prototype for e in entries} == {"225_1a", "225_1a_1b", "227_2a"}
    assert all(same(e.structure, crystals[e.label]) for e in entries)
    assert all(e.source == "mine" and e.properties == {} for e in entries)


def test_broken_cifs_are_reported_one_by_one(folder, crystals):
    for name, text in broken(crystals).items():
        (folder / f"{name}.cif").write_text(text)
    entries, rejected = load_cifs(folder)
    assert [e.label for e in entries] == ["Al", "MgO", "Si"]
    found = {r.label: (r.reason, sort_of(r.reason)) for r in rejected}
    assert set(found) == set(BROKEN)
    for name, (_, sort) in BROKEN.items():
        assert found[name][1] == sort, found[name]
        assert str(folder) not in found[name][0]
    # numbers of sites are pymatgen's, which has sorted them; coordinates stand in the file
    assert found["half"][0].startswith("Mg:0.5, Al:0.5 at (0, 0, 0) is partially occupied")
    assert found["close"][0].startswith("O at (0.03, 0, 0) and Mg at (0, 0, 0) are 0.09 Å apart")


def test_properties_by_file_name(folder):
    table = folder / "properties.csv"
    table.write_text(
        "file,band_gap,bulk_modulus,energy_per_atom,colour\n"
        "MgO.cif,7.8,160,-5.9,white\nAl,,76,-3.7,grey\nGe.cif,0.7,75,,\nMgO,1,1,,\nSi.cif,1.1\n"
    )
    entries, rejected = load(folder, table)
    found = {e.label: e for e in entries}
    assert found["MgO"].properties == {"band_gap": 7.8, "bulk_modulus": 160.0}
    assert found["MgO"].energy_ev_per_atom == -5.9
    assert found["Al"].properties == {"bulk_modulus": 76.0}
    assert found["Si"].properties == {}
    assert [r.reason.split(",")[0] for r in rejected] == [
        "row 3 names 'Ge.cif'",
        "row 4 names 'MgO' a second time",
        "row 5 has not as many cells as the header has columns",
    ]


def test_what_a_table_of_properties_leaves_open_is_noted(folder):
    table, notes = folder / "properties.csv", []
    table.write_text(
        "file,Eform,band_gap,hardness,Band gap,colour,sg number,volume,empty\n"
        "MgO.cif,-3.0,7.8,nan,7.8 eV,white,225,18,\nSi,,1.1,11.5,,grey,227,40,\n"
    )
    load(folder, table, on_note=notes.append)
    unread, lacking = notes
    assert unread.startswith(f"Eform, hardness, Band gap, sg number of {table} are not understood and left out; ")
    assert "these are read: formation_energy (eV/atom), bulk_modulus (GPa), band_gap (eV)" in unread
    assert lacking == f"1 of the 3 crystals of {folder} has no row in {table}"


def test_a_table_that_names_every_crystal_with_names_that_are_understood_gets_no_note(folder):
    table, notes = folder / "properties.csv", []
    table.write_text("name,band_gap,e_above_hull,energy_per_atom\nMgO,7.8,0,-5\nAl,0,0,-4\nSi,1,0,-5\n")
    load(folder, table, on_note=notes.append)
    assert notes == []
    load(folder, on_note=notes.append)
    assert notes == []
    table.write_text("name,band_gap\nGe,0.7\n")
    load(folder, table, on_note=notes.append)
    assert notes == [f"3 of the 3 crystals of {folder} have no row in {table}"]


@pytest.mark.parametrize(
    ("value", "says", "sort"),
    [
        ("nan", "not a finite number", "not a number"),
        ("wide", "'wide' is no number", "not a number"),
        ("-3", "is absurd", "property"),
    ],
)
def test_a_bad_property_keeps_its_row_out_and_no_other(folder, value, says, sort):
    table = folder / "properties.csv"
    table.write_text(f"file,band_gap\nMgO.cif,{value}\nSi.cif,1.1\n")
    entries, rejected = load(folder, table)
    dataset, more = sift(entries, "set")
    assert [e.label for e in dataset.entries] == ["Al", "Si"]
    only = [*rejected, *more]
    assert len(only) == 1
    assert only[0].label == "MgO"
    assert says in only[0].reason
    assert sort_of(only[0].reason) == sort


PEROV = ["", "material_id", "cif", "formula", "heat_all", "heat_ref", "dir_gap", "ind_gap"]


def write_table(path, header, rows):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["train.csv", "train.csv.gz"])
def test_a_table_laid_out_as_perov_5(tmp_path, crystals, name):
    rows = [[0, 18517, cif(crystals["SrTiO3"]), "TiSrO3", "0.1", "0.2", "3.5", "3.0"]]
    rows += [[i, text, broken(crystals)[text], "X", "1", "1", "0", "0"] for i, text in enumerate(BROKEN, start=1)]
    rows += [[9, 7, cif(crystals["MgO"]), "MgO", "", "nan", "", ""], [10, 8, cif(crystals["SrTiO3"]), "X", 1, 1, 0, 0]]
    notes = []
    entries, rejected = load(write_table(tmp_path / name, PEROV, rows), on_note=notes.append)
    assert notes == []
    assert {r.label: sort_of(r.reason) for r in rejected} == {name: sort for name, (_, sort) in BROKEN.items()}
    first = entries[0]
    assert first.label == "train-18517"
    assert first.properties == {"heat_of_formation": 0.2, "band_gap": 3.0, "direct_band_gap": 3.5}
    assert first.prototype == "221_1a_1b_3c"
    dataset, more = sift(entries, "set")
    assert [e.label for e in dataset.entries] == ["train-18517"]
    assert {r.label: sort_of(r.reason) for r in more} == {"train-7": "not a number", "train-8": "duplicate"}


def test_a_table_laid_out_as_mp_20(tmp_path, crystals):
    header = ["", "material_id", "formation_energy_per_atom", "band_gap", "pretty_formula", "e_above_hull", "elements"]
    header += ["cif", "spacegroup.number"]
    rows = [[0, "mp-1265", "-3.03", "4.4", "MgO", "0.0", "['Mg', 'O']", cif(crystals["MgO"]), 225]]
    notes = []
    entries, rejected = load_table(write_table(tmp_path / "train.csv", header, rows), on_note=notes.append)
    assert (rejected, notes) == ([], [])
    assert entries[0].label == "mp-1265"
    assert entries[0].properties == {"formation_energy": -3.03, "band_gap": 4.4, "energy_above_hull": 0.0}


def test_columns_of_a_table_that_are_not_understood_are_noted(tmp_path, crystals):
    notes = []
    rows = [[cif(crystals["MgO"]), "160", 1], ["no CIF", "", 2]]
    load(write_table(tmp_path / "t.csv", ["cif", "dft_bulk_modulus", "mp_id"], rows), on_note=notes.append)
    (note,) = notes
    assert note.startswith(f"dft_bulk_modulus of {tmp_path / 't.csv'} is not understood")


def test_conventional_cells_become_primitive(tmp_path, crystals):
    big = crystals["MgO"].to_conventional()
    assert len(big) == 8
    (tmp_path / "MgO.cif").write_text(cif(big))
    assert len(load(tmp_path / "MgO.cif").entries[0].structure) == 2


def frames(crystals):
    for name, energy in (("MgO", -12.0), ("Al", None), ("Si", -10.8)):
        atoms = AseAtomsAdaptor.get_atoms(crystals[name], msonable=False)
        atoms.info = {"name": name, "band_gap": 1.0}
        if energy is not None:
            atoms.info["energy"] = energy
        yield atoms


@pytest.fixture
def extxyz(tmp_path, crystals):
    path = tmp_path / "mine.extxyz"
    ase_write(path, list(frames(crystals)), format="extxyz")
    return path


def test_extended_xyz_with_properties_and_energies(extxyz, crystals):
    entries, rejected = load_extxyz(extxyz)
    assert rejected == []
    assert [(e.label, e.energy_ev_per_atom) for e in entries] == [("MgO", -6.0), ("Al", None), ("Si", -5.4)]
    assert all(e.properties == {"band_gap": 1.0} for e in entries)
    assert all(same(e.structure, crystals[e.label]) for e in entries)
    packed = extxyz.with_name("mine.extxyz.gz")
    packed.write_bytes(gzip.compress(extxyz.read_bytes().replace(b"\n", b"\r\n")))
    assert [e.label for e in load(packed).entries] == ["MgO", "Al", "Si"]


@pytest.mark.parametrize(
    ("spoil", "left", "says"),
    [
        (lambda t: t.replace("name=Al", 'name=Al Lattice="1 2 3"'), ["MgO", "Si"], "can't be read"),
        (lambda t: t.replace("\n1\n", "\n2\n"), ["MgO", "Si"], "its number of atoms is not that of its lines"),
        (lambda t: t.replace("Al   ", "Qq   "), ["MgO", "Si"], "can't be read"),
        (lambda t: t.rstrip().rpartition("\n")[0], ["MgO", "Al"], "its number of atoms is not that of its lines"),
        (lambda t: "some words\n" + t, ["MgO", "Al", "Si"], "its number of atoms is not that of its lines"),
        (lambda t: t.replace("name=Al", "name=Al energy=-3000"), ["MgO", "Si"], "absurd"),
        (lambda t: t + "1\nProperties=species:S:1:pos:R:3\nHe 0 0 0\n", ["MgO", "Al", "Si"], "molecule"),
    ],
)
def test_a_broken_frame_costs_itself_alone(extxyz, spoil, left, says):
    extxyz.write_text(spoil(extxyz.read_text()))
    entries, rejected = load_extxyz(extxyz)
    dataset, more = sift(entries, "set")
    assert [e.label for e in dataset.entries] == left
    assert len(rejected + more) == 1
    assert says in (rejected + more)[0].reason


def test_a_data_set_of_ours_can_be_read_as_a_source(tmp_path, crystals):
    entry = crystals["entry"]
    made = Dataset("set", (entry("a b/c", crystals["MgO"], -6.0, bulk_modulus=160.0), entry("d", crystals["Al"])))
    made.write(tmp_path / "set.extxyz.gz")
    entries, rejected = load(tmp_path / "set.extxyz.gz")
    assert rejected == []
    assert [(e.label, e.energy_ev_per_atom, e.properties) for e in entries] == [
        ("a b/c", -6.0, {"bulk_modulus": 160.0}),
        ("d", None, {}),
    ]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("gone.csv", None, "no such file or folder"),
        ("table.csv", b"name,gap\nMgO,4\n", "it has no column cif; its columns are: name, gap"),
        ("table.csv", b"", "it has no column cif; its columns are: none"),
        ("table.csv.gz", b"cif\n", "can't be read as gzipped text"),
        ("table.csv", b"cif\n\xff\xfe\n", "can't be read as text"),
        ("mine.extxyz", b"no frames here\n", "no frame begins in it"),
    ],
)
def test_a_source_that_is_none_is_refused(tmp_path, name, data, says):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        load(path)


def test_a_folder_without_cifs_and_a_table_without_names_are_refused(tmp_path, folder):
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match=r"there is no \.cif file in it"):
        load(tmp_path / "bare")
    table = tmp_path / "t.csv"
    table.write_text("gap\n1\n")
    with pytest.raises(ValueError, match="it has no column file or filename or cif"):
        load(folder, table)
    with pytest.raises(ValueError, match="belongs to a folder"):
        load(table, table)
    with pytest.raises(FileNotFoundError, match=r"the table .*gone\.csv is not there; it should be a CSV"):
        load(folder, tmp_path / "gone.csv")
    with pytest.raises(FileNotFoundError, match=r"the table .*bare is no file; it should be a CSV"):
        load(folder, tmp_path / "bare")


def test_rows_are_counted_as_they_are_read(folder):
    told = []
    (folder / "zero.cif").write_text("")
    load(folder, on_row=told.append)
    assert told == [1, 2, 3, 4]
