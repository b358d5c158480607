from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workflows.engines.models import MODELS, get_calculator, get_model


def test_what_a_model_knows_is_what_its_calculator_says():
    from ase.data import chemical_symbols

    model, calculator = get_model("7net-0"), get_calculator("7net-0")
    assert {s for s in chemical_symbols[1:] if model.knows(s)} == {chemical_symbols[z] for z in calculator.type_map}
    assert model.cutoff == calculator.cutoff


def test_a_process_has_one_calculator_of_a_model_on_one_thread():
    import torch

    assert get_calculator("7net-0") is get_calculator("7net-0")
    assert torch.get_num_threads() == 1


def test_the_hashed_weights_are_those_the_calculator_loads():
    import hashlib

    from sevenn._const import SEVENNET_0_11Jul2024

    digest = hashlib.sha256(Path(SEVENNET_0_11Jul2024).read_bytes()).hexdigest()
    assert get_model("7net-0").weights_sha256 == digest
    assert all(model.weights_sha256 for model in MODELS.values())


def test_unknown_model_names_the_known_ones():
    with pytest.raises(ValueError, match="7net-0"):
        get_model("m3gnet")


def test_modules_that_define_jobs_are_light_to_import():
    code = (
        "import sys, workflows.engines.mlip, workflows.engines.mlip_phonons, workflows.engines.eos, "
        "workflows.engines.phonons, workflows.engines.registry\n"
        "heavy = {'torch', 'atomate2', 'sevenn', 'phonopy', 'ase'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
