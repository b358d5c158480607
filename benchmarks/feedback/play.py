"""One campaign in one process: the stages' own functions, without database and fireworks."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.feedback.cache import Cache

if TYPE_CHECKING:
    from benchmarks.feedback.arms import Arm
    from generators.base import Labelled
    from generators.crystals.novelty import KnownStructures
    from workflows.engines.mlip import MlipEngine
    from workflows.records import Candidate
    from workflows.reference import ReferenceSet
    from workflows.spec import CampaignSpec

REFERENCE = Path(__file__).with_name("reference")
"""Reference subsystems of this benchmark that do not ship with the product, built by ``--reference``."""


class Site:
    """What all arms of a system share: engine, reference set, known crystals, caches.

    Parameters
    ----------
    spec : CampaignSpec
    place : pathlib.Path
        Holds the caches and the reference set built for this benchmark.
    """

    def __init__(self, spec: CampaignSpec, place: Path) -> None:
        from workflows.engines.registry import make_engine
        from workflows.reference import load_reference

        self.engine: MlipEngine = make_engine(spec.engine, spec.protocol)  # type: ignore[assignment]
        self.reference: ReferenceSet = load_reference(self.engine.reference_key, [place / "reference", REFERENCE])
        missing = self.reference.missing(spec.condition().chemical_systems)
        if missing:
            names = ", ".join("-".join(system) for system in missing)
            raise SystemExit(f"the reference set lacks {names}: run with --reference first")
        self.known: KnownStructures = known_of(spec, self.reference)
        self.prerelaxed = Cache(place / "prerelaxed", "chgnet-0.3.0 0.03 200")
        self.verified = Cache(place / "verified", self.engine.reference_key + " relax, eos")


def known_of(spec: CampaignSpec, reference: ReferenceSet) -> KnownStructures:
    """Gather what is not novel, the same for all arms: libraries, reference set, training set."""
    from generators.crystals.novelty import KnownStructures
    from generators.data import known_structures
    from generators.data.dataset import shipped

    chemistry = {element for system in spec.condition().chemical_systems for element in system}
    training = [
        (entry.label, entry.structure)
        for entry in shipped().entries
        if {element.symbol for element in entry.structure.composition.elements} <= chemistry
    ]
    entries = [entry for part in reference.subsystems.values() for entry in part.entries]
    return KnownStructures(
        [
            *((known.label, known.structure) for known in known_structures()),
            *((f"reference {entry.id}", entry.crystal.structure()) for entry in entries),
            *training,
        ]
    )


def play(arm: Arm, spec: CampaignSpec, site: Site) -> dict[str, Any]:
    """Run a whole campaign; the result tells every verdict, and the CPU seconds of each kind of work."""
    from generators.base import derive_seed
    from workflows.acquisition import AcquisitionInput, choose

    generator = arm.make()
    earlier: list[Candidate] = []
    waiting: list[AcquisitionInput] = []
    history: list[Any] = []
    verdicts: list[dict[str, Any]] = []
    rounds: list[dict[str, Any]] = []
    spent = {"propose": 0.0, "prerelax": 0.0, "verify": 0.0, "learn": 0.0}
    for number in range(1, spec.rounds + 1):
        begin = time.process_time()
        samples = list(generator.sample(spec.samples, spec.condition(), derive_seed(spec.seed, number)))
        batch = [_candidate(spec, number, sample) for sample in samples]
        spent["propose"] += time.process_time() - begin
        batch = _screened(batch, earlier, site, spec)
        batch, seconds = _prerelaxed(batch, site)
        spent["prerelax"] += seconds
        from workflows.stages.select import look_at

        found = look_at(batch, earlier, site.known, site.reference)
        batch = _with_blocks(batch, found)
        eligible = waiting + [
            AcquisitionInput(f.candidate.candidate, f.prepared.structure, f.block.screening_e_hull_ev_per_atom)
            for f in found
            if f.block.novel and f.prepared is not None
        ]
        choices = choose(eligible, history if arm.feedback else [], spec.targets, spec.budget.verifications, spec.seed)
        chosen = {c.candidate for c in choices if c.selected}
        waiting = [e for e in eligible if e.candidate not in chosen]
        mine: list[dict[str, Any]] = []
        for item in sorted((e for e in eligible if e.candidate in chosen), key=lambda e: e.candidate):
            verdict = verify(item.structure, spec, site)
            spent["verify"] += verdict["cpu_s"]
            mine.append({"candidate": item.candidate, "round": number, **verdict})
            history.append(_outcome(item, verdict))
        verdicts += mine
        told: dict[str, Any] | None = None
        if arm.feedback and number < spec.rounds:
            begin = time.process_time()
            generator = generator.update(_labelled([*earlier, *batch], mine, number))
            told = getattr(generator, "last_update", None)
            spent["learn"] += time.process_time() - begin
        earlier += batch
        rounds.append(_summary(number, batch, mine, told))
    return {"arm": arm.name, "seed": spec.seed, "rounds": rounds, "verdicts": verdicts, "cpu_s": spent}


def _candidate(spec: CampaignSpec, number: int, sample: Any) -> Candidate:
    from workflows.records import Candidate, candidate_id

    return Candidate(
        candidate=candidate_id(spec.name, number, sample.index, control=False),
        campaign=spec.name,
        round=number,
        index=sample.index,
        control=False,
        generator=sample.generator,
        generator_version=sample.version,
        generator_state="",
        seed=sample.seed,
        condition={},
        info=sample.info,
        structure=sample.structure.as_dict(),
        formula=sample.structure.composition.reduced_formula,
        n_atoms=len(sample.structure),
    )


def _screened(batch: list[Candidate], earlier: list[Candidate], site: Site, spec: CampaignSpec) -> list[Candidate]:
    from workflows.stages.screen import screen_all

    return [c.model_copy(update={"screen": s}) for c, s in screen_all(batch, earlier, site.known, spec)]


def _prerelaxed(batch: list[Candidate], site: Site) -> tuple[list[Candidate], float]:
    """Relax what passed with CHGNet; seconds are those that it took when it was done."""
    from pymatgen.core import Structure

    from generators.relaxer import relax
    from workflows.records import Prerelaxed
    from workflows.stages.prerelax import FMAX_EV_PER_ANGSTROM, MAX_STEPS, SCREENING_MODEL, block_of

    passed = [c for c in batch if c.screen and c.screen.passed]
    structures = {c.candidate: Structure.from_dict(c.structure) for c in passed}
    blocks = {name: found for name, s in structures.items() if (found := site.prerelaxed.get(s)) is not None}
    todo = [name for name in structures if name not in blocks]
    begin = time.process_time()
    results = relax(
        [structures[name] for name in todo],
        model=SCREENING_MODEL,
        fmax_ev_per_angstrom=FMAX_EV_PER_ANGSTROM,
        max_steps=MAX_STEPS,
    )
    each = (time.process_time() - begin) / max(1, len(todo))
    for name, result in zip(todo, results, strict=True):
        block = block_of(result, 0).model_dump(mode="json")
        blocks[name] = site.prerelaxed.put(structures[name], {"block": block, "cpu_s": each})
    made = [
        c.model_copy(update={"prerelax": Prerelaxed.model_validate(blocks[c.candidate]["block"])})
        if c.candidate in blocks
        else c
        for c in batch
    ]
    return made, sum(found["cpu_s"] for found in blocks.values())


def _with_blocks(batch: list[Candidate], found: list[Any]) -> list[Candidate]:
    blocks = {f.candidate.candidate: f.block for f in found}
    return [c.model_copy(update={"select": blocks[c.candidate]}) if c.candidate in blocks else c for c in batch]


def verify(structure: Any, spec: CampaignSpec, site: Site) -> dict[str, Any]:
    """Relax with the engine, place against its hull, measure the bulk modulus of what is inside the cut."""
    from pymatgen.core import Structure

    from workflows.causes import CausedError
    from workflows.engines.eos import read_bulk_modulus
    from workflows.reference import energy_above_hull

    def relaxed() -> dict[str, Any]:
        begin = time.process_time()
        try:
            result = site.engine.relax_now(structure)
        except CausedError as error:
            return {"cause": error.code, "cpu_s": time.process_time() - begin}
        above, _ = energy_above_hull(
            result.structure, result.energy_ev_per_atom, site.reference, key=site.engine.reference_key
        )
        answer: dict[str, Any] = {
            "structure": result.structure.as_dict(),
            "above_hull_ev_per_atom": above,
            "properties": {},
        }
        if spec.targets.energy_above_hull.holds(above):
            maker = site.engine.property_maker("bulk_modulus")
            try:
                value, _ = read_bulk_modulus(type(maker).make.original(maker, result.structure))
                answer["properties"] = {"bulk_modulus": value}
            except CausedError as error:
                answer["property_cause"] = error.code
        return {**answer, "cpu_s": time.process_time() - begin}

    found = site.verified.remember(structure, relaxed)
    above = found.get("above_hull_ev_per_atom")
    stable = above is not None and spec.targets.energy_above_hull.holds(above)
    known_as = site.known.match(Structure.from_dict(found["structure"])) if stable else None
    met = spec.targets.met_by(found.get("properties", {}))
    formula = structure.composition.reduced_formula
    return {
        **found,
        "formula": formula,
        "stable": stable,
        "known_as": known_as,
        "hit": bool(stable and known_as is None and met),
    }


def _outcome(item: Any, verdict: dict[str, Any]) -> Any:
    from workflows.acquisition import Outcome

    return Outcome(
        candidate=item.candidate,
        structure=item.structure,
        screening_e_hull_ev_per_atom=item.screening_e_hull_ev_per_atom,
        e_hull_ev_per_atom=verdict.get("above_hull_ev_per_atom"),
        properties=dict(verdict.get("properties", {})),
    )


def _labelled(candidates: list[Candidate], verdicts: list[dict[str, Any]], number: int) -> list[Labelled]:
    """Translate as the feedback stage does: the round's candidates, and what was verified of earlier ones."""
    from pymatgen.core import Structure

    from generators.base import Labelled

    judged = {v["candidate"]: v for v in verdicts}
    labelled = []
    for c in candidates:
        if c.round < number and c.candidate not in judged:
            continue
        one = Labelled(
            candidate=c.candidate,
            structure=Structure.from_dict(c.structure),
            generator=c.generator,
            info=c.info,
            novel=c.select.novel if c.select else None,
            screened_above_hull_ev_per_atom=c.select.screening_e_hull_ev_per_atom if c.select else None,
        )
        verdict = judged.get(c.candidate)
        if verdict is not None:
            above = verdict.get("above_hull_ev_per_atom")
            one = replace(
                one,
                structure=Structure.from_dict(verdict["structure"]) if above is not None else one.structure,
                energy_above_hull_ev_per_atom=above,
                stable=verdict["stable"] if above is not None else None,
                novel=bool(one.novel) and verdict["known_as"] is None,
                hit=verdict["hit"] if above is not None else None,
                properties=dict(verdict.get("properties", {})),
                cause=verdict.get("cause"),
            )
        labelled.append(one)
    return labelled


def _summary(
    number: int, batch: list[Candidate], verdicts: list[dict[str, Any]], told: dict[str, Any] | None
) -> dict[str, Any]:
    selected = [c.select for c in batch if c.select]
    return {
        "round": number,
        "sampled": len(batch),
        "valid": sum(bool(c.screen and c.screen.valid) for c in batch),
        "passed": sum(bool(c.screen and c.screen.passed) for c in batch),
        "novel": sum(s.novel for s in selected),
        "compositions": len({c.formula for c in batch}),
        "promising": sum(
            s.novel and (s.screening_e_hull_ev_per_atom is not None and s.screening_e_hull_ev_per_atom <= 0.1)
            for s in selected
        ),
        "verified": len(verdicts),
        "stable": sum(v["stable"] for v in verdicts),
        "hits": sum(v["hit"] for v in verdicts),
        "update": told,
    }
