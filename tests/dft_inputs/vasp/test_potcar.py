from __future__ import annotations

import gzip
import os

import pytest
from pymatgen.core import SETTINGS
from pymatgen.io.vasp.inputs import PotcarSingle, _load_potcar_summary_stats
from vasp_stand_in.potcars import potcar_text

from dft_inputs.causes import DftError
from dft_inputs.vasp.potcar import DIRECTORY_KEY, find_potcar, potcar_directory, potcars_in


@pytest.fixture(autouse=True)
def _no_potcars_of_the_user(monkeypatch):
    monkeypatch.delenv(DIRECTORY_KEY, raising=False)
    monkeypatch.delitem(SETTINGS, DIRECTORY_KEY, raising=False)


def put(root, text, symbol="Mg_pv", library="POT_GGA_PAW_PBE"):
    place = root / library / symbol
    place.mkdir(parents=True)
    (place / "POTCAR").write_text(text)
    return root


def test_a_potcar_is_found_with_what_a_verdict_needs_of_it(vasp_potcars):
    found = find_potcar("Mg", "Mg_pv", "PBE", vasp_potcars)
    assert (found.symbol, found.valence, found.enmax_ev) == ("Mg_pv", 8.0, 400.0)
    assert len(found.sha256) == 64
    assert not found.known  # it is a stand-in's, and pymatgen can tell
    assert find_potcar("Mg", "Mg_pv", "PBE_64", vasp_potcars).path != found.path


def test_compressed_is_the_same(tmp_path, vasp_potcars):
    plain = find_potcar("Mg", "Mg_pv", "PBE", vasp_potcars)
    place = tmp_path / "POT_GGA_PAW_PBE"
    place.mkdir()
    (place / "POTCAR.Mg_pv.gz").write_bytes(gzip.compress(plain.path.read_bytes()))
    assert find_potcar("Mg", "Mg_pv", "PBE", tmp_path).sha256 == plain.sha256


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (potcar_text("Mg_pv", "Al"), 207, "is of Al, not of Mg"),
        (potcar_text("Mg", "Mg"), 207, "says that it is Mg, not Mg_pv"),
        (potcar_text("Mg_pv", "Mg", lexch="CA"), 207, "LEXCH = CA, not PE"),
        (potcar_text("Mg_pv", "Mg")[:200], 208, "no POTCAR, or cut short"),
        (potcar_text("Mg_pv", "Mg").replace(" End of Dataset\n", ""), 208, "no 'End of Dataset'"),
        ("", 208, "no POTCAR, or cut short"),
    ],
)
def test_what_it_is_not_is_refused(tmp_path, text, code, words):
    with pytest.raises(DftError, match=words) as caught:
        find_potcar("Mg", "Mg_pv", "PBE", put(tmp_path, text))
    assert caught.value.code == code


def test_a_damaged_archive_is_refused(tmp_path, vasp_potcars):
    whole = gzip.compress(find_potcar("Mg", "Mg_pv", "PBE", vasp_potcars).path.read_bytes())
    place = tmp_path / "POT_GGA_PAW_PBE"
    place.mkdir()
    (place / "POTCAR.Mg_pv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DftError) as caught:
        find_potcar("Mg", "Mg_pv", "PBE", tmp_path)
    assert caught.value.code == 208


def test_one_of_another_library_is_refused_where_pymatgen_knows_it(monkeypatch, vasp_potcars):
    known = PotcarSingle.from_file(vasp_potcars / "POT_GGA_PAW_PBE" / "Mg_pv" / "POTCAR")
    row = {**known._summary_stats, "symbol": "Mg_pv", "VRHFIN": known.VRHFIN.replace(" ", "")}
    table = _load_potcar_summary_stats()
    monkeypatch.setitem(table["PBE_54"], known.TITEL.replace(" ", ""), [row])
    with pytest.raises(DftError, match="is of PBE_54, not of PBE") as caught:
        find_potcar("Mg", "Mg_pv", "PBE", vasp_potcars)
    assert caught.value.code == 207
    monkeypatch.setitem(table["PBE"], known.TITEL.replace(" ", ""), [row])
    assert find_potcar("Mg", "Mg_pv", "PBE", vasp_potcars).known


def test_what_is_missing_is_named(tmp_path, vasp_potcars):
    with pytest.raises(DftError, match=DIRECTORY_KEY) as caught:
        find_potcar("Mg", "Mg_pv", "PBE")
    assert caught.value.code == 201
    with pytest.raises(DftError, match="does not exist"):
        find_potcar("Mg", "Mg_pv", "PBE", tmp_path / "nowhere")
    with pytest.raises(DftError, match="no POTCAR Xe of PBE in"):
        find_potcar("Xe", "Xe", "PBE", vasp_potcars)
    with pytest.raises(DftError, match="no POTCAR Mg_pv of PBE_54"):
        find_potcar("Mg", "Mg_pv", "PBE_54", vasp_potcars)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_one_that_may_not_be_read(tmp_path):
    put(tmp_path, potcar_text("Mg_pv", "Mg"))
    (tmp_path / "POT_GGA_PAW_PBE" / "Mg_pv" / "POTCAR").chmod(0)
    with pytest.raises(DftError) as caught:
        find_potcar("Mg", "Mg_pv", "PBE", tmp_path)
    assert caught.value.code == 206


def test_pymatgens_setting_is_as_it_was_after_the_block(tmp_path, monkeypatch):
    with potcars_in(tmp_path):
        assert SETTINGS[DIRECTORY_KEY] == str(tmp_path)
    assert DIRECTORY_KEY not in SETTINGS
    monkeypatch.setitem(SETTINGS, DIRECTORY_KEY, "/elsewhere")
    with pytest.raises(RuntimeError), potcars_in(tmp_path):
        raise RuntimeError
    assert SETTINGS[DIRECTORY_KEY] == "/elsewhere"
    with potcars_in(None):
        assert str(potcar_directory()) == "/elsewhere"
    monkeypatch.setenv(DIRECTORY_KEY, str(tmp_path))
    assert potcar_directory() == tmp_path
