"""Engine ``vasp``: atomate2's Makers and pymatgen's input sets, with recovery that reaches across launches."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dft_inputs.causes import DftError
from workflows.causes import CausedError
from workflows.engines.base import Problem, Result
from workflows.engines.documents import as_structure, get
from workflows.engines.vasp_protocols import FUNCTIONAL, PROTOCOLS, VaspProtocol
from workflows.records import PropertyResult

if TYPE_CHECKING:
    from pathlib import Path

    from jobflow import Maker
    from pymatgen.core import Structure

    from workflows.records import PhononResult
    from workflows.spec import CampaignSpec

ENGINE_PROPERTIES = frozenset({"bulk_modulus", "band_gap"})

MAX_PHONON_FORCE = 0.02
"""eV/Å; a larger force at the tight relaxation's end makes phonons meaningless."""


@dataclass(frozen=True)
class VaspEngine:
    """Verifies with VASP.

    Parameters
    ----------
    protocol : {"fast", "balanced", "stringent"}

    Raises
    ------
    ValueError
        If the protocol is unknown.

    Examples
    --------
    >>> sorted(VaspEngine("balanced").properties)
    ['band_gap', 'bulk_modulus']
    """

    protocol: str = "balanced"
    name: str = "vasp"

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"unknown protocol {self.protocol!r} of engine vasp: known are {', '.join(PROTOCOLS)}")

    @property
    def options(self) -> VaspProtocol:
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

    @property
    def reference_limits(self) -> dict[str, Any]:
        """How a reference set is kept affordable: what takes minutes each is not done for what is far from a hull."""
        return {"per_composition": 1, "window": 0.03, "hull_window": 0.03, "known_atoms": 24}

    @cached_property
    def reference_key(self) -> str:
        """``vasp:<functional>:<POTCAR library>:<protocol>:<hash>``; the hash is of what decides energies.

        That is: both input sets as pymatgen has them now, our changes to them, one or two relaxations, corrections.
        """
        options = self.options
        decides = {
            "relax": _content(options, "relax"),
            "static": _content(options, "static"),
            "double_relax": options.double_relax,
            "corrections": options.corrections,
        }
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()
        return f"vasp:{FUNCTIONAL}:{options.potcars}:{self.protocol}:{digest[:8]}"

    def settings(self) -> dict[str, Any]:
        """Everything that decides its numbers, JSON-compatible."""
        from importlib.metadata import version

        content = {kind: _content(self.options, kind) for kind in ("relax", "static")}
        settings = {
            "engine": self.name,
            "functional": FUNCTIONAL,
            "potcars": self.options.potcars,
            "protocol": self.protocol,
            "options": asdict(self.options),
            "input_sets": content,
            "corrections": self.options.corrections,
            "comparable_with_materials_project": self.options.mp_comparable,
            "versions": {
                name: version(name) for name in ("atomate2", "pymatgen-core", "custodian", "emmet-core", "phonopy")
            },
            "reference_key": self.reference_key,
        }
        plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        return plain

    def check(self, campaign: CampaignSpec) -> list[Problem]:
        """List what it can't do of a campaign; what only this machine lacks is a warning: workers may differ."""
        from dft_inputs.vasp.potcar import DIRECTORY_KEY, find_potcar, potcar_directory
        from workflows.runtime.settings import config_path, load_settings

        problems = [
            Problem(
                f"targets.{name}",
                f"engine vasp can't measure {name}; it measures {', '.join(sorted(self.properties))}",
            )
            for name in sorted(set(campaign.targets.properties) - self.properties)
        ]
        config = self.options.relax.make().CONFIG
        symbols: dict[str, str] = config["POTCAR"]
        elements = sorted({e for system in campaign.chemistry.chemical_systems() for e in system})
        problems += [
            Problem("chemistry", f"{element}: {self.options.relax.name} has no POTCAR for it; leave it out")
            for element in elements
            if element not in symbols
        ]
        settings = load_settings().vasp
        if not settings.command:
            message = f"no VASP command on this machine; workers need vasp: command: in {config_path()}"
            problems.append(Problem("engine", f"{message} or NUCLEATE_VASP__COMMAND", level="warning"))
        if potcar_directory(settings.pseudos) is None:
            message = f"no POTCAR directory on this machine; workers need {DIRECTORY_KEY}"
            problems.append(Problem("engine", f"{message} or vasp: pseudos: in {config_path()}", level="warning"))
            return problems
        for element in elements:
            if element in symbols:
                try:
                    find_potcar(element, symbols[element], self.options.potcars, settings.pseudos)
                except DftError as error:
                    problems.append(Problem("chemistry", f"{element}: {error.evidence}", level="warning"))
        return problems

    def preflight(self, structure: Structure) -> list[Problem]:
        """List what it can't do with a structure, on the worker: command, POTCARs, structure, settings."""
        from dft_inputs.vasp.preflight import preflight
        from workflows.engines.vasp_makers import command_here
        from workflows.runtime.settings import load_settings

        problems = []
        try:
            command_here().words()
        except DftError as error:
            problems.append(Problem("engine", f"[{error.code}] {error.evidence}"))
        found = preflight(
            structure,
            self.options.relax.make(),
            load_settings().vasp.pseudos,
            mp_comparable=self.options.mp_comparable,
        )
        return problems + [Problem(f.where, f"[{f.code}] {f.message}", level=f.level) for f in found]

    def relax_maker(self) -> Maker:
        """Maker whose ``make(structure)`` relaxes positions and cell and ends in a static run."""
        from workflows.engines.vasp_makers import relax_maker

        return relax_maker(self.options)

    def static_maker(self) -> Maker:
        """Maker whose ``make(structure)`` computes energy, forces and stress of a fixed structure."""
        from workflows.engines.vasp_makers import static_maker

        return static_maker(self.options)

    def phonon_maker(self) -> Maker:
        """Maker whose ``make(structure)`` is a flow with an output that :meth:`read_phonons` understands."""
        from workflows.engines.vasp_properties import VaspPhononMaker

        return VaspPhononMaker(protocol=self.protocol)

    def property_maker(self, name: str) -> Maker:
        """Maker whose ``make(structure)`` is a flow or job with an output that :meth:`read_property` understands.

        Raises
        ------
        ValueError
            If the engine can't measure the property.
        """
        if name == "bulk_modulus":
            from workflows.engines.vasp_properties import VaspBulkModulusMaker

            return VaspBulkModulusMaker(protocol=self.protocol)
        if name == "band_gap":
            from workflows.engines.vasp_makers import gap_maker

            return gap_maker(self.options)
        raise ValueError(f"engine vasp can't measure {name!r}; it measures {', '.join(sorted(self.properties))}")

    def relax_now(self, structure: Structure) -> Result:
        """Relax in this process, without a job: what building reference sets is made of.

        It works in a directory of the data directory that belongs to this structure, goes on there from what an
        earlier attempt left, and clears it when it has succeeded.

        Raises
        ------
        CausedError
            As :meth:`read` and the Makers' ``make``.
        """
        import shutil

        from workflows.engines.vasp_makers import relax_maker

        base = self._workplace(structure)
        current = structure
        document: Any = None
        try:
            for number, maker in enumerate(relax_maker(self.options).steps(), start=1):
                step = base / f"{number}-{maker.name.replace(' ', '-')}"
                earlier = sorted(step.glob("attempt-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True)
                current = maker.resume(earlier).get("structure", current)
                document = maker.run_in(_fresh(step, len(earlier)), current)
                current = document.structure
        except DftError as error:
            raise CausedError(error.code, error.evidence) from error
        result = self.read(document)
        shutil.rmtree(base, ignore_errors=True)
        return result

    def _workplace(self, structure: Structure) -> Path:
        from workflows.runtime.settings import load_settings

        content = json.dumps(structure.as_dict(), sort_keys=True, default=str)
        name = hashlib.sha256(f"{self.reference_key}{content}".encode()).hexdigest()[:16]
        return load_settings().data_dir / "vasp" / f"{structure.composition.reduced_formula}-{name}"

    def read(self, document: Any) -> Result:
        """Read a relax or static document (pydantic or plain).

        Raises
        ------
        CausedError
            602 if a number is not finite; 607 if a correction changed what the energy means; 610 if the stress at the
            relaxed cell is outside the protocol's tolerance; 611 if it is no document of a successful run.
        """
        import numpy as np

        state = get(document, "state")
        energy, forces = get(document, "output", "energy_per_atom"), get(document, "output", "forces")
        if getattr(state, "value", state) != "successful" or energy is None or forces is None:
            raise CausedError(611, f"the document's state is {getattr(state, 'value', state)}, energy {energy}")
        stress = get(document, "output", "stress")
        largest = float(np.linalg.norm(np.array(forces, dtype=float), axis=1).max())
        if not np.isfinite([float(energy), largest]).all():
            raise CausedError(602, f"energy {energy} eV/atom, largest force {largest} eV/Å")
        own = dict(get(document, "nucleate") or {})
        if own.get("physics_changes"):
            raise CausedError(607, "; ".join(own["physics_changes"]))
        stress_gpa = None if stress is None else float(np.abs(np.array(stress, dtype=float)).max()) / 10  # from kbar
        tolerance = self.options.pressure_tolerance_gpa
        if stress_gpa is not None and stress_gpa > tolerance:
            raise CausedError(
                610, f"stress of {stress_gpa:.2f} GPa in the static run at the relaxed cell; {tolerance:g} GPa allowed"
            )
        structure = as_structure(get(document, "structure"))
        correction = self._correction(document, structure, own)
        return Result(
            structure=_plain(structure),
            energy_ev_per_atom=float(energy) + correction / len(structure),
            converged=True,
            max_force_ev_per_angstrom=largest,
            max_stress_gpa=stress_gpa,
            n_steps=None,
            detail={
                "engine": self.name,
                "protocol": self.protocol,
                "vasp_version": get(document, "vasp_version"),
                "run_type": str(get(document, "run_type")),
                "directory": get(document, "dir_name"),
                "potcars": own.get("potcars", []),
                "corrections": own.get("corrections", []),
                "energy_correction": {"scheme": self.options.corrections, "ev_per_atom": correction / len(structure)},
            },
        )

    def _correction(self, document: Any, structure: Structure, own: dict[str, Any]) -> float:
        """Give what the protocol adds to an energy, eV for the cell."""
        if self.options.corrections == "none":
            return 0.0
        from workflows.engines.vasp_corrections import mp2020_correction

        return mp2020_correction(
            structure,
            float(get(document, "output", "energy")),
            dict(get(document, "input", "hubbards") or {}),
            [potcar["title"] for potcar in own.get("potcars", [])],
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
        """Read a property flow's output.

        Raises
        ------
        CausedError
            602, 603 as :func:`workflows.engines.eos.read_bulk_modulus`; 605 for an unknown property or no value.
        """
        if name == "bulk_modulus":
            from workflows.engines.eos import bulk_modulus_of

            return bulk_modulus_of(document)
        if name != "band_gap":
            raise CausedError(605, f"engine vasp can't measure {name}")
        state = get(document, "state")
        gap = get(document, "output", "bandgap")
        if getattr(state, "value", state) != "successful" or gap is None:
            raise CausedError(605, f"no band gap in a document whose state is {getattr(state, 'value', state)}")
        return PropertyResult(
            value=round(float(gap), 4),
            unit="eV",
            how=f"VASP {self.protocol}: Kohn-Sham gap of {FUNCTIONAL} on the k-points of a static run, which "
            "underestimates gaps",
            detail={"directory": get(document, "dir_name")},
        )


def _content(options: VaspProtocol, kind: str) -> dict[str, Any]:
    """Give what an input set is made of: pymatgen's content, and our options."""
    choice = getattr(options, kind)
    config = choice.make().CONFIG
    return {
        "set": choice.name,
        "options": choice.options,
        "INCAR": config["INCAR"],
        "KPOINTS": config.get("KPOINTS"),
        "POTCAR": config["POTCAR"],
        "POTCAR_FUNCTIONAL": config["POTCAR_FUNCTIONAL"],
    }


def _fresh(step: Path, number: int) -> Path:
    """Make a new attempt's directory; another process may be making one too."""
    while True:
        directory = step / f"attempt-{number:03d}"
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return directory


def _plain(structure: Structure) -> Structure:
    """Leave of a structure's site properties the magnetic moments alone, and those only where there are any."""
    plain = structure.copy()
    moments = plain.site_properties.get("magmom")
    for name in list(plain.site_properties):
        plain.remove_site_property(name)
    if moments is not None and any(m is not None and abs(float(m)) > 0.01 for m in moments):
        plain.add_site_property("magmom", moments)
    return plain
