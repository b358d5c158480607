"""What all three keep: the condition, resumable streams, checkpoints, learning from verdicts, honest refusals."""

from __future__ import annotations

import json
from itertools import islice

import pytest
import spglib
import torch
from checkpoints import rewrite

from generators.base import Bounds, Condition, Generator, Labelled
from generators.checkpoint import CheckpointError
from generators.crystals.neutrality import neutral
from generators.crystals.validity import check_structure
from generators.data.dataset import Dataset
from generators.latent import Vae
from generators.latent.space import Space, element_vectors
from generators.registry import abilities_of, load_generator, make_generator
from generators.symmetric.wyckoff import centring, sites


def labelled(sample, **verdict):
    return Labelled(f"c-{sample.index:04d}", sample.structure, sample.generator, sample.info, **verdict)


@pytest.fixture(scope="session")
def samples(model, condition):
    return list(model.sample(40, condition, seed=3))


def test_the_contract_is_kept(model):
    assert isinstance(model, Generator)
    assert model.conditions_on == {"formation_energy", "bulk_modulus"}
    assert model.training["sizes"]["training"] > 100
    json.dumps(model.training)


def test_every_sample_keeps_the_condition(samples, condition):
    for sample in samples:
        assert condition.allows(e.symbol for e in sample.structure.composition.elements)
        assert neutral(sample.structure.composition, "strict")
        assert len(sample.structure) <= condition.max_atoms
        assert sample.info["wanted"]["bulk_modulus"] >= 120


def test_most_samples_are_valid_and_have_the_symmetry_they_were_made_with(samples):
    valid = [s for s in samples if not check_structure(s.structure)]
    assert len(valid) > 0.8 * len(samples)
    for sample in valid:  # it may have more symmetry than its skeleton, never less
        number = sample.info["spacegroup"]
        wanted = max(site.multiplicity for site in sites(number).values()) // centring(number)
        cell = (
            sample.structure.lattice.matrix,
            sample.structure.frac_coords,
            [site.specie.Z for site in sample.structure],
        )
        found = spglib.get_symmetry_dataset(cell, symprec=0.01)
        assert len({rotation.tobytes() for rotation in found.rotations}) >= wanted


def test_no_row_comes_twice_in_a_block(samples):
    rows = [s.info["row"] for s in samples[:32] if not check_structure(s.structure)]
    assert len(set(rows)) > 0.9 * len(rows)


def test_a_stream_resumes_anywhere_and_does_not_depend_on_its_length(model, condition, samples):
    for n, start in ((40, 0), (40, 35), (7, 3)):
        again = list(model.sample(n, condition, seed=3, start=start))
        assert [s.index for s in again] == list(range(start, n))
        for one in again:
            assert one.structure == samples[one.index].structure
            assert (one.seed, one.info) == (samples[one.index].seed, samples[one.index].info)
    assert [s.structure for s in islice(model.sample(40, condition, seed=4), 3)] != [s.structure for s in samples[:3]]


def test_a_saved_model_is_the_same_model(model, condition, samples, tmp_path):
    model.save(tmp_path)
    again = load_generator(tmp_path)
    assert again.version.split("+") == model.version.split("+")
    assert next(iter(again.sample(1, condition, seed=3))).structure == samples[0].structure
    assert again.training == model.training
    made = make_generator(model.name, checkpoint=str(tmp_path))
    assert next(iter(made.sample(1, condition, seed=3))).structure == samples[0].structure
    assert "Mg" in abilities_of(model.name, str(tmp_path)).elements


def test_damage_is_noticed(vae, tmp_path):
    vae.save(tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9] + b"otherbyte")
    with pytest.raises(CheckpointError, match="damaged"):
        Vae.load(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda name, tensor: None if name.startswith("network.") else tensor,
        lambda name, tensor: None if name == "library.latent" else tensor,
        lambda name, tensor: tensor[..., :-1] if name.startswith("network.") and tensor.ndim == 2 else tensor,
        lambda name, tensor: tensor[1:] if name == "network.vectors" else tensor,
        lambda name, tensor: tensor + 10_000 if name == "library.skeleton" else tensor,
    ],
    ids=["no network", "no library", "other shapes", "other elements", "other skeletons"],
)
def test_weights_of_another_model_are_refused_in_one_line(model, spoil, tmp_path):
    model.save(tmp_path)
    rewrite(tmp_path, spoil)
    with pytest.raises(CheckpointError, match=f"the weights of {tmp_path} do not fit .*take another copy") as told:
        load_generator(tmp_path)
    assert "\n" not in str(told.value)


def test_weights_that_are_not_finite_are_refused(model, tmp_path):
    model.save(tmp_path)
    rewrite(tmp_path, lambda name, tensor: tensor * torch.nan if name == "library.latent" else tensor)
    with pytest.raises(CheckpointError, match=r"tensor library\.latent holds numbers that are not finite"):
        load_generator(tmp_path)


@pytest.mark.parametrize("name", ["vae", "flow", "gan"])
def test_without_a_checkpoint_one_is_told_to_train(name):
    with pytest.raises(ValueError, match=f"nucleate generator train {name}"):
        make_generator(name)


def test_an_untrained_one_says_so(condition):
    with pytest.raises(ValueError, match="not trained yet"):
        Vae.blank().sample(1, condition, seed=0)
    with pytest.raises(ValueError, match="temperature 9 must lie between"):
        Vae.blank(temperature=9)


def test_unseen_elements_are_refused_at_once(model):
    with pytest.raises(ValueError, match="Og, Xe are in no training crystal"):
        model.sample(1, Condition((("Og", "O", "Xe"),)), seed=0)


def test_a_condition_that_nothing_meets_is_refused_at_once(model):
    with pytest.raises(
        ValueError, match=r"no training skeleton takes a crystal of Ca-Mg with 2 elements, .*--neutrality off"
    ):
        model.sample(1, Condition((("Ca", "Mg"),), max_elements=2), seed=0)


def test_targets_out_of_reach_are_warned_of(model):
    with pytest.warns(UserWarning, match="not trained on band_gap"):
        model.sample(1, Condition((("Mg", "O"),), properties={"band_gap": Bounds(1.0)}), seed=0)
    with pytest.warns(UserWarning, match="extrapolated"):
        model.sample(1, Condition((("Mg", "O"),), properties={"bulk_modulus": Bounds(9000.0)}), seed=0)


def test_a_small_condition_is_never_exhausted(model):
    only = Condition((("Mg", "O"),), max_elements=2, max_atoms=2)
    assert len(list(model.sample(40, only, seed=1))) == 40


def test_an_update_is_a_new_state_and_the_order_of_verdicts_is_irrelevant(model, condition, samples, tmp_path):
    verdicts = [
        labelled(samples[0], energy_above_hull_ev_per_atom=0.0, stable=True, novel=True),
        labelled(samples[1], energy_above_hull_ev_per_atom=0.5, stable=False),
        labelled(samples[2], cause=501),
        labelled(samples[3], cause=101),
    ]
    before = (model.version, model.last_update)
    first, second = model.update(verdicts), model.update(reversed(verdicts))
    assert (model.version, model.last_update) == before
    assert first.version.endswith("+1")
    assert first.last_update == second.last_update
    assert (first.last_update["taken"], first.last_update["good"], first.last_update["bad"]) == (True, 1, 2)
    assert first.last_update["lessons"] == 3  # a scheduler's fault teaches nothing
    fresh = list(first.sample(32, condition, seed=3))
    assert [s.structure for s in fresh] == [s.structure for s in second.sample(32, condition, seed=3)]
    tried = {s.info["row"] for s in samples[:3]}
    assert not tried & {s.info["row"] for s in fresh}
    first.save(tmp_path)
    loaded = load_generator(tmp_path)
    assert loaded.last_update == first.last_update
    assert [s.structure for s in islice(loaded.sample(32, condition, seed=3), 4)] == [s.structure for s in fresh[:4]]


def test_an_update_without_evidence_says_so(vae, samples):
    new = vae.update([])
    assert not new.last_update["taken"]
    assert new.last_update["lessons"] == 0


def test_absent_orbits_never_influence(model, corner):
    structure = min((e.structure for e in corner.entries), key=len)
    content, frame = _shown(model, structure)
    dirty = content._replace(
        element=torch.where(frame.present, content.element, 3),
        free=torch.where(frame.is_free, content.free, 0.37),
        shape=torch.where(frame.shape_free, content.shape, 9.0),
    )
    with torch.no_grad():
        clean = model.network.encode(content, frame)
        assert torch.allclose(clean, model.network.encode(dirty, frame), atol=1e-6)
        far = frame._replace(site=torch.where(frame.present[..., None], frame.site, 7.0))
        a, b = model.network.decode(clean, frame), model.network.decode(clean, far)
    assert torch.allclose(a.expansion, b.expansion, atol=1e-6)


def test_latent_vectors_decode_within_the_condition(model, corner, condition):
    vectors = model.latent([e.structure for e in corner.entries[:3]])
    assert vectors.shape == (3, model.network.latent_size)
    crystals = model.decode_latent(vectors, condition, seed=2)
    assert all(condition.allows(e.symbol for e in c.composition.elements) for c in crystals)
    assert crystals == model.decode_latent(vectors, condition, seed=2)


def test_a_space_survives_json(vae):
    again = Space.from_dict(json.loads(json.dumps(vae.space.as_dict())))
    assert again == vae.space


def test_element_vectors_tell_elements_apart():
    vectors = element_vectors(("Al", "Ca", "F", "Mg", "Na", "O", "S", "Ti"))
    distances = torch.cdist(vectors, vectors) + 9 * torch.eye(8)
    assert distances.min() > 0.3
    assert torch.allclose(vectors.mean(dim=0), torch.zeros(6), atol=1e-5)


def test_too_small_a_data_set_is_refused(corner):
    with pytest.raises(ValueError, match="leaves"):
        Vae.blank().fit(Dataset("tiny", corner.entries[:1]))


def test_a_property_that_no_crystal_has_is_refused(corner):
    with pytest.raises(ValueError, match="0 training crystals have band_gap"):
        Vae.blank().fit(Dataset("some", corner.entries[:80]), properties=["band_gap"], epochs=1)


def _shown(model, structure):
    from generators.symmetric.assignments import row_of
    from generators.symmetric.wyckoff import describe

    description = describe(structure)
    return model.space.content([description]), model.space.frame([row_of(description).skeleton])
