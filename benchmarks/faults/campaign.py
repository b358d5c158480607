"""Two campaigns of one round that are about relaxing and judging alone: of stand-in tasks, and of real pw.x runs."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import yaml
from jobflow import Flow, OnMissing
from pymatgen.core import Lattice, Structure

from benchmarks.faults.tasks import CoarsePwRelaxMaker, StandInRelaxMaker, stand_in_judge
from workflows.campaign import ensure_campaign_indexes
from workflows.records import Candidate, Round, Selected, candidate_id, now
from workflows.rounds import workflow_key
from workflows.runtime.firetask import to_workflow
from workflows.runtime.store import open_store
from workflows.spec import CampaignSpec
from workflows.stages.dress import LIGHT, block_of, dress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymongo.database import Database

    from workflows.runtime.store import Store

Kind = Literal["fast", "pw"]
NAME = "faults"
PROFILE = "cluster"
ENERGY_TOLERANCE_EV_PER_ATOM = 1e-3


@dataclass(frozen=True)
class Size:
    """How much there is to do.

    Parameters
    ----------
    candidates : int
    steps : int
        Of a stand-in task.
    seconds : float
        Of such a step, on average.
    divisions : int
        Of the k-mesh of pw.x.
    """

    candidates: int = 12
    steps: int = 10
    seconds: float = 0.6
    divisions: int = 3


SIZES: dict[str, dict[Kind, Size]] = {
    "usual": {"fast": Size(), "pw": Size(candidates=8)},
    "long": {"fast": Size(candidates=16, steps=20, seconds=0.7), "pw": Size(candidates=12)},
    "cut": {"fast": Size(candidates=24, steps=20, seconds=0.7), "pw": Size(candidates=6, divisions=6)},
}
"""Long: for faults that last a minute, the campaign shall not be over before they are. Cut: more than fits into
allocations of a minute, in tasks that take a good part of one."""


def crystals(kind: Kind, count: int) -> list[Structure]:
    """Make crystals that differ: diamond silicon, pulled out of shape for pw.x, and face-centred aluminium."""
    found = []
    for i in range(count):
        silicon = i % 2 == 0 if kind == "fast" else i % 4 != 3
        half = (5.4 if silicon else 4.05) / 2 * (1 + 0.003 * (i + 1))
        lattice = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
        sites = [[0, 0, 0], [0.26, 0.25, 0.24]] if silicon else [[0, 0, 0]]
        found.append(Structure(lattice, ["Si" if silicon else "Al"] * len(sites), sites))
    return found


def spec_of(kind: Kind, count: int) -> CampaignSpec:
    """Say what the campaign would have been asked."""
    asked = {
        "name": NAME,
        "engine": "espresso" if kind == "pw" else "mlip",
        "chemistry": {"systems": ["Al-Si"], "max_atoms": 2, "min_elements": 1},
        "targets": {"energy_above_hull": {"max": 5, "unit": "eV/atom"}, "phonons": "any"},
        "store": PROFILE,
        "samples": count,
        "control": 0,
        "batch": count,
        "rounds": 1,
        "budget": {"verifications": count},
        "seed": 7,
    }
    return CampaignSpec.model_validate(asked)


def put_up(directory: Path, kind: Kind, size: Size, wishes: Path) -> None:
    """Put a campaign that has already chosen its candidates into the store that the settings name.

    Parameters
    ----------
    directory : pathlib.Path
        Of the campaign.
    kind : {"fast", "pw"}
    size : Size
    wishes : pathlib.Path
        See :class:`~benchmarks.faults.tasks.StandInRelaxMaker`.
    """
    spec = spec_of(kind, size.candidates)
    maker: Any
    if kind == "fast":
        maker = StandInRelaxMaker(steps=size.steps, seconds=size.seconds, wishes=str(wishes))
    else:
        maker = CoarsePwRelaxMaker(protocol="fast", divisions=size.divisions)
    chains: list[Any] = []
    records = []
    for index, crystal in enumerate(crystals(kind, size.candidates)):
        name = candidate_id(NAME, 1, index)
        relaxed = dress(maker.make(crystal), block_of(NAME, 1, "relax", name, spec.engine), "cpu")
        judged = stand_in_judge(NAME, 1, name, relaxed.output, spec.engine)
        judged = dress(judged, block_of(NAME, 1, "judge", name, spec.engine), LIGHT)
        judged.config.on_missing_references = OnMissing.NONE
        chains += [relaxed, judged]
        records.append(_candidate(name, index, crystal))
    with open_store(PROFILE) as store:
        register(store, directory, kind, size.candidates, records)
        metadata = {"nucleate_round": workflow_key(NAME, 1)}
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # chains that are not connected: as wanted
            workflow = to_workflow(Flow(chains), name=workflow_key(NAME, 1), metadata=metadata)
        store.launchpad.add_wf(workflow)


def register(store: Store, directory: Path, kind: Kind, count: int, candidates: Sequence[Candidate]) -> None:
    """Write what launch, sample and select would have written of a campaign and its first round."""
    spec = spec_of(kind, count)
    ensure_campaign_indexes(store)
    directory.mkdir(parents=True, exist_ok=True)
    store.write_configs(directory)
    text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    (directory / "campaign.yaml").write_text(text)
    store.database.campaigns.insert_one(
        {
            "name": NAME,
            "spec": spec.model_dump(mode="json"),
            "spec_sha256": spec.sha256(),
            "created_at": now(),
            "directory": str(directory.resolve()),
            "store": PROFILE,
            "state": "running",
            "why": "",
            "initial_state": "",
            "reference": {"missing": []},
            "known": {"sha256": "", "n": 0},
            "software": {},
        }
    )
    store.database.rounds.insert_one(Round(campaign=NAME, round=1, state="open", generator_state="").model_dump())
    if candidates:
        store.database.candidates.insert_many([record.model_dump() for record in candidates])


def _candidate(name: str, index: int, crystal: Structure) -> Candidate:
    return Candidate(
        candidate=name,
        campaign=NAME,
        round=1,
        index=index,
        generator="random",
        generator_version="0",
        generator_state="",
        seed=index,
        condition={},
        structure=crystal.as_dict(),
        formula=crystal.composition.reduced_formula,
        n_atoms=len(crystal),
        select=Selected(unique=True, novel=True, selected=True),
    )


def facts(database: Database[Any]) -> dict[str, Any]:
    """Gather what must not differ between a disturbed run and an undisturbed one."""
    verdicts = {
        v["candidate"]: {
            "verified": v["verified"],
            "stable": v["stable"],
            "hit": v["hit"],
            "cause": (v["cause"] or {}).get("code"),
            "energy_ev_per_atom": v["energy_ev_per_atom"],
        }
        for v in database.verdicts.find({"campaign": NAME})
    }
    fireworks = Counter(f"{f['name']} {f['state']}" for f in database.fireworks.find({}, {"name": 1, "state": 1}))
    return {"verdicts": verdicts, "fireworks": dict(fireworks)}


def differences(calm: dict[str, Any], disturbed: dict[str, Any]) -> list[str]:
    """List in what a run differs from the undisturbed one; empty if in nothing that counts."""
    found = []
    for candidate in sorted(calm["verdicts"].keys() | disturbed["verdicts"].keys()):
        one, two = calm["verdicts"].get(candidate), disturbed["verdicts"].get(candidate)
        if one is None or two is None:
            found.append(f"verdict of {candidate}: {'lost' if two is None else 'not in the undisturbed run'}")
            continue
        energy, other = (v.pop("energy_ev_per_atom") for v in ({**one}, {**two}))
        if {**one, "energy_ev_per_atom": 0} != {**two, "energy_ev_per_atom": 0}:
            found.append(f"verdict of {candidate}: {two}, undisturbed {one}")
        elif energy is not None and abs(energy - other) > ENERGY_TOLERANCE_EV_PER_ATOM:
            found.append(f"energy of {candidate}: {other}, undisturbed {energy} eV/atom")
    for name in sorted(calm["fireworks"].keys() | disturbed["fireworks"].keys()):
        one, two = calm["fireworks"].get(name, 0), disturbed["fireworks"].get(name, 0)
        if one != two:
            found.append(f"firework {name}: {two} times, undisturbed {one}")
    return found
