from __future__ import annotations

from importlib.resources import files

import pytest
import yaml

from dft_inputs.espresso.protocols import NAMES, PwProtocol, load_protocol, read_protocol


def text(name="fast"):
    return (files("dft_inputs.espresso") / "protocols" / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_protocol_says_who_it_is_and_explains_itself(name):
    protocol = load_protocol(name)
    assert protocol.name == name
    assert text(name).count("\n# ---") >= 8


def test_each_protocol_is_at_least_as_careful_as_the_one_before():
    fast, balanced, stringent = (load_protocol(name) for name in NAMES)
    for loose, tight in ((fast, balanced), (balanced, stringent)):
        for key in (
            "kpoint_spacing", "kpoint_spacing_metal", "smearing_metal_ev", "scf_energy_ev_per_atom",
            "energy_ev_per_atom",
            "force_ev_per_angstrom", "pressure_kbar", "final_pressure_kbar", "phonon_fmax", "eos_fmax",
            "phonon_scf_energy_ev_per_atom",
        ):  # fmt: skip
            assert getattr(tight, key) < getattr(loose, key), key
        for key in ("phonon_min_length", "phonon_max_atoms", "max_ionic_steps"):
            assert getattr(tight, key) > getattr(loose, key), key
    assert [p.cutoff_hint for p in (fast, balanced, stringent)] == ["normal", "high", "high"]


@pytest.mark.parametrize("name", NAMES)
def test_forces_are_converged_before_phonons_are_asked_for(name):
    protocol = load_protocol(name)
    assert protocol.phonon_fmax < protocol.force_ev_per_angstrom
    assert protocol.phonon_scf_energy_ev_per_atom < protocol.scf_energy_ev_per_atom
    assert protocol.phonon_min_length > 5.0  # below it no engine calls phonons stable


def test_hashes_tell_apart_what_decides_numbers_and_nothing_else():
    fast = load_protocol("fast")
    assert len({load_protocol(name).sha256() for name in NAMES}) == 3
    assert fast.changed(description="other words", name="mine").sha256() == fast.sha256()
    assert fast.changed(phonon_fmax=0.001).sha256() != fast.sha256()
    assert fast.changed(phonon_fmax=0.001, max_ionic_steps=7).energies_sha256() == fast.energies_sha256()
    for change in ({"smearing_ev": 0.3}, {"hubbard_u_ev": {"Fe": 5.3}}, {"cutoff_hint": "high"}, {"spin": "on"}):
        assert fast.changed(**change).energies_sha256() != fast.energies_sha256()


def test_likely_metals_get_more_k_points_and_wider_smearing():
    fast = load_protocol("fast")
    assert fast.smearing_for(["Al", "Mg"]) == ("cold", fast.smearing_metal_ev)
    assert fast.phonon_spacing_for(["Mg", "O"]) == pytest.approx(0.56)
    assert fast.smearing_for(["Mg", "Si"]) == ("gaussian", fast.smearing_ev)
    assert fast.spacing_for(["Al", "Mg"]) == fast.kpoint_spacing_metal < fast.kpoint_spacing
    assert fast.spacing_for(["Mg", "O"]) == fast.kpoint_spacing


def test_a_file_of_ones_own_is_read_back_as_written(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(load_protocol("balanced").as_dict()))
    assert read_protocol(tmp_path / "mine.yaml") == load_protocol("balanced")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (text().replace("cutoff_factor: 1.0", "cutoff_factor: 0.7"), "cutoff_factor"),
        (text().replace("kpoint_spacing: 0.28", "kpoint_spacing: 0"), "kpoint_spacing"),
        (text().replace("1.0e-8", "1e-8"), "scf_energy_ev_per_atom"),  # to YAML 1.1 that is a string
        (text().replace("smearing: gaussian", "smearing: warm"), "smearing"),
        (text().replace("spin: by_element", "spin: yes"), "spin"),
        (text() + "\nsmearing_meV: 20\n", "smearing_meV"),
        (text().replace("functional: PBE", "#"), "functional"),
        ("- a\n- b\n", "table"),
        ("a: [", "YAML"),
    ],
)
def test_wrong_files_are_refused_by_the_key(tmp_path, wrong, words):
    assert wrong != text()
    (tmp_path / "mine.yaml").write_text(wrong)
    with pytest.raises(ValueError, match=words):
        read_protocol(tmp_path / "mine.yaml")


def test_all_wrong_keys_are_said_at_once():
    with pytest.raises(ValueError, match=r"smearing_ev.*symprec|symprec.*smearing_ev"):
        load_protocol("fast").changed(smearing_ev=-1.0, symprec=0.0)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="fast, balanced, stringent"):
        load_protocol("quick")


def test_a_protocol_can_not_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        load_protocol("fast").smearing_ev = 1.0
    assert isinstance(load_protocol("fast"), PwProtocol)
