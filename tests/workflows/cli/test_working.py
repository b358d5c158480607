"""``nucleate work`` as a shell sees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from workflows.cli.errors import INTERRUPTED

PATIENCE_S = 120.0


def test_stopped_by_ctrl_c_it_ends_with_130_and_what_it_did_is_kept(nucleate, store, tmp_path):
    spec = tmp_path / "oxides.yaml"
    spec.write_text("name: oxides\nchemistry: {systems: [Mg-O], max_elements: 2}\nsamples: 4\nrounds: 1\n")
    ran = nucleate("launch", spec)
    assert ran.code == 0, ran.err
    command = [sys.executable, "-m", "workflows.cli", "work", "-C", tmp_path / "oxides", "--grace", "1"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}  # noqa: PTH109 - the variable wants a text
    said = tmp_path / "said"
    with said.open("wb") as out:
        worker = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=out, env=environment)
    deadline = time.monotonic() + PATIENCE_S
    while not store.database.fireworks.find_one({"state": "RUNNING"}):
        assert time.monotonic() < deadline, said.read_text()
        assert worker.poll() is None, said.read_text()
        time.sleep(0.1)
    worker.send_signal(signal.SIGINT)
    time.sleep(1.0)  # two that come together are one
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE_S) == INTERRUPTED, said.read_text()
    assert "`nucleate work` goes on with it" in said.read_text()
    assert not store.database.fireworks.find_one({"state": {"$in": ["RUNNING", "FIZZLED"]}})
