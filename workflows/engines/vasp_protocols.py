"""Protocols of engine ``vasp``: named precision as pymatgen's own input sets, with the few tags that we change.

Light to import: input sets are made when somebody asks for one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pymatgen.io.vasp.sets import VaspInputSet

FUNCTIONAL = "PBE"
"""Exchange and correlation of all protocols (Perdew, Burke and Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996))."""

_GGA: dict[str, Any] = {"force_gamma": True, "auto_metal_kpoints": True, "inherit_incar": False}
"""atomate2's options of the Materials Project's GGA sets (``atomate2.vasp.jobs.mp``)."""

_FORCES: dict[str, Any] = {
    "LREAL": False,
    "ALGO": "Normal",
    "ISMEAR": 0,
    "SIGMA": 0.05,
    "LCHARG": False,
    "LWAVE": False,
}
"""Tags of runs whose forces count: no real-space projection, and no tetrahedra (their forces are wrong in metals)."""


@dataclass(frozen=True)
class SetChoice:
    """One of pymatgen's VASP input sets.

    Parameters
    ----------
    name : str
        Class in ``pymatgen.io.vasp.sets``.
    options : dict
        Of its constructor.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, incar: dict[str, Any] | None = None) -> VaspInputSet:
        """Make the input set, with further INCAR tags if given."""
        from pymatgen.io.vasp import sets

        options = dict(self.options)
        changes = {**options.pop("user_incar_settings", {}), **(incar or {})}
        return getattr(sets, self.name)(**options, **({"user_incar_settings": changes} if changes else {}))


@dataclass(frozen=True)
class VaspProtocol:
    """Named precision.

    Parameters
    ----------
    relax, static : SetChoice
        Of the relaxation, and of the energy that counts.
    double_relax : bool
        Relax twice: the second run makes its plane waves anew at the volume that the first one found.
    potcars : str
        pymatgen's name of the POTCAR library.
    mp_comparable : bool
        Whether energies are meant to meet the Materials Project's own (checked by pymatgen-io-validation).
    corrections : {"none", "MP2020"}
        Of every energy; see :mod:`workflows.engines.vasp_corrections`.
    pressure_tolerance_gpa : float
        Largest stress component of the static run at the relaxed cell. The energy it may hide is P²V/2B a cell: at
        1 GPa, 10 Å³/atom and a bulk modulus of 100 GPa that is 0.3 meV/atom.
    phonon_fmax, phonon_min_length, phonon_max_atoms, phonon_max_displaced_atoms, phonon_mesh_length, displacement
        As in :class:`workflows.engines.mlip.MlipProtocol`.
    phonon_ediff : float
        eV, of the electronic cycle before and in displaced cells.
    symprec : float
        Å.
    eos_volume_strain : float
        Relative, on both sides.
    eos_points : int
    eos_fmax : float
        eV/Å, of the ions at each volume.
    gap_reciprocal_density : int
        K-points per Å⁻³ of reciprocal space for the band gap.
    """

    relax: SetChoice
    static: SetChoice
    double_relax: bool
    potcars: str
    mp_comparable: bool
    corrections: Literal["none", "MP2020"]
    pressure_tolerance_gpa: float
    phonon_fmax: float
    phonon_ediff: float
    phonon_min_length: float
    phonon_max_atoms: int
    phonon_max_displaced_atoms: int
    phonon_mesh_length: float
    displacement: float = 0.01
    symprec: float = 0.01
    eos_volume_strain: float = 0.06
    eos_points: int = 7
    eos_fmax: float = 0.02
    gap_reciprocal_density: int = 200

    def tight_relax(self) -> VaspInputSet:
        """Input set of the relaxation before phonons."""
        return self.relax.make({**_FORCES, "EDIFF": self.phonon_ediff, "EDIFFG": -self.phonon_fmax})

    def displaced(self) -> VaspInputSet:
        """Input set of the forces in a displaced supercell."""
        return self.static.make({**_FORCES, "EDIFF": self.phonon_ediff, "NSW": 0, "IBRION": -1, "LAECHG": False})

    def fixed_cell(self) -> VaspInputSet:
        """Input set of the relaxation of ions in a cell that is kept, for the equation of state."""
        return self.relax.make({**_FORCES, "ISIF": 2, "EDIFF": 1e-6, "EDIFFG": -self.eos_fmax})

    def gap(self) -> VaspInputSet:
        """Input set of the band gap: the static one with a denser mesh."""
        options = dict(self.static.options)
        if "reciprocal_density" in options:
            options["reciprocal_density"] = self.gap_reciprocal_density
            return SetChoice(self.static.name, options).make()
        return self.static.make()


_FAST_INCAR = {"EDIFF": 1e-5, "EDIFFG": -0.05, "LREAL": False, "LDAU": False}
_FAST_STATIC_INCAR = {"EDIFF": 1e-5, "LDAU": False}

PROTOCOLS: dict[str, VaspProtocol] = {
    "fast": VaspProtocol(
        relax=SetChoice(
            "MPRelaxSet",
            {**_GGA, "user_incar_settings": _FAST_INCAR, "user_kpoints_settings": {"reciprocal_density": 32}},
        ),
        static=SetChoice("MPStaticSet", {**_GGA, "reciprocal_density": 50, "user_incar_settings": _FAST_STATIC_INCAR}),
        double_relax=False,
        potcars="PBE",
        mp_comparable=False,
        corrections="none",
        pressure_tolerance_gpa=2.0,
        phonon_fmax=0.005,
        phonon_ediff=1e-6,
        phonon_min_length=8.0,
        phonon_max_atoms=64,
        phonon_max_displaced_atoms=400,
        phonon_mesh_length=30.0,
        gap_reciprocal_density=100,
    ),
    "balanced": VaspProtocol(
        relax=SetChoice("MPRelaxSet", _GGA),
        static=SetChoice("MPStaticSet", {**_GGA, "reciprocal_density": 100}),
        double_relax=True,
        potcars="PBE",
        mp_comparable=True,
        corrections="MP2020",
        pressure_tolerance_gpa=1.0,
        phonon_fmax=0.002,
        phonon_ediff=1e-7,
        phonon_min_length=10.0,
        phonon_max_atoms=128,
        phonon_max_displaced_atoms=1_500,
        phonon_mesh_length=50.0,
        eos_points=9,
        eos_fmax=0.01,
    ),
    "stringent": VaspProtocol(
        relax=SetChoice("MP24RelaxSet", {"xc_functional": "PBE", "user_incar_settings": {"EDIFF": 1e-6}}),
        static=SetChoice("MP24StaticSet", {"xc_functional": "PBE", "user_incar_settings": {"EDIFF": 1e-6}}),
        double_relax=True,
        potcars="PBE_64",
        mp_comparable=False,
        corrections="none",
        pressure_tolerance_gpa=0.5,
        phonon_fmax=0.001,
        phonon_ediff=1e-8,
        phonon_min_length=15.0,
        phonon_max_atoms=400,
        phonon_max_displaced_atoms=10_000,
        phonon_mesh_length=80.0,
        eos_points=11,
        eos_fmax=0.005,
    ),
}
"""Protocols by name.

``fast``: the Materials Project's GGA set without U, with half its k-points and one relaxation by forces; its energies
are none for the Materials Project's hull. ``balanced``: the Materials Project's GGA and GGA+U workflow as atomate2 has
it, two relaxations and a static run, with the MP2020 corrections that it takes for the two to meet in one hull.
``stringent``: the 2024 set (ENCUT 680 eV, KSPACING 0.22 1/Å, PBE_64 potentials) with PBE instead of r2SCAN.
"""
