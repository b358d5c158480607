"""What runs inside pw.x jobs: preflight, the run with its recovery, and the document. Imported by jobs as they run."""

from __future__ import annotations

import fcntl
import hashlib
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB

from dft_inputs.causes import DftError
from dft_inputs.checks import check_structure_for_dft
from dft_inputs.espresso.cells import primitive_cell
from dft_inputs.espresso.document import PwDocument
from dft_inputs.espresso.handlers import handlers_for
from dft_inputs.espresso.inputs import make_input
from dft_inputs.espresso.kpoints import k_mesh
from dft_inputs.espresso.relax import relax
from dft_inputs.espresso.run import run_pw
from workflows.causes import CausedError
from workflows.engines.espresso.machine import Machine, machine
from workflows.runtime.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from custodian.custodian import ErrorHandler
    from pymatgen.core import Structure

    from dft_inputs.espresso.inputs import Calculation
    from dft_inputs.espresso.record import Correction
    from dft_inputs.espresso.run import PwRun

_EMPTY_BANDS, _EMPTY_SHARE = 4, 0.2
"""Bands above the filled ones: at least so many, and at least this share of the filled."""


def relax_here(
    structure: Structure,
    protocol: str,
    directory: Path,
    *,
    prev_dir: str | Path | None = None,
    pw: dict[str, Any] | None = None,
    label: str = "relax",
) -> PwDocument:
    """Relax positions and cell on this machine.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    protocol : str
    directory : pathlib.Path
    prev_dir : path, optional
        Of an earlier attempt, which is gone on with.
    pw : dict, optional
        Values by ``"namelist.key"`` that differ from the protocol's.
    label : str

    Raises
    ------
    DftError
        With the cause.
    """
    here = machine(protocol)
    refuse(structure, here)
    if "magmom" not in structure.site_properties:  # a smaller cell forgets moments
        structure = primitive_cell(structure, here.protocol.symprec)
    first = make_input(structure, here.protocol, here.family, "vc-relax")
    done = relax(
        structure,
        here.protocol,
        here.family,
        directory,
        here.command_for(first),
        prev_dir=None if prev_dir is None else Path(prev_dir),
        overrides=pw,
    )
    return _document(here, done.final, directory, done.corrections, label, n_steps=done.n_ionic_steps, pw=pw)


def run_here(
    structure: Structure,
    protocol: str,
    calculation: Calculation,
    directory: Path,
    *,
    prev_dir: str | Path | None = None,
    label: str = "static",
    standardise: bool = False,
    supercell: bool = False,
    **options: Any,
) -> PwDocument:
    """Run pw.x once (and again after each correction) on this machine.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    protocol : str
    calculation : {"scf", "relax"}
    directory : pathlib.Path
    prev_dir : path, optional
        Of an earlier attempt, which is gone on with.
    label : str
    standardise : bool
        Start from the symmetrised primitive cell; else the cell is kept as it is, digit by digit.
    supercell : bool
        Take the protocol's mesh for supercells of phonons.
    **options
        To :func:`dft_inputs.espresso.inputs.make_input`.

    Raises
    ------
    DftError
        With the cause.
    """
    here = machine(protocol)
    refuse(structure, here)
    if supercell:
        options["mesh"] = k_mesh(structure, here.protocol.phonon_spacing_for(_elements(structure)))
    start = primitive_cell(structure, here.protocol.symprec) if standardise else structure
    inp = make_input(start, here.protocol, here.family, calculation, refine=standardise, **options)
    done = run_pw(
        inp,
        directory,
        here.command_for(inp),
        restart_from=None if prev_dir is None else Path(prev_dir),
        handlers=_handlers(here, structure),
        family=here.family,
        keep_density=False,
    )
    document = _document(here, done, directory, done.corrections, label, pw=options.get("extra"))
    if not document.comparable:
        raise CausedError(607, "a correction or an override changed what energies and forces mean")
    return document


def band_gap_here(
    structure: Structure,
    protocol: str,
    directory: Path,
    density_factor: float,
    *,
    prev_dir: str | Path | None = None,
    pw: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Compute the Kohn-Sham gap: an scf on a denser mesh than the protocol's, with empty bands.

    Returns
    -------
    dict
        ``band_gap_ev`` (0 for a metal), ``direct``, ``vbm_ev``, ``cbm_ev``, ``mesh`` and ``how``.

    Raises
    ------
    DftError
        With the cause.
    """
    here = machine(protocol)
    refuse(structure, here)
    coarse = make_input(structure, here.protocol, here.family, "scf")
    mesh = k_mesh(coarse.structure, here.protocol.spacing_for(_elements(structure)) / density_factor)
    occupied = ceil(here.family.valence_electrons(structure.composition.get_el_amt_dict()) / 2)
    empty = {"system.nbnd": occupied + max(_EMPTY_BANDS, ceil(_EMPTY_SHARE * occupied))}
    inp = make_input(structure, here.protocol, here.family, "scf", mesh=mesh, extra={**empty, **(pw or {})})
    earlier = None if prev_dir is None else Path(prev_dir)
    done = run_pw(
        inp,
        directory,
        here.command_for(inp),
        restart_from=earlier,
        handlers=_handlers(here, structure),
        family=here.family,
        keep_density=False,
    )
    if not done.comparable or changes_physics(pw or {}):
        raise CausedError(607, "a correction or an override changed what a gap means")
    gap = done.output.gap
    if gap is None:
        raise DftError(611, f"{directory}: no empty band was printed")
    return {
        "band_gap_ev": gap.bandgap_ev,
        "direct": gap.is_direct,
        "vbm_ev": gap.vbm_ev,
        "cbm_ev": gap.cbm_ev,
        "mesh": list(mesh),
        "how": f"pw.x, Kohn-Sham gap with {here.protocol.functional} on a Γ-centred mesh of "
        f"{' × '.join(map(str, mesh))} k-points; such gaps are too small as a rule",
    }


def relax_kept(structure: Structure, protocol: str, key: str) -> PwDocument:
    """Relax in a directory that the structure alone decides, so that an interrupted relaxation goes on where it was.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    protocol : str
    key : str
        Reference key: what decides energies.
    """
    content = repr((key, structure.lattice.matrix.round(6).tolist(), structure.species, structure.frac_coords.round(6)))
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    formula = structure.composition.reduced_formula
    directory = load_settings().data_dir / "references" / "runs" / key.replace(":", "_") / f"{formula}-{name}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second build waits, and then finds it done
        return relax_here(structure, protocol, directory, prev_dir=directory)


def refuse(structure: Structure, here: Machine) -> None:
    """Refuse what can be refused before anything is submitted.

    Raises
    ------
    DftError
        With the cause of the first problem, and all of them in words.
    """
    here.command.require()
    refusals = check_structure_for_dft(structure, here.protocol, here.family, memory_gb=here.command.memory_gb)
    if refusals:
        raise DftError(refusals[0].code, "; ".join(refusal.message for refusal in refusals))


def changes_physics(pw: dict[str, Any]) -> bool:
    """Tell whether values that a re-run asks for take energies away from those of the protocol.

    How self-consistency and the minimum are reached is free; what is computed, and how well converged, is not.
    """
    free = {"system.nbnd", "control.nstep", "control.disk_io", "control.verbosity", "cell.cell_factor"}
    bound = ("system.", "cell.", "control.")
    return any(key.startswith(bound) and key not in free for key in map(str.lower, pw)) or any(
        key.lower() == "electrons.conv_thr" for key in pw
    )


def _elements(structure: Structure) -> list[str]:
    return [element.symbol for element in structure.composition.elements]


def _handlers(here: Machine, structure: Structure) -> Sequence[ErrorHandler]:
    return handlers_for(here.protocol, _elements(structure))


def _document(
    here: Machine,
    last: PwRun,
    directory: Path,
    corrections: Sequence[Correction],
    label: str,
    *,
    n_steps: int | None = None,
    pw: dict[str, Any] | None = None,
) -> PwDocument:
    job = getattr(CURRENT_JOB, "job", None)
    plus_u = "+U" if here.protocol.hubbard_u_ev else ""
    document = PwDocument.from_runs(
        [(last.output, last.directory)],
        last.inp,
        directory,
        uuid=None if job is None else job.uuid,
        task_label=label,
        run_type=here.protocol.functional + plus_u,
        pseudopotentials=here.family.provenance(_elements(last.output.structure)),
        protocol={"name": here.protocol.name, "sha256": here.protocol.sha256()},
        corrections=[asdict(correction) for correction in corrections],
        comparable=all(correction.comparable for correction in corrections) and not changes_physics(pw or {}),
    )
    return document if n_steps is None else document.model_copy(update={"n_steps": n_steps})
