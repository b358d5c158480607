"""``generator sample``: crystals and what is known of each, written as they come; killed, the same command goes on."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from generators import json_lines
from generators.evaluation.samples import refusals
from generators.evaluation.store import compact, expanded
from workflows.cli import output
from workflows.cli.counting import Counting
from workflows.cli.errors import RefusedError
from workflows.cli.generating_parts import refuse_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from generators.base import Condition, Generator, Sample

ASKED, ROWS, FRAMES = "asked.json", "samples.jsonl", "samples.extxyz"
"""What was asked for; a line a crystal, with all that is known of it; all crystals, there when the last one is."""
DIGITS = 12


def write_samples(generator: Generator, n: int, condition: Condition, seed: int, into: Path) -> list[dict[str, Any]]:
    """Draw samples and write each as it comes, going on where an earlier run was interrupted.

    Returns
    -------
    list of dict
        What ``--json`` prints.

    Raises
    ------
    RefusedError
        If the generator can't meet the condition, or the directory is none or holds other samples.
    """
    asked = {"generator": generator.name, "version": generator.version, "seed": seed, "condition": asdict(condition)}
    asked = json.loads(json.dumps(asked))  # as it is read back
    rows = _begun(asked, into)[:n]
    try:
        with noting(generator):
            stream = generator.sample(n, condition, seed, start=len(rows))
        with output.resumable(), Counting("drawn") as counting:
            counting.show(len(rows), n)
            for one in stream:
                if not rows:  # not before: what is refused leaves no directory
                    _claim(asked, into)
                rows.append(_kept(one, condition, generator, into))
                counting.show(len(rows), n)
    except (ValueError, RuntimeError) as error:
        raise RefusedError(str(error)) from error
    if rows:
        _write_frames(rows, into)
    return [{key: value for key, value in row.items() if key != "structure"} for row in rows]


@contextmanager
def noting(generator: Generator) -> Iterator[None]:
    """Say on stderr at once what a generator warns of, e.g. a target beyond all that it was trained on."""

    def say(message: Warning | str, *_where: object) -> None:
        output.note(str(message))

    with warnings.catch_warnings():
        warnings.filterwarnings("default", message=re.escape(generator.name), category=UserWarning)
        warnings.showwarning = say  # type: ignore[assignment] # where it was said is nobody's business
        yield


def words_of(rows: list[dict[str, Any]], into: Path) -> list[str]:
    """Say how many crystals there are, and why some are not valid."""
    reasons = Counter(row["refused"][0] for row in rows if row["refused"])
    valid = len(rows) - sum(reasons.values())
    return [
        f"{len(rows)} crystals in {into}, {valid} of them valid",
        *(f"  not valid: {reason}{f' ({count} times)' if count > 1 else ''}" for reason, count in reasons.items()),
    ]


def _begun(asked: dict[str, Any], into: Path) -> list[dict[str, Any]]:
    """Give the rows that an interrupted run left."""
    refuse_file(into)
    if (into / FRAMES).exists():
        raise RefusedError(f"{into / FRAMES} exists; name a directory without samples")
    path = into / ASKED
    if not path.exists():
        return []
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        before = {}
    if differing := [key for key, value in asked.items() if before.get(key) != value]:
        raise RefusedError(
            f"{into} holds the beginning of other samples ({', '.join(differing)} differ); name another directory"
        )
    json_lines.mend(into / ROWS)
    return list(json_lines.read(into / ROWS))


def _claim(asked: dict[str, Any], into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    part = into / f"{ASKED}.part"
    part.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    part.replace(into / ASKED)


def _kept(one: Sample, condition: Condition, generator: Generator, into: Path) -> dict[str, Any]:
    """Write a crystal's CIF, then its line."""
    from workflows.report.crystal import cif_of

    formula = one.structure.composition.reduced_formula
    name = f"{one.index:04d}-{formula}"
    reasons = refusals(one.structure, condition)
    row = {
        "index": one.index,
        "formula": formula,
        "atoms": len(one.structure),
        "file": f"{name}.cif",
        "generator": one.generator,
        "version": one.version,
        "seed": one.seed,
        "refused": reasons,
        "conditions_on": sorted(generator.conditions_on),
        "info": one.info,
        "structure": compact(one.structure, DIGITS),
    }
    notes = _notes(row) | ({"not_valid": "; ".join(reasons)} if reasons else {})
    (into / row["file"]).write_text(cif_of(one.structure, name, notes), encoding="utf-8")
    json_lines.append(into / ROWS, row)
    return row


def _notes(row: dict[str, Any]) -> dict[str, str]:
    return {"generator": row["generator"], "version": row["version"], "seed": str(row["seed"])}


def _write_frames(rows: list[dict[str, Any]], into: Path) -> None:
    """Write all crystals into one file, whole or not at all."""
    from ase.io import write as ase_write
    from pymatgen.io.ase import AseAtomsAdaptor

    frames = []
    for row in rows:
        atoms = AseAtomsAdaptor.get_atoms(expanded(row["structure"]), msonable=False)
        atoms.info = {"label": row["file"].removesuffix(".cif"), **_notes(row), "valid": not row["refused"]}
        frames.append(atoms)
    part = into / f"{FRAMES}.part"
    ase_write(part, frames, format="extxyz", columns=["symbols", "positions"])
    part.replace(into / FRAMES)
