"""A second virtual environment, and the models that live in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from generators.adapters import outside
from generators.adapters.script import OutsideModel
from generators.base import Condition

SOURCES = Path(__file__).parent / "outside_models"

SALTS = Condition((("Br", "Cl", "Cs", "F", "K", "Li", "Na"), ("Mg", "O")), max_elements=2, max_atoms=4)


@pytest.fixture(scope="session")
def second_environment(tmp_path_factory):
    """The interpreter of an environment that has nothing of ours: no pymatgen, no numpy."""
    home = tmp_path_factory.mktemp("second") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    return str(home / "bin" / "python")


@pytest.fixture(scope="session")
def stand_in_environment(tmp_path_factory):
    """The interpreter of an environment with the stand-ins for MatterGen and Chemeleon-DNG."""
    home = tmp_path_factory.mktemp("third") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    shutil.copytree(SOURCES / "site", site, dirs_exist_ok=True)
    for name in ("mattergen", "chemeleon_dng"):
        (site / f"{name}-0+stand.in.dist-info").mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 0+stand.in\n"
        (site / f"{name}-0+stand.in.dist-info" / "METADATA").write_text(text)
    return str(home / "bin" / "python")


class Tiny:
    """Makes generators of the tiny model and knows what its runs saw."""

    def __init__(self, python, folder):
        self.python, self.folder, self.tally = python, folder, folder / "tally"
        shutil.copy(SOURCES / "tiny_model.py", folder)
        shutil.copy(outside.__file__, folder)

    def generator(self, plan=(), more=(), **options):
        self.tally.mkdir(exist_ok=True)
        (self.tally / "plan.json").write_text(json.dumps(list(plan)))
        given = ["--tally", str(self.tally)]
        contract = [
            word for key in ("output", "n", "seed", "start", "condition") for word in (f"--{key}", f"{{{key}}}")
        ]
        command = ["{python}", str(self.folder / "tiny_model.py"), *given, *more, *contract]
        defaults = {"batch": 4, "timeout_s": 30, "grace_s": 0.3}
        return OutsideModel(command, python=self.python, **{**defaults, **options})

    def runs(self):
        return [json.loads(path.read_text()) for path in sorted(self.tally.glob("[0-9]*.json"))]

    def grandchild(self):
        return int((Path(os.environ["HOME"]) / "grandchild").read_text())


@pytest.fixture
def tiny(second_environment, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return Tiny(second_environment, tmp_path)


@pytest.fixture(scope="session")
def undisturbed(second_environment, tmp_path_factory):
    """Twelve samples of the tiny model, seed 1, batches of 4, as they are when nothing goes wrong."""
    return list(Tiny(second_environment, tmp_path_factory.mktemp("tiny")).generator().sample(12, SALTS, 1))


def is_alive(pid):
    """A zombie that nobody reaps, as in a container without init, is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(what, seconds=10):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def same(first, second):
    """Whether two samples are the same in all that a campaign stores."""
    keys = ("index", "seed", "generator", "version", "info")
    return all(getattr(first, k) == getattr(second, k) for k in keys) and first.structure == second.structure
