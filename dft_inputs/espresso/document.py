"""What a pw.x job hands on: one document, with the names of emmet's ``TaskDoc`` wherever it has one.

Whoever reads VASP's and the force fields' documents (atomate2's phonon flow among them) reads this one the same way:
``structure``, ``dir_name``, ``uuid``, ``output.energy``, ``output.forces``.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pymatgen.core import Structure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dft_inputs.espresso.outputs import PwOutput
    from dft_inputs.espresso.pw_input import PwInput


_Structure = Annotated[Structure, PlainSerializer(lambda structure: structure.as_dict(), when_used="json")]
"""pymatgen's class tells pydantic how to read it back, and not how to write JSON."""


class PwInputDoc(BaseModel):
    """What was asked of pw.x, at the last run."""

    model_config = ConfigDict(extra="forbid")

    structure: _Structure | None = Field(None, description="structure that the last run began with")
    parameters: dict[str, dict[str, Any]] = Field(default_factory=dict, description="namelists in pw.x's own units")
    kpoints: list[int] | None = Field(None, description="divisions of the k-mesh")
    kpoints_shift: list[int] | None = Field(None, description="1 where the mesh is shifted by half a division")
    magnetic_moments: dict[str, float] = Field(
        default_factory=dict, description="starting magnetisation by species label, from -1 to 1"
    )
    hubbard_u: dict[str, float] = Field(default_factory=dict, description="U by species label, eV")


class PwOutputDoc(BaseModel):
    """What pw.x computed, at the last run."""

    model_config = ConfigDict(extra="forbid")

    structure: _Structure = Field(description="structure that energy, forces and stress belong to")
    density: float = Field(description="g/cm³")
    energy: float | None = Field(
        None, description="total energy, eV; with smearing the free energy, which forces belong to"
    )
    energy_per_atom: float | None = Field(None, description="eV/atom")
    forces: list[list[float]] | None = Field(None, description="eV/Å")
    stress: list[list[float]] | None = Field(
        None, description="kbar, positive where the crystal is compressed, as VASP's"
    )
    bandgap: float | None = Field(None, description="eV on the k-points of the run; 0 for a metal")
    is_gap_direct: bool | None = Field(None, description="unknown for a metal")
    efermi: float | None = Field(None, description="eV; the highest occupied level where occupations are fixed")
    vbm: float | None = Field(None, description="eV")
    cbm: float | None = Field(None, description="eV")
    magnetization: float | None = Field(None, description="total, Bohr magnetons per cell")
    smearing_energy: float | None = Field(None, description="-TS, eV")


class PwCalcDoc(BaseModel):
    """One run of several that a job made, in short."""

    model_config = ConfigDict(extra="forbid")

    dir_name: str
    energy: float | None = Field(None, description="eV")
    volume: float = Field(description="Å³")
    pressure: float | None = Field(None, description="kbar, of the last scf")
    n_steps: int = Field(description="ionic steps")
    n_scf_iterations: int
    walltime: float | None = Field(None, description="s")

    @classmethod
    def from_output(cls, output: PwOutput, directory: Path) -> Self:
        """Shorten the result of a run."""
        return cls(
            dir_name=str(directory),
            energy=output.energy_ev,
            volume=float(output.structure.volume),
            pressure=output.pressure_kbar,
            n_steps=output.n_ionic_steps,
            n_scf_iterations=output.n_scf_iterations,
            walltime=output.walltime_s,
        )


class PwDocument(BaseModel):
    """A finished, checked pw.x job. There is none of a job that failed: it raises with its cause."""

    model_config = ConfigDict(extra="forbid")

    structure: _Structure = Field(description="final structure")
    input: PwInputDoc
    output: PwOutputDoc
    dir_name: str = Field(description="directory of the job; of its runs: calcs")
    uuid: str | None = Field(None, description="of the job")
    task_label: str | None = None
    task_type: Literal["Static", "Structure Optimization", "NSCF Uniform", "NSCF Line"] = "Static"
    state: Literal["successful"] = "successful"
    completed_at: datetime | None = Field(None, description="when the last run ended")
    run_type: str | None = Field(None, description="functional, with +U where there is one")
    program: str | None = Field(None, description="pw.x and its version")
    pseudopotentials: dict[str, Any] = Field(
        default_factory=dict, description="family, version, functional and sha256 of each file"
    )
    protocol: dict[str, Any] = Field(default_factory=dict, description="its name, hash and settings")
    corrections: list[dict[str, Any]] = Field(default_factory=list, description="what was changed after which failure")
    comparable: bool = Field(
        default=True, description="whether no correction took the energy away from those of the protocol"
    )
    n_steps: int = Field(1, description="ionic steps of all runs")
    walltime: float | None = Field(None, description="s, of all runs")
    calcs: list[PwCalcDoc] = Field(default_factory=list, description="the job's runs, the first one first")
    nsites: int
    chemsys: str
    formula_pretty: str

    @classmethod
    def from_runs(
        cls,
        runs: Sequence[tuple[PwOutput, Path]],
        inp: PwInput,
        directory: Path,
        *,
        uuid: str | None = None,
        task_label: str | None = None,
        run_type: str | None = None,
        pseudopotentials: dict[str, Any] | None = None,
        protocol: dict[str, Any] | None = None,
        corrections: Sequence[dict[str, Any]] = (),
        comparable: bool = True,
    ) -> Self:
        """Make the document of a job.

        Parameters
        ----------
        runs : sequence of (PwOutput, pathlib.Path)
            Successful runs with their directories, the first one first; the last one is the job's result.
        inp : PwInput
            Input of the last run.
        directory : pathlib.Path
            Of the job.
        uuid, task_label, run_type, pseudopotentials, protocol, corrections, comparable
            As the fields.

        Raises
        ------
        ValueError
            If there is no run.
        """
        if not runs:
            raise ValueError("a document needs a run that succeeded")
        last = runs[-1][0]
        calcs = [PwCalcDoc.from_output(output, where) for output, where in runs]
        times = [calc.walltime for calc in calcs if calc.walltime is not None]
        return cls(
            structure=last.structure,
            input=_input_doc(inp, last),
            output=_output_doc(last),
            dir_name=str(directory),
            uuid=uuid,
            task_label=task_label,
            task_type=_TASK_TYPES.get(inp.calculation, "Static"),
            completed_at=last.completed_at,
            run_type=run_type,
            program=f"pw.x {last.version}" if last.version else "pw.x",
            pseudopotentials=pseudopotentials or {},
            protocol=protocol or {},
            corrections=list(corrections),
            comparable=comparable,
            n_steps=sum(calc.n_steps for calc in calcs),
            walltime=sum(times) if times else None,
            calcs=calcs,
            nsites=len(last.structure),
            chemsys=last.structure.chemical_system,
            formula_pretty=last.structure.composition.reduced_formula,
        )


_TASK_TYPES: dict[str, Literal["Static", "Structure Optimization", "NSCF Uniform", "NSCF Line"]] = {
    "relax": "Structure Optimization",
    "vc-relax": "Structure Optimization",
    "nscf": "NSCF Uniform",
    "bands": "NSCF Line",
}


def _input_doc(inp: PwInput, output: PwOutput) -> PwInputDoc:
    return PwInputDoc(
        structure=output.initial_structure,
        parameters=inp.namelists,
        kpoints=list(inp.mesh),
        kpoints_shift=list(inp.shift),
        magnetic_moments={
            one.label: one.starting_magnetization for one in inp.species if one.starting_magnetization is not None
        },
        hubbard_u={one.label: one.hubbard_u_ev for one in inp.species if one.hubbard_u_ev is not None},
    )


def _output_doc(output: PwOutput) -> PwOutputDoc:
    return PwOutputDoc(
        structure=output.structure,
        density=float(output.structure.density),
        energy=output.energy_ev,
        energy_per_atom=None if output.energy_ev is None else output.energy_ev / len(output.structure),
        forces=None if output.forces is None else output.forces.tolist(),
        stress=None if output.stress_kbar is None else output.stress_kbar.tolist(),
        bandgap=output.bandgap_ev,
        is_gap_direct=output.gap.is_direct if output.gap else None,
        efermi=output.efermi_ev,
        vbm=output.gap.vbm_ev if output.gap else None,
        cbm=output.gap.cbm_ev if output.gap else None,
        magnetization=output.total_magnetization,
        smearing_energy=output.smearing_ev,
    )
