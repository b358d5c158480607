from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from dft_inputs.causes import DftError
from dft_inputs.espresso.estimate import estimate
from dft_inputs.espresso.inputs import make_input
from dft_inputs.espresso.protocols import NAMES, load_protocol
from dft_inputs.espresso.pw_input import PwInput

FAST = load_protocol("fast")
ALUMINIUM = Structure(Lattice([[0, 2.02, 2.02], [2.02, 0, 2.02], [2.02, 2.02, 0]]), ["Al"], [[0, 0, 0]])
NITRIDE = Structure.from_spacegroup(
    "P6_3mc", Lattice.hexagonal(3.13, 5.02), ["Al", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.381]]
)
OXIDE = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.3), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])

SILICON = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.47), ["Si"], [[0, 0, 0]]).get_primitive_structure()


def test_units_are_those_of_pw_x(family):
    inp = make_input(NITRIDE, FAST, family, "vc-relax")
    assert inp.get("system.degauss") == pytest.approx(0.1 / 13.605693, rel=1e-5)
    assert inp.get("electrons.conv_thr") == pytest.approx(4e-8 / 13.605693, rel=1e-5)
    assert inp.get("control.etot_conv_thr") == pytest.approx(4e-4 / 13.605693, rel=1e-5)
    assert inp.get("control.forc_conv_thr") == pytest.approx(0.02 / 13.605693 * 0.5291772, rel=1e-5)
    assert inp.get("cell.press_conv_thr") == 0.5
    assert (inp.get("cell.cell_dofree"), inp.get("control.tstress"), inp.get("control.max_seconds")) == (
        "all",
        True,
        None,
    )


def test_cutoffs_are_the_familys_for_the_hardest_element(family):
    for name, expected in (("fast", 84.0), ("balanced", 96.0)):
        inp = make_input(NITRIDE, load_protocol(name), family, "scf")
        assert inp.get("system.ecutwfc") == expected == family.files["N"].ecutwfc_ry[load_protocol(name).cutoff_hint]
        assert inp.get("system.ecutrho") == 4 * expected
    factor = make_input(NITRIDE, FAST.changed(cutoff_factor=1.11), family, "scf")
    assert factor.get("system.ecutwfc") == 94.0  # 93.24, rounded up
    assert make_input(NITRIDE, FAST, family, "scf", ecutwfc_ry=100.0).get("system.ecutwfc") == 100.0


def test_wave_functions_of_large_runs_go_to_disk(family):
    assert make_input(NITRIDE, FAST, family, "scf").get("control.disk_io") == "low"
    large = make_input(NITRIDE.make_supercell([3, 3, 2], in_place=False), FAST, family, "scf")
    assert large.get("control.disk_io") == "medium"
    everything = large.changed({"control.disk_io": "low"})
    assert estimate(large, family).memory_gb < estimate(everything, family).memory_gb


def test_smearing_unless_a_gap_is_known(family):
    assert make_input(NITRIDE, FAST, family, "scf").get("system.smearing") == "gaussian"
    assert make_input(ALUMINIUM, FAST, family, "scf").get("system.smearing") == "cold"
    fixed = make_input(NITRIDE, FAST, family, "scf", occupations="fixed")
    assert (fixed.get("system.occupations"), fixed.get("system.degauss")) == ("fixed", None)
    for structure in (ALUMINIUM, OXIDE):  # an odd number of electrons; spin
        with pytest.raises(DftError) as caught:
            make_input(structure, FAST, family, "scf", occupations="fixed")
        assert caught.value.code == 306


def test_empty_bands_where_a_gap_is_looked_for(family):
    assert make_input(NITRIDE, FAST, family, "scf").get("system.nbnd") is None
    assert make_input(NITRIDE, FAST, family, "nscf", occupations="fixed").get("system.nbnd") == 8 + 4


def test_spin_makes_species(family):
    inp = make_input(OXIDE, FAST, family, "scf")
    assert inp.get("system.nspin") == 2
    assert [(one.label, one.starting_magnetization) for one in inp.species] == [("Fe", 0.25), ("O", 0.0)]
    antiferromagnet = OXIDE.copy(site_properties={"magmom": [4, 4, -4, -4, 0, 0, 0, 0]})
    inp = make_input(antiferromagnet, FAST, family, "scf")
    assert [(one.label, one.starting_magnetization) for one in inp.species] == [
        ("Fe0", 0.25),
        ("Fe1", -0.25),
        ("O", 0.0),
    ]
    assert inp.site_labels == ("Fe0", "Fe0", "Fe1", "Fe1", "O", "O", "O", "O")
    assert make_input(antiferromagnet, FAST, family, "scf", spin="off").get("system.nspin") is None


def test_hubbard_u_reaches_the_file(family):
    plain = make_input(OXIDE, FAST, family, "scf").as_text()
    asked = make_input(OXIDE, FAST, family, "scf", hubbard_u_ev={"Fe": 5.3, "Ni": 6.0}).as_text()
    protocol = make_input(OXIDE, FAST.changed(hubbard_u_ev={"Fe": 5.3}), family, "scf").as_text()
    assert "hubbard" not in plain.lower()
    assert asked == protocol
    assert re.search(r"hubbard_u\(1\)\s*=\s*5.3", asked)
    assert "lda_plus_u" in asked


def test_a_family_of_another_functional_is_refused(family):
    with pytest.raises(DftError) as caught:
        make_input(NITRIDE, FAST.changed(functional="PBEsol"), family, "scf")
    assert caught.value.code == 207


def test_an_element_without_pseudopotential_is_refused(family):
    with pytest.raises(DftError) as caught:
        make_input(Structure(Lattice.cubic(5), ["U"], [[0, 0, 0]]), FAST, family, "scf")
    assert caught.value.code == 201


def test_displaced_atoms_stay_where_they_are(family):
    displaced = NITRIDE.make_supercell([2, 2, 1], in_place=False)
    displaced.translate_sites([0], [0.004, 0, 0], frac_coords=False)
    inp = make_input(displaced, FAST, family, "scf", refine=False)
    np.testing.assert_allclose(inp.structure.cart_coords, displaced.cart_coords, atol=1e-10)
    refined = make_input(displaced, FAST, family, "scf")  # what the warning in the docstring is about
    assert not np.allclose(refined.structure.distance_matrix, displaced.distance_matrix, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(8)), st.sampled_from(NAMES[:2]))
def test_the_order_of_sites_changes_nothing_but_the_order(family, order, name):
    moments = [4, -4, 4, -4, 0, 0, 0, 0]
    structure = OXIDE.copy(site_properties={"magmom": moments})
    shuffled = Structure.from_sites([structure[index] for index in order])
    before = make_input(structure, load_protocol(name), family, "vc-relax")
    after = make_input(shuffled, load_protocol(name), family, "vc-relax")
    assert (after.namelists, after.mesh, after.species) == (before.namelists, before.mesh, before.species)
    assert after.site_labels == tuple(before.site_labels[index] for index in order)
    assert [site.specie for site in after.structure] == [structure[index].specie for index in order]
    assert StructureMatcher(scale=False, primitive_cell=False).fit(after.structure, before.structure)


def test_an_input_survives_the_file(family, tmp_path):
    inp = make_input(OXIDE, FAST, family, "vc-relax", hubbard_u_ev={"Fe": 5.3})
    inp.write(tmp_path / "pw.in")
    assert PwInput.read(tmp_path / "pw.in") == inp


def test_smearing_does_an_insulator_no_harm(family, pw_x, tmp_path):
    """Silicon's gap in PBE is 0.6 eV: narrow already."""

    def energy(occupations):
        inp = make_input(SILICON, FAST, family, "scf", occupations=occupations, mesh=(4, 4, 4), ecutwfc_ry=20.0)
        inp.write(tmp_path / "pw.in")
        done = subprocess.run([pw_x, "-in", "pw.in"], cwd=tmp_path, capture_output=True, text=True, check=True)
        return float(re.search(r"!\s+total energy\s+=\s+(\S+) Ry", done.stdout)[1]) * 13.605693 / 2

    assert energy("smearing") == pytest.approx(energy("fixed"), abs=5e-5)


def test_pw_x_understands_u_and_opposite_spins(family, set_up):
    structure = Structure(
        Lattice.cubic(4.3), ["Fe", "Fe", "O", "O"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0], [0, 0.5, 0]]
    )
    structure = structure.copy(site_properties={"magmom": [4, -4, 0, 0]})
    inp = make_input(structure, FAST, family, "scf", hubbard_u_ev={"Fe": 5.3}, ecutwfc_ry=20.0, mesh=(1, 1, 2))
    printed = set_up(inp)
    assert re.search(r"U\( ?Fe0 ?\)\s*=\s*5\.3", printed) or re.search(r"Fe0\s+2?\s*5\.3000", printed)
    assert re.search(r"Fe1\s+-0\.250", printed)
