"""The units under deploy/systemd: what they run are commands of ours, and systemd understands their words."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from commands import options_of

from workflows.cli.errors import LEFT, REFUSED
from workflows.cli.main import app

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
RELAY, SUBMIT = "nucleate-relay.service", "nucleate-submit@.service"
INSTALLED = "%h/nucleate/.venv/bin/nucleate"
ANALYZE = shutil.which("systemd-analyze")


def service(name: str) -> configparser.SectionProxy:
    parsed = configparser.ConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(UNITS / name)
    return parsed["Service"]


def test_these_are_all():
    assert {path.name for path in UNITS.glob("*.service")} == {RELAY, SUBMIT}


@pytest.mark.parametrize(
    ("unit", "wanted", "taken"),
    [
        (
            RELAY,
            ["relay", "--store", "group", "--listen", "10.1.0.1:27117", "--allow", "10.1.0.0/16"],
            {"store": "group", "listen": "10.1.0.1:27117"},
        ),
        (
            SUBMIT,
            ["submit", "--cluster", "alps", "-C", "/home/ada/my campaign", "--watch", "--every", "30"],
            {"cluster": "alps", "watch": True, "every": 30.0},
        ),
    ],
)
def test_it_runs_what_it_says_and_the_command_takes_its_words(unit, wanted, taken, tmp_path):
    nucleate = tmp_path / "nucleate"
    nucleate.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    nucleate.chmod(0o755)
    command = shlex.split(service(unit)["ExecStart"].replace(INSTALLED, str(nucleate)))
    given = {"NUCLEATE": str(nucleate), "CLUSTER": "alps", "DIRECTORY": "/home/ada/my campaign"}
    told = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    name, *words = told.stdout.splitlines()
    assert [name, *words] == wanted
    assert {word for word in words if word.startswith("-")} <= options_of(name)
    context = typer.main.get_command(app).commands[name].make_context(name, words, resilient_parsing=True)
    assert {key: context.params[key] for key in taken} == taken


def test_submit_is_not_started_again_when_that_would_change_nothing():
    assert service(SUBMIT)["Environment"] == f"NUCLEATE={INSTALLED}"
    assert service(SUBMIT)["Restart"] == "on-failure"
    assert service(SUBMIT)["RestartPreventExitStatus"].split() == [str(LEFT), str(REFUSED)]


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not there")
@pytest.mark.parametrize("unit", [RELAY, SUBMIT])
def test_systemd_takes_it(unit, tmp_path):
    copy = tmp_path / unit.replace("@", "@x")
    copy.write_text((UNITS / unit).read_text().replace(INSTALLED, sys.executable))
    surroundings = {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [ANALYZE, "verify", "--user", str(copy)]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
