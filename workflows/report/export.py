"""Crystals out of the database: CIF, extended XYZ, JSON."""

from __future__ import annotations

import json
import os
import tempfile
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ase.io import write as ase_write
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from workflows.report.collect import ReportData, ReportError, collect, finite
from workflows.report.crystal import cif_of
from workflows.report.json_report import jsonable
from workflows.report.provenance import provenance_of
from workflows.runtime.modes import as_asked

if TYPE_CHECKING:
    from pymongo.database import Database

    from workflows.records import Verdict

Format = Literal["cif", "extxyz", "json"]
Which = Literal["hits", "stable", "verified"]


def export(
    database: Database[dict[str, Any]],
    campaign: str,
    format: Format,  # noqa: A002 - the word that users type
    path: Path,
    which: Which = "hits",
    *,
    round_number: int | None = None,
    candidates: tuple[str, ...] = (),
) -> list[str]:
    """Write verified crystals to one file, or for CIF to one file a crystal.

    Parameters
    ----------
    database : pymongo.database.Database
    campaign : str
    format : {"cif", "extxyz", "json"}
    path : pathlib.Path
        ``cif``: a directory, made if missing; a single crystal may go to a path that ends in ``.cif``. Else a file.
        Files appear whole or not at all.
    which : {"hits", "stable", "verified"}
        Which verdicts; those without a relaxed structure are never exported.
    round_number : int, optional
        This round only.
    candidates : tuple of str, optional
        These only; they must be among ``which``.

    Returns
    -------
    list of str
        Ids written, in the order of the report (may be empty: then an empty file or directory is written).

    Raises
    ------
    ReportError
        If the campaign, format, selection or a candidate does not exist.
    OSError
        If the file can't be written.
    """
    if format not in get_args(Format):
        raise ReportError(f"format {format!r} is not known; choose {', '.join(get_args(Format))}")
    if which not in get_args(Which):
        raise ReportError(f"{which!r} can't be exported; choose {', '.join(get_args(Which))}")
    data = collect(database, campaign)
    chosen = [v for v in data.of(which) if v.structure and round_number in (None, v.round)]
    if missing := sorted(set(candidates) - {v.candidate for v in chosen}):
        raise ReportError(f"not among the {which} of {campaign}: {', '.join(missing)}")
    if candidates:
        chosen = [v for v in chosen if v.candidate in candidates]
    if format == "cif" and path.suffix == ".cif":
        if len(chosen) != 1:
            raise ReportError(f"{len(chosen)} crystals do not go into the single file {path}; name a directory")
        write_whole(path, verdict_cif(chosen[0]))
    elif format == "cif":
        path.mkdir(parents=True, exist_ok=True)
        for verdict in chosen:
            write_whole(path / f"{verdict.candidate}.cif", verdict_cif(verdict))
    elif format == "extxyz":
        write_whole(path, "".join(verdict_extxyz(v) for v in chosen))
    else:
        content = [verdict_record(data, v) for v in chosen]
        write_whole(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return [v.candidate for v in chosen]


def verdict_notes(verdict: Verdict) -> dict[str, Any]:
    """Give a verdict's numbers under names that carry their units, JSON-compatible, None where unknown."""
    reference = verdict.reference_set
    return {
        "candidate": verdict.candidate,
        "spacegroup": verdict.spacegroup,
        "energy_ev_per_atom": finite(verdict.energy_ev_per_atom),
        "e_above_hull_ev_per_atom": finite(verdict.energy_above_hull_ev_per_atom),
        "reference_set": f"{reference.key} {reference.sha256[:12]}" if reference else None,
        "phonon_min_thz": finite(verdict.phonon.min_thz),
        "phonon_judgement": verdict.phonon.judgement,
        **{
            f"{name}_{p.unit.lower().replace('/', '_per_')}": finite(p.value)
            for name, p in sorted(verdict.properties.items())
        },
        "stable": verdict.stable,
        "hit": verdict.hit,
        "engine": verdict.engine,
        "protocol": verdict.protocol,
    }


def verdict_cif(verdict: Verdict) -> str:
    """Write a verdict's relaxed structure as CIF, its numbers as ``_nucleate_...`` items."""
    return cif_of(_structure(verdict), verdict.candidate, verdict_notes(verdict))


def verdict_extxyz(verdict: Verdict) -> str:
    """Write a verdict's relaxed structure as one frame of extended XYZ, its numbers as info keys."""
    atoms = AseAtomsAdaptor.get_atoms(_structure(verdict), msonable=False)
    atoms.calc = None
    atoms.info = {key: value for key, value in verdict_notes(verdict).items() if value is not None}
    buffer = StringIO()
    ase_write(buffer, atoms, format="extxyz", columns=["symbols", "positions"])
    return buffer.getvalue()


def verdict_record(data: ReportData, verdict: Verdict) -> dict[str, Any]:
    """Give a verdict whole, provenance joined, as JSON types."""
    record: dict[str, Any] = jsonable({**verdict.model_dump(), "provenance": provenance_of(data, verdict)})
    return record


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it appears whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        temporary.chmod(as_asked(0o666))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _structure(verdict: Verdict) -> Structure:
    if not verdict.structure:
        raise ReportError(f"{verdict.candidate} has no relaxed structure")
    return Structure.from_dict(verdict.structure)
