"""Engine ``espresso``: density-functional theory with Quantum ESPRESSO's pw.x verifies."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dft_inputs.causes import DftError
from workflows.causes import CausedError
from workflows.engines.base import Problem, Result
from workflows.engines.documents import as_structure, get
from workflows.engines.espresso.machine import Machine, machine, protocol_here
from workflows.records import PropertyResult

if TYPE_CHECKING:
    from jobflow import Maker
    from pymatgen.core import Structure

    from dft_inputs.espresso.protocols import PwProtocol
    from workflows.records import PhononResult
    from workflows.spec import CampaignSpec

ENGINE_PROPERTIES = frozenset({"bulk_modulus", "band_gap"})

MAX_PHONON_FORCE = 0.02
"""eV/Å; a larger force at the tight relaxation's end makes phonons meaningless."""


@dataclass(frozen=True)
class EspressoEngine:
    """Verifies with pw.x.

    Parameters
    ----------
    protocol : {"fast", "balanced", "stringent"}

    Raises
    ------
    ValueError
        If the protocol is unknown.

    Examples
    --------
    >>> sorted(EspressoEngine("fast").properties)
    ['band_gap', 'bulk_modulus']
    """

    protocol: str = "fast"
    name: str = "espresso"

    def __post_init__(self) -> None:
        protocol_here(self.protocol)

    @property
    def options(self) -> PwProtocol:
        """The protocol's numbers, with what this machine's settings say about physics."""
        return protocol_here(self.protocol)

    @property
    def machine(self) -> Machine:
        """How pw.x runs on this machine.

        Raises
        ------
        CausedError
            201 if the family is not installed.
        """
        try:
            return machine(self.protocol)
        except DftError as error:
            raise CausedError(error.code, error.evidence) from error

    @property
    def properties(self) -> frozenset[str]:
        """Properties that it can measure, beside the hull and phonons."""
        return ENGINE_PROPERTIES

    @property
    def category(self) -> str:
        """FireWorks category of its jobs."""
        return "cpu"

    @property
    def reference_limits(self) -> dict[str, Any]:
        """How a reference set is kept affordable: what takes minutes each is not done for what is far from a hull."""
        return {"per_composition": 1, "window": 0.03, "hull_window": 0.03, "known_atoms": 16, "neutral_atoms": 12}

    @cached_property
    def reference_key(self) -> str:
        """``espresso:<functional>:<protocol>:<hash>``; the hash is of what decides energies.

        That is the protocol without phonons and equations of state, and every pseudopotential of the family.

        Raises
        ------
        CausedError
            201 if the family is not installed.
        """
        here = self.machine
        decides = {"protocol": here.protocol.energies_sha256(), "family": here.family.sha256}
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        return f"espresso:{here.protocol.functional}:{self.protocol}:{digest[:8]}"

    def settings(self) -> dict[str, Any]:
        """Everything that decides its numbers, JSON-compatible."""
        from importlib.metadata import version

        here = self.machine
        family = here.family
        return {
            "engine": self.name,
            "code": "pw.x",
            "protocol": self.protocol,
            "options": here.protocol.as_dict(),
            "functional": here.protocol.functional,
            "pseudopotentials": {
                "family": family.name,
                "version": family.version,
                "functional": family.functional,
                "sha256": family.sha256,
                "cutoffs_from": family.cutoffs_from,
                "citation": list(family.citation),
            },
            "versions": {name: version(name) for name in ("ase", "custodian", "phonopy")},
            "reference_key": self.reference_key,
        }

    def check(self, campaign: CampaignSpec) -> list[Problem]:
        """List what it can't do of a campaign; that pw.x is missing here is a warning, for workers may be elsewhere."""
        problems = [
            Problem(
                f"targets.{name}",
                f"engine espresso can't measure {name}; it measures {', '.join(sorted(self.properties))}",
            )
            for name in sorted(set(campaign.targets.properties) - self.properties)
        ]
        try:
            here = self.machine
        except CausedError as error:
            return [*problems, Problem("engine", error.evidence)]
        for symbol in sorted({e for system in campaign.chemistry.chemical_systems() for e in system}):
            try:
                here.family.cutoffs([symbol], here.protocol.cutoff_hint)
                here.family.require([symbol], functional=here.protocol.functional)
            except DftError as error:
                problems.append(Problem("chemistry", error.evidence))
        program = here.command.executable
        if shutil.which(program) is None:
            problems.append(
                Problem(
                    "engine",
                    f"{program} is not on this machine; workers need it "
                    "(Debian: apt-get install quantum-espresso; or name it under espresso: command in the settings)",
                    level="warning",
                )
            )
        return problems

    def preflight(self, structure: Structure) -> list[Problem]:
        """List what it can't do with a structure on this machine."""
        from dft_inputs.checks import check_structure_for_dft

        here = self.machine
        refusals = check_structure_for_dft(structure, here.protocol, here.family, memory_gb=here.command.memory_gb)
        return [Problem("structure", refusal.message) for refusal in refusals]

    def relax_maker(self) -> Maker:
        """Maker whose ``make(structure)`` relaxes positions and cell."""
        from workflows.engines.espresso.makers import PwRelaxMaker

        return PwRelaxMaker(protocol=self.protocol)

    def static_maker(self) -> Maker:
        """Maker whose ``make(structure)`` computes energy, forces and stress of a fixed structure."""
        from workflows.engines.espresso.makers import PwStaticMaker

        return PwStaticMaker(protocol=self.protocol)

    def phonon_maker(self) -> Maker:
        """Maker whose ``make(structure)`` is a flow with an output that :meth:`read_phonons` understands."""
        from workflows.engines.espresso.flows import PwPhononMaker

        return PwPhononMaker(protocol=self.protocol)

    def property_maker(self, name: str) -> Maker:
        """Maker whose ``make(structure)`` is a job with an output that :meth:`read_property` understands.

        Raises
        ------
        ValueError
            If the engine can't measure the property.
        """
        from workflows.engines.espresso.flows import PwBandGapMaker, PwBulkModulusMaker

        if name == "bulk_modulus":
            return PwBulkModulusMaker(protocol=self.protocol)
        if name == "band_gap":
            return PwBandGapMaker(protocol=self.protocol)
        raise ValueError(f"engine espresso can't measure {name!r}; it measures {', '.join(sorted(self.properties))}")

    def relax_now(self, structure: Structure) -> Result:
        """Relax in this process, without a job, in a directory of its own: an interrupted one goes on where it was.

        Raises
        ------
        CausedError
            With the cause.
        """
        from workflows.engines.espresso.running import relax_kept

        try:
            return self.read(relax_kept(structure, self.protocol, self.reference_key))
        except DftError as error:
            raise CausedError(error.code, error.evidence) from error

    def read(self, document: Any) -> Result:
        """Read a relax or static document (pydantic or plain).

        Raises
        ------
        CausedError
            501 if it is not of a successful run, 602 if a number is not finite, 607 if a correction took the energy
            away from those of the protocol.
        """
        output = get(document, "output")
        energy = float(get(output, "energy_per_atom"))
        forces = np.array(get(output, "forces"), dtype=float)
        max_force = float(np.linalg.norm(forces, axis=1).max())
        if not np.isfinite([energy, max_force]).all():
            raise CausedError(602, f"energy {energy} eV/atom, largest force {max_force} eV/Å")
        state = get(document, "state")
        if getattr(state, "value", state) != "successful":
            raise CausedError(501, f"the document says {state}, largest force {max_force:.3f} eV/Å")
        if not get(document, "comparable"):
            changed = [c for c in get(document, "corrections") or [] if not get(c, "comparable")]
            actions = "; ".join(str(action) for c in changed for action in get(c, "actions") or [])
            raise CausedError(607, actions or "a correction changed what the energy means")
        stress = get(output, "stress")
        return Result(
            structure=as_structure(get(document, "structure")),
            energy_ev_per_atom=energy,
            converged=True,
            max_force_ev_per_angstrom=max_force,
            max_stress_gpa=None if stress is None else float(np.abs(np.array(stress)).max()) / 10,
            n_steps=get(document, "n_steps"),
            detail={
                "engine": self.name,
                "protocol": self.protocol,
                "program": get(document, "program"),
                "pseudopotentials": get(document, "pseudopotentials"),
                "corrections": [_plain(c) for c in get(document, "corrections") or []],
                "directory": get(document, "dir_name"),
            },
        )

    def read_phonons(self, document: Any, tolerance_thz: float) -> PhononResult:
        """Judge the phonon flow's output; raises as :func:`workflows.engines.phonon_flow.read_phonons`."""
        from workflows.engines.phonon_flow import read_phonons

        return read_phonons(document, tolerance_thz, MAX_PHONON_FORCE)

    def read_property(self, name: str, document: Any) -> PropertyResult:
        """Read a property job's output.

        Raises
        ------
        CausedError
            602, 603 as :func:`workflows.engines.eos.read_bulk_modulus`; 605 for an unknown property, or a gap that is
            no number.
        """
        if name == "bulk_modulus":
            from workflows.engines.eos import bulk_modulus_of

            return bulk_modulus_of(document)
        if name == "band_gap":
            value = float(document["band_gap_ev"])
            if not np.isfinite(value):
                raise CausedError(605, f"band gap {value} eV")
            detail = {key: document[key] for key in ("direct", "vbm_ev", "cbm_ev", "mesh")}
            return PropertyResult(value=value, unit="eV", how=document["how"], detail=detail)
        raise CausedError(605, f"engine espresso can't measure {name}")


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value
