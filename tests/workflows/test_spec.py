"""The spec's models: what they accept, refuse and derive."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from workflows.spec import Budget, CampaignSpec, Chemistry, HullCut, Modulus, Range, Targets

ELEMENTS = ("Mg", "Al", "Si", "O", "N", "Zn")


def make(**changes):
    return CampaignSpec.model_validate({"name": "a", "chemistry": {"allowed": ["Mg", "O"]}} | changes)


def problems(**changes):
    with pytest.raises(ValidationError) as caught:
        make(**changes)
    return {".".join(map(str, fault["loc"])): fault["msg"] for fault in caught.value.errors()}


def brute_force(systems, forbidden, least, most):
    """Every allowed set of elements, then those inside no other: the definition, word by word."""
    groups = [set(system) - set(forbidden) for system in systems]
    allowed = {c for g in groups for n in range(least, most + 1) for c in combinations(sorted(g), n)}
    return tuple(sorted(a for a in allowed if not any(set(a) < set(b) for b in allowed)))


@given(
    systems=st.lists(st.sets(st.sampled_from(ELEMENTS), min_size=1), min_size=1, max_size=4),
    forbidden=st.sets(st.sampled_from(ELEMENTS), max_size=2),
    least=st.integers(1, 3),
    extra=st.integers(0, 3),
)
def test_chemical_systems_are_the_largest_allowed_ones(systems, forbidden, least, extra):
    most = least + extra
    expected = brute_force(systems, forbidden, least, most)
    wanted = {
        "systems": ["-".join(system) for system in systems],
        "forbidden": sorted(forbidden),
        "min_elements": least,
        "max_elements": most,
    }
    if not expected:
        with pytest.raises(ValidationError, match="no chemical system"):
            Chemistry.model_validate(wanted)
        return
    assert Chemistry.model_validate(wanted).chemical_systems() == expected


def test_the_allowed_elements_make_all_systems_of_the_largest_size():
    chemistry = Chemistry.model_validate({"allowed": ["O", "Mg", "Al", "Si"], "max_elements": 3})
    assert chemistry.chemical_systems() == (
        ("Al", "Mg", "O"),
        ("Al", "Mg", "Si"),
        ("Al", "O", "Si"),
        ("Mg", "O", "Si"),
    )


def test_systems_are_read_in_any_order_and_become_sorted():
    assert Chemistry.model_validate({"systems": ["O-Mg-Al"]}).systems == ("Al-Mg-O",)


def test_a_chemistry_too_large_to_search_is_refused_at_once():
    everything = ["H", "Li", "Be", "B", "C", "N", "O", "F", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "K", "Ca", "Sc"]
    metals = ["Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Rb", "Sr", "Y", "Zr"]
    found = problems(chemistry={"allowed": everything + metals, "max_elements": 8})
    assert "30,260,340 chemical systems" in found["chemistry.max_elements"]


def test_errors_of_one_section_do_not_hide_each_other_or_those_of_others():
    found = problems(
        chemistry={"allowed": ["Mg", "Qq"], "max_atoms": 0, "nonsense": 1},
        targets={"bulk_modulus": {"min": 5, "max": 1, "unit": "kbar"}, "phonon_tolerance": 1.0},
        rounds=0,
        seed=-1,
    )
    assert set(found) == {
        "chemistry.allowed.1",
        "chemistry.max_atoms",
        "chemistry.nonsense",
        "targets.bulk_modulus.max",
        "targets.bulk_modulus.unit",
        "targets.phonon_tolerance",
        "rounds",
        "seed",
    }


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"rounds": "2"}, "rounds"),
        ({"rounds": True}, "rounds"),
        ({"samples": 64.5}, "samples"),
        ({"rounds": 1000, "samples": 100_000}, "samples"),
        ({"targets": {"energy_above_hull": {"max": float("nan"), "unit": "eV/atom"}}}, "targets.energy_above_hull.max"),
        ({"targets": {"energy_above_hull": {"min": 0.0, "unit": "eV/atom"}}}, "targets.energy_above_hull.max"),
        ({"targets": {"energy_above_hull": {"max": 1, "unit": "meV/atom"}}}, "targets.energy_above_hull.unit"),
        ({"targets": {"bulk_modulus": {"min": 1e6, "unit": "GPa"}}}, "targets.bulk_modulus.min"),
        ({"targets": {"bulk_modulus": {"unit": "GPa"}}}, "targets.bulk_modulus.max"),
        ({"generator": []}, "generator"),
        ({"generator": {"random": 0}}, "generator.0.share"),
        ({"budget": {"verifications": 0}}, "budget.verifications"),
        ({"name": "Has Blanks"}, "name"),
        ({"name": "newline\n"}, "name"),
        ({"name": "a" * 41}, "name"),
        ({"store": "mongodb://user:secret@host"}, "store"),
        ({"chemistry": {"systems": ["Mg-O"], "allowed": ["Mg"]}}, "chemistry.allowed"),
        ({"chemistry": {}}, "chemistry.allowed"),
        ({"chemistry": {"allowed": ["Mg", "O"], "min_elements": 4}}, "chemistry.max_elements"),
        ({"chemistry": {"allowed": ["Mg", "O"], "forbidden": ["O"]}}, "chemistry.max_elements"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_key(changes, key):
    assert list(problems(**changes)) == [key]


@pytest.mark.parametrize(
    "generator", ["random", {"random": 1.0}, {"name": "random"}, [{"name": "random"}], [{"name": "random", "share": 1}]]
)
def test_one_generator_can_be_written_in_every_short_way(generator):
    spec = make(generator=generator)
    assert [(share.name, share.share) for share in spec.generator] == [("random", 1.0)]


def test_a_plain_range_becomes_the_propertys_own():
    targets = Targets(bulk_modulus=Range(min=100, unit="GPa"))
    assert targets.bulk_modulus == Modulus(min=100, unit="GPa")
    assert targets.properties == {"bulk_modulus": Modulus(min=100, unit="GPa")}


@given(low=st.floats(-10, 10), high=st.floats(-10, 10), value=st.floats(-20, 20))
def test_a_range_holds_what_lies_inside_limits_included(low, high, value):
    if low > high:
        with pytest.raises(ValidationError, match="is above max"):
            HullCut(min=low, max=high, unit="eV/atom")
        return
    assert HullCut(min=low, max=high, unit="eV/atom").holds(value) == (low <= value <= high)


def test_a_spec_survives_the_database():
    spec = make(targets={"bulk_modulus": {"min": 100, "unit": "GPa"}}, generator={"random": 0.3, "ion_exchange": 0.7})
    again = CampaignSpec.model_validate(spec.model_dump(mode="json"))
    assert again == spec
    assert again.sha256() == spec.sha256()


def test_the_hash_changes_with_what_decides_results_and_with_nothing_else():
    spec = make()
    assert make(description="other", store="cluster").sha256() == spec.sha256()
    for changes in ({"seed": 1}, {"rounds": 3}, {"budget": Budget(verifications=3).model_dump()}):
        assert make(**changes).sha256() != spec.sha256()


def test_the_condition_is_the_target_as_a_generator_sees_it():
    condition = make(targets={"bulk_modulus": {"min": 100, "unit": "GPa"}}).condition()
    assert condition.chemical_systems == (("Mg", "O"),)
    assert condition.allows(["O", "Mg"])
    assert not condition.allows(["O"])
    assert (condition.properties["bulk_modulus"].minimum, condition.properties["bulk_modulus"].unit) == (100, "GPa")
