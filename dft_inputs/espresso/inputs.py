"""Inputs of pw.x from a crystal, a protocol and a family of pseudopotentials."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from pymatgen.core import Element

from dft_inputs.causes import DftError
from dft_inputs.espresso.cells import symmetry_safe
from dft_inputs.espresso.estimate import estimate
from dft_inputs.espresso.kpoints import k_mesh
from dft_inputs.espresso.magnetism import starting_fraction, starting_moments
from dft_inputs.espresso.pw_input import PwInput, Species
from dft_inputs.espresso.units import RY_BOHR_EV_ANG, RY_EV

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymatgen.core import Structure

    from dft_inputs.espresso.magnetism import Spin
    from dft_inputs.espresso.protocols import PwProtocol
    from dft_inputs.pseudos import Family

Calculation = Literal["scf", "relax", "vc-relax", "nscf", "bands"]

OUTDIR = "./out"
PREFIX = "pw"

MEMORY_FOR_ALL_K_POINTS = 2e9
"""Bytes; a run that would need more leaves the wave functions of all k-points but the one at work on disk."""

_SMEARING_NEEDED = 306
_LOWEST_CONV_THR_RY = 1e-13
"""Below this pw.x waits for digits that double precision has not."""


def make_input(
    structure: Structure,
    protocol: PwProtocol,
    family: Family,
    calculation: Calculation,
    *,
    occupations: Literal["smearing", "fixed"] | None = None,
    spin: Spin | None = None,
    hubbard_u_ev: Mapping[str, float] | None = None,
    refine: bool = True,
    mesh: tuple[int, int, int] | None = None,
    ecutwfc_ry: float | None = None,
    scf_energy_ev_per_atom: float | None = None,
    force_ev_per_angstrom: float | None = None,
    extra: Mapping[str, Any] | None = None,
) -> PwInput:
    """Make the input of one calculation.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Ordered. A site property ``magmom`` (Bohr magnetons) says how spins start.
    protocol : PwProtocol
    family : Family
        Only names, valences and cutoffs are looked at; :meth:`Family.require` looks at the files.
    calculation : {"scf", "relax", "vc-relax", "nscf", "bands"}
    occupations : {"smearing", "fixed"}, optional
        Default ``smearing``, of the protocol's kind for these elements: right for a metal, and no harm to an insulator.
        ``fixed`` only where an earlier run of this crystal showed a gap.
    spin : {"by_element", "on", "off"}, optional
        Default: the protocol's.
    hubbard_u_ev : mapping of str to float, optional
        eV by element, instead of the protocol's. Written as pw.x up to 7.0 reads it (``lda_plus_u``).
    refine : bool
        Make symmetry exact and turn the crystal to where pw.x finds it: see :func:`symmetry_safe`; the structure to go
        on with is then the input's. **False for displaced atoms and strained cells**: they keep their frame and every
        digit, and as long as they were made from a refined crystal pw.x finds what symmetry is left.
    mesh : tuple of int, optional
        Instead of the protocol's density, where several cells must share one (equation of state).
    ecutwfc_ry : float, optional
        Instead of the family's recommendation, where several crystals must share one.
    scf_energy_ev_per_atom, force_ev_per_angstrom : float, optional
        Instead of the protocol's (phonons).
    extra : mapping, optional
        Further or other keys by ``"namelist.key"``; ``None`` removes one.

    Returns
    -------
    PwInput
        Without ``max_seconds``, which only the job knows.

    Raises
    ------
    DftError
        201 if an element has no pseudopotential, 207 if the family is of another functional than the protocol, 301 if
        the structure is none, 306 if ``fixed`` is asked for an odd number of electrons or with spin.
    """
    if family.functional != protocol.functional:
        raise DftError(
            207,
            f"family {family.name} is made for {family.functional}, protocol {protocol.name} wants "
            f"{protocol.functional}: choose a family of that functional",
        )
    if not structure.is_ordered:
        raise DftError(301, "partial occupancy: pw.x knows whole atoms only; give an ordered structure")
    us = protocol.hubbard_u_ev if hubbard_u_ev is None else hubbard_u_ev
    moments = starting_moments(structure, spin or protocol.spin)
    species, labels = _species(structure, family, moments, us)
    crystal = symmetry_safe(structure, protocol.symprec, kinds=labels) if refine else structure
    elements = sorted({site.specie.symbol for site in crystal})
    cutoffs = family.cutoffs(elements, protocol.cutoff_hint)
    wave = float(ceil(cutoffs.ecutwfc_ry * protocol.cutoff_factor)) if ecutwfc_ry is None else ecutwfc_ry
    system: dict[str, Any] = {
        "ecutwfc": wave,
        "ecutrho": wave * max(4.0, cutoffs.ecutrho_ry / cutoffs.ecutwfc_ry),
    }
    electrons = family.valence_electrons(crystal.composition.get_el_amt_dict())
    smearing = protocol.smearing_for(elements)
    system |= _occupations(occupations or "smearing", smearing, electrons, polarised=moments is not None)
    if moments is not None:
        system["nspin"] = 2
    if calculation in {"nscf", "bands"}:
        # pw.x adds no empty bands to fixed occupations, and then there is no gap to see
        occupied = ceil(electrons / 2)
        system["nbnd"] = occupied + max(4, ceil(0.2 * occupied))
    scf = protocol.scf_energy_ev_per_atom if scf_energy_ev_per_atom is None else scf_energy_ev_per_atom
    force = protocol.force_ev_per_angstrom if force_ev_per_angstrom is None else force_ev_per_angstrom
    made = PwInput(
        structure=crystal,
        namelists={
            "control": _control(calculation, protocol, family, len(crystal), force),
            "system": system,
            "electrons": {
                "conv_thr": max(_LOWEST_CONV_THR_RY, _short(scf * len(crystal) / RY_EV)),
                "electron_maxstep": protocol.scf_max_steps,
                "mixing_beta": protocol.mixing_beta,
            },
            "ions": {"ion_dynamics": "bfgs"},
            "cell": {
                "cell_dynamics": "bfgs",
                "cell_dofree": "all",
                "cell_factor": protocol.cell_factor,
                "press_conv_thr": protocol.pressure_kbar,
            },
        },
        mesh=mesh or k_mesh(crystal, protocol.spacing_for(elements)),
        shift=(0, 0, 0),
        species=species,
        site_labels=labels,
    )
    if estimate(made, family).memory_bytes > MEMORY_FOR_ALL_K_POINTS:
        made = made.changed({"control.disk_io": "medium"})
    return made.changed(extra) if extra else made


def _control(
    calculation: Calculation, protocol: PwProtocol, family: Family, n_atoms: int, force: float
) -> dict[str, Any]:
    control: dict[str, Any] = {
        "calculation": calculation,
        "prefix": PREFIX,
        "outdir": OUTDIR,
        "pseudo_dir": str(family.directory),
        # wave functions stay in memory; what a restart needs (charge density, minimiser) is written all the same
        "disk_io": "low",
        "verbosity": "high",
    }
    if calculation not in {"nscf", "bands"}:
        control |= {"tprnfor": True, "tstress": True}
    if calculation in {"relax", "vc-relax"}:
        control |= {
            "nstep": protocol.max_ionic_steps,
            "etot_conv_thr": _short(protocol.energy_ev_per_atom * n_atoms / RY_EV),
            "forc_conv_thr": _short(force / RY_BOHR_EV_ANG),
        }
    return control


def _occupations(occupations: str, smearing: tuple[str, float], electrons: float, *, polarised: bool) -> dict[str, Any]:
    if occupations == "smearing":
        kind, width = smearing
        return {"occupations": "smearing", "smearing": kind, "degauss": _short(width / RY_EV)}
    if polarised or round(electrons) % 2:
        raise DftError(
            _SMEARING_NEEDED,
            f"fixed occupations need an even number of electrons and no spin, here are {electrons:g} electrons"
            f"{' with spin' if polarised else ''}: leave occupations to smearing",
        )
    return {"occupations": "fixed"}


def _species(
    structure: Structure, family: Family, moments: Sequence[float] | None, us: Mapping[str, float]
) -> tuple[tuple[Species, ...], tuple[str, ...]]:
    """Name a species for each element and starting moment; elements by name, moments from the highest down.

    The order of species depends on nothing but the set of them, so the order of sites changes no other line.
    """
    symbols = [site.specie.symbol for site in structure]
    values = [0.0] * len(symbols) if moments is None else [round(moment, 3) for moment in moments]
    species: list[Species] = []
    names: dict[tuple[str, float], str] = {}
    for symbol in sorted(set(symbols)):
        pseudo = family.pseudo(symbol)
        distinct = sorted({v for s, v in zip(symbols, values, strict=True) if s == symbol}, reverse=True)
        if len(distinct) > 10:
            raise DftError(
                303, f"{len(distinct)} starting moments for {symbol}: pw.x tells at most ten apart; round them"
            )
        for index, value in enumerate(distinct):
            label = symbol if len(distinct) == 1 else f"{symbol}{index}"
            names[symbol, value] = label
            species.append(
                Species(
                    label=label,
                    element=symbol,
                    mass_amu=float(Element(symbol).atomic_mass),
                    pseudopotential=pseudo.path.name,
                    starting_magnetization=None if moments is None else starting_fraction(value, pseudo.z_valence),
                    hubbard_u_ev=us[symbol] if us.get(symbol) else None,
                )
            )
    return tuple(species), tuple(names[s, v] for s, v in zip(symbols, values, strict=True))


def _short(value: float) -> float:
    """Round to six significant digits: the rest are an artefact of units."""
    return float(f"{value:.5e}")
