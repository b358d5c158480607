"""For the script of an outside model: read what is asked, write crystals as Nucleate reads them.

Standard library only, Python 3.8 or later: copy this file beside your script, or put it on its path. A model in ten
lines::

    import random
    import outside

    job = outside.arguments()
    random.seed(job.seed)
    writer = outside.Writer(job.output, model="my-model", version="1.0", start=job.start)
    for crystals in my_model(job.n, job.condition):
        writer.write(crystals)

Each ``write`` makes one file ``batch-00000.extxyz``, ``batch-00001.extxyz``, ... and then a line of ``manifest.jsonl``
that names it: crystals count as soon as that line is there, and a file that was half written never does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Sequence  # noqa: UP035 - Python 3.8 has no others

MANIFEST = "manifest.jsonl"


class Crystal(NamedTuple):
    """An ordered crystal.

    Parameters
    ----------
    lattice : sequence of shape (3, 3)
        Å; one lattice vector a row.
    species : sequence of str, length n
        Element symbols.
    frac_coords : sequence of shape (n, 3)
    """

    lattice: Sequence[Sequence[float]]
    species: Sequence[str]
    frac_coords: Sequence[Sequence[float]]


class Job(NamedTuple):
    """What is asked of the model.

    Parameters
    ----------
    output : pathlib.Path
        Folder to write into; it exists and is empty.
    n : int
        Crystals wanted.
    seed : int
        0 to 2**63 - 1; the same seed has to give the same crystals.
    start : int
        Index, in the whole stream, of the first crystal wanted.
    condition : dict
        ``chemical_systems`` (list of lists of symbols), ``min_elements``, ``max_elements``, ``max_atoms``,
        ``neutrality``, ``properties`` (``{name: {minimum, maximum, unit}}``), ``stable``.
    """

    output: Path
    n: int
    seed: int
    start: int
    condition: dict[str, Any]


def arguments(argv: Sequence[str] | None = None) -> Job:
    """Read ``--output --n --seed --start --condition`` from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    parser.add_argument("--n", type=int, required=True, help="crystals wanted")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--start", type=int, default=0, help="index of the first crystal in the stream")
    parser.add_argument("--condition", type=Path, required=True, help="JSON file")
    given = parser.parse_args(argv)
    return Job(given.output, given.n, given.seed, given.start, read_condition(given.condition))


def read_condition(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the condition; its keys are listed at :class:`Job`."""
    condition: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return condition


def allows(condition: dict[str, Any], symbols: Iterable[str]) -> bool:
    """Tell whether a set of elements fits the condition."""
    present = set(symbols)
    return condition["min_elements"] <= len(present) <= condition["max_elements"] and any(
        present <= set(system) for system in condition["chemical_systems"]
    )


def extxyz(crystals: Iterable[Crystal]) -> str:
    """Write crystals as extended xyz: cell and Cartesian coordinates in Å."""
    lines = []
    for lattice, species, frac_coords in crystals:
        cell = " ".join(repr(float(x)) for row in lattice for x in row)
        lines += [str(len(species)), f'Lattice="{cell}" Properties=species:S:1:pos:R:3 pbc="T T T"']
        for symbol, place in zip(species, frac_coords):  # noqa: B905 - Python 3.8 has no strict
            xyz = [sum(float(f) * float(row[k]) for f, row in zip(place, lattice)) for k in range(3)]  # noqa: B905
            lines.append(" ".join([symbol, *map(repr, xyz)]))
    return "\n".join(lines) + "\n" if lines else ""


class Writer:
    """Writes batches and their manifest.

    Parameters
    ----------
    output : path
        Folder that was asked for.
    model, version : str
        Stored with every crystal.
    start : int
        Index of the first crystal in the stream.
    """

    def __init__(self, output: str | os.PathLike[str], model: str, version: str, start: int = 0) -> None:
        self.output = Path(output)
        self.model, self.version = model, version
        self._start, self._batches = start, 0
        self._begin = time.perf_counter()

    def write(self, crystals: Iterable[Crystal]) -> Path:
        """Write one batch, flushed to the disk: the file first, then its line of the manifest."""
        batch = list(crystals)
        data = extxyz(batch).encode()
        path = self.output / f"batch-{self._batches:05d}.extxyz"
        part = path.with_name(path.name + ".part")
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
        line = {
            "file": path.name,
            "n": len(batch),
            "start": self._start,
            "sha256": hashlib.sha256(data).hexdigest(),
            "model": self.model,
            "version": self.version,
            "wall_s": round(time.perf_counter() - self._begin, 3),
        }
        with (self.output / MANIFEST).open("a", encoding="utf-8") as stream_text:
            stream_text.write(json.dumps(line) + "\n")
            stream_text.flush()
            os.fsync(stream_text.fileno())
        self._start += len(batch)
        self._batches += 1
        self._begin = time.perf_counter()
        return path
