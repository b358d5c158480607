"""``nucleate diagnose`` on outputs that ASE ships (VASP) and a made-up one of pw.x; real ones: tests/dft_inputs."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files

import pytest

CRASH = """
     Program PWSCF v.6.7MaX starts on 24Nov2026 at 23:14: 4

 %%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%
     Error in routine setup (1):
     too few bands
 %%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%
"""


@pytest.fixture
def failed(tmp_path):
    directory = tmp_path / "failed"
    directory.mkdir()
    (directory / "anything.txt").write_text(CRASH)
    return directory


@pytest.fixture
def succeeded(tmp_path):
    directory = tmp_path / "succeeded"
    directory.mkdir()
    outcar = (files("ase.test") / "testdata" / "vasp" / "OUTCAR_example_1").read_text()
    (directory / "anything.txt").write_text(outcar)
    return directory


def test_a_failed_run(nucleate, failed):
    ran = nucleate("diagnose", failed)
    assert ran.code == 1
    assert "Quantum ESPRESSO: too few bands (cause 305)" in ran.out
    assert "anything.txt:6: setup: too few bands" in ran.out
    assert "a re-run would change: a larger nbnd" in ran.out
    assert ran.err == ""


def test_json_has_the_promised_keys(nucleate, failed):
    ran = nucleate("diagnose", failed, "--json")
    assert ran.code == 1
    assert json.loads(ran.out) == {
        "program": "espresso",
        "code": 305,
        "name": "too_few_bands",
        "evidence": [{"file": "anything.txt", "line": 6, "text": "setup: too few bands"}],
        "recoverable": True,
        "suggestion": "a larger nbnd",
    }


def test_a_run_that_succeeded(nucleate, succeeded):
    ran = nucleate("diagnose", succeeded)
    assert ran.code == 0
    assert ran.out.startswith("VASP: success\n")
    data = json.loads(nucleate("diagnose", succeeded, "--json").out)
    assert (data["code"], data["name"], data["recoverable"], data["suggestion"]) == (0, "success", False, "")


@pytest.mark.parametrize("name", [".", "nowhere", "failed/anything.txt"])
def test_no_run(name, nucleate, failed):
    ran = nucleate("diagnose", failed.parent / name)
    assert ran.code == 2
    assert ran.out == ""
    assert str(failed.parent) in ran.err.replace("\n", "")


def test_no_database_and_no_heavy_import(failed):
    script = (
        "import sys\nfrom workflows.cli.main import run\n"
        f"code = run(['diagnose', {str(failed)!r}])\n"
        "heavy = {'pymongo', 'pymatgen', 'ase', 'fireworks', 'jobflow', 'numpy', 'custodian'} & set(sys.modules)\n"
        "print(code, sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1 []"


def test_a_directory_of_runs_says_where_they_are(nucleate, failed):
    ran = nucleate("diagnose", failed.parent)
    assert ran.code == 2
    assert "there are runs in it: failed" in ran.err
