"""The contract every engine keeps, force field or DFT alike, so that a campaign changes engine by one word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from workflows.problems import Problem as Problem  # noqa: PLC0414, TC001 - engines import it from here, with their contract

if TYPE_CHECKING:
    from jobflow import Maker
    from pymatgen.core import Structure

    from workflows.records import PhononResult, PropertyResult
    from workflows.spec import CampaignSpec


@dataclass(frozen=True)
class Result:
    """What a relax or static document says, in our units.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Relaxed.
    energy_ev_per_atom : float
    max_force_ev_per_angstrom : float or None
    max_stress_gpa : float or None
    converged : bool
    n_steps : int or None
    detail : dict
        Provenance: code or model version, protocol, directory.
    """

    structure: Structure
    energy_ev_per_atom: float
    converged: bool
    max_force_ev_per_angstrom: float | None = None
    max_stress_gpa: float | None = None
    n_steps: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """Verifies: relaxes, judges phonons, measures properties."""

    @property
    def name(self) -> str:
        """Name in campaigns: ``mlip``, ``vasp``, ``espresso``."""
        ...

    @property
    def protocol(self) -> str:
        """Name of its precision: ``fast``, ``balanced``, ``stringent``."""
        ...

    @property
    def properties(self) -> frozenset[str]:
        """Property names that it can measure, beside the hull and phonons."""
        ...

    @property
    def reference_key(self) -> str:
        """Engine, protocol and model (or functional and family): energies meet in a hull only within one key."""
        ...

    @property
    def category(self) -> str:
        """FireWorks ``_category`` of its jobs: ``cpu`` or ``gpu``."""
        ...

    @property
    def reference_limits(self) -> dict[str, Any]:
        """Fields of ``workflows.reference_proposals.Limits`` that differ from their defaults in its reference sets."""
        ...

    def check(self, campaign: CampaignSpec) -> list[Problem]:
        """List what it can't do of a campaign."""
        ...

    def preflight(self, structure: Structure) -> list[Problem]:
        """List what it can't do with a structure, on the worker that will run it."""
        ...

    def relax_maker(self) -> Maker:
        """Maker whose ``make(structure)`` relaxes positions and cell."""
        ...

    def relax_now(self, structure: Structure) -> Result:
        """Relax in this process, as :meth:`relax_maker`'s job does: for reference sets; raises CausedError."""
        ...

    def static_maker(self) -> Maker:
        """Maker whose ``make(structure)`` computes energy, forces and stress of a fixed structure."""
        ...

    def phonon_maker(self) -> Maker:
        """Maker whose ``make(structure)`` is a flow with an output that :meth:`read_phonons` understands."""
        ...

    def property_maker(self, name: str) -> Maker:
        """Maker whose ``make(structure)`` is a flow or job with an output that :meth:`read_property` understands."""
        ...

    def read(self, document: Any) -> Result:
        """Read a relax or static document; raises CausedError if it is not to be trusted."""
        ...

    def read_phonons(self, document: Any, tolerance_thz: float) -> PhononResult:
        """Judge the phonon flow's output; raises CausedError if there is nothing to judge."""
        ...

    def read_property(self, name: str, document: Any) -> PropertyResult:
        """Read a property flow's output; raises CausedError if it is not to be trusted."""
        ...

    def settings(self) -> dict[str, Any]:
        """Everything that decides its numbers, JSON-compatible; hashed into provenance."""
        ...
