"""Engine ``mlip``: a pretrained force field verifies (SevenNet-0 unless told otherwise).

It is a second opinion on what CHGNet screened, not an independent one: both were trained on the Materials Project's
trajectories.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from workflows.causes import CausedError
from workflows.engines.base import Problem, Result
from workflows.engines.documents import as_structure, get
from workflows.engines.models import SCREENING_FAMILY, get_model

if TYPE_CHECKING:
    from jobflow import Maker
    from pymatgen.core import Structure

    from workflows.records import PhononResult, PropertyResult
    from workflows.spec import CampaignSpec

ENGINE_PROPERTIES = frozenset({"bulk_modulus"})

MAX_PHONON_FORCE = 0.02
"""eV/Å; a larger force at the tight relaxation's end makes phonons meaningless."""


@dataclass(frozen=True)
class MlipProtocol:
    """Named precision. Only ``fmax``, ``steps`` and the model decide energies.

    Parameters
    ----------
    fmax : float
        eV/Å, of the hull's relaxation (positions and cell).
    steps : int
        Limit of every relaxation.
    phonon_fmax : float
        eV/Å, of the tight relaxation before phonons.
    phonon_min_length : float
        Å, wanted shortest repeat of the phonon supercell.
    phonon_max_atoms : int
        Most atoms in it.
    phonon_max_displaced_atoms : int
        Most atoms x displacements.
    phonon_mesh_length : float
        Å; see :func:`workflows.engines.phonons.evaluate`.
    displacement : float
        Å.
    symprec : float
        Å, for symmetry in phonons.
    eos_volume_strain : float
        Relative, on both sides.
    eos_points : int
    eos_fmax : float
        eV/Å, of the ions at each volume.
    """

    fmax: float
    steps: int
    phonon_fmax: float
    phonon_min_length: float
    phonon_max_atoms: int
    phonon_max_displaced_atoms: int
    phonon_mesh_length: float
    displacement: float = 0.01
    symprec: float = 0.01
    eos_volume_strain: float = 0.06
    eos_points: int = 7
    eos_fmax: float = 0.02


PROTOCOLS: dict[str, MlipProtocol] = {
    "fast": MlipProtocol(
        fmax=0.05,
        steps=300,
        phonon_fmax=0.005,
        phonon_min_length=8.0,
        phonon_max_atoms=64,
        phonon_max_displaced_atoms=1600,
        phonon_mesh_length=30.0,
    ),
    "balanced": MlipProtocol(
        fmax=0.02,
        steps=500,
        phonon_fmax=0.002,
        phonon_min_length=10.0,
        phonon_max_atoms=128,
        phonon_max_displaced_atoms=4_000,
        phonon_mesh_length=50.0,
        eos_points=9,
        eos_fmax=0.01,
    ),
    "stringent": MlipProtocol(
        fmax=0.005,
        steps=1000,
        phonon_fmax=0.001,
        phonon_min_length=15.0,
        phonon_max_atoms=400,
        phonon_max_displaced_atoms=40_000,
        phonon_mesh_length=80.0,
        eos_points=11,
        eos_fmax=0.005,
    ),
}
"""Protocols by name."""


@dataclass(frozen=True)
class MlipEngine:
    """Verifies with a pretrained force field.

    Parameters
    ----------
    protocol : {"fast", "balanced", "stringent"}
    model : str
        A key of :data:`workflows.engines.models.MODELS`.

    Raises
    ------
    ValueError
        If protocol or model is unknown.

    Examples
    --------
    >>> MlipEngine("fast").properties
    frozenset({'bulk_modulus'})
    """

    protocol: str = "fast"
    model: str = "7net-0"
    name: str = "mlip"

    def __post_init__(self) -> None:
        get_model(self.model)
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"unknown protocol {self.protocol!r} of engine mlip: known are {', '.join(PROTOCOLS)}")

    @property
    def options(self) -> MlipProtocol:
        """The protocol's numbers."""
        return PROTOCOLS[self.protocol]

    @property
    def properties(self) -> frozenset[str]:
        """Properties that it can measure, beside the hull and phonons."""
        return ENGINE_PROPERTIES

    @property
    def category(self) -> str:
        """FireWorks category of its jobs."""
        return "cpu"

    @cached_property
    def reference_key(self) -> str:
        """``mlip:<model>:<protocol>:<hash>``; the hash is of what decides energies (weights, relaxation).

        Phonon and property settings are left out on purpose, and so is the package's version: the same weights give
        the same energies.
        """
        decides = {"weights": get_model(self.model).weights_sha256, "fmax": self.options.fmax, "cell": True}
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        return f"mlip:{self.model}:{self.protocol}:{digest[:8]}"

    @property
    def reference_limits(self) -> dict[str, Any]:
        """None: a force field can afford all of what is enumerated by default."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Everything that decides its numbers, JSON-compatible."""
        from importlib.metadata import version

        model = get_model(self.model)
        return {
            "engine": self.name,
            "model": model.name,
            "weights_sha256": model.weights_sha256,
            "trained_on": model.trained_on,
            "source": model.source,
            "protocol": self.protocol,
            "options": asdict(self.options),
            "optimizer": "BFGS on positions and cell (FrechetCellFilter)",
            "versions": {name: version(name) for name in (model.package, "atomate2", "ase", "phonopy", "torch")},
            "reference_key": self.reference_key,
        }

    def check(self, campaign: CampaignSpec) -> list[Problem]:
        """List what it can't do of a campaign."""
        model = get_model(self.model)
        problems = [
            Problem(
                f"targets.{name}",
                f"engine mlip can't measure {name}; it measures {', '.join(sorted(self.properties))}",
            )
            for name in sorted(set(campaign.targets.properties) - self.properties)
        ]
        elements = sorted({e for system in campaign.chemistry.chemical_systems() for e in system})
        problems += [
            Problem("chemistry", f"{symbol}: model {model.name} was never trained on it; leave it out")
            for symbol in elements
            if not model.knows(symbol)
        ]
        if model.family == SCREENING_FAMILY:
            problems.append(
                Problem("engine", f"model {model.name} screens and pre-relaxes: it must not verify; use 7net-0")
            )
        return problems

    def preflight(self, structure: Structure) -> list[Problem]:
        """List what it can't do with a structure."""
        model = get_model(self.model)
        if not structure.is_ordered:
            return [Problem("structure", "partial occupancy: give an ordered cell")]
        if not 1.0 < structure.volume / len(structure) < 500.0:
            return [Problem("structure", f"{structure.volume / len(structure):.3g} Å³/atom is no crystal")]
        problems = [
            Problem("structure", f"{symbol}: model {model.name} was never trained on it")
            for symbol in sorted({site.specie.symbol for site in structure})
            if not model.knows(symbol)
        ]
        for index, neighbours in enumerate(structure.get_all_neighbors(model.cutoff)):
            if not neighbours:
                problems.append(
                    Problem(
                        f"site {index}",
                        f"no neighbour within {model.cutoff:g} Å: model {model.name} sees an isolated atom",
                    )
                )
            elif (nearest := min(n.nn_distance for n in neighbours)) < 0.5:
                problems.append(Problem(f"site {index}", f"another atom is {nearest:.2f} Å away"))
        return problems

    def relax_maker(self) -> Maker:
        """Maker whose ``make(structure)`` relaxes positions and cell, symmetry free."""
        from workflows.engines.mlip_makers import relax_maker

        return relax_maker(self.model, self.options.fmax, self.options.steps)

    def static_maker(self) -> Maker:
        """Maker whose ``make(structure)`` computes energy, forces and stress of a fixed structure."""
        from workflows.engines.mlip_makers import static_maker

        return static_maker(self.model)

    def phonon_maker(self) -> Maker:
        """Maker whose ``make(structure)`` is a flow with an output that :meth:`read_phonons` understands."""
        from workflows.engines.mlip_phonons import MlipPhononMaker

        options = self.options
        return MlipPhononMaker(
            model=self.model,
            fmax_ev_per_angstrom=options.phonon_fmax,
            steps=options.steps,
            displacement_angstrom=options.displacement,
            min_length_angstrom=options.phonon_min_length,
            max_atoms=options.phonon_max_atoms,
            max_displaced_atoms=options.phonon_max_displaced_atoms,
            mesh_length_angstrom=options.phonon_mesh_length,
            symprec_angstrom=options.symprec,
        )

    def property_maker(self, name: str) -> Maker:
        """Maker whose ``make(structure)`` is a job with an output that :meth:`read_property` understands.

        Raises
        ------
        ValueError
            If the engine can't measure the property.
        """
        if name not in self.properties:
            raise ValueError(f"engine mlip can't measure {name!r}; it measures {', '.join(sorted(self.properties))}")
        from workflows.engines.eos import MlipBulkModulusMaker

        options = self.options
        return MlipBulkModulusMaker(
            model=self.model,
            volume_strain=options.eos_volume_strain,
            points=options.eos_points,
            fmax_ev_per_angstrom=options.eos_fmax,
            steps=options.steps,
        )

    def relax_now(self, structure: Structure) -> Result:
        """Relax in this process, without a job: what building reference sets is made of.

        Raises
        ------
        CausedError
            As :meth:`read`, and 601 if the crystal explodes.
        """
        maker = self.relax_maker()
        return self.read(type(maker).make.original(maker, structure))

    def read(self, document: Any) -> Result:
        """Read a relax or static document (pydantic or plain).

        Raises
        ------
        CausedError
            501 if the relaxation did not converge, 602 if a number is not finite.
        """
        import numpy as np

        structure = as_structure(get(document, "structure"))
        output = get(document, "output")
        forces = np.array(get(output, "forces"), dtype=float)
        stress = get(output, "stress")
        energy = float(get(output, "energy_per_atom"))
        max_force = float(np.linalg.norm(forces, axis=1).max())
        if not np.isfinite([energy, max_force]).all():
            raise CausedError(602, f"energy {energy} eV/atom, largest force {max_force} eV/Å")
        state = get(document, "state")
        if getattr(state, "value", state) != "successful":
            raise CausedError(501, f"largest force {max_force:.3f} eV/Å after {get(output, 'n_steps')} steps")
        return Result(
            structure=structure,
            energy_ev_per_atom=energy,
            converged=True,
            max_force_ev_per_angstrom=max_force,
            # atomate2 stores kbar with VASP's sign
            max_stress_gpa=None if stress is None else float(np.abs(np.array(stress)).max()) / 10,
            n_steps=get(output, "n_steps"),
            detail={
                "engine": self.name,
                "model": self.model,
                "package_version": get(document, "forcefield_version"),
                "protocol": self.protocol,
                "directory": get(document, "dir_name"),
            },
        )

    def read_phonons(self, document: Any, tolerance_thz: float) -> PhononResult:
        """Judge the phonon flow's output.

        Raises
        ------
        CausedError
            502 if forces were left over, 604 if there is nothing to judge.
        """
        from workflows.engines.phonon_flow import read_phonons

        return read_phonons(document, tolerance_thz, MAX_PHONON_FORCE)

    def read_property(self, name: str, document: Any) -> PropertyResult:
        """Read a property job's output.

        Raises
        ------
        CausedError
            602, 603 as :func:`workflows.engines.eos.read_bulk_modulus`; 605 for an unknown property.
        """
        if name != "bulk_modulus":
            raise CausedError(605, f"engine mlip can't measure {name}")
        from workflows.engines.eos import bulk_modulus_of

        return bulk_modulus_of(document)
