from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.causes import CausedError
from workflows.engines.phonons import choose_supercell, count_displacements, evaluate, judge, shortest_repeat
from workflows.engines.registry import make_engine

NUMBERS = {
    "q_commensurate": [0.5, 0, 0],
    "q_mesh": [0.1, 0, 0],
    "n_commensurate": 8,
    "n_supercell_atoms": 16,
    "shortest_repeat_angstrom": 6.0,
    "mesh": [10, 10, 10],
}


@pytest.mark.parametrize("name", ["MgO", "Si", "BaTiO3", "AlN"])
def test_supercell_reaches_its_length_within_its_means(crystals, name):
    structure = crystals[name]
    matrix = choose_supercell(structure, 6.0, 64, 640)
    n_atoms = len(structure) * round(abs(np.linalg.det(matrix)))
    assert n_atoms <= 64
    assert n_atoms * count_displacements(structure, matrix, 0.01) <= 640
    assert shortest_repeat(structure, np.array(matrix).T) >= 5.99


def test_a_supercell_keeps_the_symmetry_that_saves_displacements(crystals):
    for structure in crystals.values():
        matrix = choose_supercell(structure, 8.0, 64, 10_000)
        once = count_displacements(structure, [[1, 0, 0], [0, 1, 0], [0, 0, 1]], 0.01)
        assert count_displacements(structure, matrix, 0.01) <= once


def test_without_means_the_cell_itself_is_taken(crystals):
    assert choose_supercell(crystals["AlN"], 8.0, 64, 1) == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(-2, 0))
def test_only_exact_points_prove_instability_and_only_the_mesh_stability(exact, mesh, tolerance):
    mesh = min(exact, mesh)
    judgement, how = judge({**NUMBERS, "min_commensurate_thz": exact, "min_mesh_thz": mesh}, tolerance)
    assert (judgement == "stable") == (mesh >= tolerance)
    assert (judgement == "unstable") == (exact < tolerance)
    assert f"tolerance {tolerance:g} THz" in how
    assert "acoustic sum rule" in how


def test_a_short_supercell_proves_instability_but_not_stability():
    short = {**NUMBERS, "shortest_repeat_angstrom": 3.0, "min_mesh_thz": 2.0}
    assert judge({**short, "min_commensurate_thz": 2.0}, -0.3)[0] == "not_converged"
    assert judge({**short, "min_commensurate_thz": -2.0, "min_mesh_thz": -2.0}, -0.3)[0] == "unstable"


def test_frequencies_agree_with_ase_for_emt_copper(tmp_path):
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.phonons import Phonons
    from pymatgen.io.ase import AseAtomsAdaptor

    from workflows.engines.phonons import make_phonopy

    atoms = bulk("Cu", a=3.6)
    ase = Phonons(atoms, EMT(), supercell=(4, 4, 4), delta=0.01, name=str(tmp_path / "ph"))
    ase.run()
    ase.read(acoustic=True)
    ev_to_thz = 241.79892623
    structure = AseAtomsAdaptor.get_structure(atoms)
    matrix = np.diag([4, 4, 4]).tolist()
    phonon = make_phonopy(structure, matrix, np.eye(3), 1e-3)
    phonon.generate_displacements(distance=0.01)
    forces = []
    for cell in phonon.supercells_with_displacements:
        displaced = bulk("Cu", a=3.6).repeat((4, 4, 4))
        displaced.set_cell(cell.cell)
        displaced.set_scaled_positions(cell.scaled_positions)
        displaced.calc = EMT()
        forces.append(displaced.get_forces())
    phonon.produce_force_constants(forces=forces)
    result = evaluate(structure, matrix, np.eye(3), phonon.force_constants, symprec=1e-3, mesh_length=10.0)
    points = [[0.5, 0.5, 0.0], [0.25, 0.0, 0.25], [0.5, 0.5, 0.5]]
    expected = ase.band_structure(points) * ev_to_thz
    phonon.symmetrize_force_constants(show_drift=False)
    phonon.run_qpoints(points)
    assert phonon.qpoints.frequencies == pytest.approx(expected, abs=0.05)
    assert result["n_commensurate"] == 64
    quarter = np.array(np.meshgrid(*[[0, 0.25, 0.5, 0.75]] * 3)).T.reshape(-1, 3)
    lowest = min(w for q in quarter[1:] for w in (ase.band_structure([q]) * ev_to_thz).ravel())
    assert result["min_commensurate_thz"] == pytest.approx(lowest, abs=0.05)


def test_bands_are_drawable(crystals):
    structure = crystals["Si"]
    constants = np.zeros((2, 2, 3, 3))
    constants[0, 0] = constants[1, 1] = 10 * np.eye(3)
    constants[0, 1] = constants[1, 0] = -10 * np.eye(3)
    result = evaluate(structure, np.eye(3, dtype=int), np.eye(3), constants, symprec=1e-3, mesh_length=10.0)
    bands = result["bands"]
    assert np.shape(bands["frequencies_thz"]) == (6, len(bands["distances"]))
    assert bands["segments"][-1][1] == len(bands["distances"])
    assert bands["labels"][0] == {"distance": 0.0, "label": "Γ"}
    assert bands["labels"][-1]["distance"] == bands["distances"][-1]
    assert any("|" in tick["label"] for tick in bands["labels"])
    assert len(result["dos"]["frequencies_thz"]) == len(result["dos"]["densities"])
    # two masses on one spring constant: three translations left aside, optical modes at sqrt(2 k / m)
    from ase.units import _amu, _e

    expected = np.sqrt(2 * 10 * _e * 1e20 / (28.0855 * _amu)) / (2 * np.pi) / 1e12
    assert max(bands["frequencies_thz"][-1]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("name", "judgement"), [("MgO", "stable"), ("Si", "stable"), ("BaTiO3", "unstable")])
def test_judgement_of_real_crystals(crystals, run, name, judgement):
    engine = make_engine("mlip", "fast")
    maker = engine.phonon_maker()
    maker.min_length_angstrom = 5.0  # a smaller supercell is enough to see it
    document = run(maker.make(crystals[name]))
    result = engine.read_phonons(document, -0.3)
    assert result.judgement == judgement
    assert (result.min_thz < -0.3) == (judgement == "unstable")
    assert "supercell of" in result.how
    assert engine.read_phonons(document, -1000.0).judgement == "stable"


def test_phonons_without_numbers_or_with_forces_left_are_refused():
    engine = make_engine("mlip", "fast")
    for document, code in (
        ({}, 604),
        (None, 604),
        ({"min_mesh_thz": 1.0, "max_residual_force_ev_per_angstrom": 0.5}, 502),
    ):
        with pytest.raises(CausedError) as caught:
            engine.read_phonons(document, -0.3)
        assert caught.value.code == code
