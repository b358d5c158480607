"""An environment of the benchmark's own with matminer, which is no dependency of the product."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.perov5.coverage import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pymatgen.core import Structure

PACKAGES = ("matminer>=0.9,<0.11",)


class Fingerprints:
    """Computes fingerprints in processes of the other environment and keeps them in a folder.

    Parameters
    ----------
    place : pathlib.Path
        Gets ``environment/`` and ``fingerprints/``.
    processes : int
    python : pathlib.Path, optional
        An interpreter that has matminer already, instead of an environment made here.
    """

    def __init__(self, place: Path, processes: int = 1, python: Path | None = None) -> None:
        self.place = place
        self.processes = processes
        self.folder = place / "fingerprints"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._python = python
        self._known: dict[str, dict[str, Any]] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            self._known |= {row["key"]: row for row in _rows(path)}

    def of(self, structures: Sequence[Structure]) -> list[dict[str, Any]]:
        """Give ``composition`` (132 numbers or None) and ``sites`` (61 numbers a site, or None) of each structure."""
        keys = [key_of(structure) for structure in structures]
        missing = {key: s for key, s in zip(keys, structures, strict=True) if key not in self._known}
        if missing:
            self._compute(missing)
        return [self._known[key] for key in keys]

    def versions(self) -> dict[str, str]:
        """Name what the other environment holds."""
        code = (
            "import importlib.metadata as m, json, platform\n"
            "print(json.dumps({n: m.version(n) for n in ('matminer', 'pymatgen', 'numpy')} | "
            "{'python': platform.python_version()}))"
        )
        ran = subprocess.run([self._interpreter(), "-c", code], capture_output=True, text=True, check=True)
        found: dict[str, str] = json.loads(ran.stdout)
        return found

    def _interpreter(self) -> Path:
        if self._python is not None:
            return self._python
        folder = self.place / "environment"
        python, ready = folder / "bin" / "python", folder / "ready"
        if not ready.exists():
            print(f"making {folder} with {', '.join(PACKAGES)}; this takes minutes, once", file=sys.stderr)
            venv.create(folder, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True, stdout=sys.stderr)
            ready.touch()
        return python

    def _compute(self, missing: dict[str, Structure]) -> None:
        """Share crystals out by their key, so that a run that goes on gives every process what it had."""
        from benchmarks.perov5 import worker

        shares: list[list[str]] = [[] for _ in range(self.processes)]
        for key, structure in missing.items():
            shares[int(key[:8], 16) % self.processes].append(json.dumps({"key": key, **_plain(structure)}))
        running = []
        for number, lines in enumerate(shares):
            source = self.folder / f"asked-{number}.txt"
            target = self.folder / f"part-{self.processes}-{number}.jsonl"
            source.write_text("".join(f"{line}\n" for line in lines))
            command = [self._interpreter(), worker.__file__, source, target]
            # Our own PYTHONPATH would put our packages before those of the other environment.
            environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
            running.append((subprocess.Popen(command, env=environment), target))
        for process, target in running:
            if process.wait() != 0:
                raise RuntimeError(f"the fingerprint worker for {target} ended with {process.returncode}")
            self._known |= {row["key"]: row for row in _rows(target)}


def fingerprint(row: dict[str, Any]) -> Fingerprint:
    """Reduce what a worker gave to what coverage compares: the mean over sites (``compute_metrics.py`` line 102)."""
    if row["sites"] is None:
        return Fingerprint(None, None)
    numbers = [np.nan if x is None else x for x in row["composition"]]
    return Fingerprint(np.array(row["sites"]).mean(axis=0).tolist(), numbers)


def key_of(structure: Structure) -> str:
    """Name a crystal by its numbers."""
    return hashlib.sha256(json.dumps(_plain(structure)).encode()).hexdigest()[:24]


def _plain(structure: Structure) -> dict[str, Any]:
    # A crystal that was written and read again must keep its name: no -0.0, and 0.0 for what is all but 1.
    return {
        "lattice": (np.round(structure.lattice.matrix, 5) + 0.0).tolist(),
        "species": [site.specie.symbol for site in structure],
        "coords": (np.round(np.round(structure.frac_coords, 6) % 1.0, 5) % 1.0).tolist(),
    }


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    for line in path.read_text().split("\n")[:-1]:
        if line:
            yield json.loads(line)
