"""Named precision of Quantum ESPRESSO calculations, read from YAML files that a physicist can read.

``fast``, ``balanced`` and ``stringent`` ship in ``protocols/``; :func:`read_protocol` reads a file of one's own. Every
key must be there and none else: a protocol that leaves something to a default hidden in code is not a protocol.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dft_inputs.espresso.magnetism import Spin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

NAMES = ("fast", "balanced", "stringent")
"""Protocols that ship."""

# fmt: off
NOT_METALS = frozenset({
    "H", "C", "N", "O", "F", "P", "S", "Cl", "Se", "Br", "I", "At", "He", "Ne", "Ar", "Kr", "Xe", "Rn",
    "B", "Si", "Ge", "As", "Sb", "Te",
})
# fmt: on
"""Nonmetals and metalloids. A crystal without any of them is most likely a metal. One with them may be a metal as well
(TiN): nothing goes wrong then, for all get smearing, but its energy is known less well."""

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Smearing = Literal["cold", "gaussian", "methfessel-paxton", "fermi-dirac"]


class PwProtocol(BaseModel):
    """Everything that decides a calculation beside the crystal; the YAML files say what each is for.

    Lengths in Å, energies in eV, forces in eV/Å, pressures in kbar. ``phonon_*``, ``displacement``, ``symprec`` and
    ``eos_*`` mean what they mean for the other engines.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: str
    description: str

    functional: str
    family: str
    cutoff_hint: Literal["low", "normal", "high"]
    cutoff_factor: Annotated[float, Field(ge=1.0)]

    kpoint_spacing: Positive
    kpoint_spacing_metal: Positive
    smearing: Smearing
    smearing_ev: Positive
    smearing_metal: Smearing
    smearing_metal_ev: Positive

    spin: Spin
    hubbard_u_ev: dict[str, Annotated[float, Field(ge=0)]]

    scf_energy_ev_per_atom: Positive
    scf_max_steps: Count
    mixing_beta: Annotated[float, Field(gt=0, le=1)]

    energy_ev_per_atom: Positive
    force_ev_per_angstrom: Positive
    pressure_kbar: Positive
    max_ionic_steps: Count
    cell_factor: Annotated[float, Field(ge=1.2)]
    final_pressure_kbar: Positive
    max_relaxations: Count

    phonon_fmax: Positive
    phonon_min_length: Positive
    phonon_max_atoms: Count
    phonon_max_displaced_atoms: Count
    phonon_mesh_length: Positive
    phonon_kpoint_factor: Annotated[float, Field(ge=1.0)]
    phonon_scf_energy_ev_per_atom: Positive
    displacement: Positive
    symprec: Positive

    eos_volume_strain: Annotated[float, Field(gt=0, lt=0.3)]
    eos_points: Annotated[int, Field(ge=5)]
    eos_fmax: Positive

    def spacing_for(self, elements: Iterable[str]) -> float:
        """Give the k-point spacing (1/Å) for a crystal of these elements."""
        return self.kpoint_spacing_metal if NOT_METALS.isdisjoint(elements) else self.kpoint_spacing

    def phonon_spacing_for(self, elements: Iterable[str]) -> float:
        """Give the k-point spacing (1/Å) for supercells with displaced atoms."""
        return self.spacing_for(elements) * self.phonon_kpoint_factor

    def smearing_for(self, elements: Iterable[str]) -> tuple[str, float]:
        """Give the kind and the width (eV) of smearing for a crystal of these elements."""
        if NOT_METALS.isdisjoint(elements):
            return self.smearing_metal, self.smearing_metal_ev
        return self.smearing, self.smearing_ev

    def as_dict(self) -> dict[str, Any]:
        """Everything, JSON-compatible."""
        return self.model_dump(mode="json")

    def sha256(self) -> str:
        """Hash of everything that decides a number; not of the name and the description."""
        return _hash({key: value for key, value in self.as_dict().items() if key not in {"name", "description"}})

    def decides_energies(self) -> dict[str, Any]:
        """Give what decides the energy of a relaxed crystal: two protocols that agree in it share a hull.

        Settings of phonons and equations of state are left out, and limits that only say when to give up.
        """
        gives_up = {"scf_max_steps", "max_ionic_steps", "max_relaxations", "cell_factor", "mixing_beta"}
        apart = {"name", "description", "displacement", *gives_up}
        return {
            key: value
            for key, value in self.as_dict().items()
            if key not in apart and not key.startswith(("phonon_", "eos_"))
        }

    def energies_sha256(self) -> str:
        """Hash of :meth:`decides_energies`."""
        return _hash(self.decides_energies())

    def changed(self, **values: Any) -> PwProtocol:
        """Give another protocol with some values changed, checked like a file.

        Raises
        ------
        ValueError
            If a value is none of its kind.
        """
        return _validated({**self.model_dump(), **values}, f"protocol {self.name} with {', '.join(sorted(values))}")


@lru_cache
def load_protocol(name: str) -> PwProtocol:
    """Load a protocol that ships.

    Parameters
    ----------
    name : {"fast", "balanced", "stringent"}

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> load_protocol("fast").functional
    'PBE'
    """
    if name not in NAMES:
        raise ValueError(f"unknown protocol {name!r} of espresso: known are {', '.join(NAMES)}")
    text = (files("dft_inputs.espresso") / "protocols" / f"{name}.yaml").read_text(encoding="utf-8")
    return _parse(text, f"protocol {name}")


def read_protocol(path: Path) -> PwProtocol:
    """Read a protocol of one's own.

    Raises
    ------
    ValueError
        If the file is no protocol; says every wrong key.
    OSError
        If it can't be read.
    """
    return _parse(path.read_text(encoding="utf-8"), str(path))


def _parse(text: str, what: str) -> PwProtocol:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{what} is no YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{what}: a protocol is a table of keys and values, e.g. the files of fast and balanced")  # noqa: TRY004
    return _validated(values, what)


def _validated(values: Mapping[str, Any], what: str) -> PwProtocol:
    try:
        return PwProtocol.model_validate(values)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']} (is {one['input']!r})" for one in error.errors()]
        raise ValueError(f"{what}: {'; '.join(problems)}") from error


def _hash(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
