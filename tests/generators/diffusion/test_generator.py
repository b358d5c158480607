from __future__ import annotations

import json
import warnings
from itertools import islice

import numpy as np
import pytest
import spglib
import torch
from checkpoints import rewrite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from generators.base import Bounds, Condition, Generator, derive_seed
from generators.checkpoint import CheckpointError
from generators.compositions import anonymous, is_neutral
from generators.data.dataset import Dataset
from generators.diffusion import Diffusion
from generators.diffusion.conditions import MARGIN_STD, Compositions, PropertyScale, usable_sets
from generators.diffusion.fitting import Training
from generators.diffusion.generator import BLOCK, primitive
from generators.diffusion.graph import Crystals
from generators.registry import abilities_of, load_generator, make_generator

ELEMENTS = ("Ca", "Cl", "F", "K", "Li", "Mg", "Na", "O", "S")
MAGNESIA = Condition((("Mg", "O"), ("F", "Na", "O")), min_elements=1, max_atoms=6)


def same(a, b):
    """Tell whether two samples agree to the last bit."""
    return (
        (a.index, a.seed, a.info) == (b.index, b.seed, b.info)
        and a.structure.species == b.structure.species
        and np.array_equal(a.structure.frac_coords, b.structure.frac_coords)
        and np.array_equal(a.structure.lattice.matrix, b.structure.lattice.matrix)
    )


def test_it_is_a_registered_generator(fitted):
    generator = load_generator(fitted)
    assert isinstance(generator, Diffusion)
    assert isinstance(generator, Generator)
    assert make_generator("diffusion", checkpoint=str(fitted)).version == generator.version
    assert generator.conditions_on == {"formation_energy", "bulk_modulus"}
    seen = abilities_of("diffusion", str(fitted))
    assert seen is not None
    assert set(seen.elements) <= set(ELEMENTS)
    assert seen.properties == ("formation_energy", "bulk_modulus")


def test_a_resumed_or_longer_stream_has_the_same_samples(fitted):
    generator = Diffusion.load(fitted)
    whole = list(generator.sample(BLOCK + 3, MAGNESIA, 7))
    assert [s.index for s in whole] == list(range(BLOCK + 3))
    assert all(s.seed == derive_seed(7, s.index) for s in whole)
    for start, n in ((0, 2), (5, 8), (BLOCK - 1, BLOCK + 2)):
        part = list(generator.sample(n, MAGNESIA, 7, start=start))
        assert [s.index for s in part] == list(range(start, n))
        assert all(same(one, whole[one.index]) for one in part)
    assert list(generator.sample(3, MAGNESIA, 7, start=3)) == []
    other = next(generator.sample(1, MAGNESIA, 8))
    assert other.structure != whole[0].structure


def test_a_saved_one_draws_the_same_and_a_damaged_one_is_refused(fitted, tmp_path):
    generator = Diffusion.load(fitted)
    generator.save(tmp_path)
    again = load_generator(tmp_path)
    first, second = (next(g.sample(1, MAGNESIA, 1)) for g in (generator, again))
    assert same(first, second)
    assert first.version == second.version
    assert generator.options == again.options
    card = json.loads((tmp_path / "generator.json").read_text())["card"]
    assert card["dataset"] == "salts"
    assert card["sizes"]["training"] + card["sizes"]["validation"] + card["sizes"]["test"] == 40
    assert card["recipe"]["epochs"] == 30
    assert len(card["curves"]["epochs"]) == 30
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"1234")
    with pytest.raises(CheckpointError, match="sha256"):
        Diffusion.load(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda name, tensor: None if name.startswith("network.") else tensor,
        lambda name, tensor: None if name == "replay.frac" else tensor,
        lambda name, tensor: tensor[..., :-1] if name.startswith("network.") and tensor.ndim == 2 else tensor,
    ],
    ids=["no network", "no replay", "other shapes"],
)
def test_weights_of_another_model_are_refused_in_one_line(fitted, spoil, tmp_path):
    Diffusion.load(fitted).save(tmp_path)
    rewrite(tmp_path, spoil)
    with pytest.raises(CheckpointError, match=f"the weights of {tmp_path} do not fit .*take another copy") as told:
        make_generator("diffusion", checkpoint=str(tmp_path))
    assert "\n" not in str(told.value)


def test_weights_must_be_finite_and_labels_may_be_unknown(fitted, tmp_path):
    Diffusion.load(fitted).save(tmp_path)
    rewrite(tmp_path, lambda name, tensor: tensor * torch.nan if name == "replay.properties" else tensor)
    assert Diffusion.load(tmp_path).model.replay.properties.isnan().all()
    rewrite(tmp_path, lambda name, tensor: tensor * torch.nan if name.startswith("network.") else tensor)
    with pytest.raises(CheckpointError, match=r"tensor network\.\S+ holds numbers that are not finite"):
        Diffusion.load(tmp_path)


@given(
    systems=st.lists(st.sets(st.sampled_from(ELEMENTS), min_size=1, max_size=4), min_size=1, max_size=3),
    max_atoms=st.integers(1, 12),
    least=st.integers(1, 3),
    rule=st.sampled_from(["strict", "permissive", "off"]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_compositions_that_are_drawn_keep_the_condition(systems, max_atoms, least, rule, seed):
    condition = Condition(
        tuple(tuple(sorted(s)) for s in systems), min_elements=least, max_atoms=max_atoms, neutrality=rule
    )
    compositions = Compositions({"AB": 5, "AB2": 3, "A2B4": 2})
    try:
        sets = usable_sets(condition, free=False)
    except ValueError:
        return
    for number in range(5):
        symbols = compositions.draw(sets, condition, np.random.default_rng([seed, number]))
        elements = tuple(sorted(set(symbols)))
        assert condition.allows(elements)
        assert len(symbols) <= max_atoms
        assert is_neutral(elements, tuple(symbols.count(e) for e in elements), rule)


@given(
    systems=st.lists(st.sets(st.sampled_from(ELEMENTS), min_size=2, max_size=3), min_size=1, max_size=2),
    max_atoms=st.integers(5, 9),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_samples_keep_system_neutrality_and_size(fitted, systems, max_atoms, seed):
    generator = Diffusion.load(fitted)
    generator.steps, generator.tries = 2, 1
    condition = Condition(tuple(tuple(sorted(s)) for s in systems), max_atoms=max_atoms)
    try:
        usable_sets(condition, free=False)
    except ValueError:
        with pytest.raises(ValueError, match="neutrality rule 'strict'"):
            generator.sample(1, condition, seed)
        return
    for sample in generator.sample(10, condition, seed):
        amounts = sample.structure.composition.get_el_amt_dict()
        assert condition.allows(amounts)
        assert len(sample.structure) <= max_atoms
        assert is_neutral(tuple(amounts), tuple(int(n) for n in amounts.values()), "strict")
        assert sample.info["neutral"]
        assert sample.info["fits"]
        json.dumps(sample.info)


def test_free_species_stay_in_one_system_and_info_says_what_came(fitted):
    generator = Diffusion.load(fitted)
    free = Diffusion(checkpoint=str(fitted), composition="free", steps=5, tries=1)
    condition = Condition((("Mg", "O"), ("F", "Na")), max_atoms=4)
    samples = list(free.sample(BLOCK, condition, 3))
    systems = [{"Mg", "O"}, {"F", "Na"}]
    for sample in samples:
        amounts = sample.structure.composition.get_el_amt_dict()
        assert any(set(amounts) <= system for system in systems)
        assert sample.info["fits"] == condition.allows(amounts)
        assert sample.info["neutral"] == is_neutral(tuple(amounts), tuple(int(n) for n in amounts.values()), "strict")
    assert len({sample.structure.composition.reduced_formula for sample in samples}) > 2
    assert free.version == generator.version


def test_elements_never_seen_are_refused_at_once_by_name(fitted):
    generator = Diffusion.load(fitted)
    with pytest.raises(ValueError, match=r"Au, Zn are in no training crystal of this model; leave them out"):
        generator.sample(1, Condition((("O", "Zn"), ("Au", "Mg", "O"))), 0)


def test_targets_become_values_and_what_is_beyond_training_is_told(fitted):
    generator = Diffusion.load(fitted)
    generator.steps, generator.tries = 2, 1
    beyond = Condition(
        (("Mg", "O"),),
        properties={
            "bulk_modulus": Bounds(minimum=900.0),
            "formation_energy": Bounds(-9.0, -8.0),
            "band_gap": Bounds(1),
        },
        max_atoms=20,
    )
    with pytest.warns(UserWarning, match="^diffusion: ") as told:
        stream = generator.sample(BLOCK + 1, beyond, 0)
    said = [str(warning.message) for warning in told]
    assert [s.partition(" in the target")[0].partition(" in its primitive cell")[0] for s in said] == [
        "diffusion: it was not trained on band_gap: this target does not steer its proposals",
        "diffusion: no training crystal has bulk_modulus",
        "diffusion: no training crystal has formation_energy",
        f"diffusion: no training crystal has more than {generator.model.abilities.max_atoms} atoms",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        asked = next(stream).info["asked"]
        inside = Condition((("Mg", "O"),), properties={"bulk_modulus": Bounds(30.0, 60.0)}, max_atoms=3)
        assert next(generator.sample(1, inside, 0)).info["asked"] == {"bulk_modulus": pytest.approx(30 * 2**0.5)}
    assert set(asked) == {"bulk_modulus", "formation_energy"}


def test_guidance_changes_what_is_drawn_and_without_a_target_it_does_not(fitted):
    plain = Diffusion(checkpoint=str(fitted), steps=5, tries=1, guidance=0.0)
    strong = Diffusion(checkpoint=str(fitted), steps=5, tries=1, guidance=5.0)
    asked = Condition((("Mg", "O"),), properties={"formation_energy": Bounds(maximum=-1.4)})
    nothing = Condition((("Mg", "O"),))
    drawn = {
        (name, c): next(g.sample(1, condition, 0)).structure
        for name, g in (("plain", plain), ("strong", strong))
        for c, condition in (("asked", asked), ("nothing", nothing))
    }
    assert drawn["plain", "asked"] == drawn["plain", "nothing"] == drawn["strong", "nothing"]
    assert drawn["strong", "asked"] != drawn["plain", "asked"]


def test_a_scale_turns_bounds_into_values_inside_them():
    linear = PropertyScale.of("formation_energy", [-3.0, -1.0])
    assert linear.value(linear.target(Bounds(minimum=-2.0))) == pytest.approx(-2.0 + MARGIN_STD * 1.0)
    assert linear.value(linear.target(Bounds(maximum=-2.0))) == pytest.approx(-2.0 - MARGIN_STD * 1.0)
    assert linear.value(linear.target(Bounds(-2.0, -1.0))) == pytest.approx(-1.5)
    logarithmic = PropertyScale.of("bulk_modulus", [10.0, 1000.0])
    assert logarithmic.value(logarithmic.target(Bounds(10.0, 1000.0))) == pytest.approx(100.0)
    assert np.isnan(logarithmic.standardised(-1.0))
    assert np.isnan(logarithmic.standardised(None))
    with pytest.raises(ValueError, match="must be positive"):
        PropertyScale.of("bulk_modulus", [0.0, 5.0])


def test_compositions_follow_the_training_set(salts):
    counted = Compositions.of(list(salts))
    assert counted.cells == {"AB": 20, "AB2": 20}
    weights = counted.weights([(1, 1), (1, 2), (2, 1), (1, 3), (4, 8)])
    assert weights.sum() == pytest.approx(1)
    assert weights[0] == pytest.approx(weights[1])
    assert weights[1] == weights[2]
    assert weights[0] > 50 * weights[3] > 0
    assert weights[4] > 0
    assert counted.size_share(3) == pytest.approx(21 / 41)
    assert Compositions({"A10B12": 1}).size_share(22) == 1.0
    assert anonymous((12, 10)) == "A10B12"


def test_fit_resumes_refuses_and_leaves_the_test_part_alone(salts, tmp_path):
    kwargs = {"epochs": 3, "batch_size": 16, "width": 16, "layers": 1, "seed": 4}
    seen: list[int] = []
    whole = Diffusion()
    report = whole.fit(salts, on_epoch=lambda e: seen.append(e.number), **kwargs)
    assert seen == [1, 2, 3]
    assert report.n_structures == 40
    assert report.metrics["n_training"] + report.metrics["n_validation"] + report.metrics["n_test"] == 40
    again = Diffusion()

    def stop(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again.fit(salts, folder=tmp_path, on_epoch=stop, **kwargs)
    again.fit(salts, folder=tmp_path, **kwargs)
    assert again.model.digest == whole.model.digest

    without_test = Dataset("salts", salts.split().training.entries + salts.split().validation.entries)
    less = Diffusion()
    less.fit(without_test, **kwargs)
    assert less.model.digest == whole.model.digest

    assert Training.of({"epochs": None, "seed": 3}) == Training(seed=3)
    with pytest.raises(ValueError, match="fit has no option epoch; it has"):
        Diffusion().fit(salts, epoch=3)
    with pytest.raises(ValueError, match="0 crystals of the training part have 'band_gap'"):
        Diffusion().fit(salts, properties=("band_gap",))
    with pytest.raises(ValueError, match=r"training part of .* is empty"):
        Diffusion().fit(Dataset("none", ()))


def test_bare_structures_can_be_fitted_without_properties(salts):
    generator = Diffusion(steps=2, tries=1)
    generator.fit(list(islice(salts, 12)), properties=(), epochs=1, width=16, layers=1)
    assert generator.conditions_on == frozenset()
    assert next(generator.sample(1, Condition((("Cl", "Na"),)), 0)).structure.composition.reduced_formula == "NaCl"


def test_a_sample_that_fails_is_drawn_again_and_the_last_is_given(fitted, monkeypatch):
    generator = Diffusion(checkpoint=str(fitted), steps=2, tries=3)
    calls = []

    def judge(structure, max_atoms):
        calls.append(structure)
        return ["no good"] if len(calls) <= BLOCK + 5 or len(calls) == BLOCK + 40 else []

    monkeypatch.setattr("generators.diffusion.generator.check_structure", judge)
    samples = list(generator.sample(BLOCK, MAGNESIA, 0))
    assert [s.info["attempts"] for s in samples[:5]] == [3] * 5
    assert all(s.info["attempts"] == 2 for s in samples[5:])
    assert len(calls) == 2 * BLOCK + 5
    assert "problems" not in samples[0].info
    monkeypatch.setattr("generators.diffusion.generator.check_structure", lambda *_: ["never"])
    assert next(generator.sample(1, MAGNESIA, 0)).info["problems"] == ["never"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guidance": -1.0}, "guidance -1.0 must lie"),
        ({"steps": 1}, "steps 1 must lie"),
        ({"composition": "any"}, "must be neutral or free"),
        ({"tries": 0}, "tries 0 must lie"),
        ({"checkpoint": "/nowhere/at/all"}, "is no checkpoint"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        make_generator("diffusion", **options)


def test_a_supercell_that_was_drawn_becomes_primitive_and_niggli_cells_stay(salts):
    cell = np.diag([4.0, 4.0, 8.0])
    frac = np.array([[0, 0, 0], [0, 0, 0.5], [0.5, 0.5, 0.25], [0.5, 0.5, 0.75]])
    made = primitive(cell, frac, np.array([55, 55, 17, 17]))
    assert made.composition.formula == "Cs1 Cl1"
    assert made.volume == pytest.approx(64.0)
    kept = primitive(np.diag([4.0, 4.0, 8.0]), frac[[0, 2]], np.array([55, 17]))
    assert len(kept) == 2
    assert [site.specie.symbol for site in kept] == ["Cl", "Cs"]


@pytest.mark.parametrize("old", [True, False])  # False is what phonopy makes of it for the whole process
def test_a_crystal_that_spglib_finds_no_symmetry_of_stays_as_it_was_drawn(monkeypatch, old):
    monkeypatch.setattr(spglib.error, "OLD_ERROR_HANDLING", old)
    on_top = np.zeros((2, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = primitive(np.diag([4.0, 4.0, 8.0]), on_top, np.array([55, 55]))
    assert [site.specie.symbol for site in made] == ["Cs", "Cs"]
    assert np.allclose(made.frac_coords, on_top)


def test_structures_become_tensors_whatever_cell_they_come_in(salts):
    structure = next(iter(salts))
    skewed = Structure(
        Lattice(np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ structure.lattice.matrix),
        structure.species,
        structure.cart_coords,
        coords_are_cartesian=True,
    )
    crystals = Crystals.of([structure, skewed, structure], [[0.0], [1.0], [2.0]])
    assert torch.allclose(crystals.logarithm[0, :3].sum(), crystals.logarithm[1, :3].sum(), atol=1e-5)
    assert torch.allclose(crystals.logarithm[0].sort().values, crystals.logarithm[1].sort().values, atol=1e-4)
    picked = crystals.take([2, 1])
    assert picked.properties.flatten().tolist() == [2.0, 1.0]
    assert torch.equal(picked.frac, crystals.frac[[4, 5, 2, 3]])
    back = Crystals.from_tensors(crystals.as_tensors("x"), "x")
    assert torch.equal(back.frac, crystals.frac)
