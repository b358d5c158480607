"""The systemd unit of the relay: systemd takes it, and the command takes its words."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from workflows.cli.main import app

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "nucleate-relay.service"
ANALYZE = shutil.which("systemd-analyze")


def started() -> list[str]:
    (line,) = [line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart=")]
    return shlex.split(line.partition("=")[2])


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not there")
def test_systemd_takes_it(tmp_path):
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(started()[0], sys.executable))
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        [ANALYZE, "--user", "verify", copy], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, []), done.stderr


def test_the_command_takes_its_words():
    _, name, *words = started()
    command = typer.main.get_command(app)
    context = command.make_context("nucleate", [name, *words], resilient_parsing=True)
    options = {option for parameter in command.get_command(context, name).params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
