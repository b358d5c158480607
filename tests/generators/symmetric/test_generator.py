"""The trained generator: exact in what it promises, the same from the same seed, refusing what it never saw."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from checkpoints import rewrite

from generators.base import Bounds, Condition
from generators.checkpoint import CheckpointError
from generators.crystals.neutrality import neutral
from generators.data.dataset import Dataset, shipped
from generators.registry import load_generator
from generators.symmetric import Symmetric
from generators.symmetric.wyckoff import describe

N = 24


@pytest.fixture(scope="module")
def drawn(small, condition):
    return list(small.sample(N, condition, seed=3))


def test_every_sample_keeps_system_size_and_neutrality(drawn, condition):
    assert [s.index for s in drawn] == list(range(N))
    for sample in drawn:
        composition = sample.structure.composition
        assert condition.allows(e.symbol for e in composition.elements)
        assert len(sample.structure) <= condition.max_atoms
        assert neutral(composition, "strict")


def test_samples_have_the_symmetry_they_were_drawn_with(drawn):
    """Relaxed by nothing yet: spglib finds the space group, or one above it where coordinates happen to fit."""
    same = sum(describe(s.structure, 0.01).number == s.info["spacegroup"] for s in drawn)
    assert same >= 0.8 * N


def test_no_choice_comes_twice(drawn):
    assert len({s.info["row"] for s in drawn}) == N


def test_new_skeletons_have_their_share(small, condition):
    new = [s.info["unseen_skeleton"] for s in small.sample(40, condition, seed=1)]
    assert sum(new) == int(40 * 0.1)
    none = Symmetric.blank(unseen=0.0)
    none._model, none._state, none._tensors = small._model, small._state, small._tensors
    assert not any(s.info["unseen_skeleton"] for s in none.sample(20, condition, seed=1))


def test_the_same_seed_gives_the_same_samples_from_any_start(small, condition, drawn):
    later = list(small.sample(N, condition, seed=3, start=N - 7))
    assert [s.index for s in later] == list(range(N - 7, N))
    for a, b in zip(drawn[-7:], later, strict=True):
        assert a.structure == b.structure
        assert a.info == b.info
    other = list(small.sample(N, condition, seed=4))
    assert [s.info["row"] for s in other] != [s.info["row"] for s in drawn]


def test_a_saved_state_samples_the_same(small, condition, drawn, tmp_path):
    small.save(tmp_path / "state")
    again = load_generator(tmp_path / "state")
    assert again.version == small.version
    for a, b in zip(drawn, again.sample(N, condition, seed=3), strict=True):
        assert a.structure == b.structure


def test_a_foreign_checkpoint_is_refused(small, tmp_path):
    small.save(tmp_path / "state")
    text = (tmp_path / "state" / "generator.json").read_text().replace('"name": "symmetric"', '"name": "flow"')
    (tmp_path / "state" / "generator.json").write_text(text)
    with pytest.raises(CheckpointError, match="flow"):
        Symmetric(checkpoint=str(tmp_path / "state"))


def test_weights_of_another_model_are_refused_in_one_line(small, tmp_path):
    for changed in ({"members": 4}, {"properties": ["bulk_modulus"]}, {"scale": None}):
        small.save(tmp_path)
        rewrite(tmp_path, **changed)
        with pytest.raises(CheckpointError, match=f"the weights of {tmp_path} do not fit .*take another copy") as told:
            load_generator(tmp_path)
        assert "\n" not in str(told.value)
    small.save(tmp_path)
    rewrite(tmp_path, lambda name, tensor: None if name.startswith("letters.") else tensor)
    with pytest.raises(CheckpointError, match="do not fit"):
        Symmetric(checkpoint=str(tmp_path))


def test_weights_that_are_not_finite_are_refused(small, tmp_path):
    small.save(tmp_path)
    rewrite(tmp_path, lambda name, tensor: tensor * torch.nan if name.startswith("forecast-0.") else tensor)
    with pytest.raises(CheckpointError, match=r"tensor forecast-0\.\S+ holds numbers that are not finite"):
        load_generator(tmp_path)


def test_an_element_it_never_saw_is_refused_at_once(small):
    with pytest.raises(ValueError, match=r"Pu .*no training crystal"):
        small.sample(1, Condition((("O", "Pu"),)), seed=0)


def test_a_target_it_never_saw_is_a_warning(small):
    wanted = Condition((("Al", "O"),), properties={"band_gap": Bounds(1.0, None, "eV")})
    with pytest.warns(UserWarning, match="not trained on band_gap"):
        small.sample(1, wanted, seed=0)
    beyond = Condition((("Al", "O"),), properties={"bulk_modulus": Bounds(900.0, None, "GPa")})
    with pytest.warns(UserWarning, match="extrapolated"):
        small.sample(1, beyond, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small.sample(1, Condition((("Al", "O"),)), seed=0)


def test_a_condition_that_nothing_meets_is_refused(small):
    with pytest.raises(ValueError, match=r"no crystal of Li-Na with 2 elements, at most 8 atoms .*--neutrality off"):
        small.sample(1, Condition((("Li", "Na"),), neutrality="strict"), seed=0)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"unseen": 1.5}, "unseen"),
        ({"sharpness": -1}, "sharpness"),
        ({"targeting": "hope"}, "targeting"),
        ({"k": 0}, "k 0"),
    ],
)
def test_options_out_of_range_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        Symmetric.blank(**options)


def test_targets_move_the_choice(small, condition):
    """Rows chosen for a high bulk modulus are forecast stiffer than rows chosen without."""

    def stiffness(targeting):
        model = Symmetric.blank(targeting=targeting, sharpness=3.0)
        model._model, model._state, model._tensors = small._model, small._state, small._tensors
        arena_of = {row: k for k, row in enumerate(_arena_rows(small, condition))}
        mean = _arena(small, condition).outlook.mean[:, small.model.properties.index("bulk_modulus")]
        return np.mean([mean[arena_of[s.info["row"]]] for s in model.sample(30, condition, seed=5)])

    free = stiffness("off")
    assert stiffness("conditioning") > free
    assert stiffness("best_of_k") > free


def _arena(model, condition):
    from generators.symmetric.generator import _arena as make

    return make(model.model, condition)


def _arena_rows(model, condition):
    return [row.key for row in _arena(model, condition).rows]


def test_a_fit_reports_what_it_did_and_goes_on_after_a_kill(corner, tmp_path):
    some = Dataset("some", corner.entries[:160])
    seen = []

    class KilledError(Exception):
        pass

    def kill(epoch):
        seen.append(epoch.number)
        if len(seen) == 5:
            raise KilledError

    with pytest.raises(KilledError):
        Symmetric.blank().fit(some, epochs=2, folder=tmp_path, on_epoch=kill)
    again = []
    model = Symmetric.blank()
    report = model.fit(some, epochs=2, folder=tmp_path, on_epoch=again.append)
    assert again[0].number == 6
    assert report.n_structures == len(some)
    assert {"letters", "geometry", "forecast-0", "formation_energy_mae"} <= report.metrics.keys()
    assert model.training["sizes"]["test"] == len(some.split().test)


def test_the_test_part_is_in_no_network(small, corner):
    """No row of the held-out part is known to the model, unless another crystal of it was trained on."""
    splits = corner.split("prototype")
    shown = {describe(e.structure).letters for e in (*splits.training.entries, *splits.validation.entries)}
    assert small.training["sizes"]["training"] <= len(splits.training)
    assert small.training["sizes"]["test"] == len(splits.test)
    assert shown


def test_an_untrained_model_keeps_the_condition_and_knows_nothing(condition):
    control = Symmetric.untrained()
    drawn = list(control.sample(12, condition, seed=1))
    assert all(neutral(s.structure.composition, "strict") for s in drawn)
    means = _arena(control, condition).outlook.mean[:, 0]
    trained = _arena(Symmetric(), condition).outlook.mean[:, 0]
    assert np.nanstd(means) < 0.2 * np.nanstd(trained)
    assert control.version != Symmetric().version


def test_without_training_there_is_nothing_to_sample(condition):
    with pytest.raises(ValueError, match="not trained"):
        Symmetric.blank().sample(1, condition, seed=0)


def test_crystals_without_labels_teach_shapes_and_places():
    entries = [replace(e, properties={}, energy_ev_per_atom=None) for e in shipped().entries[:300]]
    model = Symmetric.blank()
    with pytest.warns(UserWarning, match="not what is stable"):
        model.fit(Dataset("plain", tuple(entries)), epochs=1)
    assert model.conditions_on == frozenset()
    condition = Condition((("Al", "Mg", "O"),))
    samples = list(model.sample(4, condition, seed=0))
    assert len({one.structure.composition.reduced_formula for one in samples}) > 1


def test_a_property_that_no_crystal_has_is_refused_before_the_work():
    told = []
    some = Dataset("some", shipped().entries[:300])
    with (
        pytest.warns(UserWarning, match="not what is stable"),
        pytest.raises(ValueError, match="0 training crystals have band_gap"),
    ):
        Symmetric.blank().fit(some, properties=("band_gap",), on_epoch=told.append)
    assert told == []
