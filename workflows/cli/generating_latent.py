"""``generator latent``: a page with the map of a latent space and a walk through it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from generators.base import Condition
from generators.data.dataset import PROPERTY_UNITS
from generators.evaluation.latent import interpolate, latent_map, latent_of
from workflows.cli import output
from workflows.cli.errors import RefusedError
from workflows.cli.generating_parts import dataset_of, named_of, refuse_file
from workflows.report.comparison_page import latent_page
from workflows.report.words import number, property_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from generators.data.dataset import Dataset, Entry
    from generators.evaluation.latent import LatentMap, Step

MOST_SUGGESTED = 5


@dataclass(frozen=True)
class Look:
    """What is looked at, as the options say it; ``color`` None takes what the data has."""

    name: str
    into: Path
    data: str
    most: int
    color: str | None
    ends: tuple[str, str] | None
    steps: int
    seed: int


class Seen(NamedTuple):
    """What came of it: whose space, the crystals and their map, the property that colours it, the walk."""

    label: str
    chosen: list[Entry]
    color: str | None
    map: LatentMap
    ends: tuple[Entry, Entry]
    steps: list[Step]


def run_latent(look: Look, *, as_json: bool = False) -> None:
    """Write ``index.html`` and ``latent.json``, and tell of them.

    Raises
    ------
    RefusedError
        If the model has no latent space, or the data or an option does not fit.
    """
    seen = see(look)
    files = write(seen, look.into)
    if as_json:
        output.print_json(told(seen, files))
        return
    valid = sum(not step.reasons for step in seen.steps)
    one, two = seen.ends
    output.say(
        f"{len(seen.chosen)} crystals in {seen.map.dimension} dimensions; a walk from {one.label} to {two.label}, "
        f"{valid} of {len(seen.steps)} valid"
    )
    if seen.color is None:
        output.say("the data has no property that could colour the map")
    output.say(str(files[0]))


def see(look: Look) -> Seen:
    """Map crystals and walk from one to another; nothing is written.

    Raises
    ------
    RefusedError
        As :func:`run_latent`.
    """
    if look.color is not None and look.color not in PROPERTY_UNITS:
        raise RefusedError(f"--color: {look.color} is unknown; known are {', '.join(PROPERTY_UNITS)}")
    refuse_file(look.into)
    label, generator = named_of(look.name)
    try:
        model = latent_of(generator)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    dataset = dataset_of(look.data)
    chosen = _chosen(dataset, look.most, look.seed)
    color = _color(dataset, chosen, look.color)
    one, two = _ends(dataset, chosen, look)
    try:
        found = latent_map(model, [entry.structure for entry in chosen])
        steps = interpolate(model, one.structure, two.structure, _between(one, two), look.steps, look.seed)
    except ValueError as error:
        raise RefusedError(f"{error}; --data FILE takes another set of crystals") from error
    return Seen(label, chosen, color, found, (one, two), steps)


def write(seen: Seen, into: Path) -> tuple[Path, Path]:
    """Write ``index.html`` and ``latent.json`` into a directory, which is made if missing."""
    into.mkdir(parents=True, exist_ok=True)
    page, numbers = into / "index.html", into / "latent.json"
    values = _values(seen)
    unit = "" if seen.color is None else PROPERTY_UNITS[seen.color]
    text = latent_page(
        seen.label,
        [(float(x), float(y)) for x, y in seen.map.points],
        seen.map.explained,
        seen.map.dimension,
        values,
        [
            f"{e.structure.composition.reduced_formula}\n{e.label}\n{number(v)} {unit}".rstrip()
            for e, v in zip(seen.chosen, values, strict=True)
        ],
        "nothing: the data has no property" if seen.color is None else f"{property_name(seen.color)} ({unit})",
        [(step.along, step.structure, step.reasons) for step in seen.steps],
    )
    page.write_text(text, encoding="utf-8")
    document = {
        "generator": seen.label,
        "dimension": seen.map.dimension,
        "explained": list(seen.map.explained),
        "color": seen.color,
        "points": [
            {"label": e.label, "x": round(float(x), 6), "y": round(float(y), 6), "value": v}
            for e, (x, y), v in zip(seen.chosen, seen.map.points, values, strict=True)
        ],
        "walk": {
            "from": seen.ends[0].label,
            "to": seen.ends[1].label,
            "steps": [{"along": s.along, "structure": s.structure.as_dict(), "refused": s.reasons} for s in seen.steps],
        },
    }
    numbers.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return page, numbers


def told(seen: Seen, files: Sequence[Path]) -> dict[str, Any]:
    """Give what ``--json`` prints: the files, and a row for each crystal of the walk; the points are in a file."""
    return {
        "generator": seen.label,
        "files": [str(path) for path in files],
        "crystals": len(seen.chosen),
        "dimension": seen.map.dimension,
        "explained": list(seen.map.explained),
        "color": seen.color,
        "from": seen.ends[0].label,
        "to": seen.ends[1].label,
        "walk": [
            {
                "along": step.along,
                "formula": step.structure.composition.reduced_formula,
                "atoms": len(step.structure),
                "refused": step.reasons,
            }
            for step in seen.steps
        ],
    }


def _values(seen: Seen) -> list[float | None]:
    return [None if seen.color is None else entry.properties.get(seen.color) for entry in seen.chosen]


def _between(one: Entry, two: Entry) -> Condition:
    """Give what every crystal between two keeps: their elements, and no more atoms than the larger has."""
    elements = sorted({e.symbol for s in (one.structure, two.structure) for e in s.composition.elements})
    return Condition(
        (tuple(elements),),
        min_elements=min(len(s.composition.elements) for s in (one.structure, two.structure)),
        max_elements=len(elements),
        max_atoms=max(len(one.structure), len(two.structure)),
        neutrality="off",
    )


def _chosen(dataset: Dataset, most: int, seed: int) -> list[Entry]:
    if len(dataset) <= most:
        return list(dataset.entries)
    rows = np.random.default_rng(seed).permutation(len(dataset))[:most]
    return [dataset.entries[i] for i in sorted(rows.tolist())]


def _color(dataset: Dataset, chosen: list[Entry], asked: str | None) -> str | None:
    """Give the property that colours the map: the one asked for, else the first that the crystals have."""
    on_map = {name for entry in chosen for name in entry.properties}
    if asked is None:
        return next((name for name in PROPERTY_UNITS if name in on_map), None)
    if asked in on_map:
        return asked
    known = {name for entry in dataset.entries for name in entry.properties}
    if asked in known:
        raise RefusedError(f"--color: none of the {len(chosen)} crystals on the map has {asked}; raise --most")
    has = f"it has {', '.join(sorted(known))}" if known else "it has no properties, so leave --color out"
    raise RefusedError(f"--color: no crystal of data set {dataset.name} has {asked}; {has}")


def _ends(dataset: Dataset, chosen: list[Entry], look: Look) -> tuple[Entry, Entry]:
    """Give the two crystals of the walk: as asked, else the first two that share elements but not the prototype."""
    if look.ends is not None:
        return _labelled(dataset, look.ends[0], look), _labelled(dataset, look.ends[1], look)
    for i, one in enumerate(chosen[:200]):
        for two in chosen[i + 1 :]:
            if one.chemistry == two.chemistry and one.prototype != two.prototype:
                return one, two
    if len(chosen) < 2:
        raise RefusedError(f"data set {dataset.name} has fewer than two crystals")
    return chosen[0], chosen[-1]


def _labelled(dataset: Dataset, label: str, look: Look) -> Entry:
    found = next((entry for entry in dataset.entries if entry.label == label), None)
    if found is not None:
        return found
    if close := _close(dataset, label):
        hint = f"did you mean {' or '.join(repr(one) for one in close)}?"
    else:
        hint = f"without --from and --to, {look.into / 'latent.json'} lists the labels that are on the map"
    raise RefusedError(f"data set {dataset.name} has no crystal {label!r}; {hint}")


def _close(dataset: Dataset, label: str) -> list[str]:
    """List a few labels that may be meant: of crystals with this formula, with the word inside, or spelt alike."""
    labels = [entry.label for entry in dataset.entries]
    inside = [one for one in labels if label.lower() in one.lower()]
    formula = [e.label for e in dataset.entries if e.structure.composition.reduced_formula == label]
    alike = [] if inside or formula else get_close_matches(label, labels, n=MOST_SUGGESTED)
    return list(dict.fromkeys([*formula, *inside, *alike]))[:MOST_SUGGESTED]
