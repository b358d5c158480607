"""Make one crystal of a campaign again, from its generator's state and seed, and compare with what is stored."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Structure

from generators.base import derive_seed
from generators.relaxer import relax
from workflows import ledger
from workflows.engines.registry import make_engine
from workflows.generator_states import load_state
from workflows.stages.prerelax import FMAX_EV_PER_ANGSTROM, MAX_STEPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflows.records import Candidate
    from workflows.runtime.store import Store
    from workflows.spec import CampaignSpec

SAME_ENERGY_EV_PER_ATOM = 1e-3
"""What a re-run may differ by."""


@dataclass(frozen=True)
class Step:
    """One step made again.

    Parameters
    ----------
    name : {"sample", "prerelax", "relax"}
    same : bool
    detail : str
        The numbers, for people.
    """

    name: str
    same: bool
    detail: str


def reproduce(store: Store, candidate: str, *, progress: Callable[[str], None] = lambda _: None) -> list[Step]:
    """Sample, pre-relax and verify a candidate again; nothing is written to the store.

    Parameters
    ----------
    store : Store
    candidate : str
    progress : callable
        Told what begins.

    Returns
    -------
    list of Step
        As far as the candidate went in its campaign.

    Raises
    ------
    LookupError
        If there is no such candidate.
    """
    stored = ledger.get_candidate(store.database, candidate)
    spec = ledger.campaign_spec(store.database, stored.campaign)
    progress("sampling")
    steps = [_sample_again(store, stored, spec)]
    if stored.prerelax is None or stored.prerelax.structure is None:
        return steps
    progress("pre-relaxing")
    steps.append(_prerelax_again(stored))
    verdict = store.verdicts.find_one({"candidate": candidate}, {"energy_ev_per_atom": 1})
    if verdict is None or verdict["energy_ev_per_atom"] is None:
        return steps
    progress(f"relaxing with engine {spec.engine}, protocol {spec.protocol}")
    steps.append(_relax_again(stored, spec, verdict["energy_ev_per_atom"]))
    return steps


def _sample_again(store: Store, stored: Candidate, spec: CampaignSpec) -> Step:
    generator = load_state(store.files, stored.generator_state)
    stream = generator.sample(
        stored.index + 1, spec.condition(), derive_seed(spec.seed, stored.round), start=stored.index
    )
    sample = next(stream)
    before = Structure.from_dict(stored.structure)
    same = (
        sample.seed == stored.seed
        and sample.structure.species == before.species
        and np.allclose(sample.structure.lattice.matrix, before.lattice.matrix, atol=1e-6)
        and np.allclose(sample.structure.frac_coords, before.frac_coords, atol=1e-6)
    )
    return Step("sample", bool(same), f"{sample.structure.composition.reduced_formula}, seed {sample.seed}")


def _prerelax_again(stored: Candidate) -> Step:
    assert stored.prerelax is not None  # noqa: S101 - the caller has looked
    (again,) = relax(
        [Structure.from_dict(stored.structure)],
        model=stored.prerelax.model,
        fmax_ev_per_angstrom=FMAX_EV_PER_ANGSTROM,
        max_steps=MAX_STEPS,
    )
    return _compare("prerelax", again.energy_ev_per_atom, stored.prerelax.energy_ev_per_atom)


def _relax_again(stored: Candidate, spec: CampaignSpec, before_ev_per_atom: float) -> Step:
    assert stored.prerelax is not None  # noqa: S101 - the caller has looked
    engine = make_engine(spec.engine, spec.protocol)
    start = Structure.from_dict(stored.prerelax.structure)
    job = engine.relax_maker().make(start)
    memory = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    with tempfile.TemporaryDirectory(prefix="nucleate-reproduce-") as directory:
        run_locally(job, store=memory, create_folders=True, root_dir=Path(directory), log=False, ensure_success=True)
    result = engine.read(memory.get_output(job.uuid, which="last", load=True))
    return _compare("relax", result.energy_ev_per_atom, before_ev_per_atom)


def _compare(name: str, again: float | None, before: float | None) -> Step:
    if again is None or before is None:
        return Step(name, again is before, f"energy now {again}, stored {before}")
    difference = abs(again - before)
    detail = f"{again:.6f} eV/atom, stored {before:.6f}, difference {1000 * difference:.3f} meV/atom"
    return Step(name, difference <= SAME_ENERGY_EV_PER_ATOM, detail)
