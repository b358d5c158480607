"""``nucleate pseudos`` as a user runs it, on small files of the test's own."""

from __future__ import annotations

import json

import pytest

UPF = """<UPF version="2.0.1">
<PP_HEADER element="{element}" pseudo_type="NC" relativistic="scalar" core_correction="T" functional="{functional}"
z_valence="4.00" wfc_cutoff="40" number_of_wfc="2" number_of_proj="6"/>
</UPF>
"""


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for element in ("Si", "C"):
        (folder / f"{element}.upf").write_text(UPF.format(element=element, functional="PBE"))
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("NUCLEATE_PSEUDOS", str(tmp_path / "place"))
    return tmp_path / "place"


@pytest.fixture
def mine(nucleate, files, place):
    ran = nucleate("pseudos", "install", "--from", files, "--name", "mine", "--functional", "PBE")
    assert ran.code == 0, ran.err
    assert ran.out == f"mine: 2 elements in {place / 'mine'}\n"
    return place / "mine"


def test_a_folder_is_installed_listed_and_verified(nucleate, mine, place):
    listed = json.loads(nucleate("pseudos", "list", "--json").out)
    assert listed["root"] == str(place)
    by_name = {row["name"]: row for row in listed["families"]}
    assert by_name["mine"]["state"] == "installed"
    assert by_name["mine"]["elements"] == ["C", "Si"]
    assert by_name["PseudoDojo/0.4/PBE/SR/standard"]["state"] == "available"
    assert len(by_name["PseudoDojo/0.4/PBE/SR/standard"]["elements"]) == 72
    table = nucleate("pseudos", "list").out
    assert [line.split()[:3] for line in table.splitlines() if line.startswith("mine")] == [
        ["mine", "installed", "PBE"]
    ]
    ran = nucleate("pseudos", "verify", "mine")
    assert (ran.code, ran.out) == (0, "mine: whole\n")


def test_families_are_found_by_element(nucleate, mine):
    rows = json.loads(nucleate("pseudos", "list", "--element", "Si", "--element", "Mg", "--json").out)["families"]
    names = [row["name"] for row in rows]
    assert "mine" not in names
    assert "PseudoDojo/0.4/PBE/SR/standard" in names


def test_damage_is_exit_code_1(nucleate, mine):
    (mine / "Si.upf").write_text("nothing")
    (mine / "C.upf").write_text(UPF.format(element="C", functional="PBE") + " ")
    ran = nucleate("pseudos", "verify")
    assert ran.code == 1
    assert ran.out.startswith("mine: 2 damaged\n")
    assert "208 damaged_pseudopotential" in ran.out
    found = json.loads(nucleate("pseudos", "verify", "--json").out)["families"]
    assert [problem["code"] for problem in found[0]["problems"]] == [208, 208]
    (mine / "family.json").write_text("{")
    assert nucleate("pseudos", "verify", "mine").code == 1
    listed = json.loads(nucleate("pseudos", "list", "--json").out)["families"]
    assert [row["state"] for row in listed if row["name"] == "mine"] == ["damaged"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "nix"], "family nix is not installed"),
        (["verify", "../out"], "can't be the name of a family"),
        (["install", "nix"], "no family 'nix' is known"),
        (["install", "--source", "moon"], "--source is wheel or web"),
        (["install", "--name", "x"], "belong to --from"),
        (["install", "--from", "files"], "--from DIR takes --name"),
        (["install", "--from", "gone", "--name", "x", "--functional", "PBE"], "gone: No such file or directory"),
        (["install", "--from", "files", "--name", "x", "--functional", "LDA"], "is made for PBE, not for LDA"),
        (["install", "--from", "files", "--name", "../x", "--functional", "PBE"], "can't be the name of a family"),
    ],
)
def test_what_can_not_be_done_is_refused(nucleate, files, place, monkeypatch, arguments, says):
    monkeypatch.chdir(files.parent)
    ran = nucleate("pseudos", *arguments)
    assert ran.code == 2
    assert says in ran.err.replace("\n", "")
    assert ran.out == ""


def test_nothing_installed_is_refused_with_the_command(nucleate, place):
    ran = nucleate("pseudos", "verify")
    assert ran.code == 2
    assert "nucleate pseudos install" in ran.err
