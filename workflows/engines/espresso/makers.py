"""Makers of single pw.x jobs: what runs, where, and which document it leaves. Light to import."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobflow import Maker, job

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from dft_inputs.espresso.document import PwDocument


@dataclass
class _PwMaker(Maker):  # type: ignore[misc] # jobflow is untyped
    """What all of them share.

    A job holds the protocol's name and nothing of a machine: command, pseudopotentials and wall-time are looked up by
    the worker. A job that an earlier attempt has begun goes on from what that one left (see
    :class:`workflows.runtime.firetask.CampaignFiretask`).

    Parameters
    ----------
    protocol : str
        Name of a protocol of :mod:`dft_inputs.espresso.protocols`.
    pw : dict
        Values of pw.x by ``"namelist.key"`` that differ from the protocol's, as a re-run asks:
        ``{"electrons.mixing_beta": 0.2}``.
    """

    name: str = "pw.x"
    protocol: str = "fast"
    pw: dict[str, Any] = field(default_factory=dict)

    def resume(self, directories: list[Path]) -> dict[str, Any]:
        """Give the argument of ``make`` that goes on from the newest attempt that left anything."""
        begun = (directory for directory in directories if any(directory.rglob("pw.in")))
        newest = next(begun, None)
        return {} if newest is None else {"prev_dir": str(newest)}

    def last_geometry(self, directory: Path) -> Structure | None:
        """Give the newest whole geometry below a directory: that of the input if no ionic step was finished.

        ``None`` if nothing was begun.
        """
        from dft_inputs.causes import DftError
        from dft_inputs.espresso.outputs import last_geometry
        from dft_inputs.espresso.pw_input import PwInput

        runs = sorted({path.parent for path in directory.rglob("pw.out*")}, key=lambda path: path.stat().st_mtime)
        found = (last_geometry(run) for run in reversed(runs) if not run.name.startswith("failed-"))
        reached = next((structure for structure in found if structure is not None), None)
        inputs = sorted(directory.rglob("pw.in"), key=lambda path: path.stat().st_mtime)
        if reached is not None or not inputs:
            return reached
        try:
            return PwInput.read(inputs[-1]).structure
        except DftError:
            return None


@dataclass
class PwRelaxMaker(_PwMaker):
    """Relax positions and cell until the plane waves fit to the cell (see :mod:`dft_inputs.espresso.relax`)."""

    name: str = "relax"

    @job
    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> PwDocument:
        """Relax.

        Parameters
        ----------
        structure : pymatgen.core.Structure
        prev_dir : path, optional
            Of an earlier attempt at this job.

        Returns
        -------
        PwDocument

        Raises
        ------
        DftError
            With the cause.
        """
        from workflows.engines.espresso.running import relax_here

        return relax_here(structure, self.protocol, Path.cwd(), prev_dir=prev_dir, pw=self.pw, label=self.name)


@dataclass
class PwIonsMaker(_PwMaker):
    """Relax positions in a fixed cell.

    Parameters
    ----------
    fmax_ev_per_angstrom : float
        Largest component of a force.
    standardise : bool
        Start from the symmetrised primitive cell; else the cell is kept as it is, digit by digit.
    scf_energy_ev_per_atom : float or None
        Convergence of the scf; ``None``: the protocol's.
    mesh : tuple of int or None
        Of k-points, where several cells must share one; ``None``: by the protocol's density.
    """

    name: str = "relax ions"
    fmax_ev_per_angstrom: float = 0.02
    standardise: bool = False
    scf_energy_ev_per_atom: float | None = None
    mesh: tuple[int, int, int] | None = None

    @job
    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> PwDocument:
        """Relax; see :class:`PwRelaxMaker`."""
        from workflows.engines.espresso.running import run_here

        return run_here(
            structure,
            self.protocol,
            "relax",
            Path.cwd(),
            prev_dir=prev_dir,
            label=self.name,
            standardise=self.standardise,
            force_ev_per_angstrom=self.fmax_ev_per_angstrom,
            scf_energy_ev_per_atom=self.scf_energy_ev_per_atom,
            mesh=self.mesh,
            extra=self.pw,
        )

    def sharing(self, structure: Structure) -> PwIonsMaker:
        """Give the Maker for cells of other volumes: they share this one's k-mesh, or their energies make no curve."""
        from dft_inputs.espresso.kpoints import k_mesh
        from workflows.engines.espresso.machine import protocol_here

        elements = [element.symbol for element in structure.composition.elements]
        return replace(self, mesh=k_mesh(structure, protocol_here(self.protocol).spacing_for(elements)))


@dataclass
class PwStaticMaker(_PwMaker):
    """Energy, forces and stress of a fixed structure; the cell is kept as it is, digit by digit.

    Parameters
    ----------
    scf_energy_ev_per_atom : float or None
        Convergence of the scf; ``None``: the protocol's.
    supercell : bool
        Take the protocol's mesh for supercells of phonons.
    """

    name: str = "static"
    scf_energy_ev_per_atom: float | None = None
    supercell: bool = False

    @job
    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> PwDocument:
        """Compute; see :class:`PwRelaxMaker`."""
        from workflows.engines.espresso.running import run_here

        return run_here(
            structure,
            self.protocol,
            "scf",
            Path.cwd(),
            prev_dir=prev_dir,
            label=self.name,
            supercell=self.supercell,
            scf_energy_ev_per_atom=self.scf_energy_ev_per_atom,
            extra=self.pw,
        )
