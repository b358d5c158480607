from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dft_inputs.causes import DftError
from dft_inputs.pseudos import Cutoffs, default_root, list_families, load_family, verify_family
from dft_inputs.pseudos.manifest import ManifestError, check_name, shipped_manifests


def test_a_whole_family_is_taken(family):
    family.require(family.files)
    family.require([])
    assert verify_family(family.name) == []
    assert family.name in [found.name for found in list_families()]


def test_an_element_that_is_missing_is_named(family):
    with pytest.raises(DftError) as caught:
        family.require(["Mg", "Ce"])
    assert caught.value.code == 201
    assert "no pseudopotential for Ce" in caught.value.evidence
    assert family.name in caught.value.evidence
    assert "nucleate pseudos list --element Ce" in caught.value.evidence


def test_another_functional_is_refused(family):
    family.require(["Si"], functional="PBE")
    with pytest.raises(DftError, match="made for PBE, and PBEsol is asked") as caught:
        family.require(["Si"], functional="PBEsol")
    assert caught.value.code == 207


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_changed_bit_anywhere_is_seen(copy, data):
    path = copy.files["Al"].path
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        path.write_bytes(changed)
        with pytest.raises(DftError) as caught:
            copy.require(["Al"])
        # a bit in the header may make it another element's or functional's
        assert caught.value.code in {207, 208}
        assert str(path) in caught.value.evidence
        copy.require(["Si"])
    finally:
        path.write_bytes(whole)
    copy.require(["Al"])


def test_a_cut_file_is_damaged(copy):
    path = copy.files["O"].path
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DftError, match=r"cut short.*install --force") as caught:
        copy.require(["Mg", "O"])
    assert caught.value.code == 208
    assert [problem.code for problem in verify_family(copy.name, _root(copy))] == [208]


def test_another_elements_file_is_wrong(copy):
    shutil.copyfile(copy.files["Ge"].path, copy.files["Si"].path)
    with pytest.raises(DftError, match="is a pseudopotential of Ge, not of Si") as caught:
        copy.require(["Si"])
    assert caught.value.code == 207


def test_another_functionals_file_is_wrong(copy, upf):
    copy.files["Si"].path.write_bytes(upf("Si", functional="SLA PW PSX PSC"))
    with pytest.raises(DftError, match="is made for PBEsol, not for PBE") as caught:
        copy.require(["Si"])
    assert caught.value.code == 207


def test_a_file_that_is_gone_is_missing(copy):
    copy.files["Si"].path.unlink()
    with pytest.raises(DftError, match="is gone") as caught:
        copy.require(["Si"])
    assert caught.value.code == 201


def test_a_forged_manifest_protects_nothing(copy, upf):
    """Whoever changes a file can change the hash beside it: a published family's hashes come with Nucleate."""
    import hashlib

    content = upf("Si")
    copy.files["Si"].path.write_bytes(content)
    path = copy.directory / "family.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["Si"]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(manifest))
    with pytest.raises(DftError, match="sha256 differs") as caught:
        load_family(copy.name, _root(copy)).require(["Si"])
    assert caught.value.code == 208


def test_a_manifest_of_ones_own_is_checked_too(mine):
    mine.require(["Si", "O"])
    mine.files["O"].path.write_bytes(mine.files["O"].path.read_bytes() + b"\n")
    with pytest.raises(DftError, match="sha256 differs"):
        mine.require(["O"])


@pytest.mark.parametrize("text", ["", "{", "{}", '{"name": "mine/first"}', "[]", "\x00\xff"])
def test_a_damaged_manifest_is_said(mine, tmp_path, text):
    (mine.directory / "family.json").write_text(text)
    with pytest.raises(DftError, match=r"family\.json") as caught:
        load_family(mine.name, tmp_path / "own-root")
    assert caught.value.code == 208


def test_a_manifest_of_another_family_is_said(mine, tmp_path):
    shutil.copytree(mine.directory, tmp_path / "own-root/other")
    with pytest.raises(DftError, match="is the manifest of mine/first, not of other") as caught:
        load_family("other", tmp_path / "own-root")
    assert caught.value.code == 207


def test_a_manifest_can_not_name_files_elsewhere(mine, tmp_path):
    path = mine.directory / "family.json"
    path.write_text(path.read_text().replace('"Si.upf"', '"../../etc/passwd"'))
    with pytest.raises(DftError) as caught:
        load_family(mine.name, tmp_path / "own-root")
    assert caught.value.code == 208


def test_what_is_not_installed_is_said_with_the_command(tmp_path):
    with pytest.raises(DftError, match=r"nucleate pseudos install PseudoDojo/0\.4/PBE/SR/standard") as caught:
        load_family("PseudoDojo/0.4/PBE/SR/standard", tmp_path)
    assert caught.value.code == 201
    assert list_families(tmp_path / "nowhere") == []


def test_a_root_that_is_no_folder_gets_one_message(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    for call in (lambda: list_families(path), lambda: load_family("a", path)):
        with pytest.raises(DftError, match="is not a folder where families can be"):
            call()


@pytest.mark.parametrize(
    "name", ["..", "../x", "/etc", "a//b", "a/../b", "", ".hidden", "a/.b", "a b", "a\n", "x" * 300]
)
def test_names_that_could_leave_the_root_are_refused(name, tmp_path):
    with pytest.raises(ManifestError):
        check_name(name)
    with pytest.raises(DftError, match="can't be the name of a family"):
        load_family(name, tmp_path)


def test_the_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".local/share/nucleate/pseudos"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_root() == tmp_path / "data/nucleate/pseudos"
    monkeypatch.setenv("NUCLEATE_PSEUDOS", "~/mine")
    assert default_root() == tmp_path / "mine"


# PseudoDojo's own table (website/nc-sr-04_pbe_standard.json of abinit/pseudo_dojo), in Ha
@pytest.mark.parametrize(
    ("element", "hints_ha"),
    [("Si", (14, 18, 24)), ("Al", (16, 20, 26)), ("Mg", (38, 42, 48)), ("O", (36, 42, 48)), ("Zr", (29, 33, 49))],
)
def test_cutoffs_are_those_of_the_authors(family, element, hints_ha):
    low, normal, high = (2 * value for value in hints_ha)
    assert family.files[element].ecutwfc_ry == {"low": low, "normal": normal, "high": high}


def test_every_published_cutoff_is_sane():
    for manifest in shipped_manifests().values():
        for entry in manifest.files.values():
            assert 28 <= entry.ecutwfc_ry["low"] < entry.ecutwfc_ry["normal"] < entry.ecutwfc_ry["high"] <= 144
            assert entry.dual == 4


def test_the_stringent_table_asks_no_less():
    known = shipped_manifests()
    standard, stringent = (known[f"PseudoDojo/0.4/PBE/SR/{name}"].files for name in ("standard", "stringent"))
    assert set(standard) == set(stringent)
    # strontium's stringent one is the softer one in PseudoDojo's own tables
    for element in set(standard) - {"Sr"}:
        assert stringent[element].ecutwfc_ry["normal"] >= standard[element].ecutwfc_ry["normal"]
        assert stringent[element].z_valence >= standard[element].z_valence


@settings(max_examples=60, deadline=None)
@given(data=st.data(), hint=st.sampled_from(["low", "normal", "high"]))
def test_a_compound_takes_the_cutoff_of_its_hardest_element(family, data, hint):
    elements = data.draw(st.lists(st.sampled_from(sorted(family.files)), min_size=1, max_size=5))
    found = family.cutoffs(elements, hint)
    assert found.ecutwfc_ry == max(family.files[element].ecutwfc_ry[hint] for element in elements)
    assert found.ecutrho_ry == 4 * found.ecutwfc_ry
    assert family.cutoffs(reversed(elements), hint) == found
    assert family.cutoffs([*elements, "Mn"], hint).ecutwfc_ry >= found.ecutwfc_ry


def test_ultrasoft_elements_raise_the_density_cutoff(mine):
    assert mine.cutoffs(["Si"]) == Cutoffs(30.0, 120.0)
    assert mine.cutoffs(["Si", "O"]) == Cutoffs(70.0, 560.0)


def test_a_cutoff_that_nobody_recommends_is_refused(mine):
    with pytest.raises(DftError, match=r"Si\.upf of family mine/first comes without a recommended cutoff \(high\)"):
        mine.cutoffs(["Si"], "high")
    with pytest.raises(ValueError, match="no element"):
        mine.cutoffs([])


def test_provenance_names_every_file(family):
    found = family.provenance(["O", "Mg", "O"])
    assert found["family"] == "PseudoDojo/0.4/PBE/SR/standard"
    assert (found["version"], found["functional"]) == ("0.4", "PBE")
    assert list(found["files"]) == ["Mg", "O"]
    assert found["files"]["Mg"]["sha256"] == family.files["Mg"].sha256
    assert json.loads(json.dumps(found)) == found


def test_a_family_has_an_identity(family, mine):
    assert len({family.sha256, mine.sha256}) == 2
    assert load_family(family.name).sha256 == family.sha256


def test_valence_electrons_are_counted(family):
    assert family.valence_electrons({"Mg": 1, "O": 1}) == 16
    with pytest.raises(DftError):
        family.valence_electrons({"Ce": 1})


def _root(family):
    return family.directory.parents[len(family.name.split("/")) - 1]
