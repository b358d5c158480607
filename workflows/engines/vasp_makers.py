"""atomate2's VASP Maker, run the way a campaign needs it.

What differs from atomate2's own: the command, the POTCARs and the wall-time are those of the worker at the moment of
running and never part of the job; a relaxation goes on from the last geometry, within a run, after a correction, and in
the next launch; the directory is diagnosed before anything is parsed, so that a run that VASP was asked to stop, which
pymatgen takes for a converged one, never gives an energy.

Importing atomate2's VASP jobs takes seconds: this module is imported on demand only.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomate2.common.files import gzip_output_folder
from atomate2.vasp.files import write_vasp_input_set
from atomate2.vasp.flows.core import DoubleRelaxMaker
from atomate2.vasp.flows.phonons import PhononMaker
from atomate2.vasp.jobs.base import _FILES_TO_ZIP, BaseVaspMaker, get_vasp_task_document, vasp_job
from jobflow import Flow, Maker, Response
from monty.os.path import zpath
from monty.serialization import dumpfn
from pymatgen.core import Structure
from pymatgen.io.vasp import Incar
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from dft_inputs.causes import DftError
from dft_inputs.vasp.geometry import last_geometry
from dft_inputs.vasp.job import usable_geometry
from dft_inputs.vasp.potcar import potcars_in
from dft_inputs.vasp.preflight import PHYSICS, check_structure, find_potcars, physics_changes
from dft_inputs.vasp.run import VaspCommand, corrections, run_vasp
from workflows.causes import CausedError
from workflows.runtime.settings import config_path, load_settings

if TYPE_CHECKING:
    from emmet.core.tasks import TaskDoc

    from workflows.engines.vasp_protocols import VaspProtocol


def command_here() -> VaspCommand:
    """Give how VASP is started on this machine.

    Raises
    ------
    DftError
        203 if nobody has said.
    """
    settings = load_settings().vasp
    if not settings.command:
        raise DftError(
            203, f"no VASP command on this machine: set NUCLEATE_VASP__COMMAND, or vasp: command: in {config_path()}"
        )
    return VaspCommand(
        command=settings.command,
        gamma_command=settings.gamma_command,
        poll_seconds=settings.poll_seconds,
        check_seconds=settings.check_seconds,
        max_corrections=settings.max_corrections,
    )


@dataclass
class VaspMaker(BaseVaspMaker):  # type: ignore[misc] # atomate2 is untyped
    """One VASP run, of whatever kind its input set says; atomate2's ``BaseVaspMaker`` with our way of running.

    atomate2's ``run_vasp_kwargs``, ``copy_vasp_kwargs`` and ``stop_children_kwargs`` have no say here: the machine's
    settings, and the diagnosis, have. No files of a job before are copied, so that a job needs nothing but the database
    and may run anywhere; magnetic moments come with the structure.

    Parameters
    ----------
    incar : dict
        Further INCAR tags: what a re-run asks for.
    symmetrize_angstrom : float or None
        Start from the symmetrised primitive cell (this tolerance), whose symmetry VASP then keeps.
    volume_scale : float
        Of the structure, before the run.
    unconverged_cause : int or None
        Cause instead of 501 when the ions do not converge.
    """

    incar: dict[str, Any] = field(default_factory=dict)
    symmetrize_angstrom: float | None = None
    volume_scale: float = 1.0
    unconverged_cause: int | None = None

    @vasp_job
    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> Response:  # noqa: ARG002 - atomate2's
        """Run VASP in the working directory.

        Parameters
        ----------
        structure : pymatgen.core.Structure
        prev_dir : str or path or None
            Not used.

        Returns
        -------
        jobflow.Response
            emmet's TaskDoc, of a run that succeeded.

        Raises
        ------
        DftError
            As :func:`dft_inputs.vasp.run.run_vasp`.
        CausedError
            502 in place of 501 where the Maker says so.
        """
        document = self.run_in(Path.cwd(), structure)
        return Response(stored_data={"custodian": document.custodian}, output=document)

    def run_in(self, directory: Path, structure: Structure) -> TaskDoc:
        """Run VASP in a directory.

        Parameters
        ----------
        directory : pathlib.Path
        structure : pymatgen.core.Structure

        Raises
        ------
        DftError, CausedError
            As :meth:`make`.
        """
        pseudos = load_settings().vasp.pseudos
        command = command_here()
        structure = structure.copy() if structure.properties.get(GOES_ON) else self.prepared(structure)
        structure.properties.pop(GOES_ON, None)
        for finding in check_structure(structure):
            raise DftError(finding.code, f"{finding.where}: {finding.message}")
        input_set = self.inputs()
        potcars = find_potcars(input_set, structure, pseudos)
        with potcars_in(pseudos):
            # what a user's own atomate2 settings add to INCAR would change energies behind the reference key's back
            write_vasp_input_set(structure, input_set, directory=directory, apply_incar_updates=False, clean_prev=False)
        for name, data in self.write_additional_data.items():
            dumpfn(data, str(directory / name.replace(":", ".")))
        try:
            run_vasp(directory, command)
        except DftError as error:
            if error.code == 501 and self.unconverged_cause is not None:
                raise CausedError(self.unconverged_cause, error.evidence) from error
            raise
        changes = physics_changes(directory) + [f"{key}: {v} asked" for key, v in self.incar.items() if key in PHYSICS]
        if changes:
            raise CausedError(607, "; ".join(changes))
        document = get_vasp_task_document(
            directory,
            additional_fields={
                "nucleate": {
                    "corrections": corrections(directory),
                    "potcars": [
                        {"symbol": p.symbol, "functional": p.functional, "title": p.title, "sha256": p.sha256}
                        for p in potcars
                    ],
                }
            },
            **self.task_document_kwargs,
        )
        document.task_label = self.name
        if getattr(document.state, "value", document.state) != "successful":
            errors = "; ".join(document.analysis.errors or []) if document.analysis else ""
            raise CausedError(611, f"emmet calls the run {document.state}: {errors or 'not converged'}")
        gzip_output_folder(directory=directory, setting="atomate", files_list=_FILES_TO_ZIP)
        return document

    def inputs(self) -> Any:
        """Give a fresh input set with the tags that a re-run asks for; sets remember the structure they were given."""
        fresh = deepcopy(self.input_set_generator)
        if self.incar:
            fresh.user_incar_settings = {**(fresh.user_incar_settings or {}), **self.incar}
        return fresh

    def prepared(self, structure: Structure) -> Structure:
        """Give the structure that VASP begins with."""
        ready = structure.copy()
        if self.symmetrize_angstrom is not None:
            analyzer = SpacegroupAnalyzer(ready, symprec=self.symmetrize_angstrom)
            ready = analyzer.get_primitive_standard_structure(keep_site_properties=True)
        if self.volume_scale != 1.0:
            ready.scale_lattice(ready.volume * self.volume_scale)
        return ready

    # -- going on where an earlier attempt stopped; see workflows.runtime.firetask -------------------------------------

    @property
    def relaxes(self) -> bool:
        """Whether ions move."""
        tags = {**self.input_set_generator.CONFIG["INCAR"], **self.input_set_generator.incar_updates}
        tags |= {**(self.input_set_generator.user_incar_settings or {}), **self.incar}
        return int(tags.get("NSW", 0)) > 0

    def resume(self, directories: list[Path]) -> dict[str, Any]:
        """Give the arguments with which :meth:`make` goes on from an earlier attempt.

        Parameters
        ----------
        directories : list of pathlib.Path
            Of earlier attempts at the same job, newest first.

        Returns
        -------
        dict
            ``structure``, or nothing if none of them got anywhere.
        """
        if not self.relaxes:
            return {}
        for directory in directories:
            geometry = usable_geometry(directory)
            if geometry is not None:
                _keep_moments(directory, geometry)
                geometry.properties[GOES_ON] = True
                return {"structure": geometry}
        return {}

    def last_geometry(self, directory: Path) -> Structure | None:
        """Give the last whole geometry in a directory, or the one that it was to begin with.

        A run without a finished step, or whose ions do not move, has lost nothing when its allocation ends, and is
        given another launch like the others.
        """
        found = last_geometry(directory) if self.relaxes else None
        return found if found is not None else _start(directory)


def _start(directory: Path) -> Structure | None:
    path = Path(zpath(str(directory / "POSCAR")))
    try:
        return Structure.from_file(str(path)) if path.is_file() else None
    except (ValueError, IndexError):  # cut short
        return None


GOES_ON = "nucleate_goes_on"
"""Property of a structure that an earlier attempt had prepared, so that it isn't symmetrised or scaled again."""


def _keep_moments(directory: Path, geometry: Structure) -> None:
    """Start from the magnetic moments that the earlier attempt started from."""
    path = Path(zpath(str(directory / "INCAR")))
    moments = Incar.from_file(str(path)).get("MAGMOM") if path.is_file() else None
    if isinstance(moments, list) and len(moments) == len(geometry):
        geometry.add_site_property("magmom", moments)


@dataclass
class VaspDoubleRelaxMaker(DoubleRelaxMaker):  # type: ignore[misc] # atomate2 is untyped
    """atomate2's double relaxation, without handing directories from job to job."""

    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> Flow:  # noqa: ARG002 - atomate2's
        """Make the flow; its output is the second relaxation's document."""
        first = self.relax_maker1.make(structure)
        first.append_name(" 1")
        second = self.relax_maker2.make(first.output.structure)
        second.append_name(" 2")
        return Flow([first, second], output=second.output, name=self.name)


@dataclass
class VaspRelaxMaker(Maker):  # type: ignore[misc] # jobflow is untyped
    """Relax, once or twice, then a static run at the relaxed cell: its energy is the one that counts.

    A run that changes its cell keeps the plane waves of the cell that it began with; the static run has those of the
    cell that it is for, and its stress says whether the relaxation ended where it believed to be.

    Parameters
    ----------
    name : str
    relax_maker : jobflow.Maker
    static_maker : VaspMaker
    """

    name: str = "relax"
    relax_maker: Maker = field(default_factory=VaspMaker)
    static_maker: Maker = field(default_factory=VaspMaker)

    def make(self, structure: Structure) -> Flow:
        """Make the flow; its output is the static run's document."""
        relaxed = self.relax_maker.make(structure)
        static = self.static_maker.make(relaxed.output.structure)
        return Flow([relaxed, static], output=static.output, name=self.name)

    def steps(self) -> list[VaspMaker]:
        """List the runs in their order."""
        if isinstance(self.relax_maker, VaspDoubleRelaxMaker):
            return [self.relax_maker.relax_maker1, self.relax_maker.relax_maker2, self.static_maker]
        return [self.relax_maker, self.static_maker]


def relax_maker(protocol: VaspProtocol) -> VaspRelaxMaker:
    """Make the Maker of the hull's relaxation."""
    one = VaspMaker(name="relax", input_set_generator=protocol.relax.make())
    whole = VaspDoubleRelaxMaker.from_relax_maker(one) if protocol.double_relax else one
    return VaspRelaxMaker(relax_maker=whole, static_maker=static_maker(protocol))


def static_maker(protocol: VaspProtocol) -> VaspMaker:
    """Make the Maker of energy, forces and stress of a fixed structure."""
    return VaspMaker(name="static", input_set_generator=protocol.static.make())


def gap_maker(protocol: VaspProtocol) -> VaspMaker:
    """Make the Maker of the band gap."""
    return VaspMaker(name="band gap", input_set_generator=protocol.gap())


def tight_relax_maker(protocol: VaspProtocol) -> VaspMaker:
    """Make the Maker of the relaxation before phonons."""
    return VaspMaker(
        name="tight relax",
        input_set_generator=protocol.tight_relax(),
        symmetrize_angstrom=protocol.symprec,
        unconverged_cause=502,
    )


def atomate2_phonon_maker(protocol: VaspProtocol) -> PhononMaker:
    """Make atomate2's VASP phonon flow: displacements alone; relaxation, evaluation and judgement are ours."""
    return PhononMaker(
        name="phonons",
        displacement=protocol.displacement,
        symprec=protocol.symprec,
        bulk_relax_maker=None,
        static_energy_maker=None,
        born_maker=None,
        phonon_displacement_maker=VaspMaker(name="displacement", input_set_generator=protocol.displaced()),
        store_force_constants=True,
        create_thermal_displacements=False,
        generate_frequencies_eigenvectors_kwargs={"npoints_band": 5, "kpoint_density_dos": 64, "tmax": 20},
    )
