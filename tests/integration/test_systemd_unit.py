"""The unit that keeps submitting: its command line is one that submit takes, and systemd understands its words."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "nucleate-submit@.service"


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(UNIT)
    return parsed


def test_it_runs_what_it_says(unit, tmp_path):
    nucleate = tmp_path / "nucleate"
    nucleate.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    nucleate.chmod(0o755)
    script = re.fullmatch(r"/bin/sh -c '(.*)'", unit["Service"]["ExecStart"])
    assert script is not None
    given = {"NUCLEATE": str(nucleate), "CLUSTER": "alps", "DIRECTORY": "/home/ada/my campaign"}
    told = subprocess.run(["/bin/sh", "-c", script[1]], env=given, capture_output=True, text=True, check=True)
    words = told.stdout.splitlines()
    assert words == ["submit", "--cluster", "alps", "-C", "/home/ada/my campaign", "--watch", "--every", "30"]

    import typer

    from workflows.cli.main import app

    command = typer.main.get_command(app).commands["submit"]
    context = command.make_context("submit", words[1:], resilient_parsing=True)
    assert (context.params["cluster"], context.params["watch"], context.params["every"]) == ("alps", True, 30.0)


def test_it_is_not_started_again_when_that_would_change_nothing(unit):
    from workflows.cli.errors import LEFT, REFUSED

    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Service"]["RestartPreventExitStatus"].split() == [str(LEFT), str(REFUSED)]


def test_systemd_takes_it(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd here")
    copy = tmp_path / "nucleate-submit@x.service"
    shutil.copyfile(UNIT, copy)
    surroundings = {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [analyze, "verify", "--user", str(copy)]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
