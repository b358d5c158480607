"""What judge makes of a candidate's chain."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from workflows.engines.registry import make_engine
from workflows.records import Candidate, Cause, HullReference
from workflows.spec import CampaignSpec
from workflows.stages.judge import compose

MGO = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.24), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture
def spec():
    return CampaignSpec.model_validate(
        {"name": "j", "chemistry": {"systems": ["Mg-O"]}, "targets": {"phonons": "any"}, "rounds": 1}
    )


def judged(spec, causes=None, **gated):
    proposal = Candidate(
        candidate="j-r01-0001",
        campaign="j",
        round=1,
        index=1,
        generator="random",
        generator_version="1",
        generator_state="0" * 64,
        seed=1,
        condition={},
        structure=MGO.as_dict(),
        formula="MgO",
        n_atoms=8,
    )
    hull = HullReference(key="k", chemical_system="Mg-O", sha256="0" * 64, n_entries=3, covers="")
    block = {
        "structure": MGO,
        "energy_ev_per_atom": -5.9,
        "energy_above_hull_ev_per_atom": 0.05,
        "hull": hull.model_dump(),
        "inside": True,
        "known_as": None,
        **gated,
    }
    return compose(spec, make_engine("mlip", "fast"), proposal, 1, block, None, {}, causes or {})


def test_a_new_crystal_that_meets_every_target_is_a_hit(spec):
    verdict = judged(spec)
    assert (verdict.verified, verdict.stable, verdict.hit) == (True, True, True)


def test_what_became_a_known_crystal_is_stable_but_no_hit(spec):
    verdict = judged(spec, known_as="reference Mg-O/rocksalt")
    assert (verdict.stable, verdict.hit) == (True, False)
    assert verdict.known_as == "reference Mg-O/rocksalt"


def test_an_unmeasured_property_is_not_a_hit(spec):
    targets = spec.targets.model_copy(update={"bulk_modulus": {"min": 1, "unit": "GPa"}})
    asked = CampaignSpec.model_validate({**spec.model_dump(), "targets": targets.model_dump()})
    assert not judged(asked).hit


def test_outside_the_cut_is_verified_but_not_stable(spec):
    verdict = judged(spec, energy_above_hull_ev_per_atom=0.2, inside=False)
    assert (verdict.verified, verdict.stable, verdict.hit) == (True, False, False)


def test_a_stage_with_a_cause_has_no_result_even_where_an_earlier_run_left_one(spec):
    cause = Cause(code=501, name="ionic_steps_exhausted", stage="relax")
    verdict = judged(spec, causes={"relax": cause})
    assert not verdict.verified
    assert verdict.cause == cause
    assert verdict.structure is None


def test_a_failed_phonon_job_leaves_a_verified_candidate_that_carries_the_cause(spec):
    cause = Cause(code=604, name="phonon_failed", stage="phonon")
    asked = CampaignSpec.model_validate(
        {**spec.model_dump(), "targets": {**spec.targets.model_dump(), "phonons": "stable"}}
    )
    verdict = judged(asked, causes={"phonon": cause})
    assert (verdict.verified, verdict.stable, verdict.hit) == (True, False, False)
    assert verdict.cause == cause
    assert verdict.phonon.judgement == "not_measured"
