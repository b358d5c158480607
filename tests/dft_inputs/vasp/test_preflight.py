from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.sets import MPRelaxSet

from dft_inputs.vasp.preflight import check_structure, mp_reasons, physics_changes, preflight

GGA = {"force_gamma": True, "auto_metal_kpoints": True, "inherit_incar": False}


@pytest.mark.parametrize(
    ("structure", "words"),
    [
        (Structure(Lattice.cubic(4), [{"Mg": 0.5, "Ca": 0.5}], [[0, 0, 0]]), "partial occupancy"),
        (Structure(Lattice.cubic(0.5), ["Mg"], [[0, 0, 0]]), "no crystal"),
        (Structure(Lattice.cubic(4), ["Mg", "O"], [[0, 0, 0], [0.99, 0, 0]]), "0.04 Å away"),
    ],
)
def test_structures_that_no_code_can_do(structure, words):
    findings = check_structure(structure)
    assert {f.code for f in findings} == {301}
    assert words in findings[0].message


def test_a_crystal_passes_and_strange_potcars_are_a_warning(magnesia, vasp_potcars):
    assert check_structure(magnesia) == []
    findings = preflight(magnesia, MPRelaxSet(**GGA), vasp_potcars, mp_comparable=True)
    assert [(f.code, f.level) for f in findings] == [(208, "warning")] * 2
    assert "none of the POTCARs that pymatgen knows" in findings[0].message


def test_elements_without_a_potcar(vasp_potcars):
    xenon = Structure(Lattice.cubic(6), ["Xe"], [[0, 0, 0]])
    assert [f.code for f in preflight(xenon, MPRelaxSet(**GGA), vasp_potcars)] == [201]
    francium = Structure(Lattice.cubic(6), ["Fr"], [[0, 0, 0]])
    findings = preflight(francium, MPRelaxSet(**GGA), vasp_potcars)
    assert [(f.code, f.where) for f in findings] == [(302, "Fr")]


def test_settings_that_the_materials_project_would_not_take(magnesia, vasp_potcars):
    assert mp_reasons(magnesia, MPRelaxSet(**GGA), vasp_potcars) == []
    coarse = MPRelaxSet(**GGA, user_kpoints_settings={"reciprocal_density": 8})
    assert any("KPOINTS" in reason for reason in mp_reasons(magnesia, coarse, vasp_potcars))
    low = MPRelaxSet(**GGA, user_incar_settings={"ENCUT": 300})
    assert any("ENCUT" in reason for reason in mp_reasons(magnesia, low, vasp_potcars))
    findings = preflight(magnesia, low, vasp_potcars, mp_comparable=True)
    assert {f.code for f in findings if f.level == "error"} == {303}


def test_what_corrections_may_not_change_quietly(tmp_path):
    (tmp_path / "INCAR.orig").write_text("ENCUT = 520\nALGO = Fast\nISMEAR = -5\nLDAUU = 5.3 0\n")
    (tmp_path / "KPOINTS.orig").write_text("auto\n0\nGamma\n6 6 6\n")
    (tmp_path / "INCAR").write_text("ENCUT = 520\nALGO = Normal\nISMEAR = 0\nAMIX = 0.1\nLDAUU = 5.3 0\n")
    (tmp_path / "KPOINTS").write_text("auto\n0\nGamma\n7 7 7\n")
    assert physics_changes(tmp_path) == []
    (tmp_path / "INCAR").write_text("ENCUT = 400\nISPIN = 1\nLDAUU = 5.3 0\n")
    (tmp_path / "KPOINTS").write_text("auto\n0\nGamma\n3 3 3\n")
    changes = physics_changes(tmp_path)
    assert len(changes) == 3
    assert "ENCUT: 520" in changes[0]
    assert changes[2] == "k-points: 216 became 27"
