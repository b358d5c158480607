import json

import pytest
from ase.io import read
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from workflows.report.collect import ReportError
from workflows.report.export import export


def stored(database, candidate):
    return Structure.from_dict(database["verdicts"].find_one({"candidate": candidate})["structure"])


def same_cell(one, two):
    assert one.lattice.abc == pytest.approx(two.lattice.abc, abs=1e-5)
    assert one.lattice.angles == pytest.approx(two.lattice.angles, abs=1e-4)
    assert StructureMatcher(ltol=1e-3, stol=1e-3, angle_tol=0.01, primitive_cell=False, scale=False).fit(one, two)


def test_cif_round_trip_through_pymatgen_and_ase(database, tmp_path):
    written = export(database, "light", "cif", tmp_path / "out", "verified")
    assert len(written) == 7
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"{c}.cif" for c in written}
    for candidate in written:
        path = tmp_path / "out" / f"{candidate}.cif"
        same_cell(Structure.from_file(path), stored(database, candidate))
        same_cell(AseAtomsAdaptor.get_structure(read(path)), stored(database, candidate))
    text = (tmp_path / "out" / "light-r01-0001.cif").read_text()
    assert text.splitlines()[1] == "data_light-r01-0001"
    assert "_nucleate_e_above_hull_ev_per_atom   0.0121" in text


def test_extxyz_round_trip_keeps_cell_and_numbers_with_units_in_their_names(database, tmp_path):
    path = tmp_path / "hits.extxyz"
    written = export(database, "light", "extxyz", path)
    frames = read(path, index=":")
    assert [f.info["candidate"] for f in frames] == written
    assert len(written) == 3
    for atoms in frames:
        verdict = database["verdicts"].find_one({"candidate": atoms.info["candidate"]})
        assert atoms.info["e_above_hull_ev_per_atom"] == pytest.approx(verdict["energy_above_hull_ev_per_atom"])
        assert atoms.info["energy_ev_per_atom"] == pytest.approx(verdict["energy_ev_per_atom"])
        assert atoms.info["bulk_modulus_gpa"] == pytest.approx(verdict["properties"]["bulk_modulus"]["value"])
        assert atoms.info["hit"] is True
        assert atoms.pbc.all()
        same_cell(AseAtomsAdaptor.get_structure(atoms), stored(database, atoms.info["candidate"]))


def test_json_holds_the_whole_verdict(database, tmp_path):
    path = tmp_path / "all.json"
    written = export(database, "light", "json", path, "stable")
    records = json.loads(path.read_text())
    assert [r["candidate"] for r in records] == written
    assert len(written) == 4
    same_cell(Structure.from_dict(records[0]["structure"]), stored(database, written[0]))
    assert records[0]["provenance"]["reproduce"] == f"nucleate reproduce {written[0]}"


def test_selection_by_round_and_candidate(database, tmp_path):
    assert export(database, "light", "json", tmp_path / "none.json", "verified", round_number=2) == []
    assert json.loads((tmp_path / "none.json").read_text()) == []
    only = export(database, "light", "cif", tmp_path / "one.cif", "verified", candidates=("light-r01-0003",))
    assert only == ["light-r01-0003"]
    same_cell(Structure.from_file(tmp_path / "one.cif"), stored(database, "light-r01-0003"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "poscar"}, "choose cif, extxyz, json"),
        ({"which": "best"}, "choose hits, stable, verified"),
        ({"candidates": ("light-r01-0003",)}, "not among the hits of light: light-r01-0003"),
        ({"format": "cif", "path": "many.cif"}, "3 crystals do not go into the single file"),
    ],
)
def test_what_can_not_be_exported_is_refused_and_nothing_is_written(database, tmp_path, options, message):
    arguments = {"format": "extxyz", "path": "x.xyz", "which": "hits", "candidates": ()} | options
    path = tmp_path / arguments.pop("path")
    with pytest.raises(ReportError, match=message):
        export(database, "light", path=path, **arguments)
    assert list(tmp_path.iterdir()) == []
