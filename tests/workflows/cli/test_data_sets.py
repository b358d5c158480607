"""``nucleate data`` as a user runs it, on a handful of crystals."""

from __future__ import annotations

import csv
import json

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from generators.data import dataset as shipping
from generators.data.dataset import Dataset, Entry
from generators.data.labels import Label
from generators.data.loaders import load
from generators.evaluation.store import content_key


def rocksalt(cation, a):
    half = a / 2
    lattice = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
    return Structure(lattice, [cation, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for symbol, a in (("Mg", 4.22), ("Ca", 4.8)):
        (folder / f"{symbol}O.cif").write_text(str(CifWriter(rocksalt(symbol, a))))
    (folder / "twin.cif").write_text(str(CifWriter(rocksalt("Ca", 4.85))))
    (folder / "letter.cif").write_text("dear editor")
    (folder / "table.csv").write_text("file,band_gap\nMgO.cif,7.8\nCaO.cif,7.1\n")
    return folder


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.extxyz.gz"
    properties = {"formation_energy": -2.5, "bulk_modulus": 90.0}
    Dataset("base", (Entry("SrO", rocksalt("Sr", 5.16), "225_1a_1b", "test", -6.0, properties),)).write(path)
    (tmp_path / "base.card.json").write_text(json.dumps({"relaxer": "a model", "known_failings": ["it is small"]}))
    return path


def test_a_folder_becomes_a_data_set_and_what_is_rejected_is_told(nucleate, mine, tmp_path):
    into, report = tmp_path / "set.extxyz.gz", tmp_path / "rejected.csv"
    ran = nucleate("data", "add", mine, "--table", mine / "table.csv", "--output", into, "--report", report)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == f"2 taken, 2 rejected; {into} holds 2 crystals"
    assert lines[1] == "  duplicate: 1, e.g. twin: is the same crystal as CaO"
    assert lines[2].startswith("  unreadable: 1, e.g. letter: can't be read as a crystal")
    written = Dataset.read(into)
    assert {e.label: e.properties for e in written.entries} == {"CaO": {"band_gap": 7.1}, "MgO": {"band_gap": 7.8}}
    rows = list(csv.DictReader(report.open(newline="")))
    assert [(row["label"], row["sort"]) for row in rows] == [("letter", "unreadable"), ("twin", "duplicate")]
    assert lines[3:] == [f"note: 1 of the 3 crystals of {mine} has no row in {mine / 'table.csv'}"]


def test_columns_that_are_not_understood_are_noted_and_a_report_is_recommended(nucleate, mine, tmp_path):
    table = mine / "table.csv"
    table.write_text("file,Eform,band_gap\nMgO.cif,-3.0,7.8\nCaO.cif,-3.2,7.1\ntwin,-3.2,7.1\n")
    ran = nucleate("data", "add", mine, "--table", table, "--output", tmp_path / "set.extxyz")
    assert ran.code == 0, ran.err
    *_, note, hint = ran.out.splitlines()
    assert note.startswith(f"note: Eform of {table} is not understood and left out; these are read: formation_energy")
    assert hint == "--report FILE lists every rejected row"
    told = nucleate("data", "add", mine, "--table", table, "--output", tmp_path / "other.extxyz", "--json")
    assert [f"note: {n}" for n in json.loads(told.out)["notes"]] == [note]


def test_without_a_rejected_row_no_report_is_recommended(nucleate, mine, tmp_path):
    ran = nucleate("data", "add", mine / "MgO.cif", "--output", tmp_path / "set.extxyz")
    assert ran.out.splitlines() == [f"1 taken, 0 rejected; {tmp_path / 'set.extxyz'} holds 1 crystals"]


def test_another_crystal_under_a_label_that_is_taken_gets_a_number(nucleate, base, tmp_path):
    other = tmp_path / "SrO.cif"
    other.write_text(str(CifWriter(rocksalt("Ba", 5.52))))
    ran = nucleate("data", "add", other, "--to", base, "--output", base)
    assert ran.code == 0, ran.err
    assert "note: 1 label was another crystal's already and got a number: SrO-2" in ran.out
    assert {e.label: e.chemistry for e in Dataset.read(base).entries} == {"SrO": "O-Sr", "SrO-2": "Ba-O"}
    again = nucleate("data", "add", other, "--to", base, "--output", base)
    assert "nothing was taken of 1 row (duplicate 1)" in again.err.replace("\n", " ")


def test_adding_to_a_set_keeps_its_crystals_first(nucleate, mine, base):
    ran = nucleate("data", "add", mine, "--to", base, "--output", base, "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert (told["taken"], told["crystals"]) == (2, 3)
    assert told["rejected"] == {"duplicate": 1, "unreadable": 1}
    assert told["notes"] == []
    assert [e.label for e in Dataset.read(base).entries] == ["SrO", "CaO", "MgO"]
    again = nucleate("data", "add", mine, "--to", base, "--output", base)
    assert again.code == 2
    assert "nothing was taken of 4 rows (duplicate 3, unreadable 1)" in again.err.replace("\n", " ")
    assert [e.label for e in Dataset.read(base).entries] == ["SrO", "CaO", "MgO"]


def test_mixed_energies_are_noted(nucleate, base, tmp_path):
    other = tmp_path / "other.extxyz"
    entry = Entry("BaO", rocksalt("Ba", 5.52), "225_1a_1b", "test", None, {"formation_energy": -2.8})
    Dataset("other", (entry,)).write(other)
    ran = nucleate("data", "add", other, "--to", base, "--output", tmp_path / "both.extxyz")
    assert ran.code == 0, ran.err
    assert "note: formation_energy of both sets are kept as they are" in ran.out


def test_relaxing_labels_with_chgnet(nucleate, mine, tmp_path):
    into, report = tmp_path / "set.extxyz", tmp_path / "rejected.json"
    table = mine / "table.csv"
    ran = nucleate("data", "add", mine, "--table", table, "--relax", "--output", into, "--report", report)
    assert ran.code == 0, ran.err
    for entry in Dataset.read(into).entries:
        assert entry.energy_ev_per_atom == pytest.approx(-6.35, abs=0.6)
        assert entry.properties["formation_energy"] == pytest.approx(-3.1, abs=0.4)
        assert 80 < entry.properties["bulk_modulus"] < 190
        assert entry.properties["band_gap"] > 7
    assert {row["label"] for row in json.loads(report.read_text())} == {"letter", "twin"}
    assert not list(tmp_path.glob(".*"))  # what was kept for an interruption is not needed any more


def test_relaxing_goes_on_after_an_interruption(nucleate, mine, tmp_path):
    """What was relaxed before it stands in the log, told by an energy that no relaxation would find."""
    into, log = tmp_path / "set.extxyz", tmp_path / ".set.extxyz.labels.jsonl"
    done = next(entry.structure for entry in load(mine).entries if entry.label == "MgO")
    label = Label(content_key(done), done.as_dict(), -7.125, 100.0, converged=True, volume_change=0.0, error=None)
    log.write_text(json.dumps(label.as_dict()) + "\n" + '{"label": "cut off by a ki')
    ran = nucleate("data", "add", mine, "--relax", "--output", into)
    assert ran.code == 0, ran.err
    energies = {entry.label: entry.energy_ev_per_atom for entry in Dataset.read(into).entries}
    assert energies["MgO"] == -7.125
    assert energies["CaO"] == pytest.approx(-6.35, abs=0.6)
    assert not log.exists()


def test_show_tells_what_a_set_holds(nucleate, base):
    ran = nucleate("data", "show", base)
    assert ran.code == 0, ran.err
    assert "base: 1 crystals, 1 compositions in 1 chemical systems, 1 prototypes, 1 with an energy" in ran.out
    assert "2 elements: O 1, Sr 1" in ran.out
    assert ["bulk_modulus", "GPa", "1", "90.000", "90.000", "90.000"] in [line.split() for line in ran.out.splitlines()]
    assert "split by prototype: training" in ran.out
    assert "known failing: it is small" in ran.out
    told = json.loads(nucleate("data", "show", base, "--json").out)
    assert told["properties"]["formation_energy"] == {
        "unit": "eV/atom",
        "crystals": 1,
        "minimum": -2.5,
        "median": -2.5,
        "maximum": -2.5,
    }
    assert sum(part["crystals"] for part in told["splits"]["chemistry"].values()) == 1
    assert told["card"]["known_failings"] == ["it is small"]


def test_without_a_set_that_ships_show_says_what_to_do(nucleate, monkeypatch, tmp_path):
    def gone():
        return Dataset.read(tmp_path / "gone.extxyz.gz")

    monkeypatch.setattr(shipping, "shipped", gone)
    ran = nucleate("data", "show")
    assert ran.code == 2
    assert "no data set ships with this installation" in ran.err
    assert "nucleate data build" in ran.err


def test_a_trial_build_and_the_same_again(nucleate, tmp_path):
    folder = tmp_path / "build"
    ran = nucleate("data", "build", "--output", folder, "--limit", 2, "--scale", 0)
    assert ran.code == 0, ran.err
    first = ran.out.splitlines()[0]
    assert first == f"2 crystals in {folder / 'crystals.extxyz.gz'}"
    before = (folder / "crystals.extxyz.gz").read_bytes()
    again = nucleate("data", "build", "--output", folder, "--limit", 2, "--scale", 0, "--json")
    assert json.loads(again.out)["crystals"] == 2
    assert (folder / "crystals.extxyz.gz").read_bytes() == before
    other = nucleate("data", "build", "--output", folder, "--limit", 2, "--scale", 0, "--seed", 1)
    assert other.code == 2
    assert "other options" in other.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "gone.extxyz"], "gone.extxyz: No such file"),
        (["show", "mine"], "mine is a folder"),
        (["show", "mine/table.csv"], "can't be read as a data set"),
        (["add", "mine", "--output", "set.txt"], "must end in .extxyz or .extxyz.gz"),
        (["add", "mine", "--output", "no/where.extxyz"], "there is no folder no"),
        (["add", "gone", "--output", "set.extxyz"], "gone: no such file or folder"),
        (["add", "mine", "--output", "base.extxyz.gz"], "exists; add to it with --to"),
        (["add", "mine", "--output", "set.extxyz", "--to", "gone.extxyz"], "gone.extxyz: No such file"),
        (["add", "mine", "--output", "set.extxyz", "--table", "mine/letter.cif"], "it has no column file or"),
        (
            ["add", "mine", "--output", "set.extxyz", "--table", "gone.csv"],
            "the table gone.csv is not there; it should",
        ),
        (["add", "mine", "--output", "set.extxyz", "--report", "r.txt"], "must end in .csv or .json"),
        (["add", "--output", "set.extxyz"], "Missing argument"),
        (["build"], "Missing option"),
        (["build", "--output", "x", "--scale", "-1"], "--scale"),
    ],
)
def test_what_can_not_be_done_is_refused(nucleate, mine, base, monkeypatch, arguments, says):
    monkeypatch.chdir(base.parent)
    ran = nucleate("data", *arguments)
    assert ran.code == 2
    assert says in ran.err.replace("\n", " ").replace("  ", " ")
    assert ran.out == ""
    assert not (base.parent / "set.extxyz").exists()
