"""What can be refused before VASP runs: the structure, its POTCARs, and settings that would not be comparable."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pymatgen.io.validation import VaspValidator
from pymatgen.io.validation.common import PotcarSummaryStats, VaspFiles, VaspInputSafe
from pymatgen.io.vasp import Incar, Kpoints

from dft_inputs.causes import DftError
from dft_inputs.vasp.potcar import PotcarFile, find_potcar, potcars_in

if TYPE_CHECKING:
    from pathlib import Path

    from pymatgen.core import Structure
    from pymatgen.io.vasp.sets import VaspInputSet

VOLUME_PER_ATOM = (1.0, 500.0)
"""Å³; outside of it, it is no crystal."""

MIN_DISTANCE = 0.5
"""Å; below the shortest bond there is (H2: 0.74 Å)."""

PHYSICS = (
    "ENCUT", "GGA", "METAGGA", "LASPH", "ISPIN", "IVDW", "LDAU", "LDAUTYPE", "LDAUU", "LDAUJ", "LDAUL", "NELECT",
    "LSORBIT", "LNONCOLLINEAR", "KSPACING", "PREC",
)  # fmt: skip
"""INCAR tags that decide what an energy means; how it is found (ALGO, mixing, smearing of σ→0 energies) is not here."""


@dataclass(frozen=True)
class Finding:
    """Something that speaks against running.

    Parameters
    ----------
    code : int
        A key of :data:`dft_inputs.causes.DFT_CAUSES`.
    where : str
    message : str
    level : {"error", "warning"}
    """

    code: int
    where: str
    message: str
    level: Literal["error", "warning"] = "error"


def check_structure(structure: Structure) -> list[Finding]:
    """List what is wrong with a structure for any code."""
    if not structure.is_ordered:
        return [Finding(301, "structure", "partial occupancy: give an ordered cell")]
    per_atom = structure.volume / len(structure)
    if not VOLUME_PER_ATOM[0] < per_atom < VOLUME_PER_ATOM[1]:
        return [Finding(301, "structure", f"{per_atom:.3g} Å³/atom is no crystal")]
    if len(structure) == 1:
        return []
    distances = structure.distance_matrix + np.diag(np.full(len(structure), np.inf))
    return [
        Finding(301, f"site {site}", f"another atom is {nearest:.2f} Å away")
        for site, nearest in enumerate(distances.min(axis=1))
        if nearest < MIN_DISTANCE
    ]


def find_potcars(input_set: VaspInputSet, structure: Structure, directory: Path | None = None) -> list[PotcarFile]:
    """Find the POTCARs of a structure's elements; one of each element, in the order of the periodic table's symbols.

    Raises
    ------
    DftError
        302 if the input set has none for an element; else as :func:`dft_inputs.vasp.potcar.find_potcar`.
    """
    return [_find(input_set, symbol, directory) for symbol in sorted({site.specie.symbol for site in structure})]


def _find(input_set: VaspInputSet, element: str, directory: Path | None) -> PotcarFile:
    known: dict[str, str] = input_set.CONFIG["POTCAR"]
    functional = str(input_set.user_potcar_functional or input_set.CONFIG["POTCAR_FUNCTIONAL"])
    if element not in known:
        raise DftError(302, f"{element}: the input set {type(input_set).__name__} has no POTCAR for it")
    return find_potcar(element, known[element], functional, directory)


def preflight(
    structure: Structure, input_set: VaspInputSet, directory: Path | None = None, *, mp_comparable: bool = False
) -> list[Finding]:
    """List what speaks against running a structure with an input set, on this machine.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    input_set : pymatgen.io.vasp.sets.VaspInputSet
    directory : pathlib.Path, optional
        Of POTCARs, instead of pymatgen's own setting.
    mp_comparable : bool
        Ask pymatgen-io-validation whether the Materials Project would take such a run.

    Returns
    -------
    list of Finding
    """
    findings = check_structure(structure)
    if findings:
        return findings
    for element in sorted({site.specie.symbol for site in structure}):
        try:
            found = _find(input_set, element, directory)
        except DftError as error:
            findings.append(Finding(error.code, element, error.evidence))
            continue
        if not found.known:
            message = f"{found.path} is none of the POTCARs that pymatgen knows: a damaged or home-made one"
            findings.append(Finding(208, element, message, level="warning"))
    if findings and any(f.level == "error" for f in findings):
        return findings
    if mp_comparable:
        findings += [Finding(303, "settings", reason) for reason in mp_reasons(structure, input_set, directory)]
    return findings


def mp_reasons(structure: Structure, input_set: VaspInputSet, directory: Path | None = None) -> list[str]:
    """Say why the Materials Project would not take runs with these inputs; nothing if it would.

    Whether POTCARs are what they say is left to :func:`dft_inputs.vasp.potcar.find_potcar`.
    """
    with warnings.catch_warnings(), potcars_in(directory):
        warnings.simplefilter("ignore")
        inputs = input_set.get_input_set(structure)
        safe = VaspInputSafe(
            incar=inputs["INCAR"],
            structure=inputs["POSCAR"].structure,
            kpoints=inputs["KPOINTS"],
            potcar=PotcarSummaryStats.from_file(inputs["POTCAR"]),  # they name the functional
            potcar_functional=str(input_set.user_potcar_functional or input_set.CONFIG["POTCAR_FUNCTIONAL"]),
        )
        return list(VaspValidator.from_vasp_input(vasp_files=VaspFiles(user_input=safe), check_potcar=False).reasons)


def physics_changes(directory: Path) -> list[str]:
    """Say what corrections changed of what decides an energy's meaning, between ``*.orig`` and the last run's inputs.

    A denser mesh is no such change, a coarser one is.
    """
    changes = []
    before, after = (_incar(directory / name) for name in ("INCAR.orig", "INCAR"))
    if before is not None and after is not None:
        changes += [
            f"{key}: {_shown(before.get(key))} became {_shown(after.get(key))}"
            for key in PHYSICS
            if before.get(key) != after.get(key)
        ]
    meshes = [_mesh(directory / name) for name in ("KPOINTS.orig", "KPOINTS")]
    if meshes[0] is not None and meshes[1] is not None and meshes[1] < meshes[0]:
        changes.append(f"k-points: {meshes[0]} became {meshes[1]}")
    return changes


def _incar(path: Path) -> Incar | None:
    return Incar.from_file(str(path)) if path.is_file() else None


def _mesh(path: Path) -> int | None:
    if not path.is_file():
        return None
    kpoints = Kpoints.from_file(str(path))
    return int(np.prod(kpoints.kpts[0])) if kpoints.num_kpts == 0 else int(kpoints.num_kpts)


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)
