"""``generator latent``: a page with the map of a latent space and a walk through it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from generators.base import Condition
from generators.data.dataset import PROPERTY_UNITS
from generators.evaluation.latent import interpolate, latent_map, latent_of
from workflows.cli import output
from workflows.cli.errors import RefusedError
from workflows.cli.generating_parts import contender_of, dataset_of
from workflows.report.comparison_page import latent_page
from workflows.report.words import number, property_name

if TYPE_CHECKING:
    from pathlib import Path

    from generators.data.dataset import Dataset, Entry


@dataclass(frozen=True)
class Look:
    """What is looked at, as the options say it."""

    name: str
    into: Path
    data: str
    most: int
    color: str
    ends: tuple[str, str] | None
    steps: int
    seed: int


def run_latent(look: Look) -> None:
    """Write ``index.html`` and ``latent.json``.

    Raises
    ------
    RefusedError
        If the model has no latent space, or the data or an option does not fit.
    """
    if look.color not in PROPERTY_UNITS:
        raise RefusedError(f"--color: {look.color} is unknown; known are {', '.join(PROPERTY_UNITS)}")
    contender = contender_of(look.name)
    try:
        model = latent_of(contender.generator)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    dataset = dataset_of(look.data)
    chosen = _chosen(dataset, look.most, look.seed)
    one, two = _ends(dataset, chosen, look)
    elements = sorted({e.symbol for s in (one.structure, two.structure) for e in s.composition.elements})
    sizes = [len(s.composition.elements) for s in (one.structure, two.structure)]
    condition = Condition(
        (tuple(elements),),
        min_elements=min(sizes),
        max_elements=len(elements),
        max_atoms=max(len(one.structure), len(two.structure)),
        neutrality="off",
    )
    try:
        found = latent_map(model, [entry.structure for entry in chosen])
        steps = interpolate(model, one.structure, two.structure, condition, look.steps, look.seed)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    values = [entry.properties.get(look.color) for entry in chosen]
    unit = PROPERTY_UNITS[look.color]
    tips = [
        f"{e.structure.composition.reduced_formula}\n{e.label}\n{number(v)} {unit}"
        for e, v in zip(chosen, values, strict=True)
    ]
    points = [(float(x), float(y)) for x, y in found.points]
    page = latent_page(
        contender.label,
        points,
        found.explained,
        found.dimension,
        values,
        tips,
        f"{property_name(look.color)} ({unit})",
        [(step.along, step.structure, step.reasons) for step in steps],
    )
    look.into.mkdir(parents=True, exist_ok=True)
    (look.into / "index.html").write_text(page, encoding="utf-8")
    document = {
        "generator": contender.label,
        "dimension": found.dimension,
        "explained": list(found.explained),
        "color": look.color,
        "points": [
            {"label": e.label, "x": round(x, 6), "y": round(y, 6), "value": v}
            for e, (x, y), v in zip(chosen, points, values, strict=True)
        ],
        "walk": {
            "from": one.label,
            "to": two.label,
            "steps": [{"along": s.along, "structure": s.structure.as_dict(), "refused": s.reasons} for s in steps],
        },
    }
    (look.into / "latent.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    valid = sum(not step.reasons for step in steps)
    output.say(
        f"{len(chosen)} crystals in {found.dimension} dimensions; a walk from {one.label} to {two.label}, "
        f"{valid} of {len(steps)} valid"
    )
    output.say(f"{look.into / 'index.html'}")


def _chosen(dataset: Dataset, most: int, seed: int) -> list[Entry]:
    if len(dataset) <= most:
        return list(dataset.entries)
    rows = np.random.default_rng(seed).permutation(len(dataset))[:most]
    return [dataset.entries[i] for i in sorted(rows.tolist())]


def _ends(dataset: Dataset, chosen: list[Entry], look: Look) -> tuple[Entry, Entry]:
    """Give the two crystals of the walk: as asked, else the first two that share elements but not the prototype."""
    if look.ends is not None:
        by_label = {entry.label: entry for entry in dataset.entries}
        missing = [label for label in look.ends if label not in by_label]
        if missing:
            raise RefusedError(f"data set {dataset.name} has no crystal {missing[0]!r}")
        return by_label[look.ends[0]], by_label[look.ends[1]]
    for i, one in enumerate(chosen[:200]):
        for two in chosen[i + 1 :]:
            if one.chemistry == two.chemistry and one.prototype != two.prototype:
                return one, two
    if len(chosen) < 2:
        raise RefusedError(f"data set {dataset.name} has fewer than two crystals")
    return chosen[0], chosen[-1]
