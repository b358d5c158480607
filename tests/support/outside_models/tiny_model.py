"""A tiny model in an environment of its own: binary compounds by learned frequencies; standard library alone.

It learns from TRAINING how often each element is a cation or an anion and how often each structure type occurs, draws
from that among what the condition allows, and sets the lattice parameter by Shannon's ionic radii. ``--tally`` names a
folder where each run leaves what it saw; ``plan.json`` in it lists what goes wrong in the first run, the second, ...
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import outside

TRAINING = [
    ("Li", "F", "rocksalt"), ("Na", "F", "rocksalt"), ("Li", "Cl", "rocksalt"), ("Na", "Cl", "rocksalt"),
    ("K", "Cl", "rocksalt"), ("Mg", "O", "rocksalt"), ("Ca", "O", "rocksalt"), ("Mg", "S", "rocksalt"),
    ("Cs", "Cl", "caesium chloride"), ("Cs", "Br", "caesium chloride"), ("Zn", "S", "zincblende"),
    ("Be", "O", "zincblende"),
]  # fmt: skip
CHARGES = {"Li": 1, "Na": 1, "K": 1, "Cs": 1, "Mg": 2, "Ca": 2, "Zn": 2, "Be": 2, "F": 1, "Cl": 1, "Br": 1, "O": 2,
           "S": 2}  # fmt: skip
RADII = {"Li": 0.76, "Na": 1.02, "K": 1.38, "Cs": 1.67, "Mg": 0.72, "Ca": 1.00, "Zn": 0.74, "Be": 0.45, "F": 1.33,
         "Cl": 1.81, "Br": 1.96, "O": 1.40, "S": 1.84}  # fmt: skip
"""Å; R. D. Shannon, Acta Cryst. A32, 751 (1976), coordination six."""


def cell(kind: str, bond: float) -> tuple[list[list[float]], list[float]]:
    """Primitive lattice (Å) and place of the anion for a bond length."""
    if kind == "caesium chloride":
        a = 2 * bond / 3**0.5
        return [[a, 0, 0], [0, a, 0], [0, 0, a]], [0.5, 0.5, 0.5]
    a = 2 * bond if kind == "rocksalt" else 4 * bond / 3**0.5
    place = [0.5] * 3 if kind == "rocksalt" else [0.25] * 3
    return [[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]], place


def draw(condition: dict, rng: random.Random) -> outside.Crystal:
    cations, anions, kinds = (Counter(row[k] for row in TRAINING) for k in range(3))
    pairs = [
        (c, a)
        for c in sorted(cations)
        for a in sorted(anions)
        if CHARGES[c] == CHARGES[a] and outside.allows(condition, (c, a))
    ]
    cation, anion = rng.choices(pairs, [cations[c] * anions[a] for c, a in pairs])[0]
    kind = rng.choices(sorted(kinds), [kinds[k] for k in sorted(kinds)])[0]
    bond = (RADII[cation] + RADII[anion]) * rng.uniform(0.98, 1.06)
    lattice, place = cell(kind, bond)
    return outside.Crystal(lattice, [cation, anion], [[0, 0, 0], place])


def option(name: str, default: str = "") -> str:
    """Take an option of ours out of the command line; the rest is the contract's."""
    if name not in sys.argv:
        return default
    at = sys.argv.index(name)
    value = sys.argv[at + 1]
    del sys.argv[at : at + 2]
    return value


def note_run(tally: Path, job: outside.Job) -> int:
    """Leave what this run saw; return its number."""
    number = len(list(tally.glob("[0-9]*.json")))
    seen = {"n": job.n, "seed": job.seed, "start": job.start, "condition": job.condition, "python": sys.executable}
    text = json.dumps({**seen, "environment": dict(os.environ), "pid": os.getpid(), "argv": sys.argv})
    (tally / "part").write_text(text)
    (tally / "part").rename(tally / f"{number:03d}.json")
    return number


def main() -> None:
    tally = Path(option("--tally"))
    size, gate = int(option("--parts", "1000")), option("--gate")
    job = outside.arguments()
    number = note_run(tally, job)
    faults = json.loads((tally / "plan.json").read_text())
    fault = faults[number] if number < len(faults) else "none"
    rng = random.Random(job.seed)
    writer = outside.Writer(job.output, model="tiny", version="0.1", start=job.start)
    crystals = [draw(job.condition, rng) for _ in range(job.n)]
    if fault == "short":
        del crystals[1:]
    if fault == "nothing":
        return
    if fault == "surplus":
        crystals += crystals
    if fault == "outside":
        crystals[0] = crystals[0]._replace(species=["Fe", "O"])
    if fault == "invalid":
        crystals[0] = crystals[0]._replace(frac_coords=[[0, 0, 0], [0.01, 0, 0]])
    if fault == "unreadable":
        crystals[0] = crystals[0]._replace(species=["Xx", "O"])
    for begin in range(0, len(crystals), size):
        if begin:
            while gate and not Path(gate).exists():
                time.sleep(0.01)
            go_wrong(fault, job.output, crystals)
        if begin or size >= len(crystals):
            go_wrong(fault, job.output, crystals)
        writer.write(crystals[begin : begin + size])
    if fault == "late":
        sys.exit(4)


def go_wrong(fault: str, output: Path, crystals: list[outside.Crystal]) -> None:
    if fault in {"hang", "deaf"}:
        if fault == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(os.environ["HOME"], "grandchild").write_text(str(child.pid))
        time.sleep(600)
    if fault == "killed":
        (output / "batch-00000.extxyz").write_text(outside.extxyz(crystals)[:50])
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "exit":
        token = os.environ.get("MODEL_TOKEN")
        sys.stderr.write(f"CUDA out of memory; token {token} at mongodb://u:hunter2@db/x\n")
        sys.exit(3)
    if fault in {"garbage", "half", "stray"}:
        data = b"\x00\xffno crystals\n" if fault == "garbage" else outside.extxyz(crystals).encode()
        line = {"file": "batch-00000.extxyz", "n": len(crystals), "start": 0, "model": "tiny", "version": "0.1"}
        if fault == "stray":
            line["file"] = "../../elsewhere.extxyz"
        line["sha256"] = hashlib.sha256(data).hexdigest()
        (output / "batch-00000.extxyz").write_bytes(data[: len(data) // 2] if fault == "half" else data)
        (output / "manifest.jsonl").write_text(json.dumps(line) + "\n")
        sys.exit(0)
    if fault == "cut":
        (output / "manifest.jsonl").write_text('{"file": "batch-0000')
        sys.exit(0)


if __name__ == "__main__":
    main()
