"""The adapter to MatterGen, against a stand-in that takes its arguments and writes its files."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outside_fixtures import same

from generators.adapters.mattergen import TRAINED_ON, MatterGen, known_sets
from generators.adapters.process import EnvironmentProblem
from generators.base import Bounds, Condition, Generator
from generators.registry import load_generator

HALIDES = Condition((("Cl", "F", "Li", "Na"),), max_elements=3, max_atoms=8, neutrality="off")


def draw(generator, n, condition=HALIDES, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(generator.sample(n, condition, 1, **more))


def test_crystals_of_the_chemical_systems_that_are_asked_for(stand_in_environment):
    generator = MatterGen(stand_in_environment, "chemical_system", batch=4)
    samples = draw(generator, 10)
    for sample in samples:
        asked = sample.info["asked"]["chemical_system"].split("-")
        assert {str(e) for e in sample.structure.elements} <= set(asked) <= {"Cl", "F", "Li", "Na"}
        assert (sample.info["model"], sample.info["model_version"]) == ("mattergen chemical_system", "0+stand.in")
    assert len({s.info["asked"]["chemical_system"] for s in samples}) > 1
    assert all(map(same, samples[6:], draw(generator, 10, start=6)))  # the seed reaches the model


def test_the_version_is_known_from_the_cache_too(stand_in_environment, tmp_path):
    generator = MatterGen(stand_in_environment, "chemical_system", batch=2, cache=str(tmp_path))
    assert all(map(same, draw(generator, 2), draw(generator, 2)))


def test_the_command_is_upstreams(tmp_path):
    condition = Condition((("Li", "O"),), properties={"energy_above_hull": Bounds(0.02, 0.1, "eV/atom")})
    generator = MatterGen(
        "/env/bin/python", "chemical_system_energy_above_hull", arguments=["--sampling_config_path=/c"]
    )
    words = command(generator, condition)
    assert words[0] == "/env/bin/python"
    assert words[2:5] == ["7", "mattergen.scripts.generate", "/out"]
    assert words[5:] == [
        "--pretrained_name=chemical_system_energy_above_hull", "--batch_size=16", "--num_batches=1",
        "--record_trajectories=False",
        "--properties_to_condition_on={'chemical_system':'Li-O','energy_above_hull':0.02}",
        "--diffusion_guidance_factor=2.0", "--sampling_config_path=/c",
    ]  # fmt: skip
    own = MatterGen("/env/bin/python", model_path=str(tmp_path), trained_on=["dft_bulk_modulus"])
    assert f"--model_path={tmp_path}" in command(own, condition)
    assert not any("properties" in word for word in command(own, condition))


def command(generator, condition):
    from pathlib import Path

    from generators.adapters.runs import Run

    return generator._command(Run(0, 0, 16, 7, 0, condition), Path("/out"), Path("/c.json"))[0]


@pytest.mark.parametrize(
    ("name", "properties", "asked"),
    [
        ("dft_band_gap", {"band_gap": Bounds(1.0, 2.0, "eV")}, {"dft_band_gap": 1.5}),
        ("dft_band_gap", {"band_gap": Bounds(1.0, None, "eV")}, {"dft_band_gap": 1.0}),
        ("dft_band_gap", {}, {}),
        ("ml_bulk_modulus", {"bulk_modulus": Bounds(None, 90, "GPa")}, {"ml_bulk_modulus": 90.0}),
        ("mattergen_base", {"bulk_modulus": Bounds(None, 90, "GPa")}, {}),
        ("chemical_system_energy_above_hull", {}, {"chemical_system": "Li-O", "energy_above_hull": 0.0}),
    ],
)
def test_a_target_becomes_the_value_that_upstream_takes(name, properties, asked):
    generator = MatterGen("python", name)
    condition = Condition((("Li", "O"),), properties=properties)
    assert generator.asked(condition, 1) == asked
    assert {"dft_band_gap": "band_gap", "ml_bulk_modulus": "bulk_modulus"}.get(name) in {*generator.conditions_on, None}
    assert MatterGen("python", name, guidance=0).asked(condition, 1) == {}


def test_ones_own_values_go_first():
    generator = MatterGen("python", "dft_band_gap", properties={"dft_band_gap": 3})
    assert generator.asked(Condition((("Li", "O"),), properties={"band_gap": Bounds(1, 2)}), 1) == {"dft_band_gap": 3}
    assert generator.conditions_on == frozenset()


@given(st.integers(0, 2**63 - 1))
def test_only_element_sets_that_the_condition_allows_are_asked_for(seed):
    condition = Condition((("Li", "Na", "O", "Xe"), ("Mg", "S")), max_elements=2)
    asked = MatterGen("python", "chemical_system").asked(condition, seed)["chemical_system"]
    assert asked in {"Li-Na", "Li-O", "Na-O", "Mg-S"}


def test_elements_that_it_does_not_know_are_refused_at_once():
    assert known_sets(Condition((("O", "U"), ("Tc", "O")))) == {}
    with pytest.raises(ValueError, match=r"no element set of .*O-U.* is known to MatterGen"):
        MatterGen("python", "chemical_system").sample(1, Condition((("O", "U"),)), 1)


def test_a_unit_that_upstream_does_not_have_is_refused_at_once():
    condition = Condition((("Li", "O"),), properties={"bulk_modulus": Bounds(1, 2, "Mbar")})
    with pytest.raises(ValueError, match="bulk_modulus is asked for in Mbar; GPa is needed"):
        MatterGen("python", "ml_bulk_modulus").sample(1, condition, 1)


def test_a_model_without_chemical_systems_is_sieved(stand_in_environment):
    with pytest.warns(UserWarning, match="outside the chemical systems"):
        samples = list(MatterGen(stand_in_environment, "mattergen_base", batch=6).sample(6, HALIDES, 1))
    assert all(HALIDES.allows(s.structure.symbol_set) for s in samples)
    assert "asked" not in samples[0].info


def test_a_full_disk_is_noticed_although_upstream_ends_well(stand_in_environment, monkeypatch):
    monkeypatch.setenv("STAND_IN_DISK_FULL", "1")
    generator = MatterGen(stand_in_environment, "mattergen_base", max_failures=1, environment=["STAND_IN_DISK_FULL"])
    with pytest.raises(RuntimeError, match=r"(?s)wrote no generated_crystals.extxyz.*No space left on device"):
        draw(generator, 1)


def test_an_environment_without_it_is_refused(second_environment, stand_in_environment, tmp_path):
    with pytest.raises(EnvironmentProblem, match="has no module mattergen, fire, torch"):
        draw(MatterGen(second_environment, "mattergen_base"), 1)
    with pytest.raises(EnvironmentProblem, match="option model_path"):
        draw(MatterGen(stand_in_environment, model_path=str(tmp_path / "none")), 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "one of the options pretrained_name and model_path"),
        ({"pretrained_name": "x"}, "the option pretrained_name must be one of mattergen_base"),
        ({"pretrained_name": "mattergen_base", "model_path": "x"}, "one of the options"),
        ({"model_path": "x", "trained_on": ["band_gap"]}, "the option trained_on"),
        ({"pretrained_name": "mattergen_base", "guidance": "2"}, "the option guidance"),
        ({"pretrained_name": "mattergen_base", "properties": {"band_gap": 1}}, "properties has 'band_gap'"),
        ({"pretrained_name": "dft_band_gap", "properties": {"dft_band_gap": "1"}}, "properties.dft_band_gap"),
        ({"pretrained_name": "dft_band_gap", "properties": 3}, "the option properties"),
        ({"pretrained_name": "mattergen_base", "arguments": "--x"}, "the option arguments"),
        ({"pretrained_name": "mattergen_base", "batch": 0}, "the option batch"),
    ],
)
def test_a_wrong_option_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        MatterGen("python", **options)


def test_it_is_saved(tmp_path):
    for number, generator in enumerate(
        [
            *(MatterGen("/env/bin/python", name) for name in TRAINED_ON),
            MatterGen(
                "python", model_path="m", trained_on=["dft_bulk_modulus"], properties={"dft_bulk_modulus": 200.0}
            ),
        ]
    ):
        generator.save(tmp_path / str(number))
        assert load_generator(tmp_path / str(number)) == generator == generator.update([])
        assert isinstance(generator, Generator)
