"""A campaign's records as a real one leaves them: small real crystals, a closed and an open round, failures, controls.

Energies are invented (no engine runs here); their relations are what a hull would give.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from workflows.records import (
    Attempt,
    Candidate,
    Cause,
    HullReference,
    Novelty,
    PhononResult,
    Prerelaxed,
    PropertyResult,
    Round,
    RoundSummary,
    Screened,
    Selected,
    Verdict,
    candidate_id,
)
from workflows.report.collect import ReportData, RoundData, rank
from workflows.report.hulls import HullEntry
from workflows.spec import CampaignSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from workflows.runtime.store import Store

STATE = "ab12" * 16


@cache  # pymatgen takes seconds to expand a space group; nobody changes these
def crystals() -> dict[str, Structure]:
    """Small real crystals of the demo's chemistry."""
    return {
        "MgO": Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "AlN": Structure.from_spacegroup(
            "P6_3mc", Lattice.hexagonal(3.11, 4.98), ["Al", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]
        ),
        "SiO2": Structure.from_spacegroup(
            "P4_2/mnm", Lattice.tetragonal(4.18, 2.66), ["Si", "O"], [[0, 0, 0], [0.306, 0.306, 0]]
        ),
        "MgAl2O4": Structure.from_spacegroup(
            "Fd-3m",
            Lattice.cubic(8.08),
            ["Mg", "Al", "O"],
            [[0, 0, 0], [0.625, 0.625, 0.625], [0.3874, 0.3874, 0.3874]],
        ).get_primitive_structure(),
        "MgSiO3": Structure.from_spacegroup(
            "Pm-3m", Lattice.cubic(3.48), ["Mg", "Si", "O"], [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0]]
        ),
        "MgSiN2": Structure(
            Lattice.orthorhombic(3.1, 5.3, 5.0),
            ["Mg", "Si", "N", "N"],
            [[0, 0, 0], [0.5, 0.5, 0], [0, 0.02, 0.4], [0.5, 0.48, 0.38]],
        ),
        "AlSiN": Structure(Lattice.cubic(3.9), ["Al", "Si", "N"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]]),
    }


SPEC: dict[str, Any] = {
    "name": "light",
    "description": "Stiff light oxides and nitrides",
    "chemistry": {"allowed": ["Mg", "Al", "Si", "O", "N"], "max_elements": 3, "max_atoms": 14},
    "targets": {
        "energy_above_hull": {"max": 0.1, "unit": "eV/atom"},
        "phonons": "stable",
        "bulk_modulus": {"min": 150, "unit": "GPa"},
    },
    "rounds": 2,
    "samples": 12,
    "control": 4,
    "seed": 7,
}

# formula, above hull (eV/atom), lowest phonon (THz), judgement, bulk modulus (GPa), cause
JUDGED: tuple[tuple[str, float | None, float | None, str, float | None, tuple[int, str, str] | None], ...] = (
    ("MgO", 0.0, 0.02, "stable", 158.3, None),
    ("AlN", 0.0121, -0.12, "stable", 193.75, None),
    ("MgAl2O4", 0.0004, 0.1, "stable", 171.2, None),
    ("MgSiO3", 0.0873, -3.42, "unstable", 213.9, None),
    ("MgSiN2", 0.0634, 0.05, "stable", 131.4, None),
    ("SiO2", 0.052, None, "not_measured", None, (604, "phonon_failed", "no force constants for Si2O4 in 2x2x3")),
    ("AlSiN", 0.412, None, "not_measured", None, None),
    ("AlSiN", None, None, "not_measured", None, (501, "ionic_steps_exhausted", "fmax 0.31 eV/Å after 500 steps")),
)


def phonon(minimum: float | None, judgement: str, n_atoms: int) -> PhononResult:
    """Bands and a density of states that look like a small crystal's."""
    if minimum is None:
        return PhononResult(judgement="not_measured")
    rng = np.random.default_rng(n_atoms)
    q = np.linspace(0, 1, 41)
    tops = np.sort(rng.uniform(4, 21, 3 * min(n_atoms, 4)))
    bands = [abs(np.sin(np.pi * q)) * tops[0] * (0.6 + 0.2 * i) for i in range(3)]
    bands += [t - (t - tops[0]) * 0.3 * (1 - np.cos(2 * np.pi * q)) / 2 for t in tops[3:]]
    if minimum < -0.3:
        bands[0] = bands[0] + (minimum - 0.5) * np.exp(-(((q - 0.5) / 0.1) ** 2)) * 1.8
    energies = np.linspace(min(minimum * 1.1, -0.5), 22, 160)
    densities = sum(np.exp(-(((energies - b.mean()) / 1.1) ** 2)) for b in bands)
    return PhononResult(
        judgement=judgement,  # type: ignore[arg-type]
        min_thz=minimum,
        how=f"{judgement}: lowest {minimum:g} THz at q = (0.5, 0, 0) on the whole mesh; 7net-0, finite "
        "displacements of 0.01 Å, supercell of 64 atoms, acoustic sum rule, Γ-centred mesh 9x9x9",
        mesh=[9, 9, 9],
        n_supercell_atoms=64,
        bands={
            "distances": [round(float(x) * 1.7, 4) for x in q],
            "frequencies_thz": [[round(float(f), 4) for f in b] for b in bands],
            "labels": [
                {"distance": 0.0, "label": "GAMMA"},
                {"distance": round(float(q[20]) * 1.7, 4), "label": "X|K"},
                {"distance": 1.7, "label": "H_2"},
            ],
            "segments": [[0, 20], [20, 41]],
        },
        dos={
            "frequencies_thz": [round(float(e), 4) for e in energies],
            "densities": [round(float(d), 4) for d in densities],
        },
    )


@dataclass
class Records:
    """All documents of one campaign."""

    spec: CampaignSpec
    rounds: list[Round] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def insert(self, database: Database[Any]) -> None:
        """Write them as launch, sample, judge and feedback would."""
        database["campaigns"].insert_one(
            {
                "name": self.spec.name,
                "spec": self.spec.model_dump(mode="json"),
                "spec_sha256": self.spec.sha256(),
                "created_at": datetime(2026, 11, 23, tzinfo=UTC),
                "store": "embedded",
                "directory": "/home/ada/light",
                "reference": {"key": "mlip:7net-0:fast:0a1b2c3d", "sha256": "cd" * 32, "n_entries": 61},
            }
        )
        for name in ("rounds", "candidates", "verdicts", "attempts"):
            if documents := [r.model_dump() for r in getattr(self, name)]:
                database[name].insert_many(documents)


def build(description: str = SPEC["description"], judged: tuple[Any, ...] = JUDGED) -> Records:
    """Make a campaign with a closed round 1 that holds ``judged`` and an open round 2 with nothing judged."""
    spec = CampaignSpec.model_validate({**SPEC, "description": description})
    known = crystals()
    records = Records(spec)
    for number in (1, 2):
        for index in range(spec.samples + (spec.control if number == 2 else 0)):
            control = index >= spec.samples
            place = index - spec.samples if control else index
            formula = judged[index][0] if number == 1 and index < len(judged) else "MgO"
            chosen = number == 1 and index < len(judged)
            records.candidates.append(
                _candidate(spec, number, place, known[formula], control=control, chosen=chosen, index=index)
            )
    for index, (formula, above, minimum, judgement, modulus, cause) in enumerate(judged):
        name = candidate_id(spec.name, 1, index)
        structure = known[formula]
        stable = above is not None and above <= 0.1 and judgement == "stable"
        records.verdicts.append(
            Verdict(
                candidate=name,
                campaign=spec.name,
                round=1,
                formula=structure.composition.reduced_formula,
                spacegroup=structure.get_space_group_info()[0] if above is not None else None,
                structure=structure.as_dict() if above is not None else None,
                energy_ev_per_atom=None if above is None else _hull_energy(structure) + above,
                energy_above_hull_ev_per_atom=above,
                reference_set=None
                if above is None
                else HullReference(
                    key="mlip:7net-0:fast:0a1b2c3d",
                    chemical_system=structure.composition.chemical_system,
                    sha256="cd" * 32,
                    n_entries=12,
                    covers="known prototypes with at most 14 atoms and their substitutions",
                ),
                phonon=phonon(minimum, judgement, len(structure)),
                properties={}
                if modulus is None
                else {
                    "bulk_modulus": PropertyResult(
                        value=modulus, unit="GPa", how="Birch-Murnaghan fit of 7 volumes within 6 %"
                    )
                },
                verified=above is not None,
                stable=stable,
                hit=stable and modulus is not None and modulus >= 150,
                cause=None if cause is None else Cause(code=cause[0], name=cause[1], evidence=cause[2], stage="relax"),
                engine="mlip",
                protocol="fast",
                provenance={
                    "settings_sha256": "ef" * 32,
                    "software": {"pymatgen": "2026.10.24", "sevenn": "0.13.0", "torch": "2.13.0"},
                    "parent_jobs": [{"uuid": f"5f0c-{index}", "index": 1, "stage": "relax", "name": "relax"}],
                    "reproduce": f"nucleate reproduce {name}",
                },
            )
        )
        records.attempts.append(
            Attempt(
                attempt=f"fw{40 + index}-l{50 + index}",
                campaign=spec.name,
                round=1,
                candidate=name,
                stage="relax",
                job_uuid=f"5f0c-{index}",
                fw_id=40 + index,
                launch_id=50 + index,
                state="failed" if cause and cause[0] == 501 else "completed",
                host="node1",
                seconds=3.217,
                directory=f"/scratch/launcher_{index}",
            )
        )
    verdicts = records.verdicts
    records.rounds = [
        Round(
            campaign=spec.name,
            round=1,
            state="closed",
            generator_state=STATE,
            summary=RoundSummary(
                number=1,
                sampled=12,
                valid=11,
                unique=10,
                novel=9,
                novel_composition=2,
                novel_prototype=4,
                novel_skeleton=3,
                prerelaxed=10,
                promising=8,
                selected=len(verdicts),
                verified=sum(v.verified for v in verdicts),
                stable=sum(v.stable for v in verdicts),
                hits=sum(v.hit for v in verdicts),
                failures=sum(not v.verified for v in verdicts),
            ),
        ),
        Round(campaign=spec.name, round=2, state="open", generator_state="cd34" * 16, control_state=STATE),
    ]
    return records


def _candidate(
    spec: CampaignSpec, number: int, place: int, structure: Structure, *, control: bool, chosen: bool, index: int
) -> Candidate:
    valid = index % 4 != 3 or chosen
    return Candidate(
        candidate=candidate_id(spec.name, number, place, control),
        campaign=spec.name,
        round=number,
        index=place,
        control=control,
        generator="ion_exchange" if index % 2 else "random",
        generator_version="1",
        generator_state=STATE,
        seed=1000 + place,
        condition={},
        info={"prototype": "rocksalt"},
        structure=structure.as_dict(),
        formula=structure.composition.reduced_formula,
        n_atoms=len(structure),
        screen=Screened(
            valid=valid,
            reasons=[]
            if valid
            else ["Mg at (0, 0, 0) and O at (0.2, 0, 0) are 0.71 Å apart, at least 1.02 Å is needed"],
            unique=valid,
            passed=valid,
        ),
        prerelax=Prerelaxed(model="chgnet-0.3.0", batch=0, converged=True, steps=9, energy_ev_per_atom=-6.0)
        if valid
        else None,
        select=Selected(
            unique=True,
            novel=index % 3 != 2,
            novelty=Novelty(composition=False, prototype=True, skeleton=False),
            selected=chosen,
            reason="number 1 of 8: likely a hit"
            if chosen
            else "budget of 8 spent on better or less similar ones: far from the hull",
        )
        if valid
        else None,
    )


REFERENCE = {
    "Mg": -1.5,
    "Al": -3.7,
    "Si": -5.4,
    "O": -4.9,
    "N": -8.3,
    "MgO": -6.2,
    "Al2O3": -7.6,
    "SiO2": -7.9,
    "MgAl2O4": -7.25,
    "Mg2SiO4": -6.85,
    "MgSiO3": -7.2,
    "AlN": -7.6,
    "Si3N4": -8.1,
    "Mg3N2": -5.0,
    "MgSiN2": -6.9,
    "Mg2O": -3.9,
}


def _hull_energy(structure: Structure) -> float:
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    entries = [PDEntry(Composition(f), e * Composition(f).num_atoms) for f, e in REFERENCE.items()]
    inside = [e for e in entries if set(e.composition.elements) <= set(structure.composition.elements)]
    hull = PhaseDiagram(inside).get_hull_energy(structure.composition)
    return float(hull / structure.composition.num_atoms)


@pytest.fixture(scope="session")
def reference() -> list[HullEntry]:
    return [HullEntry(formula, energy, "known") for formula, energy in REFERENCE.items()]


@pytest.fixture(scope="session")
def make_records() -> Callable[..., Records]:
    return build


def data_of(records: Records) -> ReportData:
    """Collect without a database: what page and plots need of a campaign."""
    judged = {v.candidate for v in records.verdicts}
    return ReportData(
        campaign=records.spec.name,
        spec=records.spec,
        document={"spec_sha256": records.spec.sha256(), "created_at": datetime(2026, 11, 23, tzinfo=UTC)},
        rounds=tuple(RoundData(r.round, r.state, r.summary or RoundSummary(number=r.round)) for r in records.rounds),
        verdicts=tuple(sorted(records.verdicts, key=rank)),
        origins={c.candidate: c.model_dump() for c in records.candidates if c.candidate in judged},
        attempts={a.candidate: [a.model_dump()] for a in records.attempts if a.candidate},
    )


@pytest.fixture(scope="session")
def make_data() -> Callable[..., ReportData]:
    """Make ReportData of :func:`build`'s arguments."""
    return lambda *args, **options: data_of(build(*args, **options))


@pytest.fixture(scope="session")
def data() -> ReportData:
    return data_of(build())


@pytest.fixture
def database(store: Store) -> Database[Any]:
    """Give a fresh database over TCP that holds the campaign ``light``."""
    build().insert(store.database)
    return store.database
