"""The protocol of every number: which hull, reference set, model, matcher and tolerance stands behind it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from generators.crystals.duplicates import DEFAULT_TOLERANCES
from workflows.causes import CAUSES
from workflows.report.words import limits, number, plural, property_name

if TYPE_CHECKING:
    from workflows.report.collect import ReportData

_NEUTRALITY = {
    "strict": "common oxidation states must balance; refuses alloys and most borides and carbides",
    "permissive": "any known oxidation states may balance; alloys pass",
    "off": "not asked for",
}


@dataclass(frozen=True)
class Line:
    """How one number was made."""

    quantity: str
    how: str


@dataclass(frozen=True)
class FailureLine:
    """One cause among the verdicts."""

    code: int
    name: str
    recognised_by: str
    rerun_changes: str
    count: int
    without_energy: int
    evidence: str
    candidates: tuple[str, ...]


def protocol_lines(data: ReportData) -> list[Line]:
    """List how each number of the report was made, as far as records say."""
    spec, targets = data.spec, data.spec.targets
    lines = [
        Line("valid", f"distances, cell, and neutrality rule “{spec.chemistry.neutrality}”: "
             f"{_NEUTRALITY[spec.chemistry.neutrality]}."),
        Line("unique, novel", _matching()),
        Line("pre-relaxation", _counted(
            Counter(
                str(model) for o in data.origins.values() if (model := (o.get("prerelax") or {}).get("model"))
            ), "candidate") + ". It screens and ranks; no energy below comes from it."),
        Line("energy", _engine(data)),
        Line("energy above hull", "against the reference set below, never across engines, protocols or models; "
             "negative if it lies below that hull, which then lacks it. "
             f"Hull cut {limits(targets.energy_above_hull, 1000, 'meV/atom')}."),
        Line("phonons", _phonons(data)),
    ]  # fmt: skip
    for name in sorted({n for v in data.verdicts for n in v.properties} | set(targets.properties)):
        hows = Counter(v.properties[name].how for v in data.verdicts if name in v.properties)
        wanted = f" Target {limits(targets.properties[name])}." if name in targets.properties else ""
        lines.append(Line(property_name(name), (_counted(hows, "crystal") or "not measured for any") + "." + wanted))
    lines.append(
        Line(
            "stable",
            "inside the hull cut"
            + (", and phonons stable." if targets.phonons == "stable" else "; phonons not asked."),
        )
    )
    lines.append(Line("hit", "every target met; a property that was not measured is not met."))
    lines.append(Line("S.U.N.", sun_in_words(data)))
    return lines


def sun_in_words(data: ReportData) -> str:
    """Say how many are stable, unique and novel, with all that the number rests on."""
    totals = data.totals
    tested = sum(1 for v in data.verdicts if v.verified)
    keys = sorted({v.reference_set.key for v in data.verdicts if v.reference_set})
    return (
        f"{data.sun} stable, unique and novel of {plural(totals['sampled'], 'sample')}; "
        f"{f'only {tested}' if tested else 'none'} {'were' if tested > 1 else 'was'} verified, so this is a lower "
        "bound. Hull cut "
        f"{limits(data.spec.targets.energy_above_hull, 1000, 'meV/atom')}, reference set "
        f"{', '.join(keys) or 'none yet'}, matching and relaxation as stated above. Novel by composition "
        f"{totals['novel_composition']}, by prototype {totals['novel_prototype']}, by skeleton (space group and "
        f"Wyckoff letters) {totals['novel_skeleton']}, of all novel samples {totals['novel']}."
    )


def reference_rows(data: ReportData) -> list[dict[str, Any]]:
    """List the hulls that verdicts were measured against."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for verdict in data.verdicts:
        if (hull := verdict.reference_set) is not None:
            key = (hull.chemical_system, hull.key, hull.sha256)
            rows.setdefault(key, {**hull.model_dump(), "verdicts": 0})["verdicts"] += 1
    return [rows[key] for key in sorted(rows)]


def failure_lines(data: ReportData) -> list[FailureLine]:
    """List the causes among the verdicts, the most frequent first."""
    lines = []
    for (code, name), found in data.failures.items():
        known = CAUSES.get(code)
        evidence = next((v.cause.evidence for v in found if v.cause and v.cause.evidence), "")
        lines.append(
            FailureLine(
                code=code,
                name=name,
                recognised_by=known.recognised_by if known else "",
                rerun_changes=known.rerun_changes if known and known.recoverable else "",
                count=len(found),
                without_energy=sum(not v.verified for v in found),
                evidence=evidence,
                candidates=tuple(v.candidate for v in found),
            )
        )
    return lines


def _matching() -> str:
    t = DEFAULT_TOLERANCES
    said = (
        f" pymatgen’s StructureMatcher decides, with ltol {t.ltol:g}, stol {t.stol:g}, angle_tol {t.angle_tol:g}°, "
        "primitive cells scaled to one volume."
    )
    return (
        "unique: no duplicate in its round or an earlier one; novel: not among the known structures (prototypes of "
        "the dependencies and the reference set) nor in earlier rounds, after pre-relaxation." + said
    )


def _engine(data: ReportData) -> str:
    models = Counter(
        v.reference_set.key if v.reference_set else f"{v.engine}/{v.protocol}" for v in data.verdicts if v.verified
    )
    text = f"engine {data.spec.engine}, protocol {data.spec.protocol}"
    if models:
        text += ": " + _counted(models, "crystal")
    if data.spec.engine == "mlip":
        text += (
            ". A force field, not DFT. The screening and the verifying model (CHGNet, SevenNet-0) were both trained on "
            "Materials Project trajectories: a second opinion, not an independent one"
        )
    families = sorted({name for v in data.verdicts if (name := _family(v.provenance))})
    if families:
        text += f". Density-functional theory with pseudopotentials of {', '.join(families)}"
    return text + "."


def _family(provenance: dict[str, Any]) -> str:
    """Name functional and pseudopotentials of a verdict, empty for engines without electrons."""
    settings = provenance.get("settings", {})
    pseudos = settings.get("pseudopotentials", {})
    return f"{pseudos['family']} ({settings['functional']})" if pseudos.get("family") else ""


def _phonons(data: ReportData) -> str:
    # A verdict's own words begin with its result; what follows is how it was made.
    hows = Counter(v.phonon.how.split("; ")[-1] for v in data.verdicts if v.phonon.how)
    judged = Counter(v.phonon.judgement.replace("_", " ") for v in data.verdicts)
    rule = (
        f"stable if the lowest frequency away from the acoustic Γ point is at least "
        f"{number(data.spec.targets.phonon_tolerance, 1)} THz (imaginary frequencies are written negative)"
    )
    tally = ", ".join(f"{n} {name}" for name, n in judged.most_common())
    made = _counted(hows, "crystal")
    return ". ".join(part[0].upper() + part[1:] for part in (rule, made, tally) if part) + "."


def _counted(found: Counter[str], noun: str) -> str:
    """Write how something was done and how often; where nearly every crystal has its own, the most frequent one."""
    named = [(name.rstrip(".") or "not recorded", n) for name, n in found.most_common()]
    if len(named) == 1:
        return named[0][0]
    if len(named) > 3:
        return f"{len(named)} ways, for example: {named[0][0]}"
    return "; ".join(f"{name} ({plural(n, noun)})" for name, n in named)
