"""Generators are made, loaded and listed by name, and what is wrong is said with what would be right."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from generators.base import Generator
from generators.registry import describe, load_generator, make_generator, options_of

NEEDED = {
    "mixture": {"members": [("random", 1.0)]},
    "folder": {"path": "crystals"},
    "script": {"command": ["model", "{output}", "{n}", "{seed}"]},
    "mattergen": {"python": "python", "pretrained_name": "chemical_system"},
    "chemeleon": {"python": "python", "model_path": "chemeleon_csp_alex_mp_20_v0.0.2.ckpt"},
}
"""Options without which a generator can't be made."""


UNSHIPPED = frozenset({"vae", "flow", "gan"})
"""Trained models without a checkpoint in the package; tests/generators/latent makes, saves and loads them."""


@pytest.mark.parametrize(
    "entry", [e for e in describe() if e["name"] not in UNSHIPPED], ids=lambda entry: entry["name"]
)
def test_every_entry_can_be_made_saved_and_loaded(entry, tmp_path):
    generator = make_generator(entry["name"], **NEEDED.get(entry["name"], {}))
    assert isinstance(generator, Generator)
    assert generator.name == entry["name"]
    assert entry["summary"]
    generator.save(tmp_path)
    assert type(load_generator(tmp_path)) is type(generator)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'magic'; known are symmetric, .*ion_exchange, random, mixture"):
        make_generator("magic")


def test_an_unknown_option_is_refused_with_the_allowed_ones():
    with pytest.raises(ValueError, match="ion_exchange has no option colour; it has exploration, plausibility, splits"):
        make_generator("ion_exchange", colour="blue")


@pytest.mark.parametrize("value", ["much", None, [1]])
def test_an_option_of_the_wrong_type_is_refused(value):
    with pytest.raises(ValueError, match="random"):
        make_generator("random", exploration=value)


def test_a_missing_option_is_named():
    with pytest.raises(ValueError, match="mixture needs the option members"):
        make_generator("mixture")


def test_options_come_with_their_defaults():
    assert options_of("random") == {"exploration": 0.3}


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"name": "magic"})])
def test_what_is_no_saved_generator_is_refused(text, tmp_path):
    (tmp_path / "generator.json").write_text(text)
    with pytest.raises(ValueError, match="generator"):
        load_generator(tmp_path)


def test_listing_imports_no_generator():
    code = (
        "import sys; from generators.registry import describe; describe()\n"
        "print([m for m in ('numpy', 'pymatgen', 'pyxtal', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_making_and_saving_generators_builds_no_prototypes():
    # Building the AFLOW library takes seconds; who launches a campaign samples nothing.
    code = (
        "import pathlib, sys, tempfile; from generators.registry import make_generator\n"
        "members = [('symmetric', 0.7), ('ion_exchange', 0.3)]\n"
        "make_generator('mixture', members=members).save(pathlib.Path(tempfile.mkdtemp()))\n"
        "print('pymatgen.analysis.prototypes' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
