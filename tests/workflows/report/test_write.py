import json

import pytest
from pymatgen.core import Structure

from workflows.report import write
from workflows.report.collect import ReportError
from workflows.report.write import write_data, write_report


def contents(directory):
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_page_json_and_cifs_of_the_hits(database, tmp_path, reference):
    index = write_report(database, "light", tmp_path / "report", reference)
    assert index == tmp_path / "report" / "index.html"
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    hits = [v for v in report["verdicts"] if v["hit"]]
    assert {p.name for p in (tmp_path / "report" / "hits").iterdir()} == {f"{v['candidate']}.cif" for v in hits}
    for verdict in hits:
        structure = Structure.from_file(tmp_path / "report" / verdict["cif"])
        assert structure.composition.reduced_formula == verdict["formula"]
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


def test_a_second_report_replaces_the_first(database, tmp_path):
    write_report(database, "light", tmp_path / "report")
    database["verdicts"].update_one({"candidate": "light-r01-0001"}, {"$set": {"hit": False}})
    write_report(database, "light", tmp_path / "report")
    assert sorted(p.name for p in (tmp_path / "report" / "hits").iterdir()) == [
        "light-r01-0000.cif",
        "light-r01-0002.cif",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("breaks", ["render", "report_json", "_swap"])
def test_a_failure_leaves_the_old_report_and_no_rubbish(data, tmp_path, monkeypatch, breaks):
    write_data(data, tmp_path / "report")
    before = contents(tmp_path)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, breaks, fail)
    with pytest.raises(OSError, match="No space left"):
        write_data(data, tmp_path / "report")
    assert contents(tmp_path) == before


def test_a_swap_that_fails_half_way_puts_the_old_report_back(data, tmp_path, monkeypatch):
    write_data(data, tmp_path / "report")
    before = contents(tmp_path)
    rename = type(tmp_path).rename

    def once(self, target):
        if ".report.new." in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", once)
    with pytest.raises(OSError, match="Input/output"):
        write_data(data, tmp_path / "report")
    assert contents(tmp_path) == before


def test_what_is_not_a_report_is_never_overwritten(data, tmp_path, monkeypatch):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ReportError, match=r"thesis\.tex"):
        write_data(data, tmp_path)
    with pytest.raises(ReportError, match="is a file"):
        write_data(data, tmp_path / "thesis.tex")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ReportError, match="the directory you are in"):
        write_data(data, tmp_path / "here")
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_where_no_directory_can_be_made(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_data(data, tmp_path / "file" / "report")
    assert contents(tmp_path) == {"file": b""}
