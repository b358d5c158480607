from __future__ import annotations

import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from workflows.causes import CausedError
from workflows.engines.mlip import PROTOCOLS, MlipEngine
from workflows.engines.models import get_calculator
from workflows.engines.registry import make_engine
from workflows.spec import CampaignSpec


def campaign(**parts):
    return CampaignSpec.model_validate({"name": "c", "chemistry": {"systems": ["Mg-O"]}, **parts})


@pytest.fixture(scope="module")
def engine():
    return make_engine("mlip", "fast")


def test_registry_says_what_there_is():
    with pytest.raises(ValueError, match="unknown engine 'gaussian'"):
        make_engine("gaussian", "fast")
    with pytest.raises(ValueError, match="unknown protocol 'sloppy'"):
        make_engine("mlip", "sloppy")


def test_protocols_get_stricter():
    fast, balanced, stringent = (PROTOCOLS[name] for name in ("fast", "balanced", "stringent"))
    assert fast.fmax > balanced.fmax > stringent.fmax
    assert fast.phonon_min_length < balanced.phonon_min_length < stringent.phonon_min_length


def test_keys_differ_by_model_and_protocol_and_settings_are_json():
    keys = {MlipEngine(p, m).reference_key for p in PROTOCOLS for m in ("7net-0", "chgnet-0.3.0")}
    assert len(keys) == 6
    settings = MlipEngine("fast").settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["versions"]["sevenn"]


def test_check_refuses_what_it_cannot_measure(engine):
    assert engine.check(campaign()) == []
    problems = engine.check(campaign(targets={"band_gap": {"min": 1, "unit": "eV"}}))
    assert [p.key for p in problems] == ["targets.band_gap"]
    assert "can't measure band_gap" in problems[0].message
    problems = engine.check(campaign(chemistry={"systems": ["Po-O"]}))
    assert "Po" in problems[0].message
    assert problems[0].level == "error"


def test_check_refuses_the_screening_model_as_judge():
    problems = MlipEngine("fast", "chgnet-0.3.0").check(campaign())
    assert any("must not verify" in p.message for p in problems)


@pytest.mark.parametrize(
    ("structure", "words"),
    [
        (Structure(Lattice.cubic(4), [{"Mg": 0.5, "Ca": 0.5}], [[0, 0, 0]]), "partial occupancy"),
        (Structure(Lattice.cubic(4), ["Po"], [[0, 0, 0]]), "never trained"),
        (Structure(Lattice.cubic(7), ["Mg"], [[0, 0, 0]]), "isolated atom"),
        (Structure(Lattice.cubic(4), ["Mg", "O"], [[0, 0, 0], [0.05, 0, 0]]), "0.20 Å away"),
        (Structure(Lattice.cubic(0.5), ["Mg"], [[0, 0, 0]]), "no crystal"),
    ],
)
def test_preflight_names_what_is_wrong(engine, structure, words):
    assert any(words in problem.message for problem in engine.preflight(structure))


def test_preflight_passes_a_crystal(engine, crystals):
    assert all(engine.preflight(s) == [] for s in crystals.values())


def test_relaxed_document_reads_in_our_units(engine, crystals, run):
    squeezed = crystals["MgO"].copy()
    squeezed.scale_lattice(0.9 * squeezed.volume)
    result = engine.read(run(engine.relax_maker().make(squeezed)))
    assert result.converged
    assert result.energy_ev_per_atom == pytest.approx(-5.977, abs=0.01)
    assert result.structure.volume == pytest.approx(19.25, rel=0.02)  # SevenNet-0; 18.7 measured, 19.2 PBE
    assert result.max_force_ev_per_angstrom <= 0.05
    assert result.detail["model"] == "7net-0"


def test_documents_stay_small(engine, crystals, run):
    document = run(engine.relax_maker().make(crystals["AlN"]))
    assert len(json.dumps(document, default=str)) < 20_000


def test_static_forces_and_stress_are_those_of_the_calculator(engine, crystals, run):
    from ase.units import GPa
    from pymatgen.io.ase import AseAtomsAdaptor

    bent = crystals["AlN"].copy()
    bent.scale_lattice(0.95 * bent.volume)
    bent.translate_sites([0], [0.02, 0, 0])
    result = engine.read(run(engine.static_maker().make(bent)))
    atoms = AseAtomsAdaptor.get_atoms(bent)
    atoms.calc = get_calculator("7net-0")
    assert result.energy_ev_per_atom == pytest.approx(atoms.get_potential_energy() / 4, abs=1e-5)
    assert result.max_force_ev_per_angstrom == pytest.approx(np.linalg.norm(atoms.get_forces(), axis=1).max(), abs=1e-4)
    assert result.max_stress_gpa == pytest.approx(np.abs(atoms.get_stress()).max() / GPa, rel=1e-3)


def test_step_limit_is_cause_501_and_keeps_the_last_geometry(engine, crystals, run):
    maker = engine.relax_maker()
    maker.steps = 2
    bent = crystals["AlN"].copy()
    bent.scale_lattice(1.2 * bent.volume)
    document = run(maker.make(bent))
    with pytest.raises(CausedError) as caught:
        engine.read(document)
    assert caught.value.code == 501
    assert document["structure"]


def test_atoms_on_top_of_each_other_are_cause_601(engine):
    crushed = Structure(Lattice.cubic(5), ["Mg", "O"], [[0, 0, 0], [0.05, 0, 0]])
    with pytest.raises(CausedError) as caught:
        engine.relax_now(crushed)
    assert caught.value.code == 601


def test_not_finite_is_cause_602():
    from ase.build import bulk
    from ase.calculators.singlepoint import SinglePointCalculator

    from workflows.engines.mlip_makers import check_sane

    atoms = bulk("Cu")
    atoms.calc = SinglePointCalculator(atoms, energy=float("nan"), forces=np.zeros((1, 3)), stress=np.zeros(6))
    with pytest.raises(CausedError) as caught:
        check_sane(atoms, atoms.get_volume())
    assert caught.value.code == 602


def test_makers_survive_the_launchpad(engine, crystals):
    from monty.json import MontyDecoder, MontyEncoder

    flow = engine.phonon_maker().make(crystals["MgO"])
    again = MontyDecoder().process_decoded(json.loads(json.dumps(flow, cls=MontyEncoder)))
    assert again.job_uuids == flow.job_uuids
    for maker in (engine.relax_maker(), engine.static_maker(), engine.property_maker("bulk_modulus")):
        job = maker.make(crystals["MgO"])
        again = MontyDecoder().process_decoded(json.loads(json.dumps(job, cls=MontyEncoder)))
        assert again.maker == maker
    with pytest.raises(ValueError, match="can't measure 'band_gap'"):
        engine.property_maker("band_gap")
