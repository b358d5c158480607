"""pw.x up to the point where it has said what it is going to compute."""

from __future__ import annotations

import subprocess

import pytest


@pytest.fixture(scope="session")
def set_up(pw_x, tmp_path_factory):
    """Give a function that starts pw.x with an input and stops it in its first step; it returns what was printed."""

    def run(inp):
        directory = tmp_path_factory.mktemp("set-up")
        inp.changed({"control.max_seconds": 0.01, "control.disk_io": "none"}).write(directory / "pw.in")
        done = subprocess.run([pw_x, "-in", "pw.in"], cwd=directory, capture_output=True, text=True, check=False)
        assert "max dynamical RAM" in done.stdout, done.stdout[-2000:] + done.stderr
        return done.stdout

    return run
