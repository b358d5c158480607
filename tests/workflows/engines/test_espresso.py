"""Engine ``espresso``: what decides its energies, what it refuses, and the real pw.x behind its Makers."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from dft_inputs.causes import DftError
from workflows.causes import CausedError
from workflows.engines.espresso.engine import EspressoEngine
from workflows.engines.registry import make_engine
from workflows.spec import CampaignSpec

SILICON = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.40), ["Si"], [[0, 0, 0]]).get_primitive_structure()
ALUMINIUM = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.0), ["Al"], [[0, 0, 0]]).get_primitive_structure()


@pytest.fixture
def engine(family):
    return make_engine("espresso", "fast")


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Write a config file and have it read."""

    def write(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        monkeypatch.setenv("NUCLEATE_CONFIG", str(path))

    return write


def campaign(**changes):
    spec = {"name": "si", "chemistry": {"systems": ["Al-N"]}, "engine": "espresso", **changes}
    return CampaignSpec.model_validate(spec)


def test_what_decides_energies_decides_the_reference_key(engine, configured):
    assert engine.reference_key.startswith("espresso:PBE:fast:")
    assert make_engine("espresso", "balanced").reference_key != engine.reference_key
    configured("espresso: {hubbard_u_ev: {Fe: 4.0}}")
    assert make_engine("espresso", "fast").reference_key != engine.reference_key


def test_how_pw_x_is_started_decides_no_energy(engine, configured):
    configured("espresso: {launcher: [mpirun, -np, '8'], pools: 4, memory_gb: 3, scratch: /tmp}")
    changed = make_engine("espresso", "fast")
    assert changed.reference_key == engine.reference_key
    assert changed.machine.command.argv()[-5:] == ["-np", "8", "pw.x", "-nk", "4"]


def test_pools_are_chosen_for_each_input_unless_they_are_given(family, configured):
    from dft_inputs.espresso.inputs import make_input

    configured("espresso: {launcher: [mpirun, -np, '8'], processes: 8}")
    here = make_engine("espresso", "fast").machine
    many = make_input(ALUMINIUM, here.protocol, here.family, "scf")
    one = make_input(ALUMINIUM, here.protocol, here.family, "scf", mesh=(1, 1, 1))
    assert [here.command_for(inp).pools for inp in (many, one)] == [8, 1]


def test_a_family_that_is_not_installed_is_refused_with_its_remedy(configured):
    configured("espresso: {family: SSSP/1.3/PBE/efficiency, pseudos: /nowhere}")
    (problem,) = make_engine("espresso", "fast").check(campaign())
    assert "nucleate pseudos install SSSP/1.3/PBE/efficiency" in problem.message
    with pytest.raises(CausedError, match="201 missing_pseudopotential"):
        _ = make_engine("espresso", "fast").reference_key


def test_elements_without_a_pseudopotential_are_refused_before_submission(engine):
    problems = engine.check(campaign(chemistry={"systems": ["Al-N", "Nd-N"]}))
    assert [p.key for p in problems if p.level == "error"] == ["chemistry"]
    assert "Nd" in problems[0].message


def test_without_pw_x_here_a_campaign_may_still_be_launched(engine, configured):
    configured("espresso: {command: no-such-pw.x}")
    (problem,) = make_engine("espresso", "fast").check(campaign())
    assert problem.level == "warning"
    assert "no-such-pw.x" in problem.message


def test_unknown_protocols_and_properties_are_refused(engine):
    with pytest.raises(ValueError, match="fast, balanced, stringent"):
        make_engine("espresso", "perfect")
    with pytest.raises(ValueError, match="band_gap, bulk_modulus"):
        engine.property_maker("charm")


def test_preflight_refuses_what_is_no_crystal(engine):
    overlapping = Structure(Lattice.cubic(4), ["Si", "Si"], [[0, 0, 0], [0.05, 0, 0]])
    assert engine.preflight(overlapping)
    assert engine.preflight(SILICON) == []


def document(**changes):
    made = {
        "structure": SILICON,
        "output": {"energy_per_atom": -100.0, "forces": [[0, 0, 0.01]] * 2, "stress": [[5.0, 0, 0]] * 3},
        "state": "successful",
        "comparable": True,
        "corrections": [],
        "n_steps": 3,
    }
    return {**made, **changes}


def test_a_document_is_read_in_our_units(engine):
    result = engine.read(document())
    assert result.energy_ev_per_atom == -100.0
    assert result.max_force_ev_per_angstrom == pytest.approx(0.01)
    assert result.max_stress_gpa == pytest.approx(0.5)
    assert result.detail["engine"] == "espresso"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"output": {"energy_per_atom": float("nan"), "forces": [[0, 0, 0]], "stress": None}}, 602),
        ({"state": "failed"}, 501),
        ({"comparable": False, "corrections": [{"comparable": False, "actions": ["ecutwfc 40 -> 30 Ry"]}]}, 607),
    ],
)
def test_an_energy_that_may_not_meet_others_is_refused(engine, changes, code):
    with pytest.raises(CausedError) as caught:
        engine.read(document(**changes))
    assert caught.value.code == code


def test_energies_of_two_engines_protocols_or_families_never_meet_in_a_hull(engine, configured):
    from workflows.reference import ReferenceSet, ReferenceSetError, energy_above_hull

    fast = ReferenceSet(key=engine.reference_key)
    keys = [make_engine("mlip", "fast").reference_key, make_engine("espresso", "balanced").reference_key]
    configured("espresso: {hubbard_u_ev: {Si: 1.0}}")
    keys.append(make_engine("espresso", "fast").reference_key)
    for key in keys:
        with pytest.raises(ReferenceSetError):
            fast.merged(ReferenceSet(key=key))
        with pytest.raises(ReferenceSetError):
            energy_above_hull(SILICON, -100.0, fast, key=key)


def test_relaxation_for_a_reference_set_is_kept_and_not_repeated(pw_x, engine):
    first = engine.relax_now(ALUMINIUM)
    assert (4 * first.structure.volume) ** (1 / 3) == pytest.approx(4.04, rel=0.005)
    assert first.detail["pseudopotentials"]["files"]["Al"]["sha256"]
    again = EspressoEngine("fast").relax_now(ALUMINIUM)
    assert again.energy_ev_per_atom == first.energy_ev_per_atom
    assert again.n_steps == first.n_steps


def test_makers_run_as_jobs(pw_x, engine, run):
    """A relaxation, a static of its result, and its gap, through jobflow and a JobStore."""
    result = engine.read(run(engine.relax_maker().make(SILICON)))
    assert (4 * result.structure.volume) ** (1 / 3) == pytest.approx(5.469, rel=0.004)
    fixed = engine.read(run(engine.static_maker().make(result.structure)))
    assert fixed.energy_ev_per_atom == pytest.approx(result.energy_ev_per_atom, abs=2e-4)
    found = engine.read_property("band_gap", run(engine.property_maker("band_gap").make(result.structure)))
    assert found.unit == "eV"
    assert 0.5 < found.value < 0.75  # PBE's silicon gap is about 0.6 eV, a little larger on a coarse mesh


def test_a_bad_structure_fails_its_job_with_a_cause(pw_x, engine, tmp_path):
    from workflows.engines.espresso.running import relax_here

    overlapping = Structure(Lattice.cubic(4), ["Si", "Si"], [[0, 0, 0], [0.05, 0, 0]])
    with pytest.raises(DftError) as caught:
        relax_here(overlapping, "fast", tmp_path)
    assert caught.value.code == 301
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("pw", "changes"),
    [
        ({}, False),
        ({"electrons.mixing_beta": 0.2, "system.nbnd": 20, "control.nstep": 200}, False),
        ({"system.ecutwfc": 25.0}, True),
        ({"SYSTEM.degauss": 0.1}, True),
        ({"electrons.conv_thr": 1e-3}, True),
    ],
)
def test_what_a_rerun_may_change_without_leaving_the_protocol(pw, changes):
    from workflows.engines.espresso.running import changes_physics

    assert changes_physics(pw) == changes


def test_a_run_that_was_stopped_in_its_first_step_leaves_the_geometry_it_began_with(engine, family, tmp_path):
    from dft_inputs.espresso.inputs import make_input

    here = engine.machine
    (tmp_path / "relax-01").mkdir()
    assert engine.relax_maker().last_geometry(tmp_path) is None
    make_input(ALUMINIUM, here.protocol, family, "vc-relax").write(tmp_path / "relax-01" / "pw.in")
    assert engine.relax_maker().last_geometry(tmp_path).composition == ALUMINIUM.composition


def test_phonons_of_silicon_through_atomate2s_flow(pw_x, engine, run):
    """The real thing at its smallest: eight atoms, one displacement, judged as every engine's phonons are."""
    relaxed = SILICON.copy().scale_lattice(SILICON.volume * (5.469 / 5.40) ** 3)
    found = engine.read_phonons(run(engine.phonon_maker().make(relaxed)), -0.3)
    assert found.judgement == "stable"
    assert found.n_supercell_atoms == 8
    assert "pw.x" in found.how
    highest = max(max(branch) for branch in found.bands["frequencies_thz"])
    assert highest == pytest.approx(15.1, rel=0.05)  # PBE: 15.1 THz, see docs/espresso-accuracy.md
