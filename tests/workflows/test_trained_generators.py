"""Campaigns with trained generators: what check tells, what counts as known, what an update tells."""

import dataclasses

import pytest

from generators.base import Labelled
from generators.registry import abilities_of, make_generator
from workflows.checks import check_generators
from workflows.generator_states import updates_of
from workflows.known import _trained_on
from workflows.lessons import update_in_words
from workflows.spec import CampaignSpec


def make(**changes):
    content = {"name": "a", "chemistry": {"allowed": ["Mg", "Al", "O"]}, "generator": "symmetric"}
    return CampaignSpec.model_validate(content | changes)


def told(**changes):
    return [(p.key, p.level, p.message) for p in check_generators(make(**changes))]


def test_the_default_campaign_proposes_with_the_trained_model_and_is_right():
    spec = CampaignSpec.model_validate({"name": "a", "chemistry": {"allowed": ["Mg", "Al", "O"]}})
    assert [part.name for part in spec.generator] == ["symmetric", "ion_exchange"]
    assert check_generators(spec) == []


def test_elements_that_the_model_never_saw_are_refused_by_name():
    ((key, level, message),) = told(chemistry={"allowed": ["Pu", "Ne", "O"]})
    assert (key, level) == ("generator[0].name", "error")
    assert "Ne, Pu" in message
    assert "ion_exchange" in message
    assert told(chemistry={"allowed": ["Pu", "Ne", "O"]}, generator="ion_exchange") == []


def test_a_target_that_the_model_never_saw_is_a_warning():
    ((_, level, message),) = told(targets={"band_gap": {"min": 1.0, "unit": "eV"}})
    assert level == "warning"
    assert "band_gap" in message
    assert told(targets={"bulk_modulus": {"min": 1.0, "unit": "GPa"}}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": {"bulk_modulus": {"min": 600, "unit": "GPa"}}}, "no training crystal has bulk_modulus"),
        ({"chemistry": {"allowed": ["Mg", "Al", "O"], "max_atoms": 20}}, "more than 8 atoms"),
    ],
)
def test_what_no_training_crystal_has_is_a_warning(changes, words):
    ((_, level, message),) = told(**changes)
    assert level == "warning"
    assert words in message


@pytest.mark.parametrize(
    ("options", "key", "word"),
    [
        ({"colour": 1}, "generator[0].options.colour", "no such option"),
        ({"unseen": 2.0}, "generator[0].options", "unseen 2.0"),
        ({"checkpoint": "nowhere"}, "generator[0].options", "nowhere"),
    ],
)
def test_options_are_checked_before_anything_runs(options, key, word):
    ((found, level, message),) = told(generator={"name": "symmetric", "options": options})
    assert (found, level) == (key, "error")
    assert word in message


@pytest.mark.parametrize(
    ("name", "word"),
    [("vae", "nucleate generator train vae"), ("mattergen", "python"), ("folder", "path"), ("mixture", "members")],
)
def test_a_name_that_makes_no_generator_by_itself_says_what_it_needs(name, word):
    ((key, level, message),) = told(generator=name)
    assert (key, level) == ("generator[0].options", "error")
    assert word in message


def test_abilities_are_those_of_the_model():
    seen = abilities_of("symmetric")
    assert seen == make_generator("symmetric").model.abilities
    assert seen.max_atoms == 8
    assert abilities_of("ion_exchange") is None
    assert abilities_of("symmetric", "nowhere") is None


def test_the_training_set_is_known_inside_the_chemistry():
    chemistry = {"Mg", "Al", "O"}
    known = _trained_on(make(), chemistry)
    assert known
    assert all({e.symbol for e in s.composition.elements} <= chemistry for _, s in known)
    assert _trained_on(make(generator="ion_exchange"), chemistry) == []


def test_updates_are_told_by_whoever_tells_them():
    spec = make(generator={"symmetric": 0.7, "ion_exchange": 0.3})
    members = [(part.name, part.share) for part in spec.generator]
    mixture = make_generator("mixture", members=members)
    assert updates_of(mixture) == []
    samples = list(mixture.sample(6, dataclasses.replace(spec.condition(), max_atoms=5), seed=1))
    labelled = [
        Labelled(f"a-{s.index}", s.structure, s.generator, s.info, 0.3, stable=False, novel=True) for s in samples
    ]
    (update,) = updates_of(mixture.update(labelled))
    assert update["generator"] == "symmetric"
    assert update["bad"] == 6
    assert update["lessons"] > 0
    words = update_in_words(update, 2)
    assert words.startswith("round 2 ")
    assert "6 bad" in words


def test_an_update_that_was_shortened_says_why():
    update = {
        "generator": "flow",
        "taken": True,
        "lessons": 1,
        "trust": 0.25,
        "why": "shortened: uniqueness would fall",
    }
    said = update_in_words(update, 1)
    assert said == "round 1 taught flow: 1 crystal, taken at 25 % (shortened: uniqueness would fall)"
    assert update_in_words(update | {"trust": 1.0, "why": "within all limits"}, 1).endswith("taken at 100 %")


def test_a_refused_update_says_so():
    refused = {"generator": "flow", "taken": False, "why": "refused: novelty would fall", "lessons": 3}
    assert update_in_words(refused, 4) == "round 4 did not move flow: 3 crystals, refused: novelty would fall"
