"""Generators are made, loaded and listed by name, and what is wrong is said with what would be right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from generators.base import Generator
from generators.registry import (
    abilities_of,
    anchored,
    describe,
    is_trained,
    load_generator,
    make_generator,
    named,
    options_of,
)
from generators.state_file import CheckpointError

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


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "damaged: it is no whole JSON"),
        ('{"name": "rand', r"damaged: it is no whole JSON \(line 1, column 10\); take another copy"),
        ("[]", "damaged: it does not say whose state it is"),
        ("{}", "damaged: it does not say whose state it is"),
        (json.dumps({"name": "magic"}), r"no generator is called 'magic'.*written by a newer version\?"),
    ],
)
def test_what_is_no_saved_generator_is_refused(text, says, tmp_path):
    (tmp_path / "generator.json").write_text(text)
    with pytest.raises(CheckpointError, match=rf"generator\.json.*{says}"):
        load_generator(tmp_path)


STATELESS = {
    "ion_exchange": {},
    "random": {"exploration": 0.5},
    "mixture": {"members": [["random", 0.5], ["ion_exchange", 0.5]]},
    "folder": {"path": "."},
    "mattergen": {"python": sys.executable, "pretrained_name": "mattergen_base"},
}


@pytest.mark.parametrize("name", STATELESS)
def test_a_state_that_was_spoilt_is_refused_in_one_line_whatever_it_lacks(name, tmp_path):
    make_generator(name, **STATELESS[name]).save(tmp_path)
    file = tmp_path / "generator.json"
    state = json.loads(file.read_text())
    for key in state:
        file.write_text(json.dumps({k: v for k, v in state.items() if k != key}))
        with pytest.raises(CheckpointError, match=r"generator\.json is damaged: .*; take another copy") as told:
            load_generator(tmp_path)
        assert key in str(told.value)
        for other in (None, "?", [["?"]], {"?": "?"}):
            file.write_text(json.dumps(state | {key: other}))
            with pytest.raises(CheckpointError) as told:
                load_generator(tmp_path)
            assert "\n" not in str(told.value)
    file.write_text(json.dumps(state | {"format": 7}))
    with pytest.raises(CheckpointError, match=f"format 7 of '{name}', this version understands 1 at most"):
        load_generator(tmp_path)
    file.write_text(json.dumps(state))
    assert load_generator(tmp_path).name == name


def test_a_mixture_names_the_member_that_was_spoilt(tmp_path):
    make_generator("mixture", **STATELESS["mixture"]).save(tmp_path)
    (tmp_path / "member-1" / "generator.json").write_text('{"name": "ion_exchange", "format": 1}')
    with pytest.raises(CheckpointError, match=r"member-1/generator\.json is damaged: 'options' is missing"):
        load_generator(tmp_path)


def test_a_state_without_weights_is_loaded_without_torch(tmp_path):
    make_generator("random").save(tmp_path)
    code = (
        "import pathlib, sys; from generators.registry import load_generator\n"
        "load_generator(pathlib.Path(sys.argv[1]))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("name", "options", "found"),
    [
        ("symmetric", {"checkpoint": "my-model", "k": 4}, {"checkpoint": "/c/my-model", "k": 4}),
        ("flow", {"checkpoint": "/x/my-model"}, {"checkpoint": "/x/my-model"}),
        ("symmetric", {"checkpoint": None}, {"checkpoint": None}),
        ("diffusion", {"checkpoint": "~/m"}, {"checkpoint": "/home/me/m"}),
        ("folder", {"path": "../theirs", "repeat": True}, {"path": "/c/../theirs", "repeat": True}),
        ("mattergen", {"python": "python3", "model_path": "m", "device": "x"}, {"model_path": "/c/m"}),
        (
            "chemeleon",
            {"python": "venv/bin/python", "cache": "runs"},
            {"python": "/c/venv/bin/python", "cache": "/c/runs"},
        ),
        ("ion_exchange", {"path": "a", "checkpoint": "b"}, {}),
        ("magic", {"path": "a"}, {}),
        (
            "mixture",
            {
                "members": [
                    ["random", 0.2],
                    ["flow", 0.3, {"checkpoint": "m"}],
                    {"name": "mixture", "options": {"members": [("folder", 1.0, {"path": "p"})]}},
                    "?",
                ]
            },
            {
                "members": [
                    ["random", 0.2],
                    ["flow", 0.3, {"checkpoint": "/c/m"}],
                    {"name": "mixture", "options": {"members": [["folder", 1.0, {"path": "/c/p"}]]}},
                    "?",
                ]
            },
        ),
        ("mixture", {"members": "?"}, {}),
    ],
)
def test_relative_paths_in_options_are_taken_from_the_folder_that_is_named(monkeypatch, name, options, found):
    monkeypatch.setenv("HOME", "/home/me")
    assert anchored(name, options, Path("/c")) == {**options, **found}


def test_of_a_command_only_words_that_are_files_are_paths(tmp_path):
    (tmp_path / "model.py").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "run").touch()
    words = ["{python}", "model.py", "bin/run", "bin", "none.py", "-x/model.py", "{output}", 3]
    found = anchored("script", {"command": words}, tmp_path)["command"]
    assert found == ["{python}", str(tmp_path / "model.py"), str(tmp_path / "bin/run"), *words[3:]]


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


def test_generators_are_found_by_name_and_folder(tmp_path):
    named("ion_exchange")[1].save(tmp_path / "saved")
    label, found = named(f"{tmp_path}/saved/")
    assert (label, found.name) == (f"{tmp_path}/saved", "ion_exchange")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"without generator\.json"):
        named(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="neither a folder nor a name"):
        named("nosuch")


def test_a_file_or_a_half_trained_folder_is_told_apart_from_a_wrong_name(tmp_path):
    for name, never in (("weights.safetensors", False), ("model.pkl", True), ("model.CKPT", True), ("a.pt", True)):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(
            ValueError, match=r"is a file; name the folder that `nucleate generator train` wrote"
        ) as told:
            named(str(tmp_path / name))
        assert ("pickles are never read" in str(told.value)) == never
    (tmp_path / "model" / "training").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"its training is not finished; the same `nucleate generator train` command"):
        named(str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mattergen", r"the option python, which .* only in campaign.yaml: .*\{name: mattergen, options: \{python: "),
        ("chemeleon", r"the option python, model_path, which .* options: \{python: \.\.\., model_path: "),
        ("folder", r"the option path, which"),
        ("script", r"the option command, which"),
        ("mixture", r"the option members, which .* generator: \[\{name: symmetric, share: 0.7\}, "),
        ("vae", r"generator train vae --output my-vae.*generator sample my-vae.*campaign.yaml .*`checkpoint: my-vae`"),
    ],
)
def test_what_a_name_alone_does_not_make_says_where_the_rest_is_given(name, says):
    with pytest.raises(ValueError, match=says) as told:
        named(name)
    assert "\n" not in str(told.value)


def test_what_ships_tells_without_its_class_what_it_conditions_on():
    for entry in describe():
        if is_trained(entry["name"]) and (shown := abilities_of(entry["name"])) is not None:
            assert make_generator(entry["name"]).conditions_on == frozenset(shown.properties)
