"""What a data set holds, in numbers: elements, prototypes, properties with their ranges, splits."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

from generators.data.dataset import PROPERTY_UNITS, Dataset, SplitBy

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def summary(dataset: Dataset) -> dict[str, Any]:
    """Describe a data set.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    dict
        JSON-compatible: ``name``, ``crystals``, ``elements`` (symbol to number of crystals), ``by_elements`` and
        ``by_atoms`` (number to crystals), ``prototypes``, ``chemical_systems``, ``compositions``, ``with_energy``,
        ``properties`` (name to ``unit``, ``crystals``, ``minimum``, ``median``, ``maximum``), and ``splits`` (what
        relatives share, to the crystals and groups of each part at the default shares and seed).
    """
    entries = dataset.entries
    return {
        "name": dataset.name,
        "crystals": len(entries),
        "elements": dict(sorted(Counter(e.symbol for s in dataset for e in s.composition).items())),
        "by_elements": _counted(len(e.structure.composition) for e in entries),
        "by_atoms": _counted(len(e.structure) for e in entries),
        "prototypes": len({e.prototype for e in entries}),
        "chemical_systems": len({e.chemistry for e in entries}),
        "compositions": len({e.structure.composition.reduced_formula for e in entries}),
        "with_energy": sum(e.energy_ev_per_atom is not None for e in entries),
        "properties": {
            name: _range(sorted(e.properties[name] for e in entries if name in e.properties), unit)
            for name, unit in PROPERTY_UNITS.items()
            if any(name in e.properties for e in entries)
        },
        "splits": {by: _split(dataset, by) for by in get_args(SplitBy)},
    }


def card_beside(path: Path) -> dict[str, Any] | None:
    """Read the card that lies beside a data set (``NAME.card.json`` for ``NAME.extxyz.gz``), if there is one.

    Raises
    ------
    ValueError
        If there is one that can't be read.
    """
    card = path.with_name(f"{path.name.partition('.')[0]}.card.json")
    if not card.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(card.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{card}: can't be read as JSON: {error}") from error
    return found


def _counted(numbers: Iterable[int]) -> dict[str, int]:
    return {str(number): count for number, count in sorted(Counter(numbers).items())}


def _range(values: list[float], unit: str) -> dict[str, Any]:
    middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
    return {
        "unit": unit,
        "crystals": len(values),
        "minimum": values[0],
        "median": round(middle, 6),
        "maximum": values[-1],
    }


def _split(dataset: Dataset, by: SplitBy) -> dict[str, dict[str, int]]:
    return {
        name: {
            "crystals": len(part),
            "groups": len({e.prototype if by == "prototype" else e.chemistry for e in part.entries}),
        }
        for name, part in dataset.split(by)._asdict().items()
    }
