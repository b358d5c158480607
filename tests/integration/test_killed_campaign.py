"""`kill -9` of `nucleate work`, three times at random moments, against an undisturbed campaign (bounded: see docs)."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_killed_campaign_ends_as_an_undisturbed_one():
    seed = random.randrange(10**6)
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kills", "3", "--seed", str(seed)]
    done = subprocess.run(
        [*command, "--samples", "8", "--verifications", "2"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"seed {seed}\n{done.stdout}\n{done.stderr[-2000:]}"
    assert "same ids, flags, causes, rounds and fireworks" in done.stdout
