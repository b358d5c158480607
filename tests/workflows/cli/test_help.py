"""What somebody reads who has never seen it."""

import os
import subprocess
import sys
from itertools import pairwise

import pytest

VERBS = ["init", "check", "launch", "demo", "work", "submit", "reconcile", "status", "failures", "rerun"]
VERBS += ["report", "export", "reproduce"]


def test_help_says_what_it_is_and_groups_the_commands(nucleate):
    ran = nucleate("--help")
    assert ran.code == 0
    assert "propose > screen > pre-relax > select > verify > learn > next round" in ran.out
    positions = [ran.out.index(f"─ {panel} ─") for panel in ("Start", "Run", "Watch", "Results")]
    assert positions == sorted(positions)
    for verb in (*VERBS, "data", "generator", "reference", "pseudos", "diagnose", "server", "version"):
        assert f"│ {verb} " in ran.out


DATA = ["data build", "data show", "data add"]
GENERATOR = [f"generator {verb}" for verb in ("list", "train", "sample", "evaluate", "compare", "latent")]


@pytest.mark.parametrize(
    "verb", [*VERBS, *DATA, *GENERATOR, "reference build", "reference show", "server status", "server stop"]
)
def test_every_command_explains_itself(nucleate, verb):
    ran = nucleate(*verb.split(), "--help")
    assert ran.code == 0
    assert f"Usage: nucleate {verb}" in ran.out


@pytest.mark.parametrize("verb", [*VERBS, *DATA, "relay", "diagnose", "pseudos install"])
def test_what_a_command_says_of_itself_fills_its_lines(nucleate, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "80")
    said = nucleate(*verb.split(), "--help").out.partition("╭")[0]
    assert len(said.split()) > 5
    lines = [line.strip() for line in said.splitlines()]
    for line, after in pairwise(lines):
        if line and after:
            assert len(f"{line} {after.split()[0]}") > 78, line


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from workflows.cli.main import run\n"
        "run(['--help'])\n"
        "heavy = {'numpy', 'pymatgen', 'pymongo', 'fireworks', 'jobflow', 'pydantic', 'torch', 'ase', 'yaml'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_without_arguments_it_shows_its_help(nucleate):
    ran = nucleate()
    assert "Usage: nucleate" in ran.out + ran.err


def test_version(nucleate):
    ran = nucleate("version")
    assert (ran.code, ran.out.split()[0]) == (0, "nucleate")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nosuchverb"], "No such command 'nosuchverb'"),
        (["check"], "Missing argument 'FILE'"),
        (["status", "--nosuchoption"], "No such option"),
        (["work", "--processes", "0"], "--processes"),
        (["export", "--format", "xyz"], "extxyz"),
    ],
)
def test_a_wrong_command_line_is_refused_with_a_hint(nucleate, arguments, says):
    ran = nucleate(*arguments)
    assert ran.code == 2
    assert says in ran.err
    assert "--help` tells" in ran.err
    assert ran.out == ""


def test_a_reader_that_has_seen_enough_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-m", "workflows.cli", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) in {0, 1}


def test_no_colour_where_none_is_wanted(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "workflows.cli", "status"],
        capture_output=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1", "FORCE_COLOR": ""},
    )
    assert ran.returncode == 2
    assert b"\x1b[" not in ran.stderr
