"""The adapter to Chemeleon-DNG, against a stand-in that takes its arguments and writes its files."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outside_fixtures import same
from pymatgen.core import Composition

from generators.adapters.chemeleon import ChemeleonDNG, draw_formulas
from generators.adapters.process import EnvironmentProblem
from generators.adapters.runs import Run
from generators.base import Condition, Generator
from generators.crystals.neutrality import neutral
from generators.registry import load_generator

SALTS = Condition((("Cl", "Na"), ("Li", "Mg", "O")), max_elements=3, max_atoms=6)


@pytest.fixture
def checkpoints(tmp_path):
    """The stand-in's checkpoints say in a word what they were trained for."""
    for task in ("csp", "dng"):
        (tmp_path / f"chemeleon_{task}.ckpt").write_text(task)
    return {task: str(tmp_path / f"chemeleon_{task}.ckpt") for task in ("csp", "dng")}


def draw(generator, n, condition=SALTS, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(generator.sample(n, condition, 1, **more))


def test_structures_for_compositions_of_the_condition(stand_in_environment, checkpoints):
    generator = ChemeleonDNG(stand_in_environment, checkpoints["csp"], batch=6, device="cpu")
    samples = draw(generator, 14)
    assert [s.index for s in samples] == list(range(14))
    assert all(SALTS.allows(s.structure.symbol_set) for s in samples)
    assert (samples[0].info["model"], samples[0].info["model_version"]) == (
        "chemeleon-dng chemeleon_csp.ckpt",
        "0+stand.in",
    )
    assert all(map(same, samples[8:], draw(generator, 14, start=8)))  # the seed reaches the model


def test_files_are_taken_by_number_not_by_name(stand_in_environment, checkpoints):
    formulas = [f"{a}1{b}1" for a in ("Li", "Na", "K") for b in ("F", "Cl", "Br", "I")]
    condition = Condition((("Br", "Cl", "F", "I", "K", "Li", "Na"),), neutrality="off")
    samples = draw(ChemeleonDNG(stand_in_environment, checkpoints["csp"], formulas=formulas, batch=12), 12, condition)
    assert [s.structure.composition for s in samples] == [Composition(f) for f in formulas]


def test_any_crystals_are_sieved(stand_in_environment, checkpoints):
    condition = Condition((("Cl", "Na"),), max_atoms=4, neutrality="off")
    generator = ChemeleonDNG(stand_in_environment, checkpoints["dng"], task="dng", batch=8)
    with pytest.warns(UserWarning, match="outside the chemical systems"):
        samples = list(generator.sample(4, condition, 1))
    assert all(condition.allows(s.structure.symbol_set) and len(s.structure) <= 4 for s in samples)


def test_a_checkpoint_for_another_task_fails_in_upstreams_words(stand_in_environment, checkpoints):
    with pytest.raises(RuntimeError, match="Checkpoint task does not match the provided task 'csp'"):
        draw(ChemeleonDNG(stand_in_environment, checkpoints["dng"], max_failures=1), 1)


def test_the_command_is_upstreams():
    def words(**options):
        generator = ChemeleonDNG("/env/bin/python", "/ckpts/c.ckpt", **options)
        return generator._command(Run(2, 1, 3, 7, 64, SALTS), Path("/out"), Path("/c.json"))[0]

    csp = words(formulas=["Na2Cl2", "LiF"])
    assert csp[0] == "/env/bin/python"
    assert csp[2:] == [
        "7", "chemeleon_dng.sample", "--task=csp", "--formulas=LiF,Na2Cl2,LiF", "--num_samples=1", "--batch_size=3",
        "--model_path=/ckpts/c.ckpt", "--output_dir=/out", "--save_json=False",
    ]  # fmt: skip
    dng = words(task="dng", device="cuda")
    assert dng[4] == "--task=dng"
    assert dng[5] == "--num_samples=3"
    sizes = dng[6].removeprefix("--num_atom_distribution=[").removesuffix("]").split(",")
    assert all(2 <= int(size) <= 6 for size in sizes)
    assert len(sizes) == 3
    assert dng[-1] == "--device=cuda"
    assert "--num_atom_distribution=mp-20" in words(task="dng", num_atoms="mp-20")


@given(st.integers(0, 2**63 - 1), st.sampled_from(["strict", "off"]))
def test_compositions_keep_the_condition(seed, rule):
    condition = Condition(SALTS.chemical_systems, max_elements=3, max_atoms=6, neutrality=rule)
    for formula in draw_formulas(condition, 5, np.random.default_rng(seed)):
        composition = Composition(formula)
        assert condition.allows(e.symbol for e in composition)
        assert composition.num_atoms <= 6
        assert neutral(composition, rule)


def test_a_condition_without_compositions_is_refused_at_once():
    with pytest.raises(ValueError, match=r"no composition of .*Li-Na"):
        ChemeleonDNG("python", "c.ckpt").sample(1, Condition((("Li", "Na"),)), 1)


def test_a_checkpoint_that_is_not_there_is_named(stand_in_environment):
    with pytest.raises(EnvironmentProblem, match=r"/none.ckpt \(option model_path\) is not there"):
        draw(ChemeleonDNG(stand_in_environment, "/none.ckpt"), 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "guide"}, "the option task must be one of csp, dng"), ({"formulas": "NaCl"}, "the option formulas"),
        ({"formulas": ["Na Cl"]}, "the option formulas has 'Na Cl'"), ({"num_atoms": 4}, "the option num_atoms"),
        ({"task": "dng", "formulas": ["NaCl"]}, "is for the task csp"), ({"device": 0}, "the option device"),
        ({"model_path": None}, "the option model_path"), ({"tries": 0}, "the option tries"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        ChemeleonDNG(**{"python": "python", "model_path": "c.ckpt", **options})


def test_it_is_saved(tmp_path):
    generator = ChemeleonDNG("python", "c.ckpt", formulas=["NaCl"])
    generator.save(tmp_path)
    assert load_generator(tmp_path) == generator == generator.update([])
    assert isinstance(generator, Generator)
